"""How good predictions are on labelled rows: how often they are right, and how far their probabilities can be believed.

Everything is computed from probabilities and labels; no text comes in here. Shares carry a 95 % interval, because a
share of twenty rows says little.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firstline.learning.calibration import expected_calibration_error

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

BINS: Final = 10
SURE: Final = 0.98
"""Accuracy that `coverage_at` is asked for by default."""

WORST: Final = 20
_Z: Final = 1.959964
_CURVE_POINTS: Final = 200


class Share(NamedTuple):
    """So many of so many, with the range in which the true share lies.

    Attributes:
        hits, n: counts.
        low, high: bounds of the 95 % interval, 0–1; 0 and 1 when `n` is 0.
    """

    hits: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share, 0–1; not a number when there are no rows."""
        return self.hits / self.n if self.n else math.nan


class LabelQuality(NamedTuple):
    """One category: of the rows that were given it, how many are it (precision); of its rows, how many got it (recall).

    Attributes:
        f1: harmonic mean of both, 0–1; 0 when no row is right.
        auroc: chance that a row of the category has a higher probability of it than a row of another, 0–1; not a
            number when either kind is missing.
    """

    name: str
    precision: Share
    recall: Share
    f1: float
    auroc: float


class Bin(NamedTuple):
    """Rows whose stated probability lies between `low` and `high`; when calibrated, accuracy is close to `stated`."""

    low: float
    high: float
    stated: float
    accuracy: Share


class Coverage(NamedTuple):
    """Answering only rows of at least this probability: which share that is, and how many of those are right."""

    threshold: float
    share: float
    accuracy: float


class SignalQuality(NamedTuple):
    """How a signal is met.

    Attributes:
        caught: of the rows that have it.
        left_alone: of the rows that have it not.
    """

    caught: Share
    left_alone: Share


class Miss(NamedTuple):
    """A wrong answer.

    Attributes:
        row: its place among the rows, from 0.
        label, answer: category that it has and category that it was given.
        probability: stated for the answer, 0–1.
    """

    row: int
    label: str
    answer: str
    probability: float


@dataclass(frozen=True)
class Quality:
    """Figures over a set of rows.

    Attributes:
        accuracy: share of rows whose likeliest category is theirs.
        macro_precision, macro_recall, macro_f1: means over the categories that rows have; the precision of one that
            no row was given counts as 0.
        calibration_error: mean distance between stated probability and accuracy, 0–1 (15 bins).
        right_over_wrong: chance that a right answer was surer than a wrong one (AUROC).
        labels: by category; those that occur nowhere are left out.
        bins: by stated probability; empty ones are left out.
        curve: from few rows to all.
        sure: the most rows that can be answered with `SURE` of them right; None when there is no such share. The
            threshold is picked on these very rows, so it flatters a little.
    """

    accuracy: Share
    macro_precision: float
    macro_recall: float
    macro_f1: float
    calibration_error: float
    right_over_wrong: float
    labels: tuple[LabelQuality, ...]
    bins: tuple[Bin, ...]
    curve: tuple[Coverage, ...]
    sure: Coverage | None


@dataclass(frozen=True)
class Evaluation:
    """All figures of a run.

    Attributes:
        names: categories, in the order of the confusion matrix.
        overall: over all rows.
        languages: the same by language, most rows first.
        confusion: counts, a row per label and a column per answer, (n_names, n_names).
        misses: wrong answers, the surest first, at most `WORST`.
    """

    names: tuple[str, ...]
    overall: Quality
    languages: dict[str, Quality]
    confusion: Labels
    misses: tuple[Miss, ...]


def evaluate(probabilities: Floats, labels: Labels, names: Sequence[str], languages: Sequence[str]) -> Evaluation:
    """Judge predictions.

    Args:
        probabilities: (n_rows, n_names), each row sums to 1.
        labels: place of the right name, (n_rows,).
        names: of the categories.
        languages: of the rows, or one name for all of them.
    Raises: ValueError when there is no row, or the shapes do not fit.
    """
    if not len(labels) or probabilities.shape != (len(labels), len(names)) or len(languages) != len(labels):
        raise ValueError(f"{len(labels)} labels, probabilities {probabilities.shape}, {len(languages)} languages")
    answers = probabilities.argmax(axis=1)
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (labels, answers), 1)
    spoken = np.array(languages)
    found, counts = np.unique(spoken, return_counts=True)
    stated = probabilities.max(axis=1)
    wrong = np.flatnonzero(answers != labels)
    surest = wrong[np.argsort(-stated[wrong], kind="stable")][:WORST]
    return Evaluation(
        tuple(names),
        quality_of(probabilities, labels, names),
        {
            str(name): quality_of(probabilities[spoken == name], labels[spoken == name], names)
            for name in found[np.argsort(-counts, kind="stable")]
        },
        confusion,
        tuple(Miss(int(row), names[labels[row]], names[answers[row]], float(stated[row])) for row in surest),
    )


