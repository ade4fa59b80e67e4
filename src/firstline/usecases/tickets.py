"""Triage: a message in, a stored verdict out."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from firstline.core.cascade import emergency_verdict, settle
from firstline.core.message import Message, facts_of
from firstline.core.plans import Granted, Plan, window_bounds
from firstline.core.policy import Policy
from firstline.core.rules import RuleBook
from firstline.core.verdict import Prediction, Reason, Verdict, evidence_to_data
from firstline.learning.custom import CustomModel
from firstline.ports.classifier import Classifier
from firstline.ports.clock import Clock, Identities
from firstline.ports.journal import CounterDelta, Journal, KeyUse, Record, TicketRow, VerdictRow
from firstline.usecases.access import Caller
from firstline.usecases.in_force import AccountsInForce, InForce

SLICE_TICKETS: Final = 16
SLICE_CHARACTERS: Final = 2_500
"""A batch gives the event loop back after so many tickets or characters: about 1.5 ms of work."""

LONG_TEXT: Final = 1_000
"""Characters of a text beyond which it is decided in a thread: hostile ones can take a hundred milliseconds."""

RECORD_TICKETS: Final = 32
"""A batch is stored in records of so many tickets, so that nobody's commit waits for all of it."""

PENDING: Final = Reason(
    "categories_pending",
    "The account's own categories are being trained for the model in use; until then the default ones answer.",
)


@dataclass(frozen=True, slots=True)
class Charge:
    """What a request was charged to: the windows of a plan, at a moment."""

    plan: Plan
    granted: Granted


