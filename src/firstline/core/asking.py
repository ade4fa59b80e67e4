"""When and how an account's messages go to language models; versioned values per account."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from firstline.core.completion import Mode
from firstline.core.doubt import ASSURANCE

MIN_TIMEOUT_S: Final = 0.05
MAX_TIMEOUT_S: Final = 60.0
MAX_TOKENS: Final = 8_000
MAX_CHOICES: Final = 8
MAX_ALLOWED: Final = 200
MAX_ALLOWED_LENGTH: Final = 200
MAX_BUDGET_USD: Final = 1_000_000.0


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A provider, and one of its models; None for that provider's default."""

    provider: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class AskPolicy:
    """When and how providers are asked.

    Attributes:
        mode: never, when the local answer is uncertain, or always; a terminal rule is never asked about.
        threshold: 0–1; at this local assurance (`core.doubt`) or above, nobody is asked when the mode is uncertain.
        timeout_s: seconds from the request's arrival within which it is answered.
        order: providers to ask, first choice first; empty for the server's order.
        temperature: 0–2; models that have no such setting ignore it.
        max_tokens: of an answer.
        daily_budget_usd, monthly_budget_usd: what may be spent in a calendar day and month, UTC; None for no bound.
        allowed: values and e-mail domains that are not masked.
    """

    mode: Mode = Mode.UNCERTAIN
    threshold: float = ASSURANCE
    timeout_s: float = 10.0
    order: tuple[ModelChoice, ...] = ()
    temperature: float = 0.2
    max_tokens: int = 500
    daily_budget_usd: float | None = None
    monthly_budget_usd: float | None = None
    allowed: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The first 16 hex digits of SHA-256 over the content."""
        return hashlib.sha256(json.dumps(to_data(self), sort_keys=True).encode()).hexdigest()[:16]


class AskPolicyInvalid(ValueError):
    """Settings that cannot be used.

    Attributes:
        field: what is at fault, such as `providers[1].model`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field


def check(policy: AskPolicy, *, offered: Mapping[str, Collection[str]]) -> None:
    """Raises: AskPolicyInvalid at the first bound that it breaks.

    Args:
        offered: the models of each provider that this server offers.
    """
    _between("threshold", policy.threshold, 0, 1)
    _between("timeout_seconds", policy.timeout_s, MIN_TIMEOUT_S, MAX_TIMEOUT_S)
    _between("temperature", policy.temperature, 0, 2)
    _between("max_tokens", policy.max_tokens, 16, MAX_TOKENS)
    for field, budget in (
        ("daily_budget_usd", policy.daily_budget_usd),
        ("monthly_budget_usd", policy.monthly_budget_usd),
    ):
        if budget is not None:
            _between(field, budget, 0, MAX_BUDGET_USD)
    if len(policy.order) > MAX_CHOICES:
        raise AskPolicyInvalid("providers", f"must be at most {MAX_CHOICES}; these are {len(policy.order)}")
    seen: set[ModelChoice] = set()
    for number, choice in enumerate(policy.order):
        field = f"providers[{number}]"
        if choice.provider not in offered:
            names = ", ".join(offered) or "none here"
            raise AskPolicyInvalid(f"{field}.provider", f"must be one that this server offers: {names}")
        if choice.model is not None and choice.model not in offered[choice.provider]:
            names = ", ".join(offered[choice.provider])
            raise AskPolicyInvalid(f"{field}.model", f"must be null or one that this server offers: {names}")
        if choice in seen:
            raise AskPolicyInvalid(field, "occurs twice")
        seen.add(choice)
    if len(policy.allowed) > MAX_ALLOWED:
        raise AskPolicyInvalid("allowed", f"must be at most {MAX_ALLOWED}; these are {len(policy.allowed)}")
    for number, entry in enumerate(policy.allowed):
        if not entry.strip() or len(entry) > MAX_ALLOWED_LENGTH:
            raise AskPolicyInvalid(f"allowed[{number}]", f"must have 1 to {MAX_ALLOWED_LENGTH} characters")


def _between(field: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise AskPolicyInvalid(field, f"must be between {least:g} and {most:g}")


def to_data(policy: AskPolicy) -> dict[str, Any]:
    """Plain data, for the store and the answers."""
    return {
        "mode": policy.mode.value,
        "threshold": policy.threshold,
        "timeout_seconds": policy.timeout_s,
        "providers": [{"provider": choice.provider, "model": choice.model} for choice in policy.order],
        "temperature": policy.temperature,
        "max_tokens": policy.max_tokens,
        "daily_budget_usd": policy.daily_budget_usd,
        "monthly_budget_usd": policy.monthly_budget_usd,
        "allowed": list(policy.allowed),
    }


def from_data(data: Mapping[str, Any]) -> AskPolicy:
    """The inverse of `to_data`."""
    providers: Sequence[Mapping[str, Any]] = data["providers"]
    return AskPolicy(
        mode=Mode(data["mode"]),
        threshold=data["threshold"],
        timeout_s=data["timeout_seconds"],
        order=tuple(ModelChoice(entry["provider"], entry["model"]) for entry in providers),
        temperature=data["temperature"],
        max_tokens=data["max_tokens"],
        daily_budget_usd=data["daily_budget_usd"],
        monthly_budget_usd=data["monthly_budget_usd"],
        allowed=tuple(data["allowed"]),
    )
