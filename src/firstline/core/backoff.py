"""When to try again: a schedule of growing waits with jitter, and its end."""

from collections.abc import Sequence
from typing import Final

RETRY_DELAYS_S: Final = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 36_000.0)
"""Waits after the first failure, the second, and so on: 27.6 hours in all."""

JITTER: Final = 0.1
"""A wait is spread by so much of itself in both directions, so that what failed together does not return together."""

MAX_RETRY_AFTER_S: Final = 36_000.0


def next_delay_s(
    failures: int, *, delays_s: Sequence[float] = RETRY_DELAYS_S, random: float, retry_after_s: float | None = None
) -> float | None:
    """Seconds until the next attempt, or None when the last one has failed.

    Args:
        failures: attempts that have failed, from 1.
        random: from 0 to 1, for the jitter.
        retry_after_s: what the other side asks for; lengthens the wait up to `MAX_RETRY_AFTER_S`, never shortens it.
    Raises: ValueError when nothing has failed.
    """
    if failures < 1:
        raise ValueError("failures must be at least 1")
    if failures > len(delays_s):
        return None
    delay_s = delays_s[failures - 1] * (1 + JITTER * (2 * random - 1))
    return max(delay_s, min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))
