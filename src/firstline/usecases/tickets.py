"""Triage: a message in, a stored verdict out."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from firstline.core.cascade import emergency_verdict, settle
from firstline.core.message import Message, facts_of
from firstline.core.policy import Policy
from firstline.core.rules import RuleBook
from firstline.core.verdict import Prediction, Verdict
from firstline.ports.classifier import Classifier
from firstline.ports.clock import Clock, Identities
from firstline.ports.journal import Journal
from firstline.ports.tracing import NO_TRACER, Tracer
from firstline.usecases.access import Caller
from firstline.usecases.asking import Asking
from firstline.usecases.events import Events
from firstline.usecases.in_force import AccountsInForce, InForce
from firstline.usecases.predictions import Predictions
from firstline.usecases.records import Charge, Keeping
from firstline.usecases.second_opinion import AS_SET, Asks, Decided, Request, SecondOpinion, pending
from firstline.usecases.spending import Spending
from firstline.usecases.texts import Texts
from firstline.usecases.verdict_store import Keep, Triaged, VerdictStore

SLICE_TICKETS: Final = 16
SLICE_CHARACTERS: Final = 2_500
"""A batch gives the event loop back after so many tickets or characters: about 1.5 ms of work."""

LONG_TEXT: Final = 1_000
"""Characters of a text beyond which it is decided in a thread: hostile ones can take a hundred milliseconds."""

RECORD_TICKETS: Final = 32
"""A batch is stored in records of so many tickets, so that nobody's commit waits for all of it."""

BATCH_QUESTIONS: Final = 16
"""Messages of one batch that providers are asked about at once."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A ticket of a batch that no verdict could be given for."""

    ticket_id: str


