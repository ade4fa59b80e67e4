"""The migrations make the schema that the code expects, in both directions, with rows in every table."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect

from firstline.adapters.sql.engine import open_engine
from firstline.adapters.sql.migrate import migrate, revision_of
from firstline.adapters.sql.tables import HEAD_REVISION, metadata
from firstline.ports.storage import StorageUnavailable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "firstline.db"


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


def rows_of(engine: Engine) -> dict[str, list[Any]]:
    """All rows by table."""
    with engine.connect() as connection:
        return {table.name: list(connection.execute(table.select()).all()) for table in metadata.sorted_tables}


def fill(engine: Engine) -> None:
    """One row in every table, parents first."""
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            row: dict[str, object] = {}
            for column in table.columns:
                if column.foreign_keys or column.name == "id":
                    row[column.name] = "a" * 32
                elif column.type.python_type is str:
                    row[column.name] = "x"
                elif column.type.python_type is bytes:
                    row[column.name] = b"x"
                else:
                    row[column.name] = 1
            connection.execute(table.insert().values(row))


def test_the_migrated_schema_is_the_one_in_the_code(path: Path) -> None:
    engine = open_engine(path)
    migrate(engine, path)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_constraints_and_indexes_have_the_names_of_the_convention(path: Path) -> None:
    engine = open_engine(path)
    migrate(engine, path)
    inspector = inspect(engine)
    for table in metadata.sorted_tables:
        expected = {str(found.name) for found in table.constraints if found.name}
        there = {inspector.get_pk_constraint(table.name)["name"]}
        there |= {found["name"] for found in inspector.get_foreign_keys(table.name)}
        there |= {found["name"] for found in inspector.get_unique_constraints(table.name)}
        there |= {found["name"] for found in inspector.get_check_constraints(table.name)}
        assert there == expected
        assert {found["name"] for found in inspector.get_indexes(table.name)} == {found.name for found in table.indexes}
    engine.dispose()


def test_the_revision_in_the_code_is_the_newest(path: Path) -> None:
    assert ScriptDirectory.from_config(config()).get_current_head() == HEAD_REVISION
    engine = open_engine(path)
    migrate(engine, path)
    engine.dispose()
    assert revision_of(path) == HEAD_REVISION


def test_down_and_up_again_with_rows_in_every_table(path: Path) -> None:
    engine = open_engine(path)
    migrate(engine, path)
    fill(engine)
    run(engine, to="base")
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    run(engine, to="head")
    fill(engine)
    engine.dispose()


PROVIDERS = {"account_asking", "provider_spend"}


@pytest.mark.parametrize(
    ("revision", "later"),
    [("0001", {"account_categories", "account_thresholds"} | PROVIDERS), ("0002", PROVIDERS)],
)
def test_later_tables_come_and_go_without_touching_a_row_of_earlier_ones(
    path: Path, revision: str, later: set[str]
) -> None:
    engine = open_engine(path)
    migrate(engine, path)
    fill(engine)
    before = rows_of(engine)
    run(engine, to=revision)
    assert not later & set(inspect(engine).get_table_names())
    run(engine, to="head")
    after = rows_of(engine)
    engine.dispose()
    assert after == {name: [] if name in later else rows for name, rows in before.items()}


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
