"""What calls of providers do, as metrics; labels are names from the settings, never an upstream's words."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from firstline.core.breaker import Phase
from firstline.core.completion import FailureKind, Outcome
from firstline.ports.provider import Tokens

_BUCKETS: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 10.0, 20.0, 40.0)
_STATES: Final = {Phase.CLOSED: 0, Phase.HALF_OPEN: 1, Phase.OPEN: 2}
_MICROS: Final = 1_000_000
_MODEL: Final = ["provider", "model"]


class ProviderMetrics:
    """Implements `usecases.guarded_provider.Watcher`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._failures = Counter(
            "provider_failures", "Failed calls of a provider.", ["provider", "kind"], registry=registry
        )
        self._breakers = Gauge("circuit_breaker_state", "0 closed, 1 half open, 2 open.", _MODEL, registry=registry)
        self.on_state: Callable[[str, str, Phase], None] = lambda provider, model, phase: None
        self._phases: dict[tuple[str, str], Phase] = {}
        self._asked = Counter(
            "firstline_provider_questions", "Messages that providers were needed for.", ["outcome"], registry=registry
        )
        self._seconds = Histogram(
            "firstline_provider_answer_seconds",
            "Time to a valid answer.",
            _MODEL,
            buckets=_BUCKETS,
            registry=registry,
        )
        self._tokens = Counter(
            "firstline_provider_tokens", "Tokens used.", [*_MODEL, "direction", "estimated"], registry=registry
        )
        self._cost = Counter("firstline_provider_cost_usd", "What calls cost.", _MODEL, registry=registry)
        self._hedges = Counter(
            "firstline_provider_hedges",
            "Calls during which the next provider was asked too.",
            _MODEL,
            registry=registry,
        )
        self._cached = Counter("firstline_provider_cached", "Questions whose answer was at hand.", registry=registry)
        self._late = Counter(
            "firstline_provider_late", "Answers after the deadline, and what became of them.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self.flying = Gauge("firstline_provider_questions_running", "Questions under way.", registry=registry)
        for outcome in Outcome:
            self._asked.labels(outcome.value)
        for late in ("revised", "lost", "unstored"):
            self._late.labels(late)

    def asked(self, outcome: Outcome) -> None:
        """See the protocol, as for all methods below."""
        self._asked.labels(outcome.value).inc()

    def answered(self, provider: str, model: str, seconds: float) -> None:
        self._seconds.labels(provider, model).observe(seconds)

    def failed(self, provider: str, model: str, kind: FailureKind) -> None:
        self._failures.labels(provider, kind.value).inc()

    def used(self, provider: str, model: str, tokens: Tokens, cost_usd_micros: int) -> None:
        estimated = "yes" if tokens.estimated else "no"
        self._tokens.labels(provider, model, "in", estimated).inc(tokens.input)
        self._tokens.labels(provider, model, "out", estimated).inc(tokens.output)
        self._cost.labels(provider, model).inc(cost_usd_micros / _MICROS)

    def phase(self, provider: str, model: str, phase: Phase) -> None:
        if model and (provider, model) not in self._phases:
            self._begin_at_zero(provider, model)
        self._breakers.labels(provider, model).set(_STATES[phase])
        if phase is Phase.HALF_OPEN:  # every probe is one
            return
        before = self._phases.get((provider, model), Phase.CLOSED)
        self._phases[provider, model] = phase
        if phase is not before:
            self.on_state(provider, model, phase)

    def _begin_at_zero(self, provider: str, model: str) -> None:
        """So that the first failure and the first cost of a model are seen as an increase."""
        self._phases[provider, model] = Phase.CLOSED
        self._cost.labels(provider, model)
        self._hedges.labels(provider, model)
        for kind in FailureKind:
            self._failures.labels(provider, kind.value)

    def hedged(self, provider: str, model: str) -> None:
        self._hedges.labels(provider, model).inc()

    def cached(self) -> None:
        self._cached.inc()

    def late(self, outcome: str) -> None:
        self._late.labels(outcome).inc()
