"""A model as one safetensors file: weights, config, data hashes, metrics and model card; never a pickle."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from firstline.learning.ngram_model import RECIPE, NgramModel, as_table, dequantise

MAX_BITS: Final = 20


class ArtifactInvalid(ValueError):
    """A file that is no usable model; the message says what is wrong with it."""


def dump(
    *,
    weights: NDArray[np.int8],
    scales: NDArray[np.float32],
    idf: NDArray[np.float16],
    bias: NDArray[np.float32],
    card: Mapping[str, object],
) -> bytes:
    """A model as bytes.

    Args:
        weights: int8 (n_buckets, n_columns).
        scales: float32 (n_columns,).
        idf: float16 (n_buckets,).
        bias: float32 (n_columns,).
        card: `recipe`, `bits`, `categories`, `languages`, `temperature`, and whatever tells where the model comes
            from: config, data hashes, metrics, licences.
    """
    tensors: dict[str, NDArray[Any]] = {"weights": weights, "scales": scales, "idf": idf, "bias": bias}
    return save(tensors, {"card": json.dumps(card, sort_keys=True, ensure_ascii=False)})


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


def load_model(data: bytes) -> NgramModel:
    """A model from bytes.

    Raises: ArtifactInvalid when it is damaged, of another recipe or does not fit itself.
    """
    card = read_card(data)
    if card.get("recipe") != RECIPE:
        raise ArtifactInvalid(f"recipe {card.get('recipe')!r} is not known; this firstline reads {RECIPE}")
    try:
        tensors = load(data)
        weights, scales, idf, bias = (tensors[name] for name in ("weights", "scales", "idf", "bias"))
        categories = tuple(str(name) for name in _items(card["categories"]))
        languages = tuple(str(name) for name in _items(card["languages"]))
        bits = int(str(card["bits"]))
        temperature = float(str(card["temperature"]))
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ArtifactInvalid(f"the model file is damaged ({type(error).__name__})") from None
    columns = len(categories) + len(languages)
    fits = (
        8 <= bits <= MAX_BITS
        and temperature > 0
        and weights.dtype == np.int8
        and weights.shape == (1 << bits, columns)
        and scales.shape == (columns,)
        and idf.shape == (1 << bits,)
        and bias.shape == (columns,)
        and bool(np.isfinite(scales).all() and np.isfinite(idf).all() and np.isfinite(bias).all())
    )
    if not fits:
        raise ArtifactInvalid("the model file is damaged: its parts do not fit each other")
    return NgramModel(
        name=f"{RECIPE}+{hashlib.sha256(data).hexdigest()[:8]}",
        categories=categories,
        languages=languages,
        table=as_table(dequantise(weights, scales), idf.astype(np.float32)),
        bias=bias.astype(np.float32),
        temperature=temperature,
        bits=bits,
    )


def _items(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value
