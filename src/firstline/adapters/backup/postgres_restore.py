"""A PostgreSQL database filled from an archive, in one transaction."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import orjson
import psycopg
from sqlalchemy import Connection, Engine, inspect, text

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
from firstline.adapters.backup.snapshot import TABLES, Shape, Snapshot, shapes_in
from firstline.adapters.sql.postgres_engine import APPLICATION
from firstline.adapters.sql.postgres_partitions import make_partitions, month_of
from firstline.adapters.sql.postgres_schema import LOCK, LOCK_TIMEOUT
from firstline.adapters.sql.tables import HEAD_REVISION, changes

_OURS: Final = (*TABLES, changes.name, "alembic_version")
_PARTED: Final = "0004"
"""The schema since which history is divided by month."""

_MOST_MONTHS: Final = 600
_LAST_US: Final = 4_102_444_800_000_000
"""The year 2100; later ones are a clock's mistake."""


class Filled(NamedTuple):
    """What was done besides filling it.

    Attributes:
        changed: texts in which a NUL was replaced.
        moved: whether tables were moved aside.
    """

    changed: int
    moved: bool


@contextmanager
def filled_postgres(
    engine: Engine, archive: Archive, *, aside: str | None, now_us: int, webhooks: bool, on_rows: OnRows
) -> Iterator[Filled]:
    """A database with everything of an archive, compared; committed when the block ends without an error.

    Args:
        aside: schema for the tables that are there, if they have rows; None refuses then.
    Raises: BackupFailed, StorageUnavailable, what a driver raises.
    """
    revision = check_revision(archive)
    if revision < _PARTED:
        raise BackupFailed(
            f"It has schema {revision}, which was for SQLite alone. Restore it into a data folder and back that up."
        )
    with engine.connect() as connection, connection.begin():
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(text(f"SET LOCAL {limit} = 0"))
        _alone(connection)
        moved = _make_room(connection, aside)
        migrate_to(connection, revision)
        _make_months(connection, archive, now_us)
        shapes = shapes_in(connection)
        same_shapes(archive, shapes)
        loaded = {shape.name: _load(connection, archive, shape, on_rows) for shape in shapes}
        compare(Snapshot(connection, schema_revision=revision), archive, loaded, on_rows=on_rows)
        migrate_to(connection, HEAD_REVISION)
        make_partitions(connection, now_us=now_us)
        set_right(connection, archive, webhooks=webhooks)
        for name in TABLES:
            connection.execute(text(f'ANALYZE "{name}"'))
        yield Filled(sum(one.changed for one in loaded.values()), moved)


def _alone(connection: Connection) -> None:
    if not connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}).scalar():
        raise BackupFailed("Another firstline is upgrading or restoring this database. Wait for it.")
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND application_name LIKE :ours"
    )
    if connection.execute(text(others), {"ours": f"{APPLICATION}%"}).scalar():
        raise BackupFailed("A firstline server, worker or command is using this database. Stop it first.")


def _make_room(connection: Connection, aside: str | None) -> bool:
    """Have none of our tables: drop empty ones, move others aside; whether there were others."""
    there = [name for name in _OURS if name in set(inspect(connection).get_table_names())]
    if not there:
        return False
    filled = any(
        connection.execute(text(f'SELECT EXISTS (SELECT 1 FROM "{name}")')).scalar()  # noqa: S608  # names of our own tables
        for name in there
        if name in TABLES
    )
    if not filled:
        listed = ", ".join(f'"{name}"' for name in there)
        connection.execute(text(f"DROP TABLE {listed}"))
        connection.execute(text("DROP FUNCTION IF EXISTS firstline_changed()"))
        return False
    if aside is None:
        raise BackupFailed(
            "The database has data of firstline already. Name another one, or give --force, which moves them to a "
            "schema of their own."
        )
    connection.execute(text(f'CREATE SCHEMA "{aside}"'))
    months = connection.execute(
        text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = "
            "i.inhparent WHERE p.relname IN ('tickets', 'verdicts') AND p.relkind = 'p' "
            "AND p.relnamespace = current_schema()::regnamespace"
        )
    ).scalars()
    for name in [*there, *months]:
        connection.execute(text(f'ALTER TABLE "{name}" SET SCHEMA "{aside}"'))
    if connection.execute(text("SELECT to_regprocedure('firstline_changed()')")).scalar():
        connection.execute(text(f'ALTER FUNCTION firstline_changed() SET SCHEMA "{aside}"'))
    return True


def _make_months(connection: Connection, archive: Archive, now_us: int) -> None:
    """A table for every month that the archive's history has; rows come in the order of their ids, and so of time."""
    place = [column.name for column in archive.manifest.tables["tickets"].shape].index("id")
    moments = {month_of(now_us)[0]: now_us}
    for lines in archive.lines("tickets"):
        ends = dict(map(_moment(place), (lines[0], lines[-1])))
        # Only where a month ends among them does each of them matter.
        moments |= ends if len(ends) == 1 and "" not in ends else dict(map(_moment(place), lines))
    moments.pop("", None)
    for _, moment in sorted(moments.items())[-_MOST_MONTHS:]:
        make_partitions(connection, now_us=moment)


def _moment(place: int) -> Callable[[bytes], tuple[str, int]]:
    """Month and moment of a line by the id in it; an empty month where the id tells no time."""

    def found(line: bytes) -> tuple[str, int]:
        try:
            at_us = int(str(orjson.loads(line)[place])[:12], 16) * 1_000
        except ValueError:
            return "", 0
        return (month_of(at_us)[0], at_us) if 0 < at_us < _LAST_US else ("", 0)

    return found


def _load(connection: Connection, archive: Archive, shape: Shape, on_rows: OnRows) -> Loaded:
    loaded = Loaded()
    raw: Any = connection.connection.driver_connection
    names = ", ".join(f'"{column.name}"' for column in archive.manifest.tables[shape.name].shape)
    try:
        with raw.cursor() as cursor, cursor.copy(f'COPY "{shape.name}" ({names}) FROM STDIN') as copy:
            for rows in rows_of(archive, shape, loaded, strict=True, on_rows=on_rows):
                for row in rows:
                    copy.write_row(row)
    except (psycopg.IntegrityError, psycopg.DataError) as error:
        rule = error.diag.constraint_name or error.diag.column_name or error.sqlstate
        raise BackupFailed(f"A row of {shape.name} breaks a rule of the database: {rule}.") from None
    for key in shape.key if len(shape.key) == 1 else ():
        found = connection.execute(
            text("SELECT pg_get_serial_sequence(:name, :key)"), {"name": shape.name, "key": key}
        ).scalar()
        if found:
            last = f'SELECT setval(:found, max("{key}")) FROM "{shape.name}"'  # noqa: S608  # names of our own tables
            connection.execute(text(last), {"found": found})
    return loaded
