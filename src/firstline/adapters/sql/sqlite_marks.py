"""Records stored under marks of the caller's choice on SQLite; implements `ports.journal.MarkedStore`."""

import sqlite3
import time
from collections.abc import Sequence

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from firstline.adapters.sql.sqlite_writer import SqliteWriter, raw_of, store
from firstline.adapters.sql.storable_text import storable
from firstline.adapters.sql.tables import journal_groups
from firstline.ports.journal import Record, RecordRefused, StoreAway
from firstline.ports.storage import StorageUnavailable


class _Refused(Exception):
    """Undoes the transaction; none of what the writer takes for a failure of the store."""


class SqliteMarks:
    """Works on the connection of the server's writer."""

    def __init__(self, writer: SqliteWriter) -> None:
        self._writer = writer

    async def append_all(self, records: Sequence[Record], *, mark: str) -> None:
        """See the port."""
        cleaned = [storable(record) for record in records]

        def work(connection: Connection) -> None:
            try:
                connection.execute(insert(journal_groups).values(id=mark, fenced=0, at_us=time.time_ns() // 1_000))
                store(raw_of(connection), cleaned)
            except (IntegrityError, sqlite3.IntegrityError, sqlite3.DataError) as error:
                raise _Refused from error

        try:
            await self._writer.run(work)
        except _Refused:
            raise RecordRefused("the record breaks a constraint") from None
        except StorageUnavailable as error:
            raise StoreAway(str(error)) from None

    async def settle(self, mark: str) -> bool:
        """See the port; one connection writes, so that nothing is under way any more."""

        def work(connection: Connection) -> bool:
            return (
                connection.execute(select(journal_groups.c.id).where(journal_groups.c.id == mark)).first() is not None
            )

        try:
            return await self._writer.run(work)
        except StorageUnavailable as error:
            raise StoreAway(str(error)) from None

    async def close(self) -> None:
        """See the port."""
