"""Feedback on verdicts: what people say about them, corrections, and whether probabilities keep their promise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from firstline.core.feedback import (
    BANDS,
    Answer,
    FeedbackInvalid,
    Judgement,
    Tally,
    action_after,
    calibration_error,
    person_reason,
    right_answer,
)
from firstline.core.identity import FEEDBACK
from firstline.core.plans import MICROSECONDS
from firstline.core.taxonomy import Decision, Priority
from firstline.core.verdict import EVIDENCE_VERSION, Reason, Source, has_completion, waits_for_provider
from firstline.ports.clock import Clock, Identities
from firstline.ports.feedback import FeedbackPage, FeedbackRow, FeedbackStore, Judged
from firstline.ports.history import History
from firstline.ports.journal import IdempotencyEntry, OutboxEvent, TicketRow, VerdictRow
from firstline.ports.storage import StorageUnavailable
from firstline.usecases.access import Caller
from firstline.usecases.events import Events
from firstline.usecases.in_force import AccountsInForce
from firstline.usecases.records import reason_to_data, revised_event, verdict_of
from firstline.usecases.rollups import counted_now, moved
from firstline.usecases.texts import MARK

MAX_PER_TICKET: Final = 100
MAX_CATEGORIES: Final = 200
"""Categories that a summary tells apart."""

DEFAULT_DAYS: Final = 30
MAX_DAYS: Final = 366
_DAY_US: Final = 86_400 * MICROSECONDS
_LATEST_US: Final = 253_370_764_800 * MICROSECONDS

KeepAnswer = Callable[[FeedbackRow, TicketRow, bool], IdempotencyEntry]
"""Makes the entry that keeps the answer to a request, before anything is stored; may be called more than once. The last
argument is whether the same was said before."""


@dataclass(frozen=True, slots=True)
class CategorySummary:
    """What was said about verdicts of one category."""

    category: str
    tally: Tally
    calibration_error: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What was said about verdicts from `from_us` until before `to_us`.

    Attributes:
        bands: by stated probability, ten of them.
        categories: the one with the most tickets first.
    """

    from_us: int
    to_us: int
    totals: Tally
    calibration_error: float | None
    bands: tuple[Tally, ...]
    categories: tuple[CategorySummary, ...]


class Feedback:
    """Takes what callers say about verdicts of their accounts, and tells it again."""

    def __init__(
        self,
        store: FeedbackStore,
        history: History,
        in_force: AccountsInForce,
        *,
        clock: Clock,
        identities: Identities,
    ) -> None:
        self._store = store
        self._history = history
        self._in_force = in_force
        self._clock = clock
        self._identities = identities
        self.events: Events | None = None
        """What accounts are told; None where nothing is delivered."""
        self.is_spooling: Callable[[], bool] = lambda: False
        """Whether verdicts wait elsewhere, so that a ticket may be missing or have a verdict to come."""

    async def give(
        self, caller: Caller, ticket_id: str, judgement: Judgement, *, keep: KeepAnswer | None = None
    ) -> Judged:
        """Judge the verdict on a ticket, and correct it where it is wrong and is said what is right.

        Raises: TicketNotFound, TooMuchFeedback; FeedbackInvalid; StorageUnavailable.
        """
        if self.is_spooling():
            raise StorageUnavailable("verdicts wait in the spool")
        account_id = caller.account.id
        known: frozenset[str] = frozenset()
        if judgement.category is not None:
            in_force = self._in_force.cached(account_id) or await self._in_force.of(account_id)
            known = frozenset(category.name for category in in_force.taxonomy)
        kinds = await self.events.wanted(account_id) if self.events is not None else frozenset()
        judging = _Judging(caller, judgement, known, kinds, self.events, self._identities, self._clock.now_us(), keep)
        judged = await self._store.add(account_id, ticket_id, judging, most=MAX_PER_TICKET)
        if judged.outbox and self.events is not None:
            self.events.on_written()
        return judged

    async def of_ticket(self, caller: Caller, ticket_id: str) -> Sequence[FeedbackRow]:
        """What was said about a ticket, the newest first.

        Raises: TicketNotFound, StorageUnavailable.
        """
        await self._history.get(caller.account.id, ticket_id)
        found = await self._store.of_tickets(caller.account.id, (ticket_id,))
        return found.get(ticket_id, ())

    async def list(self, caller: Caller, *, after_us: int, limit: int) -> FeedbackPage:
        """The next feedback of the account that was given after a moment, oldest first.

        Raises: StorageUnavailable.
        """
        return await self._store.list(caller.account.id, after_us=after_us, limit=limit)

    async def summary(self, caller: Caller, *, from_us: int | None, to_us: int | None) -> Summary:
        """Whether probabilities keep their promise, by what counts of the feedback that was given in a range.

        Args:
            from_us, to_us: None for the last `DEFAULT_DAYS`.
        Raises: FeedbackInvalid naming the bound at fault; StorageUnavailable.
        """
        # Moments of feedback may be a little ahead of the clock, for each of an account has its own.
        open_ended = to_us is None
        from_us, to_us = _range(from_us, to_us, now_us=self._clock.now_us())
        rows = await self._store.tallies(
            caller.account.id,
            from_us=from_us,
            to_us=_LATEST_US if open_ended else to_us,
            without=Source.EMERGENCY.value,
        )
        bands = [Tally()] * BANDS
        found: dict[str, list[Tally]] = {}
        for row in rows:
            bands[row.band] += row.tally
            found.setdefault(row.category, []).append(row.tally)
        categories = [
            CategorySummary(name, sum(tallies, Tally()), calibration_error(tallies)) for name, tallies in found.items()
        ]
        categories.sort(key=lambda one: (-one.tally.tickets, one.category))
        return Summary(
            from_us,
            to_us,
            sum(bands, Tally()),
            calibration_error(bands),
            tuple(bands),
            tuple(categories[:MAX_CATEGORIES]),
        )


