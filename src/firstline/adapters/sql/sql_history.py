"""The history of accounts on SQL, for `ports.history.History`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from firstline.adapters.sql.feedback_tables import feedback
from firstline.adapters.sql.history_tables import account_retention
from firstline.adapters.sql.runners import Reads, Writes
from firstline.adapters.sql.tables import account_categories, idempotency, outbox, tickets, verdicts
from firstline.core.identity import TICKET
from firstline.ports.history import Filters, Page, Position, Stored, TicketNotFound
from firstline.ports.journal import TicketRow, VerdictRow
from firstline.ports.storage import StorageUnavailable

_ATTEMPTS: Final = 5
_TICKET: Final = tuple(tickets.c[name] for name in TicketRow._fields)
_VERDICT: Final = tuple(verdicts.c[name] for name in VerdictRow._fields)


class SqlHistory:
    """Implements `ports.history.History`."""

    def __init__(self, read: Reads, write: Writes) -> None:
        self._read = read
        self._write = write

    async def list(
        self, account_id: str, filters: Filters, *, after: Position | None, limit: int, examine: int
    ) -> Page:
        """See the port.

        The index gives the newest tickets of the account; the latest verdict of each is found by its key.
        """

        def task(connection: Connection) -> Page:
            own = _of(account_id, filters, after).order_by(tickets.c.received_at_us.desc(), tickets.c.id.desc())
            examined = own.limit(examine if filters.examining else limit + 1).subquery()
            latest, on = _latest(examined.c.id, connection.dialect.name)
            query = (
                select(
                    *(examined.c[name] for name in TicketRow._fields), *(latest.c[name] for name in VerdictRow._fields)
                )
                .select_from(examined)
                .join(latest, on)
                .where(*_passing(examined.c, latest.c, filters, connection.dialect.name))
                .order_by(examined.c.received_at_us.desc(), examined.c.id.desc())
                .limit(limit + 1)
            )
            found = [_stored(row) for row in connection.execute(query)]
            if len(found) > limit:
                last = found[limit - 1].ticket
                return Page(found[:limit], Position(last.received_at_us, last.id))
            if not filters.examining:
                return Page(found, None)
            # Everything that was examined has been shown; is there more beyond it?
            edge = connection.execute(own.with_only_columns(*_POSITION).offset(examine - 1).limit(1)).first()
            return Page(found, Position(*edge) if edge else None)

        return await self._read(task)

    async def get(self, account_id: str, ticket_id: str) -> tuple[TicketRow, Sequence[VerdictRow]]:
        """See the port."""

        def task(connection: Connection) -> tuple[TicketRow, Sequence[VerdictRow]]:
            own = select(*_TICKET).where(tickets.c.id == ticket_id, tickets.c.account_id == account_id)
            row = connection.execute(own).first()
            if row is None:
                raise TicketNotFound(ticket_id)
            query = select(*_VERDICT).where(verdicts.c.ticket_id == ticket_id).order_by(verdicts.c.revision)
            return TicketRow(*row), [VerdictRow(*one) for one in connection.execute(query)]

        return await self._read(task)

    async def oldest(self, account_id: str, *, before_us: int, limit: int) -> Sequence[Position]:
        """See the port."""
        return await self._positions(tickets.c.account_id == account_id, before_us=before_us, limit=limit)

    async def of_customer(
        self, account_id: str, customer_ref: str, *, before_us: int, limit: int
    ) -> Sequence[Position]:
        """See the port."""
        own = and_(tickets.c.account_id == account_id, tickets.c.customer_ref == customer_ref)
        return await self._positions(own, before_us=before_us, limit=limit)

    async def erase(self, account_id: str, tickets_: Sequence[Position]) -> Mapping[str, int]:
        """See the port.

        On PostgreSQL a revision or feedback may come in while this is under way, and then still needs its ticket: the
        next attempt takes it along.
        """
        ids = [one.ticket_id for one in tickets_]
        moments = {one.received_at_us for one in tickets_}

        def task(connection: Connection) -> Mapping[str, int]:
            _overwrite(connection)
            own = select(tickets.c.id).where(tickets.c.account_id == account_id, tickets.c.id.in_(ids))
            there = list(connection.execute(own).scalars())
            answers = delete(idempotency).where(
                idempotency.c.account_id == account_id, idempotency.c.created_at_us.in_(moments)
            )
            return {
                "feedback": connection.execute(delete(feedback).where(feedback.c.ticket_id.in_(there))).rowcount,
                "verdicts": connection.execute(delete(verdicts).where(verdicts.c.ticket_id.in_(there))).rowcount,
                "tickets": connection.execute(delete(tickets).where(tickets.c.id.in_(there))).rowcount,
                "idempotent_answers": connection.execute(answers).rowcount,
                "events": _erase_events(connection, account_id, there),
            }

        for _ in range(_ATTEMPTS):
            try:
                return await self._write(task)
            except IntegrityError:
                continue
        raise StorageUnavailable("the tickets were changed by others again and again")

    async def erase_settled(self, account_id: str) -> Mapping[str, int]:
        """See the port."""

        def task(connection: Connection) -> Mapping[str, int]:
            _overwrite(connection)
            own = account_categories.c
            newest = select(func.max(own.created_at_us)).where(own.account_id == account_id).scalar_subquery()
            older = delete(account_categories).where(own.account_id == account_id, own.created_at_us < newest)
            answers = delete(idempotency).where(idempotency.c.account_id == account_id)
            events = delete(outbox).where(outbox.c.account_id == account_id)
            return {
                "idempotent_answers": connection.execute(answers).rowcount,
                "events": connection.execute(events).rowcount,
                "former_categories": connection.execute(older).rowcount,
            }

        return await self._write(task)

    async def retention_days(self, account_id: str) -> int | None:
        """See the port."""
        query = select(account_retention.c.days).where(account_retention.c.account_id == account_id)
        found: int | None = await self._read(lambda c: c.execute(query).scalar())
        return found

    async def put_retention(self, account_id: str, days: int | None, *, at_us: int) -> None:
        """See the port."""
        own = account_retention.c.account_id == account_id

        def task(connection: Connection) -> None:
            if days is None:
                connection.execute(delete(account_retention).where(own))
                return
            values = {"days": days, "changed_at_us": at_us}
            if connection.execute(update(account_retention).where(own).values(values)).rowcount == 0:
                connection.execute(insert(account_retention).values(account_id=account_id, **values))

        await self._write(task)

    async def retentions(self) -> Mapping[str, int]:
        """See the port."""
        query = select(account_retention.c.account_id, account_retention.c.days)
        return await self._read(lambda c: {row.account_id: row.days for row in c.execute(query)})

    async def _positions(self, own: ColumnElement[bool], *, before_us: int, limit: int) -> Sequence[Position]:
        query = select(*_POSITION).where(own, tickets.c.received_at_us < before_us)
        query = query.order_by(tickets.c.received_at_us, tickets.c.id).limit(limit)
        return await self._read(lambda c: [Position(*row) for row in c.execute(query)])


_POSITION: Final = (tickets.c.received_at_us, tickets.c.id)


def _of(account_id: str, filters: Filters, after: Position | None) -> Select[Any]:
    """The tickets that an index leads to."""
    own = tickets.c
    query = select(*_TICKET).where(own.account_id == account_id)
    if after is not None:
        query = query.where(tuple_(own.received_at_us, own.id) < tuple_(after.received_at_us, after.ticket_id))
    if filters.since_us is not None:
        query = query.where(own.received_at_us >= filters.since_us)
    if filters.until_us is not None:
        query = query.where(own.received_at_us < filters.until_us)
    if filters.customer_ref is not None:
        query = query.where(own.customer_ref == filters.customer_ref)
    if filters.external_id is not None:
        query = query.where(own.external_id == filters.external_id)
    return query


def _latest(ticket_id: ColumnElement[str], dialect: str) -> tuple[FromClause, ColumnElement[bool]]:
    """The latest verdict of a ticket, to be joined to it."""
    if dialect == postgresql.dialect.name:
        # Looked up ticket by ticket: joined as on SQLite, the planner reads the verdicts of all months instead.
        own = select(*_VERDICT).where(verdicts.c.ticket_id == ticket_id).order_by(verdicts.c.revision.desc())
        return own.limit(1).lateral("latest"), true()
    others = verdicts.alias("others")
    newest = select(func.max(others.c.revision)).where(others.c.ticket_id == ticket_id).scalar_subquery()
    return verdicts, and_(verdicts.c.ticket_id == ticket_id, verdicts.c.revision == newest)


def _passing(examined: Any, latest: Any, filters: Filters, dialect: str) -> list[ColumnElement[bool]]:
    """What each of them must be."""
    wanted = [
        (latest.category, filters.category),
        (latest.priority, filters.priority),
        (latest.decision, filters.decision),
        (latest.source, filters.source),
        (latest.needs_review, None if filters.needs_review is None else int(filters.needs_review)),
        (examined.language, filters.language),
        (examined.channel, filters.channel),
        (examined.contract, filters.contract),
    ]
    passing = [column == value for column, value in wanted if value is not None]
    if filters.words is not None:
        passing.append(_holds(examined.text, filters.words, dialect))
    return passing


def _holds(column: Any, words: str, dialect: str) -> ColumnElement[bool]:
    if dialect == postgresql.dialect.name:
        return column.ilike(_pattern(words), escape="\\")  # type: ignore[no-any-return]  # SQLAlchemy types the column as Any
    # SQLite's LIKE knows the capitals of ASCII alone: the usual spellings of others are asked for one by one.
    assert dialect == sqlite.dialect.name
    spellings = sorted({words, words.lower(), words.upper(), words[:1].upper() + words[1:].lower()})
    return or_(*(column.like(_pattern(one), escape="\\") for one in spellings))


def _pattern(words: str) -> str:
    escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _stored(row: Any) -> Stored:
    return Stored(TicketRow(*row[: len(_TICKET)]), VerdictRow(*row[len(_TICKET) :]))


def _erase_events(connection: Connection, account_id: str, ticket_ids: Sequence[str]) -> int:
    """Remove events about tickets that have not been fanned out yet."""
    if not ticket_ids:
        return 0
    names = [f"{TICKET}{one}" for one in ticket_ids]
    rows = connection.execute(select(outbox.c.id, outbox.c.payload).where(outbox.c.account_id == account_id))
    about = [row.id for row in rows if any(name in row.payload for name in names)]
    return connection.execute(delete(outbox).where(outbox.c.id.in_(about))).rowcount if about else 0


def _overwrite(connection: Connection) -> None:
    """On SQLite, have what is removed overwritten in the file; PostgreSQL's vacuum frees its pages later."""
    if connection.dialect.name == sqlite.dialect.name:
        connection.exec_driver_sql("PRAGMA secure_delete=ON")