def quality_of(probabilities: Floats, labels: Labels, names: Sequence[str]) -> Quality:
    """The figures of one set of rows; arguments as of `evaluate`."""
    answers, stated = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = answers == labels
    by_label = [
        _label_quality(name, probabilities[:, place], labels == place, answers == place)
        for place, name in enumerate(names)
        if (labels == place).any() or (answers == place).any()
    ]
    there = [label for label in by_label if label.recall.n]
    return Quality(
        accuracy=wilson(int(right.sum()), len(labels)),
        macro_precision=sum(label.precision.value for label in there if label.precision.n) / len(there),
        macro_recall=sum(label.recall.value for label in there) / len(there),
        macro_f1=sum(label.f1 for label in there) / len(there),
        calibration_error=expected_calibration_error(probabilities, labels),
        right_over_wrong=auroc(stated[right], stated[~right]),
        labels=tuple(by_label),
        bins=reliability(stated, right),
        curve=_thinned(risk_coverage(stated, right)),
        sure=coverage_at(stated, right),
    )


def wilson(hits: int, n: int) -> Share:
    """A share with its 95 % interval.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    if not n:
        return Share(hits, n, 0.0, 1.0)
    share, square = hits / n, _Z * _Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    reach = _Z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    low = middle - reach if hits else 0.0
    high = middle + reach if hits < n else 1.0
    return Share(hits, n, low, high)


def signal_quality(has: Sequence[bool], raised: Sequence[bool]) -> SignalQuality:
    """How a signal is met, from whether each row has it and whether it was raised there."""
    both = list(zip(has, raised, strict=True))
    return SignalQuality(
        caught=wilson(sum(there and found for there, found in both), sum(has)),
        left_alone=wilson(sum(not there and not found for there, found in both), len(both) - sum(has)),
    )


def auroc(positives: Floats, negatives: Floats) -> float:
    """Chance that a positive scores higher than a negative, ties counted as half; not a number if either is empty.

    Source: the rank sum of Mann and Whitney 1947, "On a Test of Whether One of Two Random Variables is Larger".
    """
    if not len(positives) or not len(negatives):
        return math.nan
    scores = np.concatenate([positives, negatives])
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    n = len(positives)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(negatives)))


def reliability(stated: Floats, right: NDArray[np.bool_], *, bins: int = BINS) -> tuple[Bin, ...]:
    """Accuracy by stated probability, over equally wide bins; empty ones are left out."""
    places = np.minimum((stated * bins).astype(np.int64), bins - 1)
    return tuple(
        Bin(
            place / bins,
            (place + 1) / bins,
            float(stated[places == place].mean()),
            wilson(int(right[places == place].sum()), int((places == place).sum())),
        )
        for place in np.unique(places).tolist()
    )


def risk_coverage(stated: Floats, right: NDArray[np.bool_]) -> tuple[Coverage, ...]:
    """What answering only the surest rows would give, a point for each threshold; rows of the same probability go
    together.

    Source: El-Yaniv and Wiener 2010, "On the Foundations of Noise-free Selective Classification".
    """
    order = np.argsort(-stated, kind="stable")
    sorted_stated = stated[order]
    accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    ends = np.flatnonzero(np.append(sorted_stated[1:] != sorted_stated[:-1], True))
    return tuple(
        Coverage(float(sorted_stated[end]), (end + 1) / len(order), float(accuracy[end])) for end in ends.tolist()
    )


def coverage_at(stated: Floats, right: NDArray[np.bool_], *, accuracy: float = SURE) -> Coverage | None:
    """The most rows that can be answered with at least this accuracy, or None."""
    enough = [point for point in risk_coverage(stated, right) if point.accuracy >= accuracy]
    return enough[-1] if enough else None


def _label_quality(name: str, probability: Floats, has: NDArray[np.bool_], given: NDArray[np.bool_]) -> LabelQuality:
    hits = int((has & given).sum())
    return LabelQuality(
        name,
        precision=wilson(hits, int(given.sum())),
        recall=wilson(hits, int(has.sum())),
        f1=2 * hits / int(has.sum() + given.sum()),
        auroc=auroc(probability[has], probability[~has]),
    )


def _thinned(curve: tuple[Coverage, ...]) -> tuple[Coverage, ...]:
    if len(curve) <= _CURVE_POINTS:
        return curve
    places = np.unique(np.linspace(0, len(curve) - 1, _CURVE_POINTS).astype(np.int64))
    return tuple(curve[place] for place in places.tolist())
