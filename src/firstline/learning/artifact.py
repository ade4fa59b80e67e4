"""A model as one safetensors file: weights, vocabulary, config, data hashes, metrics and model card; never a pickle."""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from firstline.learning.hybrid_model import RECIPE, Head, HybridModel, Table
from firstline.learning.vocabulary import Vocabulary

MAX_BITS: Final = 20
HEADS: Final = ("category", "language", "subcategory", "urgency", "decision", "signals")
"""The questions that a model answers, in the order of their columns."""

_MAX_TEXT: Final = 16 << 20
_LEXICON: Final = "lexicon."


class ArtifactInvalid(ValueError):
    """A file that is no usable model; the message says what is wrong with it."""


def dump(
    *,
    ngrams: Table,
    idf: NDArray[np.float16],
    embeddings: Table,
    weights: NDArray[np.float32],
    bias: NDArray[np.float32],
    pieces: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    lexicons: Mapping[str, str],
    card: Mapping[str, object],
) -> bytes:
    """A model as bytes.

    Args:
        ngrams, idf, embeddings, weights, bias: as in `HybridModel`.
        pieces, pairs, lexicons: as in `Vocabulary`.
        card: `recipe`, `bits`, `heads` (by name `labels`, `temperature`, `doubtful_temperature`), and whatever tells
            where the model comes from: config, data hashes, metrics, licences.
    """
    tensors: dict[str, NDArray[Any]] = {
        "ngrams": ngrams.values,
        "ngram_scales": ngrams.scales.astype(np.float32),
        "idf": idf,
        "embeddings": embeddings.values,
        "embedding_scales": embeddings.scales.astype(np.float16),
        "weights": weights.astype(np.float16),
        "bias": bias.astype(np.float32),
        "pieces": _packed("\n".join(pieces)),
        "pairs": _packed("\n".join(" ".join(pair) for pair in pairs)),
        **{_LEXICON + language: _packed(lines) for language, lines in lexicons.items()},
    }
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


def load_model(data: bytes) -> HybridModel:
    """A model from bytes.

    Raises: ArtifactInvalid when it is damaged, of another recipe or does not fit itself.
    """
    card = read_card(data)
    if card.get("recipe") != RECIPE:
        raise ArtifactInvalid(f"recipe {card.get('recipe')!r} is not known; this firstline reads {RECIPE}")
    try:
        tensors = load(data)
        heads = _heads(card["heads"])
        bits = int(str(card["bits"]))
        ngrams = Table(tensors["ngrams"], tensors["ngram_scales"])
        embeddings = Table(tensors["embeddings"], tensors["embedding_scales"].astype(np.float32))
        idf, weights, bias = (tensors[name].astype(np.float32) for name in ("idf", "weights", "bias"))
        pieces = _unpacked(tensors["pieces"]).split("\n")
        pairs = [_pair(line) for line in _unpacked(tensors["pairs"]).split("\n") if line]
        lexicons = {
            name.removeprefix(_LEXICON): _unpacked(tensor)
            for name, tensor in tensors.items()
            if name.startswith(_LEXICON)
        }
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, zlib.error) as error:
        raise ArtifactInvalid(f"the model file is damaged ({type(error).__name__})") from None
    columns = sum(len(head.labels) for head in heads.values())
    fits = (
        8 <= bits <= MAX_BITS
        and all(head.temperature > 0 and head.doubtful_temperature > 0 and head.labels for head in heads.values())
        and ngrams.values.dtype == np.int8
        and ngrams.values.shape == (1 << bits, columns)
        and ngrams.scales.shape == bias.shape == (columns,)
        and idf.shape == (1 << bits,)
        and embeddings.values.dtype == np.int8
        and embeddings.values.ndim == 2
        and embeddings.scales.shape == (len(pieces) + len(pairs),) == embeddings.values.shape[:1]
        and weights.shape == (embeddings.values.shape[1], columns)
        and all(bool(np.isfinite(numbers).all()) for numbers in (ngrams.scales, idf, embeddings.scales, weights, bias))
    )
    if not fits:
        raise ArtifactInvalid("the model file is damaged: its parts do not fit each other")
    return HybridModel(
        name=f"{RECIPE}+{hashlib.sha256(data).hexdigest()[:8]}",
        heads=heads,
        ngrams=ngrams,
        idf=idf,
        embeddings=embeddings,
        weights=weights,
        bias=bias,
        vocabulary=Vocabulary(pieces, pairs, lexicons),
        bits=bits,
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
