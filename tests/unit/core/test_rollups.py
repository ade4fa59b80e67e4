"""Windows, spans and quantiles of the counts of verdicts."""

from datetime import UTC, datetime

import pytest

from firstline.core.plans import Window
from firstline.core.rollups import CLASSES, LATENCY_BOUNDS_MS, Span, Step, class_of, quantile_ms, rounded, spans


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("step", "start", "end"),
    [
        (Step.HOUR, "2026-11-22T14:00", "2026-11-22T17:00"),
        (Step.DAY, "2026-11-22", "2026-11-23"),
        (Step.MONTH, "2026-11-01", "2026-12-01"),
        (Step.ALL, "2026-11-22", "2026-11-23"),
    ],
)
def test_a_range_is_widened_to_whole_steps(step: Step, start: str, end: str) -> None:
    assert rounded(at("2026-11-22T14:30"), at("2026-11-22T16:00") + 1, step) == (at(start), at(end))


@pytest.mark.parametrize("step", list(Step))
def test_a_range_of_whole_steps_stays_as_it_is(step: Step) -> None:
    whole = (at("2026-02-01"), at("2026-03-01"))
    assert rounded(*whole, step) == whole


@pytest.mark.parametrize("step", [Step.HOUR, Step.DAY, Step.MONTH])
def test_a_cut_range_is_made_of_windows_as_long_as_its_step(step: Step) -> None:
    assert spans(at("2026-01-01"), at("2027-01-01"), step) == (Span(Window(step), at("2026-01-01"), at("2027-01-01")),)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2026-01-01", "2027-01-01", [("month", "2026-01-01", "2027-01-01")]),
        (
            "2025-11-22",
            "2026-11-23",
            [
                ("day", "2025-11-22", "2025-12-01"),
                ("month", "2025-12-01", "2026-11-01"),
                ("day", "2026-11-01", "2026-11-23"),
            ],
        ),
        ("2026-11-02", "2026-12-01", [("day", "2026-11-02", "2026-12-01")]),
        ("2026-11-22", "2026-12-15", [("day", "2026-11-22", "2026-12-15")]),
        ("2026-11-30", "2027-01-01", [("day", "2026-11-30", "2026-12-01"), ("month", "2026-12-01", "2027-01-01")]),
        ("2026-11-22", "2026-11-23", [("day", "2026-11-22", "2026-11-23")]),
    ],
)
def test_an_uncut_range_is_made_of_months_with_days_at_its_ends(
    start: str, end: str, expected: list[tuple[str, str, str]]
) -> None:
    found = [Span(Window(grain), at(begin), at(stop)) for grain, begin, stop in expected]
    assert spans(at(start), at(end), Step.ALL) == tuple(found)


def test_every_time_has_a_class_and_a_bound_belongs_to_the_class_below_it() -> None:
    for place, bound in enumerate(LATENCY_BOUNDS_MS):
        assert class_of(bound * 1_000) == place
        assert class_of(bound * 1_000 + 1) == place + 1
    assert class_of(0) == 0
    assert class_of(10**12) == CLASSES - 1


def counts(**of: int) -> list[int]:
    return [of.get(f"c{place}", 0) for place in range(CLASSES)]


def test_nothing_has_no_quantile() -> None:
    assert quantile_ms(counts(), 0.5) is None


def test_a_quantile_lies_in_the_class_where_so_many_are_below() -> None:
    found = counts(c1=50, c4=45, c8=5)  # 1–2 ms, 10–20 ms, 200–500 ms … by their bounds
    assert quantile_ms(found, 0.25) == pytest.approx(1.5)
    assert quantile_ms(found, 0.5) == pytest.approx(2.0)
    assert quantile_ms(found, 0.95) == pytest.approx(20.0)
    high = quantile_ms(found, 0.99)
    assert high is not None
    assert LATENCY_BOUNDS_MS[7] < high <= LATENCY_BOUNDS_MS[8]


def test_beyond_the_last_bound_a_quantile_is_that_bound() -> None:
    assert quantile_ms([0] * (CLASSES - 1) + [3], 0.5) == LATENCY_BOUNDS_MS[-1]
