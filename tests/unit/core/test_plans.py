"""Windows: their bounds, what is left in them, and when they open again."""

from datetime import UTC, datetime

import pytest

from firstline.core.plans import (
    BURST_WINDOW,
    Plan,
    Window,
    WindowUse,
    retry_after_s,
    tightest,
    window_bounds,
)
from firstline.core.taxonomy import Contract

S = 1_000_000


def us(text: str) -> int:
    """A moment in microseconds since 1970."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S


@pytest.mark.parametrize(
    ("window", "moment", "start", "end"),
    [
        (Window.MINUTE, "2026-11-21T10:15:59", "2026-11-21T10:15:00", "2026-11-21T10:16:00"),
        (Window.HOUR, "2026-11-21T10:15:59", "2026-11-21T10:00:00", "2026-11-21T11:00:00"),
        (Window.DAY, "2026-11-21T10:15:59", "2026-11-21T00:00:00", "2026-11-22T00:00:00"),
        (Window.MONTH, "2026-11-21T10:15:59", "2026-11-01T00:00:00", "2026-12-01T00:00:00"),
        (Window.MONTH, "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        (Window.MONTH, "2027-01-01T00:00:00", "2027-01-01T00:00:00", "2027-02-01T00:00:00"),
        (Window.MONTH, "2027-02-28T12:00:00", "2027-02-01T00:00:00", "2027-03-01T00:00:00"),
        (Window.MONTH, "2028-02-29T12:00:00", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        (Window.MONTH, "2100-02-28T12:00:00", "2100-02-01T00:00:00", "2100-03-01T00:00:00"),
        (Window.DAY, "2028-02-29T12:00:00", "2028-02-29T00:00:00", "2028-03-01T00:00:00"),
        (Window.DAY, "2026-03-29T01:30:00", "2026-03-29T00:00:00", "2026-03-30T00:00:00"),
        (Window.HOUR, "2026-10-25T01:30:00", "2026-10-25T01:00:00", "2026-10-25T02:00:00"),
        (Window.DAY, "1970-01-01T00:00:00", "1970-01-01T00:00:00", "1970-01-02T00:00:00"),
    ],
)
def test_a_window_is_the_calendar_s_in_utc(window: Window, moment: str, start: str, end: str) -> None:
    assert window_bounds(window, us(moment)) == (us(start), us(end))


@pytest.mark.parametrize("window", list(Window))
def test_a_window_ends_where_the_next_begins(window: Window) -> None:
    start, end = window_bounds(window, us("2027-12-31T23:59:59"))
    assert window_bounds(window, end - 1) == (start, end)
    assert window_bounds(window, end)[0] == end


@pytest.mark.parametrize(("left_us", "seconds"), [(60 * S, 60), (60 * S - 1, 60), (S, 1), (1, 1), (0, 1), (-5 * S, 1)])
def test_retry_after_is_rounded_up_and_never_0(left_us: int, seconds: int) -> None:
    assert retry_after_s(resets_at_us=us("2026-11-21T10:00:00") + left_us, now_us=us("2026-11-21T10:00:00")) == seconds


def use(window: Window, limit: int, used: int, *, resets: int = 0, published: bool = True) -> WindowUse:
    return WindowUse(window, limit, used, resets, published)


def test_the_tightest_window_is_the_one_with_the_fewest_requests_left() -> None:
    hour, day = use(Window.HOUR, 100, 10), use(Window.DAY, 1_000, 990)
    assert tightest((hour, day)) is day


def test_of_two_equally_tight_windows_the_one_that_opens_later_is_shown() -> None:
    hour, day = use(Window.HOUR, 5, 5, resets=10), use(Window.DAY, 9, 9, resets=20)
    assert tightest((hour, day)) is day


def test_a_window_that_is_not_published_is_not_shown() -> None:
    burst, hour = use(Window.MINUTE, 1, 1, published=False), use(Window.HOUR, 100, 0)
    assert tightest((burst, hour)) is hour


def test_what_is_left_is_never_negative() -> None:
    assert use(Window.HOUR, 5, 9).remaining == 0


def test_a_plan_counts_its_burst_first_and_once() -> None:
    plan = Plan(Contract.DECISION, "free", 0, {Window.MINUTE: 10, Window.DAY: 100}, 10, 10)
    assert plan.windows == ((BURST_WINDOW, 10), (Window.DAY, 100))
    plan = Plan(Contract.CLASSIFIER, "free", 0, {Window.HOUR: 100}, 600, 10)
    assert plan.windows == ((BURST_WINDOW, 600), (Window.HOUR, 100))
