"""Categories of an account's own, from their names, descriptions and examples, trained in under a second.

Each text becomes its embedding beside a signed sketch of its n-grams (Weinberger et al. 2009, "Feature Hashing for
Large Scale Multitask Learning"), under multinomial logistic regression. A name and a description are examples of
their category. How far the probabilities can be believed, and when a message belongs to none of the categories,
depends on how many examples there are; those curves were fitted once, on public data (training/custom.py), and lie
in the model file. With enough examples the temperature is fitted on left-out examples of the account's own.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from firstline.core.categories import CategorySet
from firstline.core.taxonomy import FALLBACK_CATEGORY
from firstline.core.verdict import Abstention, Prediction
from firstline.learning.calibration import calibrate_one, fit_temperature, sigmoid
from firstline.learning.hybrid_model import Features, HybridModel
from firstline.learning.linear import fit_softmax, softmax

SKETCH_BITS: Final = 11
SKETCH_SHARE: Final = 0.7
"""Weight of the n-gram half beside the embedding half."""

C: Final = 30.0
FOLDS: Final = 4
FEW_EXAMPLES: Final = 5
"""Advice asks for more under so many."""

_FIT_FROM: Final = 60
_OVERLAP: Final = 0.3
_MISLABELLED: Final = 0.7
_MAX_ADVICE: Final = 50
_CLOSE: Final = 0.85
_FOLD_STEPS: Final = 60

Floats = NDArray[np.float64]


class Advice(NamedTuple):
    """Something that would make the categories work better.

    Attributes:
        code: `few_examples`, `overlap` or `mislabelled`.
        text: a sentence for people; of examples it names places, never words.
        categories: names that it is about.
        example: place of the example within its category, for `mislabelled`.
    """

    code: str
    text: str
    categories: tuple[str, ...]
    example: int | None = None


@dataclass(frozen=True, slots=True)
class Curves:
    """What was learnt once about custom categories, and lies in the shipped model.

    Attributes:
        temperatures: (examples per category, temperature), ascending.
        none: weights of the chance that a message belongs to none: bias, closeness to the nearest example, top
            probability, logarithm of one plus examples per category.
    """

    temperatures: tuple[tuple[float, float], ...]
    none: tuple[float, float, float, float]

    def temperature(self, examples: float) -> float:
        """Linear between the fitted points."""
        places = [math.log1p(place) for place, _ in self.temperatures]
        return float(np.interp(math.log1p(examples), places, [value for _, value in self.temperatures]))

    def none_of_these(self, closeness: float, top: float, examples: float) -> float:
        """Probability 0–1 that a message belongs to no category."""
        bias, near, sure, many = self.none
        return sigmoid(bias + near * closeness + sure * top + many * math.log1p(examples))


DEFAULT_CURVES: Final = Curves(
    temperatures=((0, 0.6), (1, 0.6), (5, 0.8), (10, 0.9), (20, 1.0)), none=(2.0, -4.0, -2.0, 0.0)
)
"""For a model that brings none of its own."""


@dataclass(frozen=True, slots=True)
class CustomModel:
    """Trained categories of one account; safe from any thread.

    Attributes:
        version: of the category set.
        names: of the categories, in order.
        weights: float32 (n_dimensions + 2**SKETCH_BITS, n_categories).
        bias: float32 (n_categories,).
        anchors: embeddings of names, descriptions and examples, float32 (n_anchors, n_dimensions).
        temperature: of the scores, > 0.
        examples: mean number of examples of a category.
        idf: of the n-grams, as in the model that the categories stand on.
        curves: of that model.
    """

    version: str
    names: tuple[str, ...]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    anchors: NDArray[np.float32]
    temperature: float
    examples: float
    idf: NDArray[np.float32]
    curves: Curves

    def predict(self, prediction: Prediction, features: Features) -> Prediction:
        """The model's prediction with these categories in place of its own."""
        vector = joined(features, self.idf)
        probabilities = calibrate_one((vector @ self.weights + self.bias).tolist(), self.temperature)
        closeness = float((self.anchors @ features.embedding).max())
        none = self.curves.none_of_these(closeness, max(probabilities), self.examples)
        found = {name: chance * (1 - none) for name, chance in zip(self.names, probabilities, strict=True)}
        found[FALLBACK_CATEGORY] = none
        best = max(found, key=found.__getitem__)
        return replace(
            prediction,
            model=f"{prediction.model},custom+{self.version}",
            probabilities=found,
            subcategory=None,
            agreed=True,
            abstained=Abstention.NONE_OF_THESE if best == FALLBACK_CATEGORY else None,
            support=None,
        )


