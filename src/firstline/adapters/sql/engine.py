"""SQLite engines: pragmas, explicit transactions; and what drivers raise, as the port's own errors."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from firstline.ports.storage import StorageUnavailable

BUSY_TIMEOUT_S: Final = 5.0

Database = Engine
"""What `open_engine` and `open_postgres` give; named apart from the engine that decides."""


def open_engine(path: Path) -> Engine:
    """An engine on a SQLite file; transactions begin with `BEGIN IMMEDIATE` where they write (see `writing`).

    A new file is for its user alone; SQLite gives the files beside it the same mode.
    """
    engine = create_engine(
        f"sqlite+pysqlite:///{path}",
        poolclass=QueuePool,
        pool_size=4,
        max_overflow=4,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "do_connect")
    def make(*_: Any) -> None:
        # Never opened where it is there: closing a file ends all locks that the process has on it, SQLite's too.
        with suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

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
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise StorageUnavailable(cause_of(error.orig)) from None
    except PoolTimeout:
        raise StorageUnavailable("all connections to the database are in use") from None
    except sqlite3.Error as error:
        raise StorageUnavailable(cause_of(error)) from None
    except Exception as error:  # anything but a driver's own goes on
        if type(error).__module__.startswith("psycopg"):  # from below SQLAlchemy, which wraps the others
            raise StorageUnavailable(cause_of(error)) from None
        raise


_SQLITE: Final = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_BUSY": "the database is locked by another process",
    "SQLITE_LOCKED": "the database is locked by another process",
    "SQLITE_READONLY": "the database cannot be written",
    "SQLITE_CANTOPEN": "the database cannot be opened",
    "SQLITE_NOTADB": "the file is no SQLite database",
    "SQLITE_CORRUPT": "the database is damaged",
}
_POSTGRES: Final = {
    "53100": "the disk of the database is full",
    "53300": "the database has too many connections",
    "25006": "the database cannot be written",
    "28": "the database refused the user or the password",
    "3D000": "the database server has no such database",
    "42501": "the database refused: the user lacks a right",
    "42P01": "the database lacks a table; run firstline db upgrade",
    "42703": "the database lacks a column; run firstline db upgrade",
    "40": "the database is too busy: other writers were in the way again and again",
    "55P03": "the database is locked by another process",
    "57014": "the database took too long",
    "57P": "the database server is stopping or starting",
    "08": "the database cannot be reached",
}
"""By SQLSTATE or its beginning; the longest that fits counts."""

_CONNECTING: Final = {
    "password": "28",
    "pg_hba.conf": "28",
    "does not exist": "3D000",
    "too many": "53300",
    "starting up": "57P",
    "shutting down": "57P",
}
"""What a refused connection is about: libpq tells no state of it, but words."""


def cause_of(error: BaseException | None) -> str:
    """A short sentence for an operator: what is wrong with the store."""
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "") or type(error).__name__
        found = next((said for prefix, said in _SQLITE.items() if name.startswith(prefix)), None)
        return found or f"the database failed ({name})"
    state = getattr(error, "sqlstate", None)
    if state is None:
        # psycopg and asyncpg tell of a connection that broke, or never was, without a state.
        unreachable = isinstance(error, OSError | TimeoutError) or type(error).__name__ in {
            "OperationalError",
            "ConnectionTimeout",
            "InterfaceError",
        }
        if not unreachable:
            return f"the database failed ({type(error).__name__})"
        state = next((state for words, state in _CONNECTING.items() if words in str(error)), "08")
    fitting = [prefix for prefix in _POSTGRES if state.startswith(prefix)]
    return _POSTGRES[max(fitting, key=len)] if fitting else f"the database failed ({state})"
