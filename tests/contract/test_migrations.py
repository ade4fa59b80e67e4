"""The migrations make the schema that the code expects, on both databases, both ways, with rows in every table."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect

from firstline.adapters.sql import analytics_tables, feedback_tables, history_tables  # noqa: F401  # tables on the same metadata
from firstline.adapters.sql.engine import open_engine
from firstline.adapters.sql.migrate import migrate, revision_of
from firstline.adapters.sql.postgres_engine import open_postgres
from firstline.adapters.sql.postgres_partitions import make_partitions, month_of
from firstline.adapters.sql.postgres_schema import check_schema, schema_of, upgrade
from firstline.adapters.sql.tables import HEAD_REVISION, metadata
from firstline.ports.storage import StorageUnavailable
from services import look

NOW_US = 1_795_000_000_000_000
REVISIONS = [f"{number:04d}" for number in range(1, int(HEAD_REVISION))]
INSERT = {"sqlite": sqlite_dialect.insert, "postgresql": postgresql.insert}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "firstline.db"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def engine(request: pytest.FixtureRequest, path: Path) -> Iterator[Engine]:
    """An empty database, migrated to the current schema."""
    if request.param == "sqlite":
        found = open_engine(path)
        migrate(found, path)
    else:
        found = open_postgres(request.getfixturevalue("empty_database"))
        upgrade(found)
    yield found
    found.dispose()


@pytest.fixture
def shared(empty_database: str) -> Iterator[Engine]:
    """An empty PostgreSQL database."""
    found = open_postgres(empty_database)
    yield found
    found.dispose()


def config() -> Config:
    found = Config()
    found.set_main_option("script_location", "firstline.adapters.sql:migrations")
    return found


def run(engine: Engine, *, to: str) -> None:
    """Upgrade to `head` or the newest revision, or downgrade to another one, as an operator would."""
    settings = config()
    with engine.connect() as connection:
        settings.attributes["connection"] = connection
        (command.upgrade if to in {"head", HEAD_REVISION} else command.downgrade)(settings, to)
        connection.commit()


Columns = dict[str, set[str]]


def columns_in(engine: Engine) -> Columns:
    """The columns of the tables of firstline, without the months of history."""
    inspector = inspect(engine)
    names = set(inspector.get_table_names()) & set(metadata.tables)
    return {name: {column["name"] for column in inspector.get_columns(name)} for name in names}


def rows_of(engine: Engine, columns: Columns) -> dict[str, list[Any]]:
    """All rows by table, in the given columns."""
    with engine.connect() as connection:
        return {
            name: list(connection.execute(select(*(metadata.tables[name].c[one] for one in sorted(there)))).all())
            for name, there in columns.items()
        }


def fill(engine: Engine) -> None:
    """One row in every table, parents first; triggers may have made it already."""
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            row: dict[str, object] = {}
            for column in table.columns:
                kind = column.type.python_type
                if column.foreign_keys or column.name == "id":
                    row[column.name] = "a" * 32 if kind is str else 1
                elif kind is str:
                    row[column.name] = "x"
                elif kind is bytes:
                    row[column.name] = b"x"
                else:
                    row[column.name] = 1
            connection.execute(INSERT[engine.dialect.name](table).values(row).on_conflict_do_nothing())


def of_the_code(found: Any, name: str | None, kind: str, reflected: bool, _: object) -> bool:
    """Leaves out the months of history, and what PostgreSQL makes for each of them."""
    if kind == "foreign_key_constraint":
        return found.elements[0].target_fullname.partition(".")[0] in metadata.tables
    return kind != "table" or name in metadata.tables


def test_the_migrated_schema_is_the_one_in_the_code(engine: Engine) -> None:
    with engine.connect() as connection:
        options = {"compare_type": True, "render_as_batch": True, "include_object": of_the_code}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_constraints_and_indexes_have_the_names_of_the_convention(engine: Engine) -> None:
    inspector = inspect(engine)
    for table in metadata.sorted_tables:
        expected = {str(found.name) for found in table.constraints if found.name}
        there = {inspector.get_pk_constraint(table.name)["name"]}
        there |= {
            found["name"]
            for found in inspector.get_foreign_keys(table.name)
            if found["referred_table"] in metadata.tables
        }
        there |= {found["name"] for found in inspector.get_unique_constraints(table.name)}
        there |= {found["name"] for found in inspector.get_check_constraints(table.name)}
        assert there == expected
        indexes = {found["name"] for found in inspector.get_indexes(table.name)}
        assert indexes - there == {found.name for found in table.indexes}


def test_the_revision_in_the_code_is_the_newest(path: Path) -> None:
    assert ScriptDirectory.from_config(config()).get_current_head() == HEAD_REVISION
    engine = open_engine(path)
    migrate(engine, path)
    engine.dispose()
    assert revision_of(path) == HEAD_REVISION


def test_down_and_up_again_with_rows_in_every_table(engine: Engine) -> None:
    fill(engine)
    run(engine, to="base")
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    run(engine, to="head")
    fill(engine)


@pytest.mark.parametrize("revision", REVISIONS)
def test_what_came_later_goes_and_comes_without_touching_what_was_there(engine: Engine, revision: str) -> None:
    fill(engine)
    now = columns_in(engine)
    before = rows_of(engine, now)
    assert all(before.values())
    run(engine, to=revision)
    earlier = columns_in(engine)
    run(engine, to="head")
    assert columns_in(engine) == now
    for name, rows in rows_of(engine, earlier).items():
        kept = [place for place, column in enumerate(sorted(now[name])) if column in earlier[name]]
        assert rows == [tuple(row[place] for place in kept) for row in before[name]], name
    later = rows_of(engine, {name: there for name, there in now.items() if name not in earlier})
    assert not any(later.values())


def test_migrating_again_changes_nothing(path: Path) -> None:
    engine = open_engine(path)
    assert migrate(engine, path) is None
    fill(engine)
    assert migrate(engine, path) is None
    with engine.connect() as connection:
        for table in metadata.sorted_tables:
            assert len(connection.execute(table.select()).all()) == 1
    engine.dispose()


def test_an_older_file_is_copied_before_it_is_upgraded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('0000')")
        connection.execute("CREATE TABLE old (x)")
    monkeypatch.setattr(command, "upgrade", lambda *_: None)
    engine = open_engine(path)
    copy = migrate(engine, path)
    engine.dispose()
    assert copy is not None
    assert copy.parent == path.parent
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'old'").fetchone() == ("old",)


def test_a_file_of_a_newer_firstline_is_refused(path: Path) -> None:
    engine = open_engine(path)
    migrate(engine, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StorageUnavailable, match="newer than this firstline's"):
        migrate(engine, path)
    engine.dispose()


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database at all, but long enough to be read as a header of one" * 20)
    with pytest.raises(StorageUnavailable, match="no SQLite database"):
        revision_of(path)


def test_a_missing_or_empty_file_has_no_revision(path: Path) -> None:
    assert revision_of(path) is None
    path.touch()
    assert revision_of(path) is None


@pytest.mark.service
def test_a_shared_database_is_never_changed_by_a_start_and_says_what_to_do(shared: Engine) -> None:
    with pytest.raises(StorageUnavailable, match="no tables yet; run firstline db upgrade"):
        check_schema(shared)
    assert schema_of(shared) is None
    upgrade(shared)
    check_schema(shared)
    for revision, said in (("0000", "older .* run firstline db upgrade"), ("9999", "newer .* upgrade firstline")):
        with shared.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
        with pytest.raises(StorageUnavailable, match=said):
            check_schema(shared)
    with pytest.raises(StorageUnavailable, match="newer"):
        upgrade(shared)


@pytest.mark.service
def test_two_upgrades_at_once_make_one_schema(empty_database: str) -> None:
    faults: list[BaseException] = []

    def work() -> None:
        engine = open_postgres(empty_database)
        try:
            upgrade(engine)
        except BaseException as error:
            faults.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert look(empty_database, "SELECT version_num FROM alembic_version") == [(HEAD_REVISION,)]


@pytest.mark.service
def test_an_upgrade_that_cannot_get_hold_of_a_table_gives_up_and_changes_nothing(
    shared: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firstline.adapters.sql.postgres_schema.LOCK_TIMEOUT", "50ms")
    upgrade(shared)
    run(shared, to="0003")
    with shared.begin() as busy:
        busy.execute(text("LOCK TABLE tickets IN ROW EXCLUSIVE MODE"))
        with pytest.raises(StorageUnavailable, match="locked by another process"):
            upgrade(shared)
    assert schema_of(shared) == "0003"
    upgrade(shared)
    check_schema(shared)


@pytest.mark.service
def test_history_goes_into_its_month_and_what_lies_in_none_is_kept(database_url: str) -> None:
    engine = open_postgres(database_url)
    with engine.begin() as connection:
        assert len(make_partitions(connection, now_us=NOW_US)) == 8
    with engine.begin() as connection:
        assert make_partitions(connection, now_us=NOW_US) == []
    engine.dispose()
    look(
        database_url,
        "INSERT INTO accounts (id, email, email_folded, created_at_us, classifier_plan, decision_plan, keep_text) "
        "VALUES ('a', 'a@example.com', 'a@example.com', 1, 'free', 'free', 1)",
    )
    month, first, after = month_of(NOW_US)
    assert month == "202611"
    before = f"{int(first, 16) - 1:032x}"
    last = f"{int(after, 16) - 1:032x}"
    for ticket in (before, first, last, "f" * 32):
        look(
            database_url,
            f"INSERT INTO tickets (id, account_id, received_at_us, contract) VALUES ('{ticket}', 'a', 1, 'decision')",
        )
    found = dict(look(database_url, "SELECT id, tableoid::regclass::text FROM tickets"))
    assert found == {before: "tickets_rest", first: "tickets_202611", last: "tickets_202611", "f" * 32: "tickets_rest"}


@pytest.mark.parametrize(("later", "month"), [(0, "202611"), (1, "202612"), (2, "202701"), (14, "202801")])
def test_months_follow_each_other_without_a_gap(later: int, month: str) -> None:
    assert month_of(NOW_US, later=later)[0] == month
    assert month_of(NOW_US, later=later)[2] == month_of(NOW_US, later=later + 1)[1]
