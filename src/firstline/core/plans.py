"""Plans, the windows that they count in, and whether a request still fits.

Windows are fixed calendar windows in UTC. Every counter has an end. A denial says which window is full and when it
opens again, so that `Retry-After` is true.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final

from firstline.core.taxonomy import Contract

MICROSECONDS: Final = 1_000_000


class Window(StrEnum):
    """A calendar window."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


BURST_WINDOW: Final = Window.MINUTE
"""Spent by every request, refused ones included; the other windows are quota and are charged for verdicts alone."""

_FIXED_SECONDS: Final = {Window.MINUTE: 60, Window.HOUR: 3_600, Window.DAY: 86_400}


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan of a catalogue.

    Attributes:
        catalogue: the contract whose routes it pays for.
        name: free, starter, professional or enterprise.
        price_usd_per_month: whole dollars; None by agreement.
        limits: published limits by window.
        burst_per_minute: requests a minute, refused ones included; equals the published limit where there is one.
        batch_size: most tickets in one batch request.
    """

    catalogue: Contract
    name: str
    price_usd_per_month: int | None
    limits: Mapping[Window, int]
    burst_per_minute: int
    batch_size: int

    @property
    def windows(self) -> tuple[tuple[Window, int], ...]:
        """All windows that are counted, the burst window first."""
        rest = tuple((window, limit) for window, limit in self.limits.items() if window is not BURST_WINDOW)
        return ((BURST_WINDOW, self.burst_per_minute), *rest)


def longest_window(plan: Plan) -> Window:
    """The window of a plan that opens again last."""
    return max(plan.limits, key=list(Window).index)


@dataclass(frozen=True, slots=True)
class WindowUse:
    """How far one window of an account is used.

    Attributes:
        limit, used: requests.
        resets_at_us: when the window ends, microseconds since 1970 UTC.
        published: whether the contract publishes this limit (it is shown in headers).
    """

    window: Window
    limit: int
    used: int
    resets_at_us: int
    published: bool = True

    @property
    def remaining(self) -> int:
        """Requests left, never negative."""
        return max(self.limit - self.used, 0)


@dataclass(frozen=True, slots=True)
class Granted:
    """The request fits; the uses are those after it was counted.

    Attributes:
        at_us: when it was counted; says which windows a refund goes to.
    """

    uses: tuple[WindowUse, ...]
    at_us: int


@dataclass(frozen=True, slots=True)
class Denied:
    """The request does not fit.

    Attributes:
        full: the fullest window, the one that opens last if several are full.
        retry_after_s: whole seconds until it opens, at least 1.
        uses: all windows, nothing counted.
    """

    full: WindowUse
    retry_after_s: int
    uses: tuple[WindowUse, ...]


def tightest(uses: tuple[WindowUse, ...]) -> WindowUse:
    """The published window with the fewest requests left."""
    published = [use for use in uses if use.published] or list(uses)
    return min(published, key=lambda use: (use.remaining, -use.resets_at_us))


def retry_after_s(*, resets_at_us: int, now_us: int) -> int:
    """Whole seconds until a window ends, rounded up, at least 1."""
    return max(-(-(resets_at_us - now_us) // MICROSECONDS), 1)


def window_bounds(window: Window, now_us: int) -> tuple[int, int]:
    """Start and end of the calendar window that a moment lies in, microseconds since 1970 UTC."""
    seconds = _FIXED_SECONDS.get(window)
    if seconds is not None:
        width = seconds * MICROSECONDS
        start = now_us - now_us % width
        return start, start + width
    return _month_bounds(now_us // (86_400 * MICROSECONDS))


@lru_cache(maxsize=64)
def _month_bounds(day: int) -> tuple[int, int]:
    first = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).replace(day=1)
    after = (first + timedelta(days=32)).replace(day=1)
    return int(first.timestamp()) * MICROSECONDS, int(after.timestamp()) * MICROSECONDS
