"""Records stored under marks of the caller's choice on PostgreSQL; implements `ports.journal.MarkedStore`.

A mark is a row of `journal_groups`, written by the same statement as the records. Asking for a mark that is not there
writes it, so that a statement still under way behind a broken connection can never be committed after the answer.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import asyncpg  # type: ignore[import-untyped]  # asyncpg has no types

from firstline.adapters.sql.engine import cause_of
from firstline.adapters.sql.postgres_engine import APPLICATION, DURABLE
from firstline.adapters.sql.postgres_group import NOW, group_of, is_refused
from firstline.adapters.sql.storable_text import storable
from firstline.ports.journal import Record, RecordRefused, StoreAway

_LOST: Final = (OSError, TimeoutError, EOFError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_OF_THE_RECORD: Final = ("21", "22", "23", "54")
_ASKED: Final = f"INSERT INTO journal_groups (id, fenced, at_us) VALUES ($1, 1, {NOW}) ON CONFLICT DO NOTHING"  # noqa: S608  # constant names; values are bound


class PostgresMarks:
    """Uses one connection, opened when it is needed; one call at a time."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._connection: asyncpg.Connection | None = None

    async def append_all(self, records: Sequence[Record], *, mark: str) -> None:
        """See the port."""
        if any(is_refused(record) for record in records):
            raise RecordRefused("the record breaks a constraint")
        group = group_of([storable(record) for record in records])
        connection = await self._connected()
        try:
            await connection.execute(group.statement, mark, [], *group.arguments, timeout=self._timeout_s)
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "").startswith(_OF_THE_RECORD):
                raise RecordRefused(cause_of(error)) from None
            raise self._lost(error) from None
        except _LOST as error:
            raise self._lost(error) from None
        except asyncio.CancelledError as error:
            self._lost(error)
            raise

    async def settle(self, mark: str) -> bool:
        """See the port."""
        connection = await self._connected()
        try:
            await connection.execute(_ASKED, mark, timeout=self._timeout_s)
            fenced = await connection.fetchval(
                "SELECT fenced FROM journal_groups WHERE id = $1", mark, timeout=self._timeout_s
            )
        except (*_LOST, asyncpg.PostgresError) as error:
            raise self._lost(error) from None
        return bool(fenced == 0)

    async def close(self) -> None:
        """See the port."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            settings = {"application_name": f"{APPLICATION} spool", "plan_cache_mode": "force_generic_plan"}
            try:
                connection = await asyncpg.connect(self._url, timeout=self._timeout_s, server_settings=settings)
                self._connection = connection
                await connection.execute(DURABLE, timeout=self._timeout_s)
            except (*_LOST, asyncpg.PostgresError) as error:
                raise self._lost(error) from None
        return self._connection

    def _lost(self, error: BaseException) -> StoreAway:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
        return StoreAway(cause_of(error))
