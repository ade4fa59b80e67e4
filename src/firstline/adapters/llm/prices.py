"""What models cost, from the genai-prices package: a table that comes with it, read without a network."""

from collections.abc import Mapping
from typing import Final

from firstline.core.prices import Prices

_IDS: Final[Mapping[str, str]] = {"gemini": "google", "openai": "openai", "anthropic": "anthropic"}
_NOTHING: Final[Mapping[str, Prices]] = {}
_SAMPLE: Final = 1000
"""Tokens that a price is asked for: few enough for the first tier of a price by length."""


def prices_of(provider: str, model: str, *, overrides: Mapping[str, Prices] = _NOTHING) -> Prices | None:
    """What a model costs today, or None where nobody knows.

    Args:
        overrides: by `provider/model`; they win. The only prices there are for `compatible`.
    """
    own = overrides.get(f"{provider}/{model}")
    if own is not None:
        return own
    if provider not in _IDS:
        return None
    from genai_prices import Usage, calc_price

    try:
        asked = calc_price(Usage(input_tokens=_SAMPLE, output_tokens=0), model, provider_id=_IDS[provider])
        spoken = calc_price(Usage(input_tokens=0, output_tokens=_SAMPLE), model, provider_id=_IDS[provider])
    except LookupError:
        return None
    scale = 1_000_000 // _SAMPLE
    return Prices(
        input_usd_per_mtok=float(asked.input_price * scale), output_usd_per_mtok=float(spoken.output_price * scale)
    )