def joined(features: Features, idf: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embedding and sketch of a text as one vector, float32 (n_dimensions + 2**SKETCH_BITS,)."""
    ids = features.buckets
    signs = 1.0 - 2.0 * ((ids >> SKETCH_BITS) & 1)
    sketch = np.bincount(ids & ((1 << SKETCH_BITS) - 1), weights=idf.take(ids) * signs, minlength=1 << SKETCH_BITS)
    length = float(sketch @ sketch) ** 0.5
    scaled = sketch * (SKETCH_SHARE / length) if length else sketch
    return np.concatenate([features.embedding, scaled.astype(np.float32)])


def train(model: HybridModel, categories: CategorySet, curves: Curves) -> tuple[CustomModel, tuple[Advice, ...]]:
    """Train the categories of an account.

    Args:
        model: that they stand on.
        categories: checked; texts in any supported language.
        curves: of the model.
    Returns: the categories ready to predict, and advice on them.
    """
    rows = _rows(model, categories)
    trained = _fit(model, categories, curves, rows)
    advice = list(_few(categories))
    tested = np.flatnonzero(rows.places >= 0)
    names = trained.names
    if len(tested) < 2 * len(names):
        return trained, tuple([*advice, *_close_names(rows, names)][:_MAX_ADVICE])
    unseen = _left_out(rows, tested, len(names))
    if len(tested) >= _FIT_FROM:
        trained = replace(trained, temperature=fit_temperature(unseen, rows.labels[tested]))
    probabilities = softmax(unseen / trained.temperature)
    advice += _from_left_out(probabilities, rows.labels[tested], rows.places[tested], names)
    return trained, tuple(advice[:_MAX_ADVICE])


def fit_categories(model: HybridModel, categories: CategorySet, curves: Curves) -> CustomModel:
    """The categories ready to predict, without advice and with the temperature of the curve."""
    return _fit(model, categories, curves, _rows(model, categories))


class _Rows(NamedTuple):
    """Names, descriptions and examples as features.

    Attributes:
        matrix: (n_rows, n_kept), in the columns of `basis`.
        basis: orthonormal, (n_features, n_kept).
        embeddings: float32 (n_rows, n_dimensions).
        labels: category of each row.
        places: place of the example within its category; -1 for a name or a description.
    """

    matrix: Floats
    basis: Floats
    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]
    places: NDArray[np.int64]


def _rows(model: HybridModel, categories: CategorySet) -> _Rows:
    texts, labels, places = [], [], []
    for number, category in enumerate(categories.categories):
        name = _spaced(category.name)
        described = f"{name}. {category.description}" if category.description else ""
        for place, text in enumerate((name, described, *category.examples), -2):
            if text:
                texts.append(text)
                labels.append(number)
                places.append(max(place, -1))
    features = [found for _, found in model.analyse_many(texts)]
    matrix, basis = _in_fewer_columns(np.stack([joined(found, model.idf) for found in features]).astype(np.float64))
    embeddings = np.stack([found.embedding for found in features])
    return _Rows(matrix, basis, embeddings, np.array(labels), np.array(places))


def _fit(model: HybridModel, categories: CategorySet, curves: Curves, rows: _Rows) -> CustomModel:
    names = tuple(category.name for category in categories.categories)
    weights, bias = fit_softmax(rows.matrix, rows.labels, len(names), c=C)
    examples = float((rows.places >= 0).sum()) / len(names)
    return CustomModel(
        version=categories.version,
        names=names,
        weights=(rows.basis @ weights).astype(np.float32),
        bias=bias.astype(np.float32),
        anchors=rows.embeddings,
        temperature=curves.temperature(examples),
        examples=examples,
        idf=model.idf,
        curves=curves,
    )


def curves_from_card(card: Mapping[str, Any]) -> Curves:
    """The curves in a model's card, or the default ones when it has none.

    Raises: ValueError when they are damaged.
    """
    found = card.get("custom")
    if found is None:
        return DEFAULT_CURVES
    try:
        bias, near, sure, many = (float(weight) for weight in found["none"])
        temperatures = tuple((float(examples), float(value)) for examples, value in found["temperatures"])
    except (KeyError, TypeError, ValueError):
        raise ValueError("the model's curves for custom categories are damaged") from None
    if not temperatures or any(value <= 0 for _, value in temperatures):
        raise ValueError("the model's curves for custom categories are damaged")
    return Curves(temperatures, (bias, near, sure, many))


def dump_custom(model: CustomModel, advice: Sequence[Advice]) -> bytes:
    """Trained categories as bytes; never a pickle."""
    card = {
        "version": model.version,
        "names": model.names,
        "temperature": model.temperature,
        "examples": model.examples,
        "advice": advice,
    }
    tensors: Mapping[str, NDArray[Any]] = {"weights": model.weights, "bias": model.bias, "anchors": model.anchors}
    return save(dict(tensors), {"card": json.dumps(card)})


def load_custom(data: bytes, base: HybridModel, curves: Curves) -> tuple[CustomModel, tuple[Advice, ...]]:
    """Trained categories from bytes, on the model that they were trained on.

    Raises: ValueError when they are damaged or do not fit the model.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        card = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["card"])
        tensors = load(data)
        model = CustomModel(
            version=card["version"],
            names=tuple(card["names"]),
            weights=tensors["weights"],
            bias=tensors["bias"],
            anchors=tensors["anchors"],
            temperature=float(card["temperature"]),
            examples=float(card["examples"]),
            idf=base.idf,
            curves=curves,
        )
        advice = tuple(Advice(code, text, tuple(about), place) for code, text, about, place in card["advice"])
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"stored categories cannot be read ({type(error).__name__})") from None
    dimensions = base.weights.shape[0]
    fits = (
        model.weights.shape == (dimensions + (1 << SKETCH_BITS), len(model.names))
        and model.bias.shape == (len(model.names),)
        and model.anchors.ndim == 2
        and len(model.anchors) > 0
        and model.anchors.shape[1] == dimensions
        and all(part.dtype == np.float32 for part in (model.weights, model.bias, model.anchors))
        and all(bool(np.isfinite(part).all()) for part in (model.weights, model.bias, model.anchors))
        and 0 < model.temperature < np.inf
        and 0 <= model.examples < np.inf
    )
    if not fits:
        raise ValueError("stored categories do not fit the model in use")
    return model, advice


