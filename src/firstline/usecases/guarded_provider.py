"""One model of one provider, behind its breaker: bounded, timed, counted, and its answers checked."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from firstline.core.breaker import (
    Breaker,
    BreakerPolicy,
    Permit,
    Phase,
    Result,
    admit,
    opens_at_once,
    record,
    result_of,
    trip,
    trip_elsewhere,
    unanswered,
)
from firstline.core.completion import Completion, CompletionInvalid, FailureKind, Outcome, parse_completion
from firstline.core.latency import Latencies
from firstline.ports.provider import Provider, ProviderFailed, Question, Tokens

TROUBLED: Final = 3
"""Calls that are overdue at once, from which on nobody waits for a provider before the next one is asked too."""

USELESS: Final = 2
"""Calls in a row without a valid answer, from which on the same holds."""

_CHARACTERS_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class CallSettings:
    """How a model is asked.

    Attributes:
        categories: names that may be answered.
        timeout_s: after which a call is ended.
    """

    categories: tuple[str, ...]
    temperature: float
    max_tokens: int
    timeout_s: float


class Watcher(Protocol):
    """Told of everything that happens to calls; labels are names from the settings, never an upstream's words."""

    def asked(self, outcome: Outcome) -> None:
        """A message that providers were needed for, and what came of it by the deadline."""
        ...

    def answered(self, provider: str, model: str, seconds: float) -> None:
        """A valid answer."""
        ...

    def failed(self, provider: str, model: str, kind: FailureKind) -> None:
        """A call that gave none."""
        ...

    def used(self, provider: str, model: str, tokens: Tokens, cost_usd_micros: int) -> None:
        """What a call used and cost."""
        ...

    def phase(self, provider: str, model: str, phase: Phase) -> None:
        """The state of a breaker, after a change."""
        ...

    def hedged(self, provider: str, model: str) -> None:
        """The next provider is asked because this one is slow."""
        ...

    def cached(self) -> None:
        """An answer was at hand."""
        ...

    def late(self, outcome: str) -> None:
        """What became of an answer after the deadline: `revised`, `lost` or `unstored`."""
        ...


Used = Callable[[Provider, Tokens, bool], None]
"""Told what a call used, and whether it failed."""


class GuardedProvider:
    """Calls of one model; lives in one event loop."""

    def __init__(
        self,
        provider: Provider,
        *,
        policy: BreakerPolicy,
        most_at_once: int,
        watcher: Watcher,
        on_trip: Callable[[str, str, float], None] = lambda provider, model, for_s: None,
    ) -> None:
        """Args:
        most_at_once: calls; beyond them the provider is passed over.
        on_trip: told of provider, model and seconds when a failure here opens the breaker.
        """
        self._provider = provider
        self._policy = policy
        self._most_at_once = most_at_once
        self._watcher = watcher
        self._on_trip = on_trip
        self._breaker = Breaker()
        self._latencies = Latencies()
        self._calls: set[Call] = set()
        self._overdue = 0
        watcher.phase(self.name, self.model, Phase.CLOSED)

    @property
    def name(self) -> str:
        """Of the provider."""
        return self._provider.name

    @property
    def model(self) -> str:
        """Of the model."""
        return self._provider.model

    @property
    def phase(self) -> Phase:
        """State of the breaker; one whose time is over is half-open."""
        breaker = self._breaker
        if breaker.phase is Phase.OPEN and _now_s() >= breaker.until_s:
            return Phase.HALF_OPEN
        return breaker.phase

    @property
    def hedge_after_s(self) -> float:
        """How long to wait for this provider before the next one is asked too."""
        return 0.0 if self.troubled else self._latencies.hedge_after_s

    @property
    def troubled(self) -> bool:
        """Whether several calls are overdue at this moment, or the latest gave no valid answer.

        The latter spares callers the time that a model takes for an answer that nobody can use.
        """
        return self._overdue >= TROUBLED or unanswered(self._breaker) >= USELESS

    def admit(self) -> Permit | None:
        """Leave for one call, which must be made, or None."""
        if len(self._calls) >= self._most_at_once:
            return None
        self._breaker, permit = admit(self._breaker, now_s=_now_s())
        if permit is not None and permit.probe:
            self._watcher.phase(self.name, self.model, Phase.HALF_OPEN)
        return permit

    def open_for(self, seconds: float) -> None:
        """Open the breaker because another replica has found the provider failing."""
        self._change(trip_elsewhere(self._breaker, self._policy, now_s=_now_s(), for_s=seconds))

    def call(self, permit: Permit, question: Question, settings: CallSettings, *, used: Used) -> "Call":
        """Begin a call."""
        return Call(self, permit, question, settings, used)

    async def close(self) -> None:
        """End every call, those included that nobody waits for, and close the provider's connections."""
        tasks = [call.task for call in self._calls]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._provider.close()

    def _record(self, permit: Permit, result: Result) -> None:
        self._change(record(self._breaker, permit, result, self._policy, now_s=_now_s()), ours=True)

    def _failed(self, permit: Permit, failure: ProviderFailed) -> None:
        self._watcher.failed(self.name, self.model, failure.kind)
        if permit.era == self._breaker.era and (failure.retry_after_s is not None or opens_at_once(failure.kind)):
            opened = trip(self._breaker, self._policy, now_s=_now_s(), for_s=failure.retry_after_s)
            self._change(opened, ours=True)
        else:
            self._record(permit, result_of(failure.kind))

    def _change(self, breaker: Breaker, *, ours: bool = False) -> None:
        before, self._breaker = self._breaker, breaker
        if breaker.phase is before.phase and breaker.era == before.era:
            return
        self._watcher.phase(self.name, self.model, breaker.phase)
        if breaker.phase is Phase.OPEN and ours:
            self._on_trip(self.name, self.model, breaker.until_s - _now_s())


