"""Feedback on verdicts in memory, over the rows of a `MemoryStore`: for tests."""

from collections.abc import Mapping, Sequence

from firstline.adapters.memory_store import MemoryStore
from firstline.core.feedback import Tally, band_of
from firstline.ports.feedback import FeedbackPage, FeedbackRow, Judge, Judged, TallyRow, TooMuchFeedback
from firstline.ports.history import TicketNotFound
from firstline.ports.journal import Record, RecordRefused
from firstline.ports.storage import StorageUnavailable


class MemoryFeedback:
    """Implements `ports.feedback.FeedbackStore`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def add(self, account_id: str, ticket_id: str, judge: Judge, *, most: int) -> Judged:
        """See the port, as for all methods below."""
        ticket = self._store.tickets.get(ticket_id)
        if ticket is None or ticket.account_id != account_id:
            raise TicketNotFound(ticket_id)
        revisions = sorted(row for (owner, _), row in self._store.verdicts.items() if owner == ticket_id)
        said = self._newest_first(account_id, ticket_id)
        after_us = max((row.given_at_us for row in self._of(account_id)), default=0)
        judged = judge(ticket, revisions, said[0] if said else None, after_us=after_us)
        if not judged.repeated and len(said) >= most:
            raise TooMuchFeedback(ticket_id)
        record = Record(
            verdicts=(judged.verdict,) if judged.verdict else (),
            outbox=judged.outbox,
            rollups=judged.rollups,
            idempotency=judged.idempotency,
        )
        try:
            await self._store.append(record)
        except RecordRefused as error:
            raise StorageUnavailable(str(error)) from None
        if judged.repeated:
            return judged
        rows = self._store.feedback
        rows.update((row.id, row._replace(newest=0)) for row in said)
        rows[judged.feedback.id] = judged.feedback
        return judged

    async def of_tickets(self, account_id: str, ticket_ids: Sequence[str]) -> Mapping[str, Sequence[FeedbackRow]]:
        found = {ticket_id: self._newest_first(account_id, ticket_id) for ticket_id in ticket_ids}
        return {ticket_id: rows for ticket_id, rows in found.items() if rows}

    async def list(self, account_id: str, *, after_us: int, limit: int) -> FeedbackPage:
        rows = sorted(self._of(account_id), key=lambda row: row.given_at_us)
        rows = [row for row in rows if row.given_at_us > after_us]
        return FeedbackPage(rows[:limit], rows[limit - 1].given_at_us if len(rows) > limit else None)

    async def tallies(self, account_id: str, *, from_us: int, to_us: int, without: str) -> Sequence[TallyRow]:
        sums: dict[tuple[str, int], Tally] = {}
        for row in self._of(account_id):
            if from_us <= row.given_at_us < to_us and row.newest and row.judged_source != without:
                place = (row.judged_category, band_of(row.probability))
                sums[place] = sums.get(place, Tally()) + Tally(1, row.category_correct, row.probability)
        return [TallyRow(category, band, tally) for (category, band), tally in sums.items()]

    def _of(self, account_id: str) -> Sequence[FeedbackRow]:
        return [row for row in self._store.feedback.values() if row.account_id == account_id]

    def _newest_first(self, account_id: str, ticket_id: str) -> Sequence[FeedbackRow]:
        own = [row for row in self._of(account_id) if row.ticket_id == ticket_id]
        return sorted(own, key=lambda row: -row.given_at_us)
