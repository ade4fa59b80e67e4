"""The schema on PostgreSQL: looked at when a server starts, changed by `firstline db upgrade` alone.

Several servers share the database, so none of them changes it under the others. An upgrade holds an advisory lock, so
that two of them do not run at once, and is one transaction: it is done wholly or not at all.
"""

from typing import Final

from sqlalchemy import Engine, inspect, text

from firstline.adapters.sql.engine import storage_errors
from firstline.adapters.sql.tables import HEAD_REVISION
from firstline.ports.storage import StorageUnavailable

LOCK: Final = 7_366_194_580_211
"""Any number will do, as long as nothing else in the database takes it."""

LOCK_TIMEOUT: Final = "3s"
"""How long an upgrade waits for servers to let go of a table, while others wait behind it."""


def schema_of(engine: Engine) -> str | None:
    """The schema revision of a database; None when firstline never was there.

    Raises: StorageUnavailable.
    """
    with storage_errors(), engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def check_schema(engine: Engine) -> None:
    """Nothing where the database has the schema of this firstline.

    Raises: StorageUnavailable with what to do.
    """
    found = schema_of(engine)
    if found is None:
        raise StorageUnavailable("the database has no tables yet; run firstline db upgrade")
    if found < HEAD_REVISION:
        raise StorageUnavailable(
            f"the database has schema {found}, older than this firstline's {HEAD_REVISION}; run firstline db upgrade"
        )
    if found > HEAD_REVISION:
        raise StorageUnavailable(newer(found))


def upgrade(engine: Engine) -> None:
    """Bring the database to the current schema; whoever comes at the same time waits.

    Raises: StorageUnavailable when it belongs to a newer firstline, or cannot be changed.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "firstline.adapters.sql:migrations")
    with storage_errors(), engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        connection.commit()
        try:
            found = schema_of(engine)
            if found is not None and found > HEAD_REVISION:
                raise StorageUnavailable(newer(found))
            connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
            connection.commit()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("RESET lock_timeout"))
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})
            connection.commit()


def newer(found: str) -> str:
    """Why a database is refused that a newer firstline has changed."""
    return f"the database has schema {found}, newer than this firstline's {HEAD_REVISION}; upgrade firstline"
