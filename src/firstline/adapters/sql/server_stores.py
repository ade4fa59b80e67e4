"""What a server opens to store in, behind one handle; here on SQLite, in `postgres_store` on PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from firstline.adapters.sql.engine import Database, open_engine
from firstline.adapters.sql.migrate import migrate
from firstline.adapters.sql.runners import Writes
from firstline.adapters.sql.sql_storage import SqlStorage
from firstline.adapters.sql.sqlite_marks import SqliteMarks
from firstline.adapters.sql.sqlite_writer import SqliteWriter
from firstline.adapters.sql.store_probe import StoreProbe, write_a_page
from firstline.adapters.sql.wal_checkpoints import WalCheckpoints
from firstline.ports.journal import Journal, MarkedStore, Record
from firstline.ports.storage import StorageUnavailable


@dataclass(frozen=True, slots=True)
class ServerStore:
    """A database, opened for a server.

    Attributes:
        database: for adapters that read for themselves.
        write: for adapters that write for themselves.
        marks: stores what a spool has kept.
        shared: whether other servers may use the database at the same time.
        queued: how many records wait for their group.
        tell_commits: whom to tell of each group that became durable, and how many seconds it took; from any thread.
        start: to be called in the event loop that serves, before anything is written.
        close: everything appended before is durable then, or has raised.
        abandon: instead of `start` and `close`, where the server does not start after all.
    """

    database: Database
    journal: Journal
    storage: SqlStorage
    write: Writes
    marks: MarkedStore
    shared: bool
    probe: Callable[[], Awaitable[bool]]
    queued: Callable[[], int]
    tell_commits: Callable[[Callable[[Sequence[Record], float], None]], None]
    start: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    abandon: Callable[[], None]


def sqlite_store(path: Path, *, on_foreign_change: Callable[[], None], release: Callable[[], None]) -> ServerStore:
    """The store in a file, upgraded if it is older.

    Args:
        on_foreign_change: called in the event loop after another process has changed the file.
        release: called last; gives the folder free.
    Raises: StorageUnavailable.
    """
    database = open_engine(path)
    try:
        migrate(database, path)
    except StorageUnavailable:
        database.dispose()
        release()
        raise
    writer = SqliteWriter(database, on_foreign_change=on_foreign_change)
    storage = SqlStorage(database, writer.run)
    checkpoints = WalCheckpoints(path)

    async def start() -> None:
        writer.start()
        checkpoints.start()

    def abandon() -> None:
        database.dispose()
        release()

    async def close() -> None:
        await asyncio.to_thread(checkpoints.close)
        await writer.close()
        abandon()

    return ServerStore(
        database=database,
        journal=writer,
        storage=storage,
        write=writer.run,
        marks=SqliteMarks(writer),
        shared=False,
        probe=StoreProbe(lambda: writer.run(write_a_page), storage),
        queued=lambda: writer.queued,
        tell_commits=lambda tell: setattr(writer, "on_commit", tell),
        start=start,
        close=close,
        abandon=abandon,
    )
