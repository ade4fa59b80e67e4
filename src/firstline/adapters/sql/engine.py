"""SQLite engines: pragmas, explicit transactions, and errors as the port's own."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from firstline.ports.storage import StorageUnavailable

BUSY_TIMEOUT_S: Final = 5.0

Database = Engine
"""What `open_engine` gives; named apart from the engine that decides."""


def open_engine(path: Path) -> Engine:
    """An engine on a SQLite file; transactions begin with `BEGIN IMMEDIATE` where they write (see `writing`)."""
    engine = create_engine(
        f"sqlite+pysqlite:///{path}",
        poolclass=QueuePool,
        pool_size=4,
        max_overflow=4,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA wal_autocheckpoint=4000")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what a driver raises about the state of the store into `StorageUnavailable`, without its text."""
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.IntegrityError):
            raise
        raise StorageUnavailable(cause_of(error.orig)) from None
    except sqlite3.Error as error:
        raise StorageUnavailable(cause_of(error)) from None


def cause_of(error: BaseException | None) -> str:
    """A short sentence for an operator: what is wrong with the store."""
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    known = {
        "SQLITE_FULL": "the disk is full",
        "SQLITE_BUSY": "the database is locked by another process",
        "SQLITE_LOCKED": "the database is locked by another process",
        "SQLITE_READONLY": "the database cannot be written",
        "SQLITE_CANTOPEN": "the database cannot be opened",
        "SQLITE_NOTADB": "the file is no SQLite database",
        "SQLITE_CORRUPT": "the database is damaged",
    }
    for prefix, sentence in known.items():
        if name.startswith(prefix):
            return sentence
    return f"the database failed ({name})"
