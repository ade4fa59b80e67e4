"""A SQLite file made of an archive, beside the place where it will be."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from firstline.adapters.backup.archive_reader import Archive
from firstline.adapters.backup.failures import BackupFailed
from firstline.adapters.backup.loading import (
    Loaded,
    OnRows,
    check_revision,
    compare,
    migrate_to,
    rows_of,
    same_shapes,
    set_right,
)
from firstline.adapters.backup.snapshot import Shape, check_file, shapes_in, snapshot
from firstline.adapters.sql.engine import cause_of, open_engine, storage_errors
from firstline.adapters.sql.tables import HEAD_REVISION


def build_sqlite(archive: Archive, path: Path, *, webhooks: bool, on_rows: OnRows) -> None:
    """A file with everything of an archive, at the current schema, compared and on disk.

    Args:
        path: where nothing is yet.
    Raises: BackupFailed, StorageUnavailable, OSError.
    """
    engine = open_engine(path)
    try:
        with storage_errors():
            revision = check_revision(archive)
            with engine.connect() as connection:
                migrate_to(connection, revision)
                connection.commit()
            with engine.connect() as connection:
                shapes = shapes_in(connection)
            engine.dispose()
            same_shapes(archive, shapes)
            loaded = _load(archive, path, shapes, on_rows)
            with snapshot(engine) as found:
                compare(found, archive, loaded, on_rows=on_rows)
            if revision != HEAD_REVISION:
                with engine.connect() as connection:
                    migrate_to(connection, HEAD_REVISION)
                    connection.commit()
            with engine.begin() as connection:
                set_right(connection, archive, webhooks=webhooks)
            with engine.connect() as connection:
                check_file(connection)
    finally:
        engine.dispose()
    with path.open("rb") as file:
        os.fsync(file.fileno())


def release_sqlite(path: Path) -> None:
    """Fold a file's log into it, which works only while nobody else has it open.

    Raises: BackupFailed when somebody has.
    """
    try:
        with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise BackupFailed(f"Another program has {path} open, such as a worker. Stop it first.") from None
        # It is damaged, and will be moved aside with its log as it is.


def _load(archive: Archive, path: Path, shapes: list[Shape], on_rows: OnRows) -> dict[str, Loaded]:
    found = {}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # A file that is not finished is thrown away, so nothing needs to be safe before the end.
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=OFF").fetchone()
        connection.execute("PRAGMA cache_size=-65536")
        for shape in shapes:
            loaded = found[shape.name] = Loaded()
            columns = archive.manifest.tables[shape.name].shape
            names = ", ".join(f'"{column.name}"' for column in columns)
            places = ", ".join("?" * len(columns))
            statement = f'INSERT INTO "{shape.name}" ({names}) VALUES ({places})'  # noqa: S608  # names of our own tables
            connection.execute("BEGIN")
            try:
                for rows in rows_of(archive, shape, loaded, strict=False, on_rows=on_rows):
                    connection.executemany(statement, rows)
            except sqlite3.IntegrityError as error:
                raise BackupFailed(f"A row of {shape.name} breaks a rule of the database: {error}.") from None
            except sqlite3.Error as error:
                raise BackupFailed(f"{shape.name} could not be stored: {cause_of(error)}.") from None
            connection.execute("COMMIT")
        lost = connection.execute("PRAGMA foreign_key_check").fetchone()
        if lost is not None:
            raise BackupFailed(f"A row of {lost[0]} refers to one of {lost[2]} that is not there.")
    return found
