"""Receipts of erasures and the keys of accounts on SQL, for `ports.erasure.Erasures` and `ports.data_keys.DataKeys`."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, func, insert, select, update

from firstline.adapters.sql.engine import storage_errors
from firstline.adapters.sql.history_tables import account_data_keys, erasures
from firstline.adapters.sql.runners import Reads, Writes
from firstline.adapters.sql.tables import audit as audit_table
from firstline.ports.data_keys import DataKey
from firstline.ports.erasure import Erasure, ErasureNotFound, Scope
from firstline.ports.storage import AuditEntry


class SqlErasures:
    """Implements `ports.erasure.Erasures`."""

    def __init__(self, read: Reads, write: Writes) -> None:
        self._read = read
        self._write = write

    async def add(self, erasure: Erasure, *, audit: AuditEntry) -> None:
        """See the port."""

        def task(connection: Connection) -> None:
            connection.execute(
                insert(erasures).values(
                    id=erasure.id,
                    account_id=erasure.account_id,
                    scope=erasure.scope.value,
                    subject=erasure.subject,
                    requested_at_us=erasure.requested_at_us,
                    finished_at_us=erasure.finished_at_us,
                    counts=orjson.dumps(dict(erasure.counts)).decode(),
                )
            )
            connection.execute(
                insert(audit_table).values(
                    id=audit.id,
                    at_us=audit.at_us,
                    actor=audit.actor,
                    action=audit.action,
                    account_id=audit.account_id,
                    target=audit.target,
                    detail=orjson.dumps(audit.detail).decode(),
                )
            )

        await self._write(task)

    async def count(self, erasure_id: str, counts: Mapping[str, int]) -> None:
        """See the port."""
        own = erasures.c.id == erasure_id

        def task(connection: Connection) -> None:
            found = connection.execute(select(erasures.c.counts).where(own)).scalar()
            if found is None:
                return
            sums: dict[str, int] = orjson.loads(found)
            for name, amount in counts.items():
                sums[name] = sums.get(name, 0) + amount
            connection.execute(update(erasures).where(own).values(counts=orjson.dumps(sums).decode()))

        await self._write(task)

    async def finish(self, erasure_id: str, *, at_us: int) -> Erasure:
        """See the port."""
        own = erasures.c

        def task(connection: Connection) -> Erasure:
            open_ = update(erasures).where(own.id == erasure_id, own.finished_at_us.is_(None))
            connection.execute(open_.values(finished_at_us=at_us, subject=None))
            row = connection.execute(select(erasures).where(own.id == erasure_id)).mappings().first()
            if row is None:
                raise ErasureNotFound(erasure_id)
            return _erasure(row)

        return await self._write(task)

    async def get(self, account_id: str, erasure_id: str) -> Erasure:
        """See the port."""
        query = select(erasures).where(erasures.c.id == erasure_id, erasures.c.account_id == account_id)
        row = await self._read(lambda c: c.execute(query).mappings().first())
        if row is None:
            raise ErasureNotFound(erasure_id)
        return _erasure(row)

    async def list(self, account_id: str, *, limit: int) -> Sequence[Erasure]:
        """See the port."""
        query = select(erasures).where(erasures.c.account_id == account_id).order_by(erasures.c.id.desc()).limit(limit)
        rows = await self._read(lambda c: c.execute(query).mappings().all())
        return [_erasure(row) for row in rows]

    async def unfinished(self) -> Sequence[Erasure]:
        """See the port."""
        query = select(erasures).where(erasures.c.finished_at_us.is_(None)).order_by(erasures.c.id)
        rows = await self._read(lambda c: c.execute(query).mappings().all())
        return [_erasure(row) for row in rows]

    async def newest(self) -> str | None:
        """See the port."""
        found: str | None = await self._read(lambda c: c.execute(select(func.max(erasures.c.id))).scalar())
        return found


class SqlDataKeys:
    """Implements `ports.data_keys.DataKeys`."""

    def __init__(self, read: Reads, write: Writes) -> None:
        self._read = read
        self._write = write

    async def find(self, account_id: str) -> Sequence[DataKey]:
        """See the port."""
        return await self._read(lambda connection: _living(connection, account_id))

    async def add(self, account_id: str, sealed: str, *, at_us: int) -> Sequence[DataKey]:
        """See the port."""
        own = account_data_keys.c

        def task(connection: Connection) -> Sequence[DataKey]:
            found = _living(connection, account_id)
            if found:
                return found
            last = connection.execute(select(func.max(own.number)).where(own.account_id == account_id)).scalar()
            key = DataKey(account_id, (last or 0) + 1, sealed, at_us)
            connection.execute(insert(account_data_keys).values(key._asdict()))
            return [key]

        return await self._write(task)

    async def destroy(self, account_id: str, *, at_us: int) -> int:
        """See the port."""
        own = account_data_keys.c
        living = update(account_data_keys).where(own.account_id == account_id, own.destroyed_at_us.is_(None))
        destroyed = living.values(sealed="", destroyed_at_us=at_us)

        def task(connection: Connection) -> int:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA secure_delete=ON")
            return connection.execute(destroyed).rowcount

        return await self._write(task)

    async def all(self) -> Sequence[DataKey]:
        """See the port."""
        return await self._read(_all_living)

    async def reseal(self, key: DataKey, sealed: str) -> None:
        """See the port."""
        own = account_data_keys.c
        same = (own.account_id == key.account_id, own.number == key.number, own.sealed == key.sealed)
        await self._write(lambda c: c.execute(update(account_data_keys).where(*same).values(sealed=sealed)).rowcount)


def stored_keys(engine: Engine) -> Sequence[DataKey]:
    """The keys of all accounts, for a process that has no event loop yet.

    Raises: StorageUnavailable.
    """
    with storage_errors(), engine.connect() as connection:
        return _all_living(connection)


_KEY = tuple(account_data_keys.c[name] for name in DataKey._fields)


def _living(connection: Connection, account_id: str) -> Sequence[DataKey]:
    own = account_data_keys.c
    query = select(*_KEY).where(own.account_id == account_id, own.destroyed_at_us.is_(None))
    return [DataKey(*row) for row in connection.execute(query.order_by(own.number.desc()))]


def _all_living(connection: Connection) -> Sequence[DataKey]:
    own = account_data_keys.c
    query = select(*_KEY).where(own.destroyed_at_us.is_(None)).order_by(own.account_id, own.number)
    return [DataKey(*row) for row in connection.execute(query)]


def _erasure(row: Mapping[Any, Any]) -> Erasure:
    return Erasure(
        id=row["id"],
        account_id=row["account_id"],
        scope=Scope(row["scope"]),
        requested_at_us=row["requested_at_us"],
        subject=row["subject"],
        counts=orjson.loads(row["counts"]),
        finished_at_us=row["finished_at_us"],
    )