class Call:
    """One call under way.

    It counts as hung, and so as a failure of its provider, when it is far slower than usual and somebody else has
    answered meanwhile or the deadline has passed. That its answer lost a race is no failure, nor is a deadline that
    was too short for any answer: a caller must not be able to switch a provider off for others.
    """

    def __init__(
        self, guarded: GuardedProvider, permit: Permit, question: Question, settings: CallSettings, used: Used
    ) -> None:
        self.provider = guarded
        self.probe = permit.probe
        self._guarded = guarded
        self._permit = permit
        self._question = question
        self._used = used
        self._counted = False
        self._overdue = False
        self._very_late = False
        self._abandoned = False
        self._missed = False
        guarded._calls.add(self)
        loop = asyncio.get_running_loop()
        self._began_s = loop.time()
        self._watchdog = loop.call_later(guarded._latencies.hung_after_s, self._is_very_late)
        self.task = loop.create_task(self._run(settings))

    def is_overdue(self) -> None:
        """Count the call as slower than usual, until it ends."""
        if not self._overdue and not self.task.done():
            self._overdue = True
            self._guarded._overdue += 1

    def abandon(self) -> None:
        """Somebody else has answered: it may go on until it is seen whether its provider hangs."""
        self.task.add_done_callback(_retrieved)
        self._abandoned = True
        if self._very_late:
            self._has_hung()

    def miss_deadline(self) -> None:
        """The deadline has passed; the answer is still wanted, late as it is."""
        self.task.add_done_callback(_retrieved)
        self._missed = True
        if self._very_late and not self.task.done():
            self._count_hung()

    def _is_very_late(self) -> None:
        self._very_late = True
        if self._abandoned:
            self._has_hung()
        elif self._missed:
            self._count_hung()

    def _has_hung(self) -> None:
        if not self.task.done():
            self._count_hung()
            self.task.cancel()

    def _count_hung(self) -> None:
        if not self._counted:
            self._counted = True
            self._guarded._failed(self._permit, ProviderFailed(FailureKind.TIMEOUT))

    async def _run(self, settings: CallSettings) -> Completion:
        try:
            return await self._ask(settings)
        except ProviderFailed as failure:
            self._tell(self._tokens_of(failure), failed=True)
            if not self._counted:
                self._guarded._failed(self._permit, failure)
            raise
        except asyncio.CancelledError:
            self._tell(self._estimated(), failed=False)
            if not self._counted:
                self._guarded._record(self._permit, Result.CANCELLED)
            raise
        except Exception:  # an error of our own; the permit must come back all the same
            fault = ProviderFailed(FailureKind.FAULT)
            self._tell(self._tokens_of(fault), failed=True)
            if not self._counted:
                self._guarded._failed(self._permit, fault)
            raise fault from None
        finally:
            self._watchdog.cancel()
            self._guarded._calls.discard(self)
            self._guarded._overdue -= self._overdue

    async def _ask(self, settings: CallSettings) -> Completion:
        reply = await self._guarded._provider.complete(
            self._question,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
            timeout_s=settings.timeout_s,
        )
        try:
            completion = parse_completion(
                reply.text, categories=settings.categories, instructions=self._question.instructions
            )
        except CompletionInvalid as error:
            raise ProviderFailed(error.kind, tokens=reply.tokens) from None
        seconds = asyncio.get_running_loop().time() - self._began_s
        self._tell(reply.tokens, failed=False)
        self._guarded._watcher.answered(self._guarded.name, self._guarded.model, seconds)
        self._guarded._latencies.add(seconds)
        if not self._counted:
            self._guarded._record(self._permit, Result.SUCCESS)
        return completion

    def _tell(self, tokens: Tokens, *, failed: bool) -> None:
        self._used(self._guarded._provider, tokens, failed)

    def _tokens_of(self, failure: ProviderFailed) -> Tokens:
        if failure.tokens is not None:
            return failure.tokens
        return self._estimated() if failure.kind is FailureKind.TIMEOUT else Tokens(0, 0)

    def _estimated(self) -> Tokens:
        """What a call that ended before it told is taken to have used: its question."""
        characters = len(self._question.instructions) + len(self._question.text)
        return Tokens(input=characters // _CHARACTERS_PER_TOKEN, output=0, estimated=True)


def _retrieved(task: "asyncio.Task[Completion]") -> None:
    """Nobody asks for the result of an abandoned call; asyncio would complain of its failure."""
    if not task.cancelled():
        task.exception()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
