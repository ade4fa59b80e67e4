"""One moment of a database: its tables, read row by row while others go on writing.

On SQLite it is a read transaction, which sees one state of the file and lets the writer write; on PostgreSQL a
repeatable-read transaction over a cursor of the server. Which tables and columns there are is read from the database,
so that one with an older schema can be saved before it is upgraded.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, Float, Integer, LargeBinary, String, inspect, text
from sqlalchemy.types import TypeEngine

from firstline.adapters.backup.failures import BackupFailed
from firstline.adapters.backup.row_lines import Column, Kind
from firstline.adapters.sql import (
    analytics_tables,  # noqa: F401  # adds its tables to the metadata
    feedback_tables,  # noqa: F401  # adds its tables to the metadata
    history_tables,  # noqa: F401  # adds its tables to the metadata
    job_tables,  # noqa: F401  # adds its tables to the metadata
    webhook_tables,  # noqa: F401  # adds its tables to the metadata
)
from firstline.adapters.sql.postgres_schema import newer
from firstline.adapters.sql.tables import HEAD_REVISION, changes, metadata
from firstline.ports.storage import StorageUnavailable

TABLES: Final = tuple(table.name for table in metadata.sorted_tables if table is not changes)
"""Every table that is saved, what others refer to first. Changes are counted by each database for itself."""

_ROWS: Final = 1_000
_KINDS: Final[tuple[tuple[type[TypeEngine[Any]], Kind], ...]] = (
    (Integer, Kind.INT),
    (Float, Kind.FLOAT),
    (LargeBinary, Kind.BYTES),
    (String, Kind.TEXT),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """A table as it is in a database.

    Attributes:
        key: names of the columns that rows are sorted by.
        limits: most characters of a text; none where the database does not say.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    limits: dict[str, int]


class Snapshot:
    """A database at one moment."""

    def __init__(self, connection: Connection, *, schema_revision: str) -> None:
        self.connection = connection
        self.kind = connection.dialect.name
        self.schema_revision = schema_revision

    def shapes(self) -> list[Shape]:
        """The tables that are there, what others refer to first."""
        return shapes_in(self.connection)

    def rows(self, shape: Shape) -> Iterator[Sequence[tuple[Any, ...]]]:
        """All rows, in the order of the key by bytes, many at a time."""
        names = ", ".join(_quoted(column.name) for column in shape.columns)
        kinds = dict(shape.columns)
        order = ", ".join(_sorted_by(name, kinds[name], self.kind) for name in shape.key)
        yield from self._stream(f"SELECT {names} FROM {_quoted(shape.name)} ORDER BY {order}")  # noqa: S608  # names of our own tables

    def count(self, shape: Shape) -> int:
        """How many rows a table has, found in another way than by reading them."""
        statement = f"SELECT count(*) FROM {_quoted(shape.name)}"  # noqa: S608  # names of our own tables
        return int(self.connection.execute(text(statement)).scalar_one())

    def chunks_of_jobs(self) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Job, its state, and number, state and token of each of its chunks; nothing where jobs are not known yet."""
        if not inspect(self.connection).has_table("job_chunks"):
            return
        yield from self._stream(
            "SELECT c.job_id, j.state, c.number, c.state, c.token FROM job_chunks c JOIN jobs j ON j.id = c.job_id "
            "ORDER BY c.job_id, c.number"
        )

    def _stream(self, statement: str) -> Iterator[Sequence[tuple[Any, ...]]]:
        # Below SQLAlchemy, whose rows cost more than reading them does.
        raw: Any = self.connection.connection.driver_connection
        cursor = raw.cursor(name="firstline_backup") if self.kind == "postgresql" else raw.cursor()
        with closing(cursor):
            if self.kind == "postgresql":
                cursor.execute(statement, binary=True)
            else:
                cursor.execute(statement)
            while rows := cursor.fetchmany(_ROWS):
                yield rows


@contextmanager
def snapshot(engine: Engine) -> Iterator[Snapshot]:
    """What a database is now.

    Raises: StorageUnavailable when it has no tables of firstline, or those of a newer one.
    """
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                connection.execute(text(f"SET LOCAL {limit} = 0"))
        if not inspect(connection).has_table("alembic_version"):
            raise StorageUnavailable("it has no tables of firstline")
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if revision is None:
            raise StorageUnavailable("it has no tables of firstline")
        if revision > HEAD_REVISION:
            raise StorageUnavailable(newer(revision))
        yield Snapshot(connection, schema_revision=revision)


def shapes_in(connection: Connection) -> list[Shape]:
    """The tables of a database, what others refer to first."""
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    unknown = there - {*TABLES, changes.name, "alembic_version"}
    if unknown and connection.dialect.name == "sqlite":  # PostgreSQL may hold what is not ours
        raise BackupFailed(f"The database has a table {min(unknown)}, which this firstline does not know.")
    return [_shape(inspector, name) for name in TABLES if name in there]


def check_file(connection: Connection) -> None:
    """Have SQLite compare its file's pages and indexes.

    Raises: StorageUnavailable when they are damaged.
    """
    if connection.execute(text("PRAGMA integrity_check(1)")).scalar() != "ok":
        raise StorageUnavailable("the database is damaged")


def _shape(inspector: Any, name: str) -> Shape:
    known = list(metadata.tables[name].c.keys())
    found = {column["name"]: column["type"] for column in inspector.get_columns(name)}
    # As the code has them, so that both databases give the same lines.
    names = [column for column in known if column in found] + sorted(found.keys() - set(known))
    columns = tuple(Column(column, _kind(name, column, found[column])) for column in names)
    limits = {column: kind.length for column, kind in found.items() if isinstance(kind, String) and kind.length}
    return Shape(name, columns, tuple(inspector.get_pk_constraint(name)["constrained_columns"]), limits)


def _kind(table: str, column: str, found: TypeEngine[Any]) -> Kind:
    for kind, meant in _KINDS:
        if isinstance(found, kind):
            return meant
    raise BackupFailed(f"{table}.{column} is of a type that firstline does not use.")


def _sorted_by(name: str, kind: Kind, database: str) -> str:
    collation = ' COLLATE "C"' if kind is Kind.TEXT and database == "postgresql" else ""
    return f"{_quoted(name)}{collation}"


def _quoted(name: str) -> str:
    return f'"{name}"'
