"""A model as one safetensors file: weights, vocabulary, config, data hashes, metrics and model card; never a pickle."""

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from firstline.core.taxonomy import Decision, Priority, Signal
from firstline.learning.embedding import Embedder, Encoder, SentenceEmbedder, StaticEmbedder, Table
from firstline.learning.heads import Head, Heads
from firstline.learning.hybrid_model import MINILM_RECIPE, RECIPE, HybridModel
from firstline.learning.vocabulary import Vocabulary
from firstline.learning.wordpiece import WordPieces

MAX_BITS: Final = 20
HEADS: Final = ("category", "language", "subcategory", "urgency", "decision", "signals")
"""The questions that a model answers, in the order of their columns."""

_KNOWN_LABELS: Final = {"urgency": frozenset(Priority), "decision": frozenset(Decision), "signals": frozenset(Signal)}
_UNFIT: Final = "the model file is damaged: its parts do not fit each other"
_MAX_TEXT: Final = 16 << 20
_LEXICON: Final = "lexicon."

OpenEncoder = Callable[[bytes, int], Encoder]
"""Opens the ONNX graph of a model of recipe `minilm.v1`, which reads so many word pieces; raises ValueError, with a
sentence, when it cannot."""


class ArtifactInvalid(ValueError):
    """A file that is no usable model; the message says what is wrong with it."""


def dump(
    *,
    ngrams: Table,
    idf: NDArray[np.float16],
    embeddings: Table | bytes,
    weights: NDArray[np.float32],
    bias: NDArray[np.float32],
    pieces: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    lexicons: Mapping[str, str],
    card: Mapping[str, object],
) -> bytes:
    """A model as bytes.

    Args:
        ngrams, idf, weights, bias: as in `HybridModel`.
        embeddings: the static table, or the ONNX graph of an encoder.
        pieces, pairs, lexicons: as in `Vocabulary`; for an encoder its own pieces, in its order, and no pairs.
        card: `recipe`, `bits`, `heads` (by name `labels`, `temperature`, `doubtful_temperature`), and whatever tells
            where the model comes from: config, data hashes, metrics, licences.
    """
    tensors: dict[str, NDArray[Any]] = {
        "ngrams": ngrams.values,
        "ngram_scales": ngrams.scales.astype(np.float32),
        "idf": idf,
        "weights": weights.astype(np.float16),
        "bias": bias.astype(np.float32),
        "pieces": _packed("\n".join(pieces)),
        "pairs": _packed("\n".join(" ".join(pair) for pair in pairs)),
        **{_LEXICON + language: _packed(lines) for language, lines in lexicons.items()},
    }
    if isinstance(embeddings, Table):
        tensors["embeddings"] = embeddings.values
        tensors["embedding_scales"] = embeddings.scales.astype(np.float16)
    else:
        tensors["encoder"] = np.frombuffer(embeddings, np.uint8)
    return save(tensors, {"card": json.dumps(card, sort_keys=True, ensure_ascii=False)})


def quantise_columns(weights: NDArray[np.float32]) -> Table:
    """Small integers and one scale per column; off by at most half a step."""
    scales = np.maximum(np.abs(weights).max(axis=0), 1e-12).astype(np.float32) / np.float32(127)
    return Table(np.rint(weights / scales).astype(np.int8), scales)


def quantise_rows(weights: NDArray[np.float32]) -> Table:
    """Small integers and one scale per row; off by at most half a step."""
    scales = np.maximum(np.abs(weights).max(axis=1), 1e-6).astype(np.float32) / np.float32(127)
    scales = scales.astype(np.float16).astype(np.float32)
    return Table(np.clip(np.rint(weights / scales[:, None]), -127, 127).astype(np.int8), scales)