@dataclass(frozen=True, slots=True)
class _Judging:
    """Implements `ports.feedback.Judge` for one request."""

    caller: Caller
    judgement: Judgement
    known: frozenset[str]
    kinds: frozenset[str]
    events: Events | None
    identities: Identities
    now_us: int
    keep: KeepAnswer | None

    def __call__(
        self, ticket: TicketRow, revisions: Sequence[VerdictRow], newest: FeedbackRow | None, *, after_us: int
    ) -> Judged:
        """See the port."""
        judgement, latest = self.judgement, revisions[-1]
        by_number = {row.revision: row for row in revisions}
        number = latest.revision if judgement.revision is None else judgement.revision
        if number not in by_number:
            raise FeedbackInvalid("revision", f"the ticket has revisions 1 to {latest.revision}")
        # What was in force when a verdict was given may be named, too.
        if judgement.category not in {None, *self.known, *(row.category for row in revisions)}:
            raise FeedbackInvalid("category", "must be a category of the account; GET /v1/categories lists them")
        seen = by_number[number]
        own = next(row for row in reversed(revisions) if row.revision <= number and row.source != Source.PERSON)
        right = right_answer(judgement, _answer(seen), revision=number, by_person=seen.source == Source.PERSON.value)
        row = self._row(ticket, own, right, given_at_us=max(self.now_us, after_us + 1))
        adds = right is not None and (_answer(latest) != right or bool(latest.needs_review) or _may_change(latest))
        if newest is not None and not adds and _same(newest, row):
            return Judged(newest, repeated=True, idempotency=self._kept(newest, ticket, repeated=True))
        verdict = None
        if right is not None and adds:
            verdict = self._corrected(ticket, latest, right, row, seen=number)
            row = row._replace(added_revision=verdict.revision)
        entry = self._kept(row, ticket)
        if verdict is None:
            return Judged(row, idempotency=entry)
        return Judged(
            row,
            verdict=verdict,
            outbox=self._told(latest, verdict),
            rollups=moved(counted_now(ticket, revisions[0], latest), verdict),
            idempotency=entry,
        )

    def _kept(self, row: FeedbackRow, ticket: TicketRow, *, repeated: bool = False) -> IdempotencyEntry | None:
        return None if self.keep is None else self.keep(row, ticket, repeated)

    def _row(self, ticket: TicketRow, own: VerdictRow, right: Answer | None, *, given_at_us: int) -> FeedbackRow:
        source = self.judgement.source
        return FeedbackRow(
            id=self.identities.new_id(),
            account_id=ticket.account_id,
            ticket_id=ticket.id,
            revision=own.revision,
            given_at_us=given_at_us,
            correct=int(right == _answer(own)),
            category_correct=int(right is not None and right.category == own.category),
            source=source.value if source is not None else None,
            author=self.judgement.author,
            judged_category=own.category,
            judged_priority=own.priority,
            judged_decision=own.decision,
            judged_source=own.source,
            probability=own.probability,
            right_category=right.category if right else None,
            right_priority=right.priority.value if right else None,
            right_decision=right.decision.value if right else None,
            added_revision=None,
            newest=1,
        )

    def _corrected(
        self, ticket: TicketRow, latest: VerdictRow, right: Answer, row: FeedbackRow, *, seen: int
    ) -> VerdictRow:
        """The revision that a person gives: it holds no word of a provider, so that nothing in it has to be sealed."""
        before = _answer(latest)
        said = {"feedback": f"{FEEDBACK}{row.id}", "seen": seen, "source": row.source}
        return latest._replace(
            revision=latest.revision + 1,
            decided_at_us=self.now_us,
            category=right.category,
            priority=right.priority.value,
            decision=right.decision.value,
            probability=1.0,
            needs_review=0,
            source=Source.PERSON.value,
            recommended_action=action_after(right, before, _own_action(latest)),
            reasons=orjson.dumps([reason_to_data(Reason("person", person_reason(right, before)))]).decode(),
            evidence=orjson.dumps({"v": EVIDENCE_VERSION, "person": said}).decode(),
            processing_us=max(self.now_us - ticket.received_at_us, 0),
        )

    def _told(self, before: VerdictRow, after: VerdictRow) -> tuple[OutboxEvent, ...]:
        old, new = verdict_of(before), verdict_of(after)
        event = revised_event(
            self.identities.new_id(),
            after.ticket_id,
            old,
            new,
            self.caller,
            revision=after.revision,
            at_us=self.now_us,
        )
        told = [event]
        if self.events is not None:
            told += self.events.of_revision(
                self.kinds, after.account_id, after.ticket_id, old, new, revision=after.revision
            )
        return tuple(told)


