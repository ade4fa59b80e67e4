"""Endpoints and deliveries on SQL, for `ports.webhooks.Webhooks`: the same on SQLite and PostgreSQL."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import orjson
from sqlalchemy import Connection, and_, bindparam, delete, exists, func, insert, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from firstline.adapters.sql.runners import Reads, Writes
from firstline.adapters.sql.sql_storage import insert_audit
from firstline.adapters.sql.tables import outbox
from firstline.adapters.sql.webhook_rows import (
    MAX_LOGGED,
    attempt_data,
    delivery_of,
    endpoint_of,
    endpoint_row,
)
from firstline.adapters.sql.webhook_tables import webhook_deliveries as deliveries
from firstline.adapters.sql.webhook_tables import webhook_endpoints as endpoints
from firstline.adapters.sql.webhook_tables import webhook_events as events
from firstline.core.events import subject_of
from firstline.ports.journal import OutboxEvent
from firstline.ports.storage import AuditEntry
from firstline.ports.webhooks import (
    Attempted,
    Backlog,
    Claimed,
    Delivery,
    DeliveryNotFound,
    DeliveryState,
    DisabledReason,
    Endpoint,
    EndpointNotFound,
    EndpointState,
    TooManyEndpoints,
)

_FAN_OUT_LOCK: Final = 0x66697273746C6E31
_PENDING: Final = DeliveryState.PENDING.value
_DEAD: Final = DeliveryState.DEAD.value
_ENABLED: Final = EndpointState.ENABLED.value
_FREE: Final = 0
"""Of a lease that nobody holds."""


class SqlWebhooks:
    """Implements `ports.webhooks.Webhooks`."""

    def __init__(self, read: Reads, write: Writes, *, deliver: Writes | None = None) -> None:
        """Args:
        deliver: for what servers do at the same time, which relies on locks of rows alone; None for `write`.
        """
        self._read = read
        self._write = write
        self._deliver = deliver or write

    async def interests(self) -> Mapping[str, frozenset[str]]:
        """See the port, as for all methods below."""
        query = select(endpoints.c.account_id, endpoints.c.kinds).where(endpoints.c.state == _ENABLED)
        found: dict[str, frozenset[str]] = {}
        for account_id, kinds in await self._read(lambda c: c.execute(query).all()):
            found[account_id] = found.get(account_id, frozenset()) | frozenset(orjson.loads(kinds))
        return found

    async def list_endpoints(self, account_id: str) -> Sequence[Endpoint]:
        query = select(endpoints).where(endpoints.c.account_id == account_id).order_by(endpoints.c.id)
        return [endpoint_of(row) for row in await self._read(lambda c: c.execute(query).mappings().all())]

    async def get_endpoint(self, endpoint_id: str, *, account_id: str) -> Endpoint:
        query = select(endpoints).where(*_own(endpoint_id, account_id))
        row = await self._read(lambda c: c.execute(query).mappings().first())
        if row is None:
            raise EndpointNotFound(endpoint_id)
        return endpoint_of(row)

    async def add_endpoint(self, endpoint: Endpoint, *, most: int, audit: AuditEntry) -> None:
        def task(connection: Connection) -> None:
            count = select(func.count()).select_from(endpoints).where(endpoints.c.account_id == endpoint.account_id)
            if connection.execute(count).scalar_one() >= most:
                raise TooManyEndpoints(endpoint.account_id)
            connection.execute(insert(endpoints).values(endpoint_row(endpoint)))
            insert_audit(connection, audit)

        await self._write(task)

    async def change_endpoint(self, endpoint: Endpoint, *, expected_us: int, audit: AuditEntry) -> bool:
        def task(connection: Connection) -> bool:
            own = _own(endpoint.id, endpoint.account_id)
            if connection.execute(select(endpoints.c.id).where(*own)).first() is None:
                raise EndpointNotFound(endpoint.id)
            statement = update(endpoints).where(*own, endpoints.c.changed_at_us == expected_us)
            if connection.execute(statement.values(endpoint_row(endpoint))).rowcount != 1:
                return False
            if endpoint.state is EndpointState.DISABLED:
                _bury(connection, [endpoint.id])
            insert_audit(connection, audit)
            return True

        return await self._write(task)

    async def delete_endpoint(self, endpoint_id: str, *, account_id: str, audit: AuditEntry) -> None:
        def task(connection: Connection) -> None:
            own = _own(endpoint_id, account_id)
            if connection.execute(select(endpoints.c.id).where(*own)).first() is None:
                raise EndpointNotFound(endpoint_id)
            connection.execute(delete(deliveries).where(deliveries.c.endpoint_id == endpoint_id))
            connection.execute(delete(endpoints).where(*own))
            insert_audit(connection, audit)

        await self._write(task)

    async def add_delivery(self, event: OutboxEvent, *, endpoint_id: str) -> Delivery:
        def task(connection: Connection) -> Delivery:
            if connection.execute(select(endpoints.c.id).where(*_own(endpoint_id, event.account_id))).first() is None:
                raise EndpointNotFound(endpoint_id)
            row = _event_row(event)
            connection.execute(insert(events).values(row))
            connection.execute(insert(deliveries).values(_delivery_row(endpoint_id, row, now_us=event.created_at_us)))
            return _delivery(connection, endpoint_id, event.id)

        return await self._write(task)

    async def list_deliveries(
        self, endpoint_id: str, *, state: DeliveryState | None, before: str | None, limit: int
    ) -> Sequence[Delivery]:
        query = _deliveries().where(deliveries.c.endpoint_id == endpoint_id)
        if state is not None:
            query = query.where(deliveries.c.state == state.value)
        if before is not None:
            query = query.where(deliveries.c.event_id < before)
        query = query.order_by(deliveries.c.event_id.desc()).limit(limit)
        return [delivery_of(row) for row in await self._read(lambda c: c.execute(query).mappings().all())]

    async def get_delivery(self, event_id: str, *, endpoint_id: str) -> Delivery:
        return await self._read(lambda connection: _delivery(connection, endpoint_id, event_id))

    async def replay(self, event_id: str, *, endpoint_id: str, now_us: int) -> Delivery:
        def task(connection: Connection) -> Delivery:
            which = (*_one(endpoint_id, event_id), deliveries.c.state != _PENDING)
            connection.execute(update(deliveries).where(*which).values(_begun(now_us)))
            return _delivery(connection, endpoint_id, event_id)

        return await self._write(task)

    async def replay_dead(self, endpoint_id: str, *, since_us: int, now_us: int) -> int:
        which = (
            deliveries.c.endpoint_id == endpoint_id,
            deliveries.c.state == _DEAD,
            deliveries.c.created_at_us >= since_us,
        )
        statement = update(deliveries).where(*which).values(_begun(now_us))
        return await self._write(lambda connection: connection.execute(statement).rowcount)

    async def fan_out(self, *, limit: int, now_us: int) -> int:
        def task(connection: Connection) -> int:
            if not _alone(connection):
                return 0
            query = select(outbox).order_by(outbox.c.id).limit(limit)
            found = [OutboxEvent(**row) for row in connection.execute(query).mappings()]
            if not found:
                return 0
            targets = _targets(connection, {event.account_id for event in found})
            for event in found:
                wanting = [target for target, kinds in targets.get(event.account_id, ()) if event.kind in kinds]
                if wanting:
                    row = _event_row(event)
                    connection.execute(_insert_new(connection, events), [row])
                    new = [_delivery_row(target, row, now_us=now_us) for target in wanting]
                    connection.execute(_insert_new(connection, deliveries), new)
            connection.execute(delete(outbox).where(outbox.c.id.in_([event.id for event in found])))
            return len(found)

        if not await self._read(lambda connection: connection.execute(select(outbox.c.id).limit(1)).first()):
            return 0  # nothing is written while there is nothing to do
        return await self._deliver(task)

    async def claim(
        self, *, now_us: int, lease_us: int, slots: int, endpoint_slots: int, busy: Mapping[str, int]
    ) -> Sequence[Claimed]:
        waiting = _due_endpoints(busy, now_us=now_us, slots=slots, endpoint_slots=endpoint_slots)
        if slots <= 0 or not await self._read(lambda connection: connection.execute(waiting).first()):
            return []

        def task(connection: Connection) -> list[Claimed]:
            claimed: list[Claimed] = []
            for row in connection.execute(waiting).mappings().all():
                endpoint = endpoint_of(row)
                free = (1 if endpoint.failing_since_us else endpoint_slots) - busy.get(endpoint.id, 0)
                free = min(free, slots - len(claimed))
                if free > 0:
                    claimed += _claim(connection, endpoint, now_us=now_us, lease_us=lease_us, limit=free)
            return claimed

        return await self._deliver(task)

    async def settle(self, attempted: Sequence[Attempted]) -> None:
        await self._deliver(lambda connection: _settle(connection, attempted))

    async def release(self, claimed: Sequence[Claimed]) -> None:
        def task(connection: Connection) -> None:
            for one in claimed:
                connection.execute(update(deliveries).where(*_held(one)).values(lease_us=_FREE))

        await self._deliver(task)

    async def release_all(self) -> None:
        held = (deliveries.c.state == _PENDING, deliveries.c.lease_us > _FREE)
        if await self._read(lambda connection: connection.execute(select(deliveries.c.event_id).where(*held)).first()):
            await self._write(lambda c: c.execute(update(deliveries).where(*held).values(lease_us=_FREE)).rowcount)

    async def backlog(self) -> Backlog:
        def task(connection: Connection) -> Backlog:
            count = func.count(), func.min(deliveries.c.created_at_us)
            query = select(deliveries.c.state, *count).where(deliveries.c.state.in_([_PENDING, _DEAD]))
            found = {row[0]: (row[1], row[2]) for row in connection.execute(query.group_by(deliveries.c.state))}
            first = connection.execute(select(outbox.c.created_at_us).order_by(outbox.c.id).limit(1)).scalar()
            pending, oldest = found.get(_PENDING, (0, None))
            times = [time for time in (oldest, first) if time is not None]
            return Backlog(pending, found.get(_DEAD, (0, None))[0], min(times, default=None))

        return await self._read(task)

    async def prune_deliveries(self, *, before_us: int) -> int:
        def task(connection: Connection) -> int:
            old = (deliveries.c.state != _PENDING, deliveries.c.created_at_us < before_us)
            gone = connection.execute(delete(deliveries).where(*old)).rowcount
            referred = exists().where(deliveries.c.event_id == events.c.id)
            # A deleted endpoint leaves its events behind, whatever their age.
            connection.execute(delete(events).where(~referred))
            return gone

        return await self._write(task)


def _own(endpoint_id: str, account_id: str) -> tuple[Any, ...]:
    return endpoints.c.id == endpoint_id, endpoints.c.account_id == account_id


def _one(endpoint_id: str, event_id: str) -> tuple[Any, ...]:
    return deliveries.c.endpoint_id == endpoint_id, deliveries.c.event_id == event_id


def _held(claimed: Claimed) -> tuple[Any, ...]:
    """A delivery that is still claimed as it was."""
    return (
        *_one(claimed.endpoint.id, claimed.event_id),
        deliveries.c.state == _PENDING,
        deliveries.c.lease_us == claimed.lease_us,
    )


def _deliveries() -> Any:
    return select(deliveries, events.c.kind).join(events, events.c.id == deliveries.c.event_id)


def _delivery(connection: Connection, endpoint_id: str, event_id: str) -> Delivery:
    row = connection.execute(_deliveries().where(*_one(endpoint_id, event_id))).mappings().first()
    if row is None:
        raise DeliveryNotFound(event_id)
    return delivery_of(row)


def _begun(now_us: int) -> dict[str, Any]:
    return {"state": _PENDING, "attempts": 0, "next_at_us": now_us, "lease_us": _FREE}


def _event_row(event: OutboxEvent) -> dict[str, Any]:
    return {**event._asdict(), "subject": subject_of(orjson.loads(event.payload))}


def _delivery_row(endpoint_id: str, event: Mapping[str, Any], *, now_us: int) -> dict[str, Any]:
    row = {"endpoint_id": endpoint_id, "event_id": event["id"], "subject": event["subject"], "log": "[]"}
    return {**row, **_begun(now_us), "created_at_us": event["created_at_us"]}


def _insert_new(connection: Connection, table: Any) -> Any:
    """An insert that passes over rows that are there."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def _alone(connection: Connection) -> bool:
    """Whether this is the one that fans out now: an event must not overtake another one."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(select(func.pg_try_advisory_xact_lock(_FAN_OUT_LOCK))).scalar())


def _targets(connection: Connection, accounts: Iterable[str]) -> dict[str, list[tuple[str, frozenset[str]]]]:
    """Enabled endpoints with the kinds that they ask for, by account."""
    query = select(endpoints.c.account_id, endpoints.c.id, endpoints.c.kinds)
    query = query.where(endpoints.c.state == _ENABLED, endpoints.c.account_id.in_(sorted(accounts)))
    query = query.order_by(endpoints.c.account_id, endpoints.c.id)
    rows = connection.execute(query.with_for_update(read=True, key_share=True)).all()  # none is deleted meanwhile
    first: Callable[[Any], str] = lambda row: row[0]  # noqa: E731  # gives groupby's key a type
    return {
        account: [(row[1], frozenset(orjson.loads(row[2]))) for row in group] for account, group in groupby(rows, first)
    }


def _due(now_us: int) -> tuple[Any, ...]:
    """A delivery that may be attempted, as far as itself is concerned."""
    return deliveries.c.state == _PENDING, deliveries.c.next_at_us <= now_us, deliveries.c.lease_us <= now_us


def _due_endpoints(busy: Mapping[str, int], *, now_us: int, slots: int, endpoint_slots: int) -> Any:
    """Endpoints that something is due for and that are not as busy as they may be, those that waited longest first."""
    first_due = (
        select(func.min(deliveries.c.next_at_us))
        .where(deliveries.c.endpoint_id == endpoints.c.id, deliveries.c.state == _PENDING)
        .scalar_subquery()
    )
    some = exists().where(deliveries.c.endpoint_id == endpoints.c.id, *_due(now_us))
    query = select(endpoints).where(endpoints.c.state == _ENABLED, some)
    if busy:
        full = [name for name, count in busy.items() if count >= endpoint_slots]
        query = query.where(
            endpoints.c.id.not_in(full),
            or_(endpoints.c.failing_since_us.is_(None), endpoints.c.id.not_in(list(busy))),
        )
    return query.order_by(first_due, endpoints.c.id).limit(slots)


def _claim(connection: Connection, endpoint: Endpoint, *, now_us: int, lease_us: int, limit: int) -> list[Claimed]:
    earlier = deliveries.alias()
    waits = exists(
        select(literal(1)).where(
            earlier.c.endpoint_id == deliveries.c.endpoint_id,
            earlier.c.subject == deliveries.c.subject,
            earlier.c.event_id < deliveries.c.event_id,
            earlier.c.state == _PENDING,
        )
    )
    query = (
        select(deliveries, events.c.kind, events.c.payload)
        .join(events, events.c.id == deliveries.c.event_id)
        .where(deliveries.c.endpoint_id == endpoint.id, *_due(now_us), ~waits)
        .order_by(deliveries.c.next_at_us, deliveries.c.event_id)
        .limit(limit)
        .with_for_update(of=deliveries, skip_locked=True)
    )
    rows = connection.execute(query).mappings().all()
    if rows:
        taken = deliveries.c.event_id.in_([row["event_id"] for row in rows])
        statement = update(deliveries).where(deliveries.c.endpoint_id == endpoint.id, taken)
        connection.execute(statement.values(lease_us=lease_us))
    return [
        Claimed(
            endpoint=endpoint,
            event_id=row["event_id"],
            kind=row["kind"],
            payload=row["payload"],
            happened_at_us=row["created_at_us"],
            attempts=row["attempts"],
            lease_us=lease_us,
        )
        for row in rows
    ]


def _settle(connection: Connection, attempted: Sequence[Attempted]) -> None:
    held = _still_held(connection, attempted)
    if not held:
        return
    rows = [
        {
            "of_endpoint": one.claimed.endpoint.id,
            "of_event": one.claimed.event_id,
            "held_us": one.claimed.lease_us,
            "new_state": one.state.value,
            "new_attempts": one.claimed.attempts + 1,
            "new_next_at_us": one.next_at_us,
            "new_log": orjson.dumps([*log, attempt_data(one.attempt)][-MAX_LOGGED:]).decode(),
        }
        for one, log in held
    ]
    connection.execute(_SETTLED, rows)
    for endpoint_id, ones in _by_endpoint([one for one, _ in held]).items():
        _remember_health(connection, endpoint_id, ones)
        for one in ones:
            if one.disable is not None and _disable(connection, endpoint_id, one.disable, one.attempt.at_us):
                _bury(connection, [endpoint_id])
                if one.audit is not None:
                    insert_audit(connection, one.audit)


_SETTLED: Final = (
    update(deliveries)
    .where(
        deliveries.c.endpoint_id == bindparam("of_endpoint"),
        deliveries.c.event_id == bindparam("of_event"),
        deliveries.c.state == _PENDING,
        deliveries.c.lease_us == bindparam("held_us"),
    )
    .values(
        state=bindparam("new_state"),
        attempts=bindparam("new_attempts"),
        next_at_us=bindparam("new_next_at_us"),
        lease_us=_FREE,
        log=bindparam("new_log"),
    )
)


def _still_held(connection: Connection, attempted: Sequence[Attempted]) -> list[tuple[Attempted, list[Any]]]:
    """What was neither deleted nor claimed by somebody else since, with the log so far."""
    query = select(deliveries.c.endpoint_id, deliveries.c.event_id, deliveries.c.lease_us, deliveries.c.log)
    names = sorted({one.claimed.event_id for one in attempted})
    query = query.where(deliveries.c.event_id.in_(names), deliveries.c.state == _PENDING)
    logs = {tuple(row[:3]): row[3] for row in connection.execute(query)}
    found = []
    for one in attempted:
        log = logs.get((one.claimed.endpoint.id, one.claimed.event_id, one.claimed.lease_us))
        if log is not None:
            found.append((one, orjson.loads(log)))
    return found


def _by_endpoint(attempted: Sequence[Attempted]) -> dict[str, list[Attempted]]:
    found: dict[str, list[Attempted]] = {}
    for one in sorted(attempted, key=lambda one: one.claimed.endpoint.id):  # locks are taken in one order
        found.setdefault(one.claimed.endpoint.id, []).append(one)
    return found


def _remember_health(connection: Connection, endpoint_id: str, ones: Sequence[Attempted]) -> None:
    """Since when the endpoint has only failed, after attempts in their order."""
    well = any(one.state is DeliveryState.DELIVERED for one in ones)
    since_us: int | None = None
    for one in ones:
        since_us = None if one.state is DeliveryState.DELIVERED else since_us or one.attempt.at_us
    statement = update(endpoints).where(endpoints.c.id == endpoint_id)
    if since_us is None:
        statement = statement.where(endpoints.c.failing_since_us.is_not(None))
    elif not well:
        statement = statement.where(endpoints.c.failing_since_us.is_(None))
    connection.execute(statement.values(failing_since_us=since_us))


def _disable(connection: Connection, endpoint_id: str, reason: DisabledReason, at_us: int) -> bool:
    """Disable an endpoint if it is not; whether this did."""
    which = and_(endpoints.c.id == endpoint_id, endpoints.c.state == _ENABLED)
    values = {"state": EndpointState.DISABLED.value, "disabled_reason": reason.value, "changed_at_us": at_us}
    return connection.execute(update(endpoints).where(which).values(values)).rowcount == 1


def _bury(connection: Connection, endpoint_ids: Sequence[str]) -> None:
    """What waits for endpoints that get nothing any more can be replayed later."""
    which = and_(deliveries.c.endpoint_id.in_(endpoint_ids), deliveries.c.state == _PENDING)
    connection.execute(update(deliveries).where(which).values(state=_DEAD, lease_us=_FREE))