def _in_fewer_columns(matrix: Floats) -> tuple[Floats, Floats]:
    """The rows in a basis of their own span, and that basis, (n_columns, n_kept).

    The best weights lie in the span of the rows, and the basis keeps lengths, so that the fit is the same one; with
    fewer rows than columns it costs a fraction.
    """
    if len(matrix) >= matrix.shape[1]:
        return matrix, np.eye(matrix.shape[1])
    basis, triangle = np.linalg.qr(matrix.T)
    return np.ascontiguousarray(triangle.T), basis


def _spaced(name: str) -> str:
    return name.replace("_", " ").replace("/", " ").replace("-", " ")


def _left_out(rows: _Rows, tested: NDArray[np.int64], classes: int) -> Floats:
    """Scores (n_tested, n_categories) of examples by models that had not seen them."""
    scores = np.zeros((len(tested), classes))
    order = np.argsort(rows.labels[tested], kind="stable")
    for fold in range(FOLDS):
        chosen = order[fold::FOLDS]
        inside = np.ones(len(rows.labels), bool)
        inside[tested[chosen]] = False
        found, bias = fit_softmax(rows.matrix[inside], rows.labels[inside], classes, c=C, iterations=_FOLD_STEPS)
        scores[chosen] = rows.matrix[tested[chosen]] @ found + bias
    return scores


def _few(categories: CategorySet) -> Iterator[Advice]:
    for category in categories.categories:
        count = len(category.examples)
        if count < FEW_EXAMPLES:
            hint = "" if category.description else " and a description"
            yield Advice(
                "few_examples",
                f"{category.name} has {count} of the {FEW_EXAMPLES} to 20 examples{hint} that make it sure.",
                (category.name,),
            )


def _from_left_out(
    probabilities: Floats, labels: NDArray[np.int64], places: NDArray[np.int64], names: Sequence[str]
) -> Iterator[Advice]:
    likeliest = probabilities.argmax(axis=1)
    classes = len(names)
    for first in range(classes):
        for second in range(first + 1, classes):
            ours, theirs = labels == first, labels == second
            mixed = (likeliest[ours] == second).sum() + (likeliest[theirs] == first).sum()
            if mixed >= 2 and mixed >= _OVERLAP * min(ours.sum(), theirs.sum()):
                yield Advice(
                    "overlap",
                    f"{names[first]} and {names[second]} overlap: {mixed} examples were taken for the other's.",
                    (names[first], names[second]),
                )
    for row, place in enumerate(places.tolist()):
        other = int(likeliest[row])
        if other != labels[row] and probabilities[row, other] >= _MISLABELLED:
            name = names[int(labels[row])]
            yield Advice(
                "mislabelled",
                f"Example {place + 1} of {name} looks like {names[other]}.",
                (name, names[other]),
                place,
            )


def _close_names(rows: _Rows, names: Sequence[str]) -> Iterator[Advice]:
    middles = np.stack([rows.embeddings[rows.labels == number].mean(axis=0) for number in range(len(names))])
    lengths = np.maximum(np.linalg.norm(middles, axis=1), 1e-9)
    close = (middles @ middles.T) / np.outer(lengths, lengths)
    for first in range(len(names)):
        for second in range(first + 1, len(names)):
            if close[first, second] > _CLOSE:
                yield Advice(
                    "overlap",
                    f"{names[first]} and {names[second]} sound alike: describe what sets them apart, or give examples.",
                    (names[first], names[second]),
                )