class Triage:
    """Decides on messages and stores what it decided.

    A verdict is returned only once its record is durable. `rules` may be replaced at any time, and so may what is in
    force for an account; a message is decided under one version of each.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        classifier: Classifier,
        rules: RuleBook,
        policy: Policy,
        clock: Clock,
        identities: Identities,
        keeping: Keeping,
        in_force: AccountsInForce | None = None,
        asking: Asking | None = None,
        spending: Spending | None = None,
        on_fault: Callable[[BaseException], None] = lambda _: None,
        on_late: Callable[[str], None] = lambda _: None,
        texts: Texts | None = None,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Args:
        policy: of whoever sets nothing of their own.
        in_force: what accounts have set; None where there are no accounts.
        asking: asks providers; None where there are none.
        spending: what that costs, stored with the verdicts.
        on_fault: told of every error of our own that an answer hides.
        on_late: told of what became of answers after the deadline: `revised`, `lost` or `unstored`.
        texts: seals texts at rest; None where they are stored as they are.
        tracer: told of the steps of each request.
        """
        self._classifier = classifier
        self._predictions = Predictions(classifier)
        self._identities = identities
        self._on_fault = on_fault
        self.rules = rules
        self.policy = policy
        self._in_force = in_force
        self._tracer = tracer
        self._second_opinion = SecondOpinion(asking, on_fault=on_fault, tracer=tracer)
        self._store = VerdictStore(
            journal,
            keeping=keeping,
            clock=clock,
            identities=identities,
            spending=spending,
            on_fault=on_fault,
            on_late=on_late,
            texts=texts,
        )
        self._shared = InForce(policy, policy.content_hash)

    @property
    def model(self) -> str:
        """Name of the model in use."""
        return self._classifier.name

    def decide(self, message: Message, under: InForce | None = None) -> Verdict:
        """Decide without storing anything or asking anybody, under what is in force for an account if given."""
        under = under or self._shared
        with self._tracer.span("model"):
            prediction = self._classifier.predict(message.text, under.model)
        return self._settle_traced(message, prediction, self.rules, under)

    def decide_many(self, messages: Sequence[Message], under: InForce | None = None) -> list[Verdict]:
        """Decide on several messages at once without storing anything or asking anybody."""
        rules, under = self.rules, under or self._shared
        many = {"firstline.messages": len(messages)}
        with self._tracer.span("model", attributes=many):
            predictions = self._classifier.predict_many(
                [message.text for message in messages], [under.model] * len(messages)
            )
        with self._tracer.span("rules", attributes=many):
            return [
                self._settle(message, prediction, rules, under)
                for message, prediction in zip(messages, predictions, strict=True)
            ]

    def decide_each(self, messages: Sequence[Message], under: InForce | None = None) -> list[Verdict | None]:
        """The same; None for a message that our own code fails on."""
        try:
            return list(self.decide_many(messages, under))
        except Exception:  # find the one that cannot be decided, and decide on the others
            found: list[Verdict | None] = []
            for message in messages:
                try:
                    found.append(self.decide(message, under))
                except Exception as error:  # this one
                    self._on_fault(error)
                    found.append(None)
            return found

    async def triage(
        self,
        message: Message,
        *,
        caller: Caller,
        charge: Charge,
        received_at_us: int,
        asks: Asks = AS_SET,
        keep: Keep | None = None,
    ) -> Triaged:
        """Decide on one message and store the verdict, and with it the answer if it is to be kept.

        Raises: JournalUnavailable when it cannot be stored, StorageUnavailable when it cannot be read what the
            account has set; whatever a bug raises.
        """
        request = await self._request(caller, received_at_us, asks)
        return await self._store_one(message, await self._decide(message, request), request, charge, keep)

    async def triage_safely(
        self,
        message: Message,
        *,
        caller: Caller,
        charge: Charge,
        received_at_us: int,
        asks: Asks = AS_SET,
        keep: Keep | None = None,
    ) -> Triaged:
        """The same, but a fault of our own gives an escalated verdict for manual review instead of an error.

        Raises: JournalUnavailable, StorageUnavailable.
        """
        request = await self._request(caller, received_at_us, asks)
        try:
            decided = await self._decide(message, request)
        except Exception as error:  # whatever it was, no message may be lost to it
            self._on_fault(error)
            decided = Decided(emergency_verdict())
        return await self._store_one(message, decided, request, charge, keep)

    async def triage_many(
        self,
        messages: Sequence[Message],
        *,
        caller: Caller,
        charge: Charge,
        received_at_us: int,
        asks: Asks = AS_SET,
        keep: Keep | None = None,
    ) -> AsyncGenerator[tuple[int, Triaged | Failed], None]:
        """Decide on the messages of one request and store the verdicts; one bad one fails alone.

        Each comes with its place among the messages, as soon as it is stored; those that providers are asked about
        come when they have answered, at the latest at the deadline, which is one for all. The request is charged in
        the last record, which also holds the answer if it is to be kept. When storing fails, some verdicts may be in
        the history that were never answered.

        Raises: JournalUnavailable when they cannot be stored, StorageUnavailable.
        """
        request = await self._request(caller, received_at_us, asks)
        batch = _Batch(messages, request, self._store)
        gate = asyncio.Semaphore(BATCH_QUESTIONS)
        try:
            for start, part in _slices(messages):
                if any(len(message.text) > LONG_TEXT for message in part):
                    decided = await asyncio.to_thread(self.decide_each, part, request.under)
                else:
                    decided = self.decide_each(part, request.under)
                for place, (message, verdict) in enumerate(zip(part, decided, strict=True), start=start):
                    if verdict is None:
                        yield place, Failed(self._identities.new_id())
                    elif self._second_opinion.is_worth_asking(verdict, request.under):
                        asking = self._second_opinion.ask_in_turn(gate, message, verdict, request)
                        batch.wait_for(place, asking)
                    else:
                        batch.add(place, Decided(verdict))
                await asyncio.sleep(0)
                for stored in batch.stored():
                    yield stored
            async with aclosing(batch.rest(charge, keep)) as rest:
                async for stored in rest:
                    yield stored
        finally:
            await batch.close()

    def tell(self, events: Events) -> None:
        """Tell accounts of verdicts from now on, as they ask for it."""
        self._store.events = events

    async def wait_for_late(self, *, at_most_s: float) -> None:
        """Let late answers of providers come and be stored for a while."""
        await self._store.wait_for_late(at_most_s=at_most_s)

    async def close(self) -> None:
        """Wait for no late answer any more."""
        await self._store.close()

    async def _request(self, caller: Caller, received_at_us: int, asks: Asks) -> Request:
        began_s = asyncio.get_running_loop().time()
        under = asks.applied(await self._under(caller))
        return Request(caller, under, received_at_us, began_s + under.asking.timeout_s)

    async def _under(self, caller: Caller) -> InForce:
        if self._in_force is None:
            return self._shared
        account_id = caller.account.id
        return self._in_force.cached(account_id) or await self._in_force.of(account_id)

    async def _decide(self, message: Message, request: Request) -> Decided:
        verdict = await self._decide_aside(message, request.under)
        if self._second_opinion.is_worth_asking(verdict, request.under):
            return await self._second_opinion.ask(message, verdict, request)
        return Decided(verdict)

    async def _decide_aside(self, message: Message, under: InForce) -> Verdict:
        """Decide together with what else is waiting; a long text in a thread, so that nobody waits for it."""
        if len(message.text) > LONG_TEXT:
            return await asyncio.to_thread(self.decide, message, under)
        with self._tracer.span("model"):
            prediction = await self._predictions.predict(message.text, under.model)
        return self._settle_traced(message, prediction, self.rules, under)

    def _settle_traced(self, message: Message, prediction: Prediction, rules: RuleBook, under: InForce) -> Verdict:
        with self._tracer.span("rules") as span:
            verdict = self._settle(message, prediction, rules, under)
            if span.recorded:
                span.set(
                    firstline__characters=len(message.text),
                    firstline__contract=message.contract.value,
                    firstline__language=verdict.language,
                    firstline__matches=len(verdict.evidence.matches) if verdict.evidence else 0,
                    firstline__source=verdict.source.value,
                    firstline__decision=verdict.decision.value,
                    firstline__needs_review=verdict.needs_review,
                )
            return verdict

    def _settle(self, message: Message, prediction: Prediction, rules: RuleBook, under: InForce) -> Verdict:
        facts = facts_of(message)
        matches = rules.evaluate(message.text, facts, language=prediction.language)
        verdict = settle(
            facts,
            matches,
            prediction,
            under.policy,
            rules_hash=rules.content_hash,
            policy_hash=under.policy_hash,
        )
        return pending(verdict) if under.pending else verdict

    async def _store_one(
        self, message: Message, decided: Decided, request: Request, charge: Charge, keep: Keep | None
    ) -> Triaged:
        ((_, triaged),) = await self._store.store([message], [(0, decided)], request, charge=charge, keep=keep)
        return triaged


