"""Asking providers: in order, in time, within the budget, and never more often than it pays.

A question goes to the first provider whose breaker is closed. When that one fails, the next is asked at once; when it
is slower than its own recent 95th percentile, the next is asked too, and the first valid answer wins. Whoever asks
waits until the deadline and no longer; what is under way then goes on, and its answer, if one comes, is handed on.
"""

import asyncio
import hashlib
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from firstline.core.asking import AskPolicy
from firstline.core.breaker import Phase
from firstline.core.categories import CategorySet
from firstline.core.completion import (
    Asked,
    Completion,
    FailureKind,
    Outcome,
    answer_schema,
)
from firstline.core.latency import CallBudget
from firstline.core.message import Message
from firstline.core.prompt import document, instructions
from firstline.core.redaction import AllowList, Redactor, prepare
from firstline.core.shown_text import restored_reason
from firstline.core.taxonomy import Category
from firstline.ports.provider import Provider, ProviderFailed, Question, Tokens
from firstline.usecases.completions import Completions, Flight
from firstline.usecases.guarded_provider import Call, CallSettings, GuardedProvider, Watcher
from firstline.usecases.spending import Spending

SHARE_OF_ONE: Final = 0.75
"""Of all calls that may run at once, those of one account: its slow ones must leave room for others."""

MAX_PROMPTS: Final = 1_024
"""Instructions and schemas kept; they are the same for all messages of an account."""

TYPICAL_OUTPUT_TOKENS: Final = 120
"""Of an answer, for what a call will cost about."""

_WORTH_A_SECOND_TRY: Final = frozenset({FailureKind.REFUSED, FailureKind.SERVER_ERROR, FailureKind.PROTOCOL})
_CHARACTERS_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A message about which providers are to be asked.

    Attributes:
        asking: the account's settings, those of the request applied.
        taxonomy: categories that may be answered.
        categories: the account's own; None for the default ones.
        categories_version: names them.
    """

    account_id: str
    message: Message
    asking: AskPolicy
    taxonomy: tuple[Category, ...]
    categories: CategorySet | None = None
    categories_version: str = ""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What has come of asking by the deadline, and what may still come.

    Attributes:
        late: gives the answer that came after all; None unless the outcome is a timeout.
    """

    asked: Asked
    late: "asyncio.Future[Asked] | None" = None


