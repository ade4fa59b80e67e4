"""What a server opens to store in on PostgreSQL; apart, so that a server on SQLite imports none of it."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from firstline.adapters.sql.postgres_changes import PostgresChanges
from firstline.adapters.sql.postgres_engine import open_postgres
from firstline.adapters.sql.postgres_journal import PostgresJournal
from firstline.adapters.sql.postgres_marks import PostgresMarks
from firstline.adapters.sql.postgres_partitions import make_partitions
from firstline.adapters.sql.postgres_schema import check_schema
from firstline.adapters.sql.runners import write_directly
from firstline.adapters.sql.server_stores import ServerStore
from firstline.adapters.sql.sql_storage import SqlStorage
from firstline.adapters.sql.store_probe import StoreProbe
from firstline.ports.journal import Record
from firstline.ports.storage import StorageUnavailable

PARTITIONS_S: Final = 3_600.0


def postgres_store(
    url: str, *, connections: int, timeout_s: float, on_foreign_change: Callable[[], None]
) -> ServerStore:
    """The store on a PostgreSQL server, whose schema must be the current one.

    Args:
        connections: most that are open at once, besides two of the journal's and of the watch over changes.
        timeout_s: how long a record may wait to become durable.
        on_foreign_change: called in the event loop after any process has changed accounts, keys or their settings.
    Raises: StorageUnavailable.
    """
    database = open_postgres(url, connections=connections, timeout_s=timeout_s)
    try:
        check_schema(database)
    except StorageUnavailable:
        database.dispose()
        raise
    write = write_directly(database)
    storage = SqlStorage(database, write)
    journal = PostgresJournal(url, timeout_s=timeout_s)
    changes = PostgresChanges(url, on_change=on_foreign_change)

    closing = asyncio.Event()
    background: list[asyncio.Task[None]] = []

    async def keep_partitions() -> None:
        while not closing.is_set():
            with contextlib.suppress(StorageUnavailable):
                await write(lambda connection: make_partitions(connection, now_us=time.time_ns() // 1_000))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), PARTITIONS_S)

    async def start() -> None:
        await journal.start()
        changes.start()
        background.append(asyncio.create_task(keep_partitions()))

    async def close() -> None:
        closing.set()
        for task in background:
            await task
        await changes.close()
        await journal.close()
        database.dispose()

    return ServerStore(
        database=database,
        journal=journal,
        storage=storage,
        write=write,
        marks=PostgresMarks(url, timeout_s=timeout_s),
        shared=True,
        probe=StoreProbe(lambda: journal.append(Record()), storage),
        queued=lambda: journal.queued,
        tell_commits=lambda tell: setattr(journal, "on_commit", tell),
        start=start,
        close=close,
        abandon=database.dispose,
    )
