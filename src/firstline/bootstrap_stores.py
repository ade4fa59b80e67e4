"""Opening the database that the settings name: SQLite in a folder, or PostgreSQL."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from firstline.adapters.sql.engine import Database, open_engine
from firstline.adapters.sql.migrate import migrate
from firstline.adapters.sql.runners import write_directly
from firstline.adapters.sql.server_stores import ServerStore, sqlite_store
from firstline.adapters.sql.sql_storage import SqlStorage
from firstline.adapters.system import SystemClock, SystemIdentities
from firstline.ports.storage import StorageUnavailable
from firstline.settings import Settings
from firstline.usecases.accounts import Accounts
from firstline.usecases.keys import Keys

DATABASE_NAME: Final = "firstline.db"


class CannotStart(Exception):
    """firstline cannot start; the message says why and what to do, for people."""


def database_path(data_dir: Path) -> Path:
    """Where the database lies; the folder is made if it is missing.

    Raises: CannotStart.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(f"The data folder {data_dir} cannot be made: {error.strerror}.") from None
    if not os.access(data_dir, os.W_OK | os.X_OK):
        raise CannotStart(f"The data folder {data_dir} cannot be written.")
    return data_dir / DATABASE_NAME


def open_database(settings: Settings) -> Database:
    """The database at its current schema, for a process that is not the server.

    Raises: CannotStart.
    """
    if settings.database_url is not None:
        from firstline.adapters.sql.postgres_engine import open_postgres
        from firstline.adapters.sql.postgres_schema import check_schema

        url = settings.database_url.get_secret_value()
        with saying_where(settings):
            database = open_postgres(url, timeout_s=settings.database_timeout_seconds)
            _or_disposed(database, lambda: check_schema(database))
        return database
    path = database_path(settings.data_dir)
    database = open_engine(path)
    with saying_where(settings):
        _or_disposed(database, lambda: migrate(database, path))
    return database


def open_server_store(settings: Settings, *, on_foreign_change: Callable[[], None], alone: bool = True) -> ServerStore:
    """The database of a server; that in a folder is its own, PostgreSQL's may be shared.

    Raises: CannotStart.
    """
    if settings.database_url is None:
        path = database_path(settings.data_dir)
        release = hold_folder(settings.data_dir).close if alone else lambda: None
        with saying_where(settings):
            return sqlite_store(path, on_foreign_change=on_foreign_change, release=release)
    # Only here, for it takes a moment to import.
    from firstline.adapters.sql.postgres_store import postgres_store

    with saying_where(settings):
        return postgres_store(
            settings.database_url.get_secret_value(),
            connections=settings.database_connections,
            timeout_s=settings.database_timeout_seconds,
            on_foreign_change=on_foreign_change,
        )


def place_of_database(settings: Settings) -> str:
    """Where the database is, for people: a path, or host and name without user and password.

    Raises: CannotStart.
    """
    if settings.database_url is None:
        return str(settings.data_dir / DATABASE_NAME)
    from firstline.adapters.sql.postgres_engine import place_of

    try:
        return place_of(settings.database_url.get_secret_value())
    except ValueError as error:
        raise CannotStart(f"FIRSTLINE_DATABASE_URL: {error}.") from None


@contextlib.contextmanager
def saying_where(settings: Settings) -> Iterator[None]:
    """Turn what is wrong with the store into a sentence that names the place.

    Raises: CannotStart.
    """
    place = place_of_database(settings)
    try:
        yield
    except StorageUnavailable as error:
        raise CannotStart(f"{place}: {error}.") from None


def _or_disposed(database: Database, work: Callable[[], object]) -> None:
    try:
        work()
    except StorageUnavailable:
        database.dispose()
        raise


def open_accounts(settings: Settings) -> tuple[Accounts, Keys]:
    """Accounts and keys for the command line, beside a running server or without one.

    Raises: CannotStart.
    """
    database = open_database(settings)
    storage = SqlStorage(database, write_directly(database))
    accounts = Accounts(storage, SystemClock(), SystemIdentities())
    return accounts, Keys(accounts, lambda _: None)


def hold_folder(data_dir: Path) -> IO[bytes]:
    """One server per data folder: a second one would make every commit wait for the other's."""
    handle = (data_dir / "serve.lock").open("ab")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise CannotStart(
            f"Another firstline server is using {data_dir}. Stop it, or give this one a --data-dir of its own."
        ) from None
    return handle
