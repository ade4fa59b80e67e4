"""Counting verdicts by hour, day and month: what is counted, how spans are made of it, quantiles of a histogram.

All windows are calendar windows in UTC.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from firstline.core.plans import Window, window_bounds

GRAINS: Final = (Window.HOUR, Window.DAY, Window.MONTH)
"""Counted by each of them, so that a long range takes no more rows than a short one."""

KEPT_HOURS_DAYS: Final = 93
"""Counts by hour are kept for so long; those by day and month stay."""

LATENCY_BOUNDS_MS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
"""Upper ends of the histogram's classes, inclusive; what is slower is in one more class."""

CLASSES: Final = len(LATENCY_BOUNDS_MS) + 1
UNTIMED: Final = -1
"""Class of a verdict that nobody waited for."""

_BOUNDS_US: Final = tuple(bound * 1_000 for bound in LATENCY_BOUNDS_MS)


class Step(StrEnum):
    """How a range of time is cut."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    ALL = "all"


class Dimension(StrEnum):
    """What counts can be split by, besides time."""

    CATEGORY = "category"
    PRIORITY = "priority"
    DECISION = "decision"
    LANGUAGE = "language"
    CHANNEL = "channel"
    SOURCE = "source"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Span:
    """Windows of one kind that follow each other; `from_us` and `to_us` are ends of windows."""

    grain: Window
    from_us: int
    to_us: int


def class_of(processing_us: int) -> int:
    """Class of the latency histogram that a time belongs to."""
    return bisect_left(_BOUNDS_US, processing_us)


def quantile_ms(classes: Sequence[int], part: float) -> float | None:
    """A quantile of what a histogram counted, in milliseconds; None when it is empty.

    Exact to the class, and even within it; of what is slower than the last bound only that is known.

    Args:
        classes: counts, `CLASSES` of them.
        part: 0–1.
    """
    total = sum(classes)
    if total <= 0:
        return None
    rank = part * total
    below = 0
    for place, count in enumerate(classes):
        if count > 0 and below + count >= rank:
            if place == CLASSES - 1:
                break
            low = LATENCY_BOUNDS_MS[place - 1] if place else 0
            return low + (LATENCY_BOUNDS_MS[place] - low) * (rank - below) / count
        below += count
    return float(LATENCY_BOUNDS_MS[-1])


def rounded(from_us: int, to_us: int, step: Step) -> tuple[int, int]:
    """A range widened to whole steps; to whole days where it is not cut."""
    grain = Window.DAY if step is Step.ALL else Window(step)
    return window_bounds(grain, from_us)[0], window_bounds(grain, to_us - 1)[1]


def spans(from_us: int, to_us: int, step: Step) -> tuple[Span, ...]:
    """The fewest windows that make up a rounded range; only those as long as the step where it is cut."""
    if step is not Step.ALL:
        return (Span(Window(step), from_us, to_us),)
    first, after = window_bounds(Window.MONTH, from_us)
    months_from_us = from_us if first == from_us else after
    months_to_us = window_bounds(Window.MONTH, to_us)[0]
    if months_from_us >= months_to_us:
        return (Span(Window.DAY, from_us, to_us),)
    found = (
        Span(Window.DAY, from_us, months_from_us),
        Span(Window.MONTH, months_from_us, months_to_us),
        Span(Window.DAY, months_to_us, to_us),
    )
    return tuple(span for span in found if span.from_us < span.to_us)
