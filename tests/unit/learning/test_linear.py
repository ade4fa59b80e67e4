"""Logistic regression by hand, against what it must find."""

import numpy as np
import pytest

from firstline.learning.linear import fit_softmax, softmax


def loss(features: np.ndarray, labels: np.ndarray, weights: np.ndarray, bias: np.ndarray, c: float) -> float:
    chances = softmax(features @ weights + bias)[np.arange(len(labels)), labels]
    return float(-c * np.log(chances).sum() + 0.5 * (weights**2).sum())


def test_no_other_weights_are_better() -> None:
    random = np.random.default_rng(5)
    features = random.normal(size=(60, 6))
    labels = (features @ random.normal(size=(6, 3))).argmax(axis=1)
    weights, bias = fit_softmax(features, labels, 3, c=2.0, iterations=500, tolerance=1e-9)
    best = loss(features, labels, weights, bias, 2.0)
    for _ in range(50):
        moved = weights + random.normal(size=weights.shape) * 0.01
        assert loss(features, labels, moved, bias, 2.0) > best


def test_a_weighted_row_counts_as_often_as_its_weight() -> None:
    random = np.random.default_rng(6)
    features = random.normal(size=(20, 4))
    labels = random.integers(0, 2, 20)
    weighted = fit_softmax(features, labels, 2, c=1.0, weights=np.where(np.arange(20) < 5, 2.0, 1.0), tolerance=1e-8)
    repeated = fit_softmax(
        np.concatenate([features, features[:5]]), np.concatenate([labels, labels[:5]]), 2, c=1.0, tolerance=1e-8
    )
    assert weighted[0] == pytest.approx(repeated[0], abs=1e-3)


def test_a_class_without_rows_is_unlikely_everywhere() -> None:
    features = np.eye(4)
    weights, bias = fit_softmax(features, np.array([0, 0, 1, 1]), 3, c=5.0)
    assert (softmax(features @ weights + bias)[:, 2] < 0.2).all()
