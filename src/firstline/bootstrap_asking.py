"""From settings to the providers that can be asked; nothing of a provider is imported where none is configured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from firstline.adapters.llm.prices import prices_of
from firstline.adapters.llm.registry import PROVIDERS, open_provider
from firstline.core.asking import AskPolicy
from firstline.core.breaker import BreakerPolicy, Phase
from firstline.core.completion import Mode
from firstline.core.prices import Prices
from firstline.ports.clock import Clock
from firstline.ports.provider import Provider, Tokens
from firstline.ports.storage import Storage
from firstline.settings import Settings, SettingsInvalid
from firstline.usecases.asking import Asking
from firstline.usecases.completions import Completions
from firstline.usecases.guarded_provider import GuardedProvider, Watcher
from firstline.usecases.spending import Spending

PUBLISHED: Final = ("gemini", "openai")
"""Providers of the published contract, which its metrics show whether they are configured or not."""

MAX_MODELS: Final = 8
"""Of one provider: each is a label of metrics and has a breaker of its own."""


@dataclass(frozen=True, slots=True)
class Configured:
    """A provider as the settings have it.

    Attributes:
        models: the first is asked; accounts may choose the others.
        structured: whether it knows JSON schemas.
    """

    name: str
    models: tuple[str, ...]
    api_key: str | None = field(repr=False)
    base_url: str | None
    structured: bool = True


def ask_policy_of(settings: Settings) -> AskPolicy:
    """What holds for accounts that set nothing of their own."""
    return AskPolicy(
        mode=settings.ai_mode,
        threshold=settings.ai_threshold,
        timeout_s=settings.ai_timeout_seconds,
        temperature=settings.ai_temperature,
        max_tokens=settings.ai_max_tokens,
        daily_budget_usd=settings.ai_daily_budget_usd,
        monthly_budget_usd=settings.ai_monthly_budget_usd,
    )


def configured_providers(settings: Settings) -> list[Configured]:
    """The providers that have what they need, in the order to ask them.

    Raises: SettingsInvalid.
    """
    if settings.ai_mode is Mode.NEVER:  # the operator's never is nobody's to change
        return []
    found = []
    for name in dict.fromkeys(part.strip() for part in settings.providers.split(",")):
        if name not in PROVIDERS:
            raise SettingsInvalid(f"FIRSTLINE_PROVIDERS: {name} is none of {', '.join(PROVIDERS)}.")
        api_key = getattr(settings, f"{name}_api_key")
        base_url = getattr(settings, f"{name}_base_url")
        if (base_url if name == "compatible" else api_key) is None:
            continue
        models = tuple(dict.fromkeys(filter(None, (part.strip() for part in _models(settings, name).split(",")))))
        variable = f"{name.upper()}_MODEL" if name != "compatible" else "FIRSTLINE_COMPATIBLE_MODEL"
        if not 1 <= len(models) <= MAX_MODELS:
            raise SettingsInvalid(f"{variable}: name 1 to {MAX_MODELS} models.")
        found.append(
            Configured(
                name,
                models,
                api_key.get_secret_value() if api_key else None,
                base_url,
                structured=settings.compatible_structured or name != "compatible",
            )
        )
    return found


def build_asking(
    settings: Settings,
    *,
    storage: Storage,
    clock: Clock,
    watcher: Watcher,
    on_unpriced: Callable[[str, str], None],
    on_trip: Callable[[str, str, float], None] = lambda provider, model, for_s: None,
    traced: Callable[[Provider], Provider] = lambda provider: provider,
) -> tuple[Asking, Spending]:
    """What asks providers, and what counts its cost.

    Args:
        on_unpriced: told of provider and model that no price is known of: no budget holds its calls.
        on_trip: told of provider, model and seconds when a failure here opens a breaker.
        traced: puts around a provider what traces its calls.
    Raises: SettingsInvalid.
    """
    overrides = _own_prices(settings.ai_prices)
    guarded: list[GuardedProvider] = []
    prices: dict[tuple[str, str], Prices] = {}
    for one in configured_providers(settings):
        for model in one.models:
            provider = traced(_opened(one, model))
            guarded.append(
                GuardedProvider(
                    provider,
                    policy=BreakerPolicy(),
                    most_at_once=settings.ai_max_concurrent,
                    watcher=watcher,
                    on_trip=on_trip,
                )
            )
            known = prices_of(one.name, model, overrides=overrides)
            if known is not None:
                prices[one.name, model] = known
            else:
                on_unpriced(one.name, model)
    for name in PUBLISHED:
        if all(one.name != name for one in guarded):
            watcher.phase(name, "", Phase.CLOSED)
    spending = Spending(storage, clock=clock, cost_of=_CostOf(prices))
    asking = Asking(
        guarded,
        spending=spending,
        completions=Completions(most=settings.ai_cache_entries, seconds=settings.ai_cache_seconds),
        watcher=watcher,
        late_s=settings.ai_late_seconds,
        most_at_once=settings.ai_max_concurrent,
        redacts=settings.ai_redaction,
    )
    return asking, spending


class _CostOf:
    """Prices calls; a model without a price costs nothing that could be counted."""

    def __init__(self, prices: Mapping[tuple[str, str], Prices]) -> None:
        self._prices = prices

    def __call__(self, provider: str, model: str, tokens: Tokens) -> int:
        prices = self._prices.get((provider, model))
        return prices.cost_micros(input_tokens=tokens.input, output_tokens=tokens.output) if prices else 0


def _models(settings: Settings, name: str) -> str:
    models: Any = getattr(settings, f"{name}_model")
    return str(models)


def _opened(one: Configured, model: str) -> Provider:
    try:
        return open_provider(
            one.name, model=model, api_key=one.api_key, base_url=one.base_url, structured=one.structured
        )
    except ValueError as error:  # says which of model, key and address, and never quotes a key
        raise SettingsInvalid(f"Provider {one.name}: {error}.") from None


def _own_prices(text: str) -> dict[str, Prices]:
    found: dict[str, Prices] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, amounts = part.partition("=")
        into, _, out = amounts.partition("/")
        try:
            found[name.strip()] = Prices(float(into), float(out))
        except ValueError:
            raise SettingsInvalid(
                f"FIRSTLINE_AI_PRICES: '{name.strip()}' needs two prices such as openai/gpt-6-luna=0.1/0.5."
            ) from None
    return found
