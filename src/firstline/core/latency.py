"""How long a provider has lately taken, and from that: when to ask the next one too, and when a call counts as hung."""

from bisect import bisect_left, insort
from collections import deque
from typing import Final

SAMPLES: Final = 100
LEAST_SAMPLES: Final = 10

UNKNOWN_HEDGE_S: Final = 1.0
"""When too little is known of a provider to say what is slow for it."""

UNKNOWN_HUNG_S: Final = 3.0

_HEDGE_MARGIN: Final = 1.1
_HEDGE_LEAST_S: Final = 0.02
_HUNG_FACTOR: Final = 4.0
_HUNG_LEAST_S: Final = 0.5


class Latencies:
    """Durations of the latest valid answers of one model, seconds."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """One more valid answer; the oldest beyond `SAMPLES` is forgotten."""
        self._latest.append(seconds)
        insort(self._sorted, seconds)
        if len(self._latest) > SAMPLES:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]

    def quantile(self, share: float) -> float | None:
        """The duration that so large a share of answers stayed within; None while too little is known."""
        if len(self._sorted) < LEAST_SAMPLES:
            return None
        return self._sorted[min(int(len(self._sorted) * share), len(self._sorted) - 1)]

    @property
    def hedge_after_s(self) -> float:
        """When a call is slower than 95 of 100 have been."""
        p95 = self.quantile(0.95)
        return UNKNOWN_HEDGE_S if p95 is None else max(p95 * _HEDGE_MARGIN, _HEDGE_LEAST_S)

    @property
    def hung_after_s(self) -> float:
        """When a call is so late that it counts as failed, whatever comes of it."""
        p95 = self.quantile(0.95)
        return UNKNOWN_HUNG_S if p95 is None else max(p95 * _HUNG_FACTOR, _HUNG_LEAST_S)


class CallBudget:
    """Extra calls (hedges, second tries) as a share of first ones, so that trouble is never multiplied.

    Every first call earns a share of an extra one; some may be saved up.
    """

    def __init__(self, *, share: float = 0.1, reserve: float = 10.0) -> None:
        self._share = share
        self._reserve = reserve
        self._saved = reserve

    def earn(self) -> None:
        """A first call was made."""
        self._saved = min(self._saved + self._share, self._reserve)

    def spend(self) -> bool:
        """Whether an extra call may be made; it is counted."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True
