"""Feedback on verdicts on SQL, for `ports.feedback.FeedbackStore`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from firstline.adapters.sql.analytics_tables import rollup_deltas
from firstline.adapters.sql.feedback_tables import feedback
from firstline.adapters.sql.merged_rows import counted
from firstline.adapters.sql.runners import Reads, Writes
from firstline.adapters.sql.sql_storage import insert_idempotency
from firstline.adapters.sql.tables import outbox, tickets, verdicts
from firstline.core.feedback import Tally, band_of
from firstline.ports.feedback import FeedbackPage, FeedbackRow, Judge, Judged, TallyRow, TooMuchFeedback
from firstline.ports.history import TicketNotFound
from firstline.ports.journal import TicketRow, VerdictRow
from firstline.ports.storage import StorageUnavailable

_ATTEMPTS: Final = 5
_LOCK: Final = 0x66656564
_TICKET: Final = tuple(tickets.c[name] for name in TicketRow._fields)
_VERDICT: Final = tuple(verdicts.c[name] for name in VerdictRow._fields)
_FEEDBACK: Final = tuple(feedback.c[name] for name in FeedbackRow._fields)


class SqlFeedback:
    """Implements `ports.feedback.FeedbackStore`."""

    def __init__(self, read: Reads, write: Writes) -> None:
        """Args:
        write: each statement must see what was committed before it: on PostgreSQL that is READ COMMITTED.
        """
        self._read = read
        self._write = write

    async def add(self, account_id: str, ticket_id: str, judge: Judge, *, most: int) -> Judged:
        """See the port, as for all methods below.

        A late answer of a provider may take the revision's number, or an erasure the ticket, while this is under way:
        then it is judged once more.
        """

        def task(connection: Connection) -> Judged:
            _wait_for_others(connection, account_id)
            own = select(*_TICKET).where(tickets.c.id == ticket_id, tickets.c.account_id == account_id)
            ticket = connection.execute(own).first()
            if ticket is None:
                raise TicketNotFound(ticket_id)
            query = select(*_VERDICT).where(verdicts.c.ticket_id == ticket_id).order_by(verdicts.c.revision)
            revisions = [VerdictRow(*row) for row in connection.execute(query)]
            said = select(*_FEEDBACK).where(feedback.c.ticket_id == ticket_id).order_by(feedback.c.given_at_us.desc())
            before = [FeedbackRow(*row) for row in connection.execute(said)]
            last = select(func.max(feedback.c.given_at_us)).where(feedback.c.account_id == account_id)
            judged = judge(
                TicketRow(*ticket),
                revisions,
                before[0] if before else None,
                after_us=connection.execute(last).scalar() or 0,
            )
            if not judged.repeated:
                if len(before) >= most:
                    raise TooMuchFeedback(ticket_id)
                _store(connection, judged)
            insert_idempotency(connection, judged.idempotency)
            return judged

        for _ in range(_ATTEMPTS):
            try:
                return await self._write(task)
            except IntegrityError:
                continue
        raise StorageUnavailable("the ticket was changed by others again and again")

    async def of_tickets(self, account_id: str, ticket_ids: Sequence[str]) -> Mapping[str, Sequence[FeedbackRow]]:
        own = feedback.c
        query = select(*_FEEDBACK).where(own.ticket_id.in_(ticket_ids), own.account_id == account_id)
        rows = await self._read(lambda c: c.execute(query.order_by(own.given_at_us.desc())).all())
        found: dict[str, list[FeedbackRow]] = {}
        for row in rows:
            found.setdefault(row.ticket_id, []).append(FeedbackRow(*row))
        return found

    async def list(self, account_id: str, *, after_us: int, limit: int) -> FeedbackPage:
        own = feedback.c
        query = select(*_FEEDBACK).where(own.account_id == account_id, own.given_at_us > after_us)
        query = query.order_by(own.given_at_us).limit(limit + 1)
        rows = [FeedbackRow(*row) for row in await self._read(lambda c: c.execute(query).all())]
        return FeedbackPage(rows[:limit], rows[limit - 1].given_at_us if len(rows) > limit else None)

    async def tallies(self, account_id: str, *, from_us: int, to_us: int, without: str) -> Sequence[TallyRow]:
        own = feedback.c
        groups = (own.judged_category, own.band)
        query = (
            select(*groups, func.count(), func.sum(own.category_correct), func.sum(own.probability))
            .where(
                own.account_id == account_id,
                own.given_at_us >= from_us,
                own.given_at_us < to_us,
                own.newest == 1,
                own.judged_source != without,
            )
            .group_by(*groups)
        )
        rows = await self._read(lambda c: c.execute(query).all())
        return [
            TallyRow(category, band, Tally(tickets, int(right), float(promised)))
            for category, band, tickets, right, promised in rows
        ]


def _wait_for_others(connection: Connection, account_id: str) -> None:
    """Whoever else judges tickets of the account, on any server, is done from here on; SQLite has one writer."""
    if connection.dialect.name == postgresql.dialect.name:
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK, func.hashtext(account_id))))


def _store(connection: Connection, judged: Judged) -> None:
    row = judged.feedback
    older = update(feedback).where(feedback.c.ticket_id == row.ticket_id, feedback.c.newest == 1)
    connection.execute(older.values(newest=0))
    values: dict[str, Any] = {**row._asdict(), "band": band_of(row.probability)}
    connection.execute(insert(feedback).values(values))
    if judged.verdict is not None:
        connection.execute(insert(verdicts).values(judged.verdict._asdict()))
    for event in judged.outbox:
        connection.execute(insert(outbox).values(event._asdict()))
    deltas = counted(judged.rollups)
    if deltas is not None:
        connection.execute(insert(rollup_deltas).values(deltas=deltas))