@dataclass(frozen=True, slots=True)
class Triaged:
    """A verdict and the ticket that it was stored under."""

    ticket_id: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Failed:
    """A ticket of a batch that no verdict could be given for."""

    ticket_id: str


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is stored of a ticket: nothing, the verdict, or the verdict and the text."""

    history: bool = True
    text: bool = True


class _Predictions:
    """Asks the model once for all texts that arrive in the same turn of the event loop.

    The model takes a quarter of the time per text when it is asked for several. A text that comes alone waits for
    nothing.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._waiting: list[tuple[str, CustomModel | None, asyncio.Future[Prediction]]] = []

    async def predict(self, text: str, categories: CustomModel | None) -> Prediction:
        """Raises: whatever the classifier raises for this text."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._answer)
        future: asyncio.Future[Prediction] = loop.create_future()
        self._waiting.append((text, categories, future))
        return await future

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        if len(waiting) > 1:
            with contextlib.suppress(Exception):  # each is then asked for alone, so that only the one at fault fails
                found = self._classifier.predict_many(
                    [text for text, _, _ in waiting], [categories for _, categories, _ in waiting]
                )
                for (_, _, future), prediction in zip(waiting, found, strict=True):
                    if not future.done():
                        future.set_result(prediction)
        for text, categories, future in waiting:
            if future.done():
                continue
            try:
                future.set_result(self._classifier.predict(text, categories))
            except Exception as error:  # handed to the one who waits for it
                future.set_exception(error)


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
        on_fault: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        """Args:
        policy: of whoever sets nothing of their own.
        in_force: what accounts have set; None where there are no accounts.
        on_fault: told of every error of our own that an answer hides.
        """
        self._journal = journal
        self._classifier = classifier
        self._predictions = _Predictions(classifier)
        self._clock = clock
        self._identities = identities
        self._keeping = keeping
        self._on_fault = on_fault
        self.rules = rules
        self.policy = policy
        self._in_force = in_force
        self._shared = InForce(policy, policy.content_hash)

    @property
    def model(self) -> str:
        """Name of the model in use."""
        return self._classifier.name

    def decide(self, message: Message, under: InForce | None = None) -> Verdict:
        """Decide without storing anything, under what is in force for an account if given."""
        under = under or self._shared
        return self._settle(message, self._classifier.predict(message.text, under.model), self.rules, under)

    def decide_many(self, messages: Sequence[Message], under: InForce | None = None) -> list[Verdict]:
        """Decide on several messages at once without storing anything."""
        rules, under = self.rules, under or self._shared
        predictions = self._classifier.predict_many(
            [message.text for message in messages], [under.model] * len(messages)
        )
        return [
            self._settle(message, prediction, rules, under)
            for message, prediction in zip(messages, predictions, strict=True)
        ]

    async def triage(self, message: Message, *, caller: Caller, charge: Charge, received_at_us: int) -> Triaged:
        """Decide on one message and store the verdict.

        Raises: JournalUnavailable when it cannot be stored, StorageUnavailable when it cannot be read what the
            account has set; whatever a bug raises.
        """
        verdict = await self._decide_aside(message, await self._under(caller))
        return await self._store(message, verdict, caller, charge, received_at_us)

    async def triage_safely(self, message: Message, *, caller: Caller, charge: Charge, received_at_us: int) -> Triaged:
        """The same, but a fault of our own gives an escalated verdict for manual review instead of an error.

        Raises: JournalUnavailable, StorageUnavailable.
        """
        under = await self._under(caller)
        try:
            verdict = await self._decide_aside(message, under)
        except Exception as error:  # whatever it was, no message may be lost to it
            self._on_fault(error)
            verdict = emergency_verdict()
        return await self._store(message, verdict, caller, charge, received_at_us)

    async def triage_many(
        self, messages: Sequence[Message], *, caller: Caller, charge: Charge, received_at_us: int
    ) -> list[Triaged | Failed]:
        """Decide on the messages of one request and store the verdicts; one bad one fails alone.

        The request is charged in the last record. When storing fails, some verdicts may be in the history that were
        never answered.

        Raises: JournalUnavailable when they cannot be stored, StorageUnavailable.
        """
        under = await self._under(caller)
        outcomes: list[Triaged | Failed] = []
        tickets: list[TicketRow] = []
        verdicts: list[VerdictRow] = []
        stored: list[asyncio.Task[None]] = []
        for part in _slices(messages):
            if any(len(message.text) > LONG_TEXT for message in part):
                decided = await asyncio.to_thread(self.decide_each, part, under)
            else:
                decided = self.decide_each(part, under)
            for message, verdict in zip(part, decided, strict=True):
                ticket_id = self._identities.new_id()
                if verdict is None:
                    outcomes.append(Failed(ticket_id))
                    continue
                outcomes.append(Triaged(ticket_id, verdict))
                if self._keeping.history:
                    ticket, row = self._rows(ticket_id, message, verdict, caller, received_at_us)
                    tickets.append(ticket)
                    verdicts.append(row)
            if len(tickets) >= RECORD_TICKETS:
                record = Record(tickets=tuple(tickets), verdicts=tuple(verdicts))
                stored.append(asyncio.ensure_future(self._journal.append(record)))
                tickets, verdicts = [], []
            await asyncio.sleep(0)
        try:
            # What was charged is counted only when every verdict is stored.
            await asyncio.gather(*stored)
        finally:
            await asyncio.gather(*stored, return_exceptions=True)
        await self._journal.append(
            Record(
                tickets=tuple(tickets),
                verdicts=tuple(verdicts),
                counters=_deltas(caller, charge),
                key_use=_key_use(caller, received_at_us),
            )
        )
        return outcomes

    async def _under(self, caller: Caller) -> InForce:
        if self._in_force is None:
            return self._shared
        account_id = caller.account.id
        return self._in_force.cached(account_id) or await self._in_force.of(account_id)

    async def _decide_aside(self, message: Message, under: InForce) -> Verdict:
        """Decide together with what else is waiting; a long text in a thread, so that nobody waits for it."""
        if len(message.text) > LONG_TEXT:
            return await asyncio.to_thread(self.decide, message, under)
        prediction = await self._predictions.predict(message.text, under.model)
        return self._settle(message, prediction, self.rules, under)

    def decide_each(self, messages: Sequence[Message], under: InForce | None = None) -> list[Verdict | None]:
        """Decide on several messages without storing anything; None for one that our own code fails on."""
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
        if under.pending:
            return replace(verdict, needs_review=True, reasons=(*verdict.reasons, PENDING))
        return verdict

    async def _store(
        self, message: Message, verdict: Verdict, caller: Caller, charge: Charge, received_at_us: int
    ) -> Triaged:
        ticket_id = self._identities.new_id()
        tickets: tuple[TicketRow, ...] = ()
        verdicts: tuple[VerdictRow, ...] = ()
        if self._keeping.history:
            ticket, row = self._rows(ticket_id, message, verdict, caller, received_at_us)
            tickets, verdicts = (ticket,), (row,)
        await self._journal.append(
            Record(
                tickets=tickets,
                verdicts=verdicts,
                counters=_deltas(caller, charge),
                key_use=_key_use(caller, received_at_us),
            )
        )
        return Triaged(ticket_id, verdict)

    def _rows(
        self, ticket_id: str, message: Message, verdict: Verdict, caller: Caller, received_at_us: int
    ) -> tuple[TicketRow, VerdictRow]:
        now_us = self._clock.now_us()
        keeps_text = self._keeping.text and caller.account.keep_text
        ticket = TicketRow(
            id=ticket_id,
            account_id=caller.account.id,
            received_at_us=received_at_us,
            contract=message.contract.value,
            channel=message.channel.value if message.channel else None,
            language=verdict.language,
            text=message.text if keeps_text else None,
            customer_ref=message.customer_ref,
            external_id=message.external_id,
        )
        evidence = orjson.dumps(evidence_to_data(verdict.evidence)).decode() if verdict.evidence else None
        row = VerdictRow(
            ticket_id=ticket_id,
            revision=1,
            account_id=caller.account.id,
            decided_at_us=now_us,
            category=verdict.category,
            priority=verdict.priority.value,
            decision=verdict.decision.value,
            probability=verdict.probability,
            confidence=verdict.confidence,
            churn_risk=verdict.churn_risk,
            needs_review=int(verdict.needs_review),
            source=verdict.source.value,
            recommended_action=verdict.recommended_action,
            reasons=orjson.dumps([reason_to_data(reason) for reason in verdict.reasons]).decode(),
            evidence=evidence,
            processing_us=max(now_us - received_at_us, 0),
        )
        return ticket, row


def reason_to_data(reason: Reason) -> dict[str, object]:
    """A reason as plain data, as the store and the answers hold it."""
    if reason.rule is None:
        return {"code": reason.code, "text": reason.text}
    return {"code": reason.code, "text": reason.text, "rule": reason.rule, "spans": reason.spans}


def _slices(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    start = 0
    while start < len(messages):
        end, characters = start, 0
        while end < len(messages) and end - start < SLICE_TICKETS and characters < SLICE_CHARACTERS:
            characters += len(messages[end].text)
            end += 1
        yield messages[start:end]
        start = end


def _deltas(caller: Caller, charge: Charge) -> tuple[CounterDelta, ...]:
    return tuple(
        CounterDelta(
            caller.account.id,
            charge.plan.catalogue.value,
            window.value,
            *window_bounds(window, charge.granted.at_us),
            1,
        )
        for window, _ in charge.plan.windows
    )


def _key_use(caller: Caller, at_us: int) -> KeyUse | None:
    return KeyUse(caller.key.id, at_us, 1) if caller.key else None