class _Batch:
    """The verdicts of one request on their way into the store, in records of `RECORD_TICKETS`."""

    def __init__(self, messages: Sequence[Message], request: Request, store: VerdictStore) -> None:
        self._messages = messages
        self._request = request
        self._store = store
        self._ready: list[tuple[int, Decided]] = []
        self._waiting: list[asyncio.Task[tuple[int, Decided]]] = []
        self._storing: list[asyncio.Task[list[tuple[int, Triaged]]]] = []

    def add(self, place: int, decided: Decided) -> None:
        """A verdict that is ready to be stored."""
        self._ready.append((place, decided))
        if len(self._ready) >= RECORD_TICKETS:
            self._begin_storing()

    def wait_for(self, place: int, asking: Coroutine[Any, Any, Decided]) -> None:
        """A verdict that providers are asked about."""

        async def placed() -> tuple[int, Decided]:
            return place, await asking

        self._waiting.append(asyncio.create_task(placed()))

    def stored(self) -> Iterator[tuple[int, Triaged]]:
        """What has been stored by now.

        Raises: JournalUnavailable.
        """
        while self._storing and self._storing[0].done():
            yield from self._storing.pop(0).result()

    async def rest(self, charge: Charge, keep: Keep | None = None) -> AsyncGenerator[tuple[int, Triaged], None]:
        """Everything else, as it is stored; charge and answer of the request go with the last record.

        Raises: JournalUnavailable.
        """
        waiting = set(self._waiting)
        while waiting or self._storing:
            if waiting and self._ready and not self._storing:
                self._begin_storing()
            # Of the records only the first: one that overtook it would end this wait again and again.
            done, _ = await asyncio.wait([*waiting, *self._storing[:1]], return_when=asyncio.FIRST_COMPLETED)
            for task in self._waiting:
                if task in waiting and task in done:
                    waiting.discard(task)
                    self.add(*task.result())
            for stored in self.stored():
                yield stored
        last = await self._store.store(self._messages, self._ready, self._request, charge=charge, keep=keep)
        for stored in last:
            yield stored

    def _begin_storing(self) -> None:
        storing = self._store.store(self._messages, self._ready, self._request)
        self._storing.append(asyncio.create_task(storing))
        self._ready = []

    async def close(self) -> None:
        """End what is under way, after a failure or when nobody wants the rest."""
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, *self._storing, return_exceptions=True)


def _slices(messages: Sequence[Message]) -> Iterator[tuple[int, Sequence[Message]]]:
    """Parts of the messages, each with its first place."""
    start = 0
    while start < len(messages):
        end, characters = start, 0
        while end < len(messages) and end - start < SLICE_TICKETS and characters < SLICE_CHARACTERS:
            characters += len(messages[end].text)
            end += 1
        yield start, messages[start:end]
        start = end
