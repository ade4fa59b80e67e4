"""Storing verdicts: a ticket with its first verdict, and what a late answer makes of it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from firstline.core.completion import Asked, Outcome
from firstline.core.message import Message
from firstline.core.verdict import Verdict
from firstline.ports.clock import Clock, Identities
from firstline.ports.journal import (
    IdempotencyEntry,
    Journal,
    JournalUnavailable,
    OutboxEvent,
    Record,
    RecordRefused,
    RollupDelta,
    TicketRow,
    VerdictRow,
)
from firstline.ports.storage import StorageUnavailable
from firstline.usecases.access import Caller
from firstline.usecases.events import Events
from firstline.usecases.records import (
    Charge,
    Keeping,
    deltas,
    key_use,
    revised_event,
    ticket_row,
    verdict_row,
    without_words,
)
from firstline.usecases.rollups import counted, moved
from firstline.usecases.second_opinion import Decided, Request, settled_again
from firstline.usecases.spending import Spending
from firstline.usecases.texts import AccountSeal, Texts


@dataclass(frozen=True, slots=True)
class Triaged:
    """A verdict and the ticket that it was stored under."""

    ticket_id: str
    verdict: Verdict


Keep = Callable[[Sequence[tuple[int, Triaged]]], IdempotencyEntry]
"""Makes the entry that keeps the answer to a request, from the last verdicts of it, before they are stored."""


class VerdictStore:
    """Stores what was decided; what it returns is durable."""

    def __init__(
        self,
        journal: Journal,
        *,
        keeping: Keeping,
        clock: Clock,
        identities: Identities,
        spending: Spending | None,
        on_fault: Callable[[BaseException], None],
        on_late: Callable[[str], None],
        texts: Texts | None = None,
    ) -> None:
        """Args:
        spending: what providers cost, stored with the verdicts.
        on_fault: told of errors of our own in what happens later.
        on_late: told what became of an answer after the deadline: `revised`, `lost`, `overruled` or `unstored`.
        texts: seals texts at rest; None where they are stored as they are.
        """
        self._journal = journal
        self._keeping = keeping
        self._clock = clock
        self._identities = identities
        self._spending = spending
        self._on_fault = on_fault
        self._on_late = on_late
        self._texts = texts
        self._late: set[asyncio.Task[None]] = set()
        self.events: Events | None = None
        """What accounts are told; None where nothing is delivered."""

    async def store(
        self,
        messages: Sequence[Message],
        decided: Sequence[tuple[int, Decided]],
        request: Request,
        *,
        charge: Charge | None = None,
        keep: Keep | None = None,
    ) -> list[tuple[int, Triaged]]:
        """Store verdicts by their place among the messages, and with the last ones of a request what it is charged.

        Args:
            keep: given with the last ones, where the answer is kept for a request that is sent again.
        Raises: JournalUnavailable.
        """
        done = [(place, Triaged(self._identities.new_id(), one.verdict)) for place, one in decided]
        tickets: list[TicketRow] = []
        verdicts: list[VerdictRow] = []
        counts: list[RollupDelta] = []
        if self._keeping.history:
            now_us = self._clock.now_us()
            keeps_text = self._keeps_text(request.caller)
            seal = await self._seal(request.caller)
            for place, triaged in done:
                kept = self._kept(triaged.verdict, request)
                ticket = ticket_row(
                    triaged.ticket_id,
                    messages[place],
                    kept,
                    request.caller,
                    received_at_us=request.received_at_us,
                    keeps_text=keeps_text,
                )
                row = self._row(triaged.ticket_id, kept, request, revision=1, now_us=now_us)
                tickets.append(seal.ticket(ticket) if seal else ticket)
                verdicts.append(seal.verdict(row) if seal else row)
                counts.append(counted(ticket, row))
        record = Record(tickets=tuple(tickets), verdicts=tuple(verdicts), rollups=tuple(counts))
        if charge is not None:
            use = key_use(request.caller, request.received_at_us)
            record = replace(record, counters=deltas(request.caller, charge), key_use=use)
        if keep is not None:
            record = replace(record, idempotency=keep(done))
        told = await self._told(messages, done, request, charge)
        await self._append(replace(record, outbox=told) if told else record, request.caller)
        if told and self.events is not None:
            self.events.on_written()
        if self._keeping.history:
            for (_, triaged), (_, one), count in zip(done, decided, counts, strict=True):
                if one.late is not None:
                    task = asyncio.create_task(self._revise(triaged, one.late, request, count))
                    self._late.add(task)
                    task.add_done_callback(self._late.discard)
        return done

    async def wait_for_late(self, *, at_most_s: float) -> None:
        """Let late answers come and be stored for a while."""
        if self._late:
            await asyncio.wait(self._late, timeout=at_most_s)

    async def close(self) -> None:
        """Wait for no late answer any more."""
        tasks = list(self._late)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _told(
        self,
        messages: Sequence[Message],
        done: Sequence[tuple[int, Triaged]],
        request: Request,
        charge: Charge | None,
    ) -> tuple[OutboxEvent, ...]:
        """What the account wants to be told of fresh verdicts and of what is left of its quota."""
        account_id = request.caller.account.id
        kinds = await self.events.wanted(account_id) if self.events is not None else None
        if self.events is None or not kinds:
            return ()
        tickets = [(one.ticket_id, messages[place].external_id, one.verdict) for place, one in done]
        told = self.events.of_tickets(kinds, account_id, tickets)
        if charge is not None:
            told += self.events.of_charge(kinds, account_id, charge)
        return tuple(told)

    async def _append(self, record: Record, caller: Caller) -> None:
        """Append a record, together with what providers have cost the account so far."""
        spend = self._spending.take(caller.account.id) if self._spending else ()
        if self._spending is None or not spend:
            await self._journal.append(record)
            return
        spending = self._spending

        def ended(done: "asyncio.Future[None]") -> None:
            if done.cancelled() or done.exception() is not None:
                spending.give_back(spend)

        # What is queued is stored although nobody waits for it any more; given back as well it would count twice.
        storing = asyncio.ensure_future(self._journal.append(replace(record, spend=spend)))
        storing.add_done_callback(ended)
        await asyncio.shield(storing)

    async def _revise(
        self, triaged: Triaged, late: "asyncio.Future[Asked]", request: Request, count: RollupDelta
    ) -> None:
        """Add what a provider has answered after the deadline as a further revision, and fire an event."""
        outcome = "lost"
        try:
            asked = await late
            if asked.outcome is Outcome.ANSWERED:
                outcome = "unstored"
                seal = await self._seal(request.caller)
                await self._append(await self._revision(triaged, asked, request, seal, count), request.caller)
                outcome = "revised"
                if self.events is not None:
                    self.events.on_written()
        except RecordRefused:  # a person was faster and has taken the revision, or the ticket is gone
            outcome = "overruled"
        except JournalUnavailable:
            pass
        except Exception as error:  # nobody waits for this task
            self._on_fault(error)
        finally:
            self._on_late(outcome)

    async def _revision(
        self, triaged: Triaged, asked: Asked, request: Request, seal: AccountSeal | None, count: RollupDelta
    ) -> Record:
        verdict = settled_again(triaged.verdict, asked, request.under)
        now_us = self._clock.now_us()
        event = revised_event(
            self._identities.new_id(),
            triaged.ticket_id,
            triaged.verdict,
            verdict,
            request.caller,
            revision=2,
            at_us=now_us,
        )
        row = self._row(triaged.ticket_id, self._kept(verdict, request), request, revision=2, now_us=now_us)
        told = [event]
        if self.events is not None:
            account_id = request.caller.account.id
            kinds = await self.events.wanted(account_id)
            before = triaged.verdict
            told += self.events.of_revision(kinds, account_id, triaged.ticket_id, before, verdict, revision=2)
        return Record(verdicts=(seal.verdict(row) if seal else row,), outbox=tuple(told), rollups=moved(count, row))

    def _row(self, ticket_id: str, verdict: Verdict, request: Request, *, revision: int, now_us: int) -> VerdictRow:
        return verdict_row(
            ticket_id,
            verdict,
            request.caller,
            revision=revision,
            decided_at_us=now_us,
            received_at_us=request.received_at_us,
        )

    async def _seal(self, caller: Caller) -> AccountSeal | None:
        """What seals the texts of the caller's account, if they are kept and sealed.

        Raises: JournalUnavailable.
        """
        if self._texts is None or not self._texts.sealed or not self._keeps_text(caller):
            return None
        try:
            return self._texts.cached(caller.account.id) or await self._texts.seal_of(caller.account.id)
        except StorageUnavailable as error:
            raise JournalUnavailable(str(error)) from None

    def _kept(self, verdict: Verdict, request: Request) -> Verdict:
        return verdict if self._keeps_text(request.caller) else without_words(verdict, request.under.policy)

    def _keeps_text(self, caller: Caller) -> bool:
        return self._keeping.text and caller.account.keep_text
