"""Bring a SQLite file to the current schema, after copying it; refuse one from a newer firstline."""

import sqlite3
from pathlib import Path

from sqlalchemy import Engine

from firstline.adapters.sql.engine import cause_of, storage_errors
from firstline.adapters.sql.tables import HEAD_REVISION
from firstline.ports.storage import StorageUnavailable


def revision_of(path: Path) -> str | None:
    """The schema revision of a SQLite file; None for a missing or empty one.

    Raises: StorageUnavailable when it cannot be read or is no database.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        connection = sqlite3.connect(path, timeout=5)
        try:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if tables else None
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StorageUnavailable(cause_of(error)) from None
    return row[0] if row else None


def migrate(engine: Engine, path: Path) -> Path | None:
    """Upgrade the file to the current revision.

    Returns: where the copy from before the upgrade lies; None when nothing was to do or the file was new.
    Raises: StorageUnavailable when the file cannot be written or belongs to a newer firstline.
    """
    current = revision_of(path)
    if current == HEAD_REVISION:
        return None
    copy = None
    if current is not None:
        if current > HEAD_REVISION:
            raise StorageUnavailable(
                f"the database has schema {current}, newer than this firstline's {HEAD_REVISION}; upgrade firstline"
            )
        copy = path.with_name(f"{path.name}.before-{HEAD_REVISION}")
        _copy(path, copy)
    # Alembic takes a third of a second to import; a start without a migration should not pay for it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "firstline.adapters.sql:migrations")
    with storage_errors(), engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return copy


def _copy(path: Path, copy: Path) -> None:
    try:
        source, target = sqlite3.connect(path), sqlite3.connect(copy)
        try:
            source.backup(target)
        finally:
            source.close()
            target.close()
    except sqlite3.Error as error:
        raise StorageUnavailable(f"no copy could be made before the upgrade: {cause_of(error)}") from None