def read_card(data: bytes) -> dict[str, object]:
    """The model card inside an artefact.

    Raises: ArtifactInvalid.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        card = json.loads(header["__metadata__"]["card"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ArtifactInvalid("not a firstline model: the header cannot be read") from None
    if not isinstance(card, dict):
        raise ArtifactInvalid("not a firstline model: the card is no object")
    return card


def load_model(data: bytes, open_encoder: OpenEncoder | None = None) -> HybridModel:
    """A model from bytes.

    Args:
        open_encoder: for a model of recipe `minilm.v1`; without it such a model cannot be loaded.
    Raises: ArtifactInvalid when it is damaged, of another recipe or does not fit itself; whatever `open_encoder`
        raises.
    """
    card = read_card(data)
    recipe = card.get("recipe")
    if recipe not in (RECIPE, MINILM_RECIPE):
        raise ArtifactInvalid(f"recipe {recipe!r} is not known; this firstline reads {RECIPE} and {MINILM_RECIPE}")
    try:
        tensors = load(data)
        heads = _heads(card["heads"])
        bits = int(str(card["bits"]))
        ngrams = Table(tensors["ngrams"], tensors["ngram_scales"])
        idf, weights, bias = (tensors[name].astype(np.float32) for name in ("idf", "weights", "bias"))
        pieces = _unpacked(tensors["pieces"]).split("\n")
        pairs = [_pair(line) for line in _unpacked(tensors["pairs"]).split("\n") if line]
        lexicons = {
            name.removeprefix(_LEXICON): _unpacked(tensor)
            for name, tensor in tensors.items()
            if name.startswith(_LEXICON)
        }
        vocabulary = Vocabulary(pieces, pairs, lexicons)
        table = (
            Table(tensors["embeddings"], tensors["embedding_scales"].astype(np.float32)) if recipe == RECIPE else None
        )
        words = WordPieces(pieces) if recipe == MINILM_RECIPE else None
        graph = tensors["encoder"].tobytes() if recipe == MINILM_RECIPE else b""
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, zlib.error) as error:
        raise ArtifactInvalid(f"the model file is damaged ({type(error).__name__})") from None
    for name, known in _KNOWN_LABELS.items():
        if not known.issuperset(heads[name].labels):
            raise ArtifactInvalid(f"the model answers {name} with labels that this firstline does not know")
    columns = sum(len(head.labels) for head in heads.values())
    fits = (
        8 <= bits <= MAX_BITS
        and all(head.temperature > 0 and head.doubtful_temperature > 0 and head.labels for head in heads.values())
        and ngrams.values.dtype == np.int8
        and ngrams.values.shape == (1 << bits, columns)
        and ngrams.scales.shape == (columns,)
        and bias.shape == (len(heads["language"].labels) + 1, columns)
        and idf.shape == (1 << bits,)
        and weights.ndim == 2
        and weights.shape[1] == columns
        and all(bool(np.isfinite(numbers).all()) for numbers in (ngrams.scales, idf, weights, bias))
        and (table is None or _table_fits(table, len(pieces) + len(pairs)))
    )
    if not fits:
        raise ArtifactInvalid(_UNFIT)
    embedder: Embedder
    if table is not None:
        embedder = StaticEmbedder(table, vocabulary)
    elif open_encoder is not None and words is not None:
        embedder = SentenceEmbedder(open_encoder(graph, len(pieces)), words, vocabulary)
    else:
        raise ArtifactInvalid(f"recipe {recipe!r} needs an encoder, and nothing here opens one")
    if embedder.dimensions != weights.shape[0]:
        raise ArtifactInvalid(_UNFIT)
    return HybridModel(
        name=f"{recipe}+{hashlib.sha256(data).hexdigest()[:8]}",
        heads=Heads(heads),
        ngrams=ngrams,
        idf=idf,
        embedder=embedder,
        weights=weights,
        bias=bias,
        bits=bits,
    )


def _table_fits(table: Table, rows: int) -> bool:
    return (
        table.values.dtype == np.int8
        and table.values.ndim == 2
        and table.scales.shape == (rows,) == table.values.shape[:1]
        and bool(np.isfinite(table.scales).all())
    )


def _heads(found: object) -> dict[str, Head]:
    if not isinstance(found, dict):
        raise TypeError("no heads")
    heads: dict[str, Head] = {}
    start = 0
    for name in HEADS:
        head = found[name]
        labels = tuple(str(label) for label in head["labels"])
        heads[name] = Head(labels, start, float(head["temperature"]), float(head["doubtful_temperature"]))
        start += len(labels)
    return heads


def _packed(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.compress(text.encode(), 9), np.uint8)


def _unpacked(tensor: NDArray[np.uint8]) -> str:
    reader = zlib.decompressobj()
    return reader.decompress(tensor.tobytes(), _MAX_TEXT).decode()


def _pair(line: str) -> tuple[str, str]:
    first, second = line.split(" ")
    return first, second
