"""A provider that answers as it is told, and what it takes to ask it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from virtual_time import after

from firstline.core.breaker import Phase
from firstline.core.completion import FailureKind, Outcome
from firstline.ports.provider import ProviderFailed, Question, Reply, Tokens

FOREVER = 10_000.0
TOKENS = Tokens(100, 20)


def answer(category: str = "Other", **members: object) -> str:
    """A model's valid text."""
    return json.dumps(
        {
            "category": category,
            "priority": "medium",
            "decision": "standard_response",
            "churn_risk": 0.1,
            "language": "en",
            "action": "Answer it.",
            "reason": "It asks for help.",
            **members,
        }
    )


@dataclass
class Step:
    """What one call does: take its time, then answer or fail."""

    seconds: float = 0.08
    text: str = field(default_factory=answer)
    kind: FailureKind | None = None
    retry_after_s: float | None = None


HANGS = Step(FOREVER)


class ScriptedProvider:
    """Implements `ports.provider.Provider`."""

    def __init__(self, name: str, step: Step | Callable[[int], Step] = Step(), *, model: str = "m") -> None:
        self.name = name
        self.model = model
        self.step = step
        self.questions: list[Question] = []
        self.running = 0
        self.closed = False

    @property
    def calls(self) -> int:
        return len(self.questions)

    async def complete(self, question: Question, *, temperature: float, max_tokens: int, timeout_s: float) -> Reply:
        self.questions.append(question)
        step = self.step if isinstance(self.step, Step) else self.step(len(self.questions))
        self.running += 1
        try:
            await after(min(step.seconds, timeout_s))
        finally:
            self.running -= 1
        if step.seconds >= timeout_s:
            raise ProviderFailed(FailureKind.TIMEOUT)
        if step.kind is not None:
            raise ProviderFailed(step.kind, retry_after_s=step.retry_after_s)
        return Reply(step.text, TOKENS)

    async def close(self) -> None:
        self.closed = True


class Watched:
    """Implements `usecases.guarded_provider.Watcher`: remembers what it was told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.answers: list[str] = []
        self.failures: list[tuple[str, FailureKind]] = []
        self.phases: list[tuple[str, Phase]] = []
        self.hedges: list[str] = []
        self.cost_micros = 0
        self.estimated = 0
        self.hits = 0
        self.lates: list[str] = []

    def asked(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def answered(self, provider: str, model: str, seconds: float) -> None:
        self.answers.append(provider)

    def failed(self, provider: str, model: str, kind: FailureKind) -> None:
        self.failures.append((provider, kind))

    def used(self, provider: str, model: str, tokens: Tokens, cost_usd_micros: int) -> None:
        self.cost_micros += cost_usd_micros
        self.estimated += tokens.estimated

    def phase(self, provider: str, model: str, phase: Phase) -> None:
        self.phases.append((provider, phase))

    def hedged(self, provider: str, model: str) -> None:
        self.hedges.append(provider)

    def cached(self) -> None:
        self.hits += 1

    def late(self, outcome: str) -> None:
        self.lates.append(outcome)