class Asking:
    """Asks the providers of this server; lives in one event loop."""

    def __init__(
        self,
        providers: Sequence[GuardedProvider],
        *,
        spending: Spending,
        completions: Completions,
        watcher: Watcher,
        late_s: float,
        most_at_once: int = 64,
        redacts: bool = True,
    ) -> None:
        """Args:
        providers: in the server's order; the first of each name is that provider's default model.
        late_s: how long after the deadline an answer is still waited for.
        most_at_once: questions of all accounts that are meant to be under way at once.
        redacts: whether personal data is masked before it leaves.
        """
        self._providers = tuple(providers)
        self._spending = spending
        self._completions = completions
        self._watcher = watcher
        self._late_s = late_s
        self._redacts = redacts
        self._extra = CallBudget()
        self._most_of_one = max(int(most_at_once * SHARE_OF_ONE), 1)
        self._flying: Counter[str] = Counter()
        self._prompts: OrderedDict[tuple[str, tuple[str, ...]], tuple[str, Mapping[str, object]]] = OrderedDict()
        self._closed = False

    @property
    def configured(self) -> bool:
        """Whether there is any provider."""
        return bool(self._providers)

    @property
    def flying(self) -> int:
        """Questions under way."""
        return self._completions.flying

    def warm(self) -> None:
        """Load what the first question would wait for; blocks for some hundred milliseconds."""
        if self.configured and self._redacts:
            prepare()

    def offered(self) -> Mapping[str, tuple[str, ...]]:
        """The models of each provider, the default one first."""
        found: dict[str, tuple[str, ...]] = {}
        for provider in self._providers:
            found[provider.name] = (*found.get(provider.name, ()), provider.model)
        return found

    def state(self, provider: str) -> str:
        """`available`, `unavailable` while all its breakers are open, or `disabled`."""
        phases = [one.phase for one in self._providers if one.name == provider]
        if not phases:
            return "disabled"
        return "unavailable" if all(phase is Phase.OPEN for phase in phases) else "available"

    def open_for(self, provider: str, model: str, seconds: float) -> None:
        """Open a breaker that another replica has opened."""
        for one in self._providers:
            if (one.name, one.model) == (provider, model):
                one.open_for(seconds)

    async def ask(self, inquiry: Inquiry, *, deadline_s: float) -> Opinion:
        """The providers' opinion, or why there is none.

        Args:
            deadline_s: on the event loop's clock.
        """
        if self._closed:  # a batch goes on although its client has gone
            return Opinion(Asked(Outcome.UNAVAILABLE))
        opinion = await self._opinion(inquiry, deadline_s)
        self._watcher.asked(opinion.asked.outcome)
        return opinion

    def forget(self) -> None:
        """Drop the answers at hand: a message that one was for has been erased."""
        self._completions.forget()

    async def close(self) -> None:
        """End what is under way and close all connections; nothing is asked any more."""
        self._closed = True
        await self._completions.close()
        for provider in self._providers:
            await provider.close()

    async def _opinion(self, inquiry: Inquiry, deadline_s: float) -> Opinion:
        loop = asyncio.get_running_loop()
        redactor = Redactor(allowed=_allow_list(inquiry.asking.allowed)) if self._redacts else None
        told, schema = self._prompt(inquiry)
        question = Question(told, document(inquiry.message, mask=redactor.mask if redactor else str), schema)
        key = self._key(inquiry, question)
        found = self._completions.find(key)
        if found is not None:
            self._watcher.cached()
            return Opinion(_restored(found, redactor))
        flight = self._completions.flight(
            key, lambda flight: self._ask(inquiry, question, flight), deadline_s=deadline_s
        )
        await asyncio.wait({flight}, timeout=max(deadline_s - loop.time(), 0.0))
        if flight.done() and not flight.cancelled():
            return Opinion(_restored(flight.result(), redactor))
        late: asyncio.Future[Asked] = loop.create_future()
        flight.add_done_callback(lambda done: _hand_on(done, late, redactor))
        return Opinion(Asked(Outcome.TIMEOUT), late)

    def _prompt(self, inquiry: Inquiry) -> tuple[str, Mapping[str, object]]:
        """Instructions and schema: the same object for all messages under the same categories."""
        names = tuple(category.name for category in inquiry.taxonomy)
        key = (inquiry.categories_version if inquiry.categories is not None else "", names)
        found = self._prompts.get(key)
        if found is None:
            found = self._prompts[key] = (instructions(inquiry.taxonomy, inquiry.categories), answer_schema(names))
            if len(self._prompts) > MAX_PROMPTS:
                self._prompts.popitem(last=False)
        self._prompts.move_to_end(key)
        return found

    async def _ask(self, inquiry: Inquiry, question: Question, flight: Flight) -> Asked:
        account_id = inquiry.account_id
        if self._flying[account_id] >= self._most_of_one:
            return Asked(Outcome.UNAVAILABLE)
        self._flying[account_id] += 1
        try:
            candidates = self._in_order(inquiry.asking)
            first = self._estimate(candidates[0], question) if candidates else 0
            if not await self._spending.allows(account_id, inquiry.asking, estimate_micros=first):
                return Asked(Outcome.BUDGET)
            return await _Race(self, inquiry, question, flight, candidates).run()
        finally:
            self._flying[account_id] -= 1
            if not self._flying[account_id]:
                del self._flying[account_id]

    def _estimate(self, provider: GuardedProvider, question: Question) -> int:
        """What a call will cost about, in millionths of a US dollar."""
        characters = len(question.instructions) + len(question.text)
        tokens = Tokens(characters // _CHARACTERS_PER_TOKEN, TYPICAL_OUTPUT_TOKENS)
        return self._spending.cost_of(provider.name, provider.model, tokens)

    def _in_order(self, asking: AskPolicy) -> list[GuardedProvider]:
        """The models to ask: those of the account's order that are still offered, else each provider's default one."""
        chosen: list[GuardedProvider] = []
        for choice in asking.order:
            offered = [one for one in self._providers if one.name == choice.provider]
            chosen += [one for one in offered if choice.model in (None, one.model)][:1]
        if chosen:
            return chosen
        defaults: dict[str, GuardedProvider] = {}
        for one in self._providers:
            defaults.setdefault(one.name, one)
        return list(defaults.values())

    def _key(self, inquiry: Inquiry, question: Question) -> bytes:
        asking = inquiry.asking
        parts = (
            inquiry.account_id,
            # What is told, and not the version of the categories alone: until own ones are trained, the default ones
            # answer under the same version.
            question.instructions,
            repr([category.name for category in inquiry.taxonomy]),
            inquiry.categories_version,
            repr([(one.name, one.model) for one in self._in_order(asking)]),
            f"{asking.temperature}/{asking.max_tokens}",
            " ".join(question.text.casefold().split()),
        )
        return hashlib.blake2b("\x00".join(parts).encode(), digest_size=16).digest()


class _Race:
    """One question on its way through the providers."""

    def __init__(
        self,
        asking: Asking,
        inquiry: Inquiry,
        question: Question,
        flight: Flight,
        candidates: list[GuardedProvider],
    ) -> None:
        self._asking = asking
        self._inquiry = inquiry
        self._question = question
        self._flight = flight
        self._waiting = deque(candidates)
        self._running: dict[asyncio.Task[Completion], Call] = {}
        self._failures: list[tuple[str, FailureKind]] = []
        self._failed: GuardedProvider | None = None
        self._tried_again = False
        self._missed = False
        self._too_dear = False

    async def run(self) -> Asked:
        loop = asyncio.get_running_loop()
        try:
            newest = self._start(self._end_s - loop.time())
            hedge_at_s = self._hedge_at_s(newest)
            while self._running:
                wake_s = min(hedge_at_s, self._end_s if self._missed else self._flight.deadline_s)
                done, _ = await asyncio.wait(
                    self._running, timeout=max(wake_s - loop.time(), 0.0), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    answered = self._ended(task)
                    if answered is not None:
                        return answered
                now_s, deadline_s, end_s = loop.time(), self._flight.deadline_s, self._end_s
                if done:
                    if now_s < deadline_s:
                        newest = self._start(end_s - now_s) or self._again(end_s - now_s)
                        hedge_at_s = self._hedge_at_s(newest) if newest else hedge_at_s
                elif now_s >= end_s:
                    return Asked(Outcome.TIMEOUT, failures=tuple(self._failures))
                elif now_s >= deadline_s:
                    self._missed = True
                    hedge_at_s = float("inf")
                    for call in self._running.values():
                        call.miss_deadline()
                elif now_s >= hedge_at_s:
                    newest = self._hedge(newest, end_s - now_s)
                    hedge_at_s = self._hedge_at_s(newest)
        finally:
            for call in self._running.values():
                call.abandon()
        left = Outcome.BUDGET if self._too_dear else Outcome.UNAVAILABLE
        return Asked(Outcome.FAILED if self._failures else left, failures=tuple(self._failures))

    @property
    def _end_s(self) -> float:
        """When the answer is not waited for any more, late as it would be."""
        return self._flight.deadline_s + self._asking._late_s

    def _start(self, timeout_s: float) -> Call | None:
        """Ask the next provider that may be asked."""
        while self._waiting:
            call = self._call(self._waiting.popleft(), timeout_s)
            if call is not None:
                return call
        return None

    def _call(self, provider: GuardedProvider, timeout_s: float) -> Call | None:
        spending, account_id, asking = self._asking._spending, self._inquiry.account_id, self._inquiry.asking
        estimate = self._asking._estimate(provider, self._question)
        if not spending.has_room(account_id, asking, estimate_micros=estimate):
            self._too_dear = True
            return None
        permit = provider.admit()
        if permit is None:
            return None
        settings = CallSettings(
            tuple(category.name for category in self._inquiry.taxonomy),
            asking.temperature,
            asking.max_tokens,
            max(timeout_s, 0.001),
        )
        call = provider.call(permit, self._question, settings, used=self._used)
        spending.reserve(account_id, estimate)
        call.task.add_done_callback(lambda _: spending.reserve(account_id, -estimate))
        self._asking._extra.earn()
        self._running[call.task] = call
        return call

    def _used(self, provider: Provider, tokens: Tokens, failed: bool) -> None:
        cost = self._asking._spending.add(
            self._inquiry.account_id, provider.name, provider.model, tokens, failed=failed
        )
        self._asking._watcher.used(provider.name, provider.model, tokens, cost)

    def _hedge_at_s(self, call: Call | None) -> float:
        """When the next provider is asked too: at once beside a probe, and where several calls are overdue."""
        if call is None or not self._waiting:
            return float("inf")
        wait_s = 0.0 if call.probe else call.provider.hedge_after_s
        return asyncio.get_running_loop().time() + wait_s

    def _hedge(self, slow: Call | None, timeout_s: float) -> Call | None:
        if slow is None:
            return None
        slow.is_overdue()
        # What is known to be in trouble is no speculation; the budget is for the tail of a provider that works.
        if not (slow.probe or slow.provider.troubled or self._asking._extra.spend()):
            return None
        call = self._start(timeout_s)
        if call is not None and not slow.probe:
            self._asking._watcher.hedged(slow.provider.name, slow.provider.model)
        return call

    def _again(self, timeout_s: float) -> Call | None:
        """A second try, when all others have failed and this looks like a passing trouble."""
        if self._running or self._tried_again or self._failed is None:
            return None
        if self._failures[-1][1] not in _WORTH_A_SECOND_TRY or not self._asking._extra.spend():
            return None
        self._tried_again = True
        return self._call(self._failed, timeout_s)

    def _ended(self, task: "asyncio.Task[Completion]") -> Asked | None:
        call = self._running.pop(task)
        if task.cancelled():
            return None
        error = task.exception()
        if error is None:
            return Asked(
                Outcome.ANSWERED, call.provider.name, call.provider.model, task.result(), tuple(self._failures)
            )
        self._failed = call.provider
        kind = error.kind if isinstance(error, ProviderFailed) else FailureKind.FAULT
        self._failures.append((call.provider.name, kind))
        return None


@lru_cache(maxsize=1_024)
def _allow_list(entries: tuple[str, ...]) -> AllowList:
    return AllowList(entries)


def _restored(asked: Asked, redactor: Redactor | None) -> Asked:
    """The answer with personal data back in its reason, for whom it belongs to; an action holds none."""
    completion = asked.completion
    if completion is None or redactor is None or not completion.reason:
        return asked
    reason = restored_reason(completion.reason, redactor.restore)
    return replace(asked, completion=replace(completion, reason=reason))


def _hand_on(flight: "asyncio.Task[Asked]", late: "asyncio.Future[Asked]", redactor: Redactor | None) -> None:
    if late.done():
        return
    if flight.cancelled() or flight.exception() is not None:
        late.cancel()
    else:
        late.set_result(_restored(flight.result(), redactor))