def _answer(row: VerdictRow) -> Answer:
    return Answer(row.category, Priority(row.priority), Decision(row.decision))


def _evidence(row: VerdictRow) -> Mapping[str, object]:
    """A revision's evidence as plain data; nothing where it has none."""
    found: Mapping[str, object] = orjson.loads(row.evidence) if row.evidence else {}
    return found


def _may_change(latest: VerdictRow) -> bool:
    """Whether a provider's answer may still come and change what stands."""
    return latest.revision == 1 and not _is_sealed(latest) and waits_for_provider(_evidence(latest))


def _own_action(row: VerdictRow) -> str | None:
    """What a revision recommends, in firstline's own words; None where they may be a provider's."""
    return None if _is_sealed(row) or has_completion(_evidence(row)) else row.recommended_action


def _is_sealed(row: VerdictRow) -> bool:
    return row.reasons.startswith(MARK)


def _same(newest: FeedbackRow, row: FeedbackRow) -> bool:
    """Whether the same was said last, by the same, about the same."""
    return newest == row._replace(id=newest.id, given_at_us=newest.given_at_us, added_revision=newest.added_revision)


def _range(from_us: int | None, to_us: int | None, *, now_us: int) -> tuple[int, int]:
    end_us = now_us if to_us is None else to_us
    begin_us = max(end_us - DEFAULT_DAYS * _DAY_US, 0) if from_us is None else from_us
    if not 0 < end_us <= _LATEST_US:
        raise FeedbackInvalid("to", "a moment after 1970 and before 9999")
    if begin_us < 0:
        raise FeedbackInvalid("from", "not before 1970")
    if begin_us >= end_us:
        raise FeedbackInvalid("from", "must be before `to`")
    if end_us - begin_us > MAX_DAYS * _DAY_US:
        raise FeedbackInvalid("from", f"at most {MAX_DAYS} days before `to`")
    return begin_us, end_us
