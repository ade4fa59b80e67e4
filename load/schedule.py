"""When requests are sent: waves, bursts, and chance."""

import math
from collections.abc import Iterator
from random import Random
from typing import Final

WAVE_S: Final = 60.0
WAVE: Final = 0.3
"""How far the rate swings around its mean, as a share of it."""

BURST_EVERY_S: Final = 20.0
BURST_S: Final = 1.0
BURST: Final = 4.0
"""How many times the rate a burst is."""


def moments(*, rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Seconds from the beginning at which requests are sent, ascending.

    A Poisson process whose rate changes, by thinning (Lewis and Shedler 1979).

    Args:
        rate: requests a second, without waves and bursts; > 0.
        seconds: after which none is sent.
    """
    draw = Random(seed)
    most = rate * (1 + WAVE) * BURST
    at = draw.expovariate(most)
    while at < seconds:
        if draw.random() * most < rate_at(at, rate=rate):
            yield at
        at += draw.expovariate(most)


def rate_at(at: float, *, rate: float) -> float:
    """Requests a second at a moment."""
    wave = 1 + WAVE * math.sin(2 * math.pi * at / WAVE_S)
    return rate * wave * (BURST if at % BURST_EVERY_S >= BURST_EVERY_S - BURST_S else 1.0)
