"""Raw scores into probabilities that match observed accuracy, and how well they do."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

_GOLDEN: Final = (5**0.5 - 1) / 2


def calibrate(logits: _Floats, temperature: float) -> _Floats:
    """Turn raw scores into probabilities that match observed accuracy.

    Args:
        logits: float array (n_tickets, n_categories); rows unnormalised.
        temperature: dimensionless, > 0; above 1 softens.
    Returns: array of the same shape; each row sums to 1 within 1e-6.
    Raises: ValueError when temperature is not positive.
    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be positive")
    scaled = logits / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    exponentials = np.exp(scaled)
    probabilities: _Floats = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def calibrate_one(logits: Sequence[float], temperature: float) -> list[float]:
    """`calibrate` for one ticket, several times faster on a handful of numbers.

    Raises: ValueError when temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be positive")
    largest = max(logits)
    exponentials = [math.exp((logit - largest) / temperature) for logit in logits]
    total = sum(exponentials)
    return [exponential / total for exponential in exponentials]


def sigmoid(score: float) -> float:
    """The probability 0–1 of one independent label from its score in logits."""
    if score >= 0:
        return 1.0 / (1.0 + math.exp(-score))
    exponential = math.exp(score)
    return exponential / (1.0 + exponential)


def fit_temperature(logits: _Floats, labels: NDArray[np.int64], *, weights: _Floats | None = None) -> float:
    """The temperature with the least negative log-likelihood, between 0.05 and 20.

    Args:
        logits: float array (n_tickets, n_categories).
        labels: index of the right category, (n_tickets,).
        weights: of the tickets, (n_tickets,); all the same when left out.
    Source: golden-section search over the logarithm; the loss is convex in 1/temperature.
    """
    low, high = float(np.log(0.05)), float(np.log(20.0))
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    while high - low > 1e-4:
        if _loss(logits, labels, float(np.exp(left)), weights) < _loss(logits, labels, float(np.exp(right)), weights):
            high, right = right, left
            left = high - _GOLDEN * (high - low)
        else:
            low, left = left, right
            right = low + _GOLDEN * (high - low)
    return float(np.exp((low + high) / 2))


def expected_calibration_error(probabilities: _Floats, labels: NDArray[np.int64], *, bins: int = 15) -> float:
    """Mean distance between stated probability and observed accuracy, 0 to 1, over equally wide bins."""
    stated = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.minimum((stated * bins).astype(np.int64), bins - 1)
    error = 0.0
    for place in range(bins):
        inside = places == place
        if inside.any():
            error += float(inside.mean()) * abs(float(right[inside].mean()) - float(stated[inside].mean()))
    return error


def _loss(logits: _Floats, labels: NDArray[np.int64], temperature: float, weights: _Floats | None) -> float:
    chosen = calibrate(logits, temperature)[np.arange(len(labels)), labels]
    return float(-np.average(np.log(np.maximum(chosen, 1e-12)), weights=weights))
