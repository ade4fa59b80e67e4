"""Figures over labelled rows: what they say about predictions that are right, wrong, sure and unsure."""

import math

import numpy as np
import pytest

from firstline.learning.evaluation import (
    auroc,
    coverage_at,
    evaluate,
    reliability,
    risk_coverage,
    signal_quality,
    wilson,
)

NAMES = ("login", "refund", "other")


def rows(*pairs: tuple[str, str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels from (label, answer, probability)."""
    probabilities = np.zeros((len(pairs), len(NAMES)))
    for place, (_, answer, stated) in enumerate(pairs):
        probabilities[place] = (1 - stated) / (len(NAMES) - 1)
        probabilities[place, NAMES.index(answer)] = stated
    return probabilities, np.array([NAMES.index(label) for label, _, _ in pairs])


def test_accuracy_precision_and_recall_count_what_was_answered() -> None:
    found = evaluate(
        *rows(("login", "login", 0.9), ("login", "refund", 0.6), ("refund", "refund", 0.8), ("refund", "refund", 0.7)),
        NAMES,
        ["en"] * 4,
    )
    login, refund = found.overall.labels
    assert found.overall.accuracy[:2] == (3, 4)
    assert login.precision[:2] == (1, 1)
    assert login.recall[:2] == (1, 2)
    assert refund.precision[:2] == (2, 3)
    assert refund.f1 == pytest.approx(0.8)
    assert found.overall.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2)


def test_a_category_without_rows_does_not_lower_the_mean() -> None:
    found = evaluate(*rows(("login", "login", 0.9), ("refund", "refund", 0.9)), NAMES, ["en", "en"])
    assert [label.name for label in found.overall.labels] == ["login", "refund"]
    assert found.overall.macro_f1 == 1.0


def test_the_confusion_matrix_has_a_row_for_each_label() -> None:
    found = evaluate(
        *rows(("login", "refund", 0.6), ("login", "refund", 0.7), ("other", "other", 0.9)), NAMES, ["en"] * 3
    )
    assert found.confusion.tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_languages_are_judged_apart_and_the_commonest_comes_first() -> None:
    found = evaluate(
        *rows(("login", "login", 0.9), ("login", "refund", 0.9), ("login", "refund", 0.9)), NAMES, ["de", "en", "en"]
    )
    assert list(found.languages) == ["en", "de"]
    assert found.languages["de"].accuracy.value == 1.0
    assert found.languages["en"].accuracy.value == 0.0


def test_the_surest_error_is_named_first_by_its_row() -> None:
    found = evaluate(
        *rows(("login", "refund", 0.5), ("login", "login", 0.99), ("other", "login", 0.95)), NAMES, ["en"] * 3
    )
    assert [(miss.row, miss.label, miss.answer) for miss in found.misses] == [
        (2, "other", "login"),
        (0, "login", "refund"),
    ]


def test_rows_without_a_match_of_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 labels"):
        evaluate(np.ones((2, 3)) / 3, np.array([0, 1]), NAMES, ["en"])
    with pytest.raises(ValueError, match="0 labels"):
        evaluate(np.zeros((0, 3)), np.zeros(0, np.int64), NAMES, [])


def test_an_interval_is_wide_for_few_rows_and_never_leaves_0_to_1() -> None:
    few, many = wilson(4, 5), wilson(800, 1000)
    assert few.low < 0.4 < 0.95 < few.high
    assert (many.low, many.high) == pytest.approx((0.774, 0.824), abs=1e-3)
    assert wilson(5, 5).high == 1.0
    assert wilson(0, 5).low == 0.0
    assert math.isnan(wilson(0, 0).value)


def test_auroc_is_one_when_every_positive_is_higher_and_a_half_for_ties() -> None:
    assert auroc(np.array([0.8, 0.9]), np.array([0.1, 0.2])) == 1.0
    assert auroc(np.array([0.1]), np.array([0.8, 0.9])) == 0.0
    assert auroc(np.array([0.5, 0.5]), np.array([0.5])) == 0.5
    assert math.isnan(auroc(np.array([0.5]), np.array([])))


def test_bins_hold_each_row_once_and_a_certain_one_too() -> None:
    found = reliability(np.array([0.55, 0.58, 1.0]), np.array([True, False, True]))
    assert [(one.low, one.accuracy.hits, one.accuracy.n) for one in found] == [(0.5, 1, 2), (0.9, 1, 1)]
    assert found[0].stated == pytest.approx(0.565)


def test_coverage_counts_the_surest_rows_up_to_the_wanted_accuracy() -> None:
    stated = np.array([0.9, 0.8, 0.7, 0.6])
    right = np.array([True, True, False, True])
    found = coverage_at(stated, right, accuracy=0.99)
    assert found is not None
    assert (found.threshold, found.share, found.accuracy) == (0.8, 0.5, 1.0)
    assert coverage_at(stated, ~np.array([True, True, True, True])) is None


def test_rows_of_one_probability_are_answered_together_or_not_at_all() -> None:
    curve = risk_coverage(np.array([0.9, 0.9, 0.5]), np.array([True, False, True]))
    assert [(point.share, point.accuracy) for point in curve] == [(2 / 3, 0.5), (1.0, 2 / 3)]


def test_a_long_curve_keeps_its_end() -> None:
    rng = np.random.default_rng(0)
    stated = rng.random(2_000) / 2 + 0.5
    probabilities = np.column_stack([stated, 1 - stated])
    found = evaluate(probabilities, np.zeros(2_000, np.int64), ("a", "b"), ["en"] * 2_000)
    assert len(found.overall.curve) <= 200
    assert found.overall.curve[-1].share == 1.0


def test_a_signal_is_caught_where_it_is_and_left_alone_where_it_is_not() -> None:
    found = signal_quality([True, True, False, False, False], [True, False, False, False, True])
    assert found.caught[:2] == (1, 2)
    assert found.left_alone[:2] == (2, 3)
