"""Multinomial logistic regression, for heads that are trained while firstline runs."""

from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

_REMEMBERED: Final = 8
_SUFFICIENT_DECREASE: Final = 1e-4
_HALVINGS: Final = 20


def softmax(logits: Floats) -> Floats:
    """Each row as probabilities; rows sum to 1."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return found


def fit_softmax(
    features: Floats,
    labels: Labels,
    n_classes: int,
    *,
    c: float,
    weights: Floats | None = None,
    iterations: int = 100,
    tolerance: float = 1e-4,
) -> tuple[Floats, Floats]:
    """Weights and biases of a linear softmax classifier.

    Minimises half the squared norm of the weights plus `c` times the summed (weighted) cross-entropy; biases are not
    penalised. Deterministic: it starts from zero.

    Args:
        features: (n_rows, n_features).
        labels: class of each row, 0 to n_classes - 1.
        c: inverse strength of the penalty, > 0.
        weights: of the rows, (n_rows,); all 1 when left out.
        iterations: at most so many steps.
        tolerance: stop when the largest entry of the gradient is below it times `c` times the summed weights.
    Returns: weights (n_features, n_classes) and biases (n_classes,).
    Source: limited-memory BFGS; Nocedal and Wright, "Numerical Optimization", algorithm 7.4, with backtracking.
    """
    rows, columns = features.shape
    weights = np.ones(rows) if weights is None else weights
    right = np.zeros((rows, n_classes))
    right[np.arange(rows), labels] = 1.0
    size = columns * n_classes

    def loss_and_gradient(point: Floats) -> tuple[float, Floats]:
        matrix = point[:size].reshape(columns, n_classes)
        logits = features @ matrix + point[size:]
        logits -= logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(logits).sum(axis=1))
        losses = total - logits[np.arange(rows), labels]
        error = (np.exp(logits - total[:, None]) - right) * (c * weights)[:, None]
        gradient = np.concatenate([(features.T @ error + matrix).ravel(), error.sum(axis=0)])
        return c * float(weights @ losses) + 0.5 * float(matrix.ravel() @ matrix.ravel()), gradient

    found = _minimise(
        loss_and_gradient,
        np.zeros(size + n_classes),
        iterations=iterations,
        tolerance=tolerance * c * float(weights.sum()),
    )
    return found[:size].reshape(columns, n_classes), found[size:]


def _minimise(
    loss_and_gradient: Callable[[Floats], tuple[float, Floats]], point: Floats, *, iterations: int, tolerance: float
) -> Floats:
    steps: deque[tuple[Floats, Floats, float]] = deque(maxlen=_REMEMBERED)
    loss, gradient = loss_and_gradient(point)
    for _ in range(iterations):
        if np.abs(gradient).max() <= tolerance:
            break
        direction = _two_loops(gradient, steps)
        slope = float(direction @ gradient)
        length = 1.0 if steps else min(1.0, 1.0 / float(np.abs(gradient).sum()))
        for _ in range(_HALVINGS):
            candidate = point + length * direction
            candidate_loss, candidate_gradient = loss_and_gradient(candidate)
            if candidate_loss <= loss + _SUFFICIENT_DECREASE * length * slope:
                break
            length /= 2
        else:
            break
        moved, turned = candidate - point, candidate_gradient - gradient
        curvature = float(moved @ turned)
        if curvature > 1e-12:
            steps.append((moved, turned, 1.0 / curvature))
        point, loss, gradient = candidate, candidate_loss, candidate_gradient
    return point


def _two_loops(gradient: Floats, steps: deque[tuple[Floats, Floats, float]]) -> Floats:
    direction = -gradient
    shares = []
    for moved, turned, inverse in reversed(steps):
        share = inverse * float(moved @ direction)
        shares.append(share)
        direction = direction - share * turned
    if steps:
        moved, turned, inverse = steps[-1]
        direction = direction / (inverse * float(turned @ turned))
    for (moved, turned, inverse), share in zip(steps, reversed(shares), strict=True):
        direction = direction + (share - inverse * float(turned @ direction)) * moved
    return direction
