"""How long an answer takes: fixed, log-normal as real models are, or mostly quick with a slow tail."""

import math
import random
from dataclasses import dataclass
from typing import Final

_LONGEST_S: Final = 3_600.0
_FORMS: Final = "seconds, lognormal:MEDIAN,SIGMA or tail:USUAL,SLOW,SHARE"


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution of seconds.

    Attributes:
        usual_s: the fixed time, or the median.
        sigma: spread of the logarithm; 0 is none.
        slow_s: what a share of the answers takes instead.
        slow_share: that share, 0–1.
    """

    usual_s: float = 0.0
    sigma: float = 0.0
    slow_s: float = 0.0
    slow_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("usual_s", "slow_s"):
            if not 0 <= getattr(self, name) <= _LONGEST_S:
                raise ValueError(f"{name} of a latency is 0–{_LONGEST_S:g} seconds")
        if not 0 <= self.sigma <= 5:
            raise ValueError("sigma of a latency is 0–5")
        if not 0 <= self.slow_share <= 1:
            raise ValueError("slow_share of a latency is 0–1")

    def draw(self, chance: random.Random) -> float:
        """One time, in seconds."""
        if self.slow_share and chance.random() < self.slow_share:
            return self.slow_s
        if self.sigma and self.usual_s:
            return min(chance.lognormvariate(math.log(self.usual_s), self.sigma), _LONGEST_S)
        return self.usual_s


AT_ONCE: Final = Latency()


def latency_of(value: str | float) -> Latency:
    """A latency from how it is written: seconds, `lognormal:MEDIAN,SIGMA` or `tail:USUAL,SLOW,SHARE`.

    Raises: ValueError with the forms that are understood.
    """
    form, colon, rest = str(value).partition(":")
    try:
        numbers = [float(number) for number in (rest if colon else form).split(",")]
    except ValueError:
        raise ValueError(f"latency is {_FORMS}, not {value!r}") from None
    match (form if colon else "", numbers):
        case ("", [usual_s]):
            return Latency(usual_s)
        case ("lognormal", [median_s, sigma]):
            return Latency(median_s, sigma=sigma)
        case ("tail", [usual_s, slow_s, share]):
            return Latency(usual_s, slow_s=slow_s, slow_share=share)
    raise ValueError(f"latency is {_FORMS}, not {value!r}")
