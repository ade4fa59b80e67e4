"""What the tokens of a model cost."""

import math
from dataclasses import dataclass
from typing import Final

MAX_USD_PER_MTOK: Final = 100_000.0


@dataclass(frozen=True, slots=True)
class Prices:
    """Of one model, in US dollars per million tokens, 0 to `MAX_USD_PER_MTOK`."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float

    def __post_init__(self) -> None:
        for name in ("input_usd_per_mtok", "output_usd_per_mtok"):
            if not 0 <= getattr(self, name) <= MAX_USD_PER_MTOK:
                raise ValueError(f"{name} must be 0–{MAX_USD_PER_MTOK:g}")

    def cost_micros(self, *, input_tokens: int, output_tokens: int) -> int:
        """What a call costs in millionths of a dollar, rounded up; a dollar per million tokens is one for each."""
        cost = input_tokens * self.input_usd_per_mtok + output_tokens * self.output_usd_per_mtok
        return math.ceil(round(cost, 6))
