"""Backup and restore, over SQLite and PostgreSQL in every combination."""

import fcntl
import json
import os
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import BigInteger, Engine, Float, Integer, LargeBinary, String, func, insert, inspect, select, update

from backup_archives import forged, opened_file, sealed, small_archive
from firstline.adapters.backup.snapshot import TABLES, Snapshot, snapshot
from firstline.adapters.job_files import JobFolder
from firstline.adapters.sealing import KEY_FILE
from firstline.adapters.spool.folder import SpoolFolder
from firstline.adapters.spool.frames import Spooled, packed, unpacked
from firstline.adapters.sql.engine import open_engine
from firstline.adapters.sql.migrate import migrate, revision_of
from firstline.adapters.sql.postgres_engine import open_postgres
from firstline.adapters.sql.postgres_schema import check_schema, upgrade
from firstline.adapters.sql.tables import HEAD_REVISION, accounts, changes, metadata
from firstline.bootstrap_backup import ArchiveDamaged, BackupFailed, Made, Wishes, make_backup, verified
from firstline.bootstrap_restore import Options, Restored, restore_backup
from firstline.bootstrap_stores import CannotStart
from firstline.core.identity import uuid7_hex
from firstline.ports.journal import Record, TicketRow
from firstline.settings import Settings, load_settings
from services import look

KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.service)]
STRANGE = 'VPN «down» \U0001f525\n"x" \\ \'y\' \t\r \u2028 \\N \\x00 {"a": [1]} é e\u0301'
A = "a" * 32
B = "b" * 32
TOKEN = "c" * 32
REVISIONS = [f"{number:04d}" for number in range(1, int(HEAD_REVISION) + 1)]


class Place:
    """A database of a kind and a data folder, without anything in them."""

    def __init__(self, settings: Settings, engine: Callable[[], Engine]) -> None:
        self.settings = settings
        self._engine = engine

    def do(self, *statements: Any) -> list[Any]:
        """Run statements; the rows of the last one."""
        engine = self._engine()
        try:
            with engine.begin() as connection:
                found: Any = None
                for statement in statements:
                    found = connection.execute(statement)
                return list(found.all()) if found.returns_rows else []
        finally:
            engine.dispose()

    def make(self) -> None:
        """Make its tables."""
        engine = self._engine()
        if self.settings.database_url is None:
            self.settings.data_dir.mkdir(exist_ok=True)
            migrate(engine, self.settings.data_dir / "firstline.db")
        else:
            upgrade(engine)
        engine.dispose()

    def back_up(self, target: Path, **wishes: bool) -> Made:
        return make_backup(self.settings, str(target), Wishes(**wishes), on_rows=lambda *_: None)

    def restore(self, source: Path, **options: bool) -> Restored:
        return restore_backup(self.settings, source, Options(**options), on_rows=lambda *_: None)


def place_in(folder: Path, *, url: str | None = None, spool: Path | None = None) -> Place:
    settings = load_settings(env_file=None, data_dir=folder, database_url=url, spool_dir=spool)
    return Place(settings, partial(open_postgres, url) if url else partial(open_engine, folder / "firstline.db"))


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A database with tables and no row."""
    url = request.getfixturevalue("database_url") if request.param == "postgres" else None
    found = place_in(tmp_path / "source", url=url)
    found.make()
    found.settings.data_dir.mkdir(exist_ok=True)
    return found


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A database without tables."""
    url = request.getfixturevalue("empty_database") if request.param == "postgres" else None
    return place_in(tmp_path / "target", url=url)


@pytest.fixture
def file(tmp_path: Path) -> Place:
    """A SQLite file with tables and no row."""
    found = place_in(tmp_path / "file")
    found.make()
    return found


def account(identity: str = A) -> Any:
    email = f"{identity[0]}@example.com"
    plans = {"classifier_plan": "free", "decision_plan": "free", "keep_text": 1, "created_at_us": 1}
    return insert(accounts).values(id=identity, email=email, email_folded=email, **plans)


def ticket(identity: str, **values: Any) -> Any:
    row = {"id": identity, "account_id": A, "received_at_us": 1, "contract": "decision", **values}
    return insert(metadata.tables["tickets"]).values(row)


def fill(engine: Engine) -> None:
    """Two rows in every table: one with the most that each column takes, one with the least."""
    with engine.begin() as connection:
        connection.execute(account(A))
        connection.execute(account(B))
        for table in metadata.sorted_tables:
            if table in (accounts, changes):
                continue
            for identity in (A, B):
                row = {}
                for column in table.columns:
                    if column.foreign_keys or (column.name == "id" and isinstance(column.type, String)):
                        row[column.name] = identity
                    elif column.nullable and identity == B:
                        row[column.name] = None
                    else:
                        row[column.name] = most_of(column, identity)
                connection.execute(insert(table).values(row))


def most_of(column: Any, identity: str) -> Any:
    kind = column.type
    if isinstance(kind, LargeBinary):
        return bytes(range(256))
    if isinstance(kind, Float):
        return 0.1 + 0.2 if identity == A else 0.0
    if isinstance(kind, BigInteger):
        return (1 << 63) - 1 if identity == A else 0
    if isinstance(kind, Integer):
        return (1 << 31) - 1 if identity == A else 1
    assert isinstance(kind, String)
    return (identity[0] + STRANGE)[: kind.length or None]


def lines(path: Path) -> dict[str, bytes]:
    """What an archive has of each table; the audit trail tells of the restore and is left out."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.startswith("tables/")} | {
            "tables/audit.jsonl": b""
        }


def test_every_table_that_migrations_make_is_saved(file: Place) -> None:
    engine = open_engine(file.settings.data_dir / "firstline.db")
    assert set(inspect(engine).get_table_names()) == {*TABLES, "changes", "alembic_version"}
    engine.dispose()


def test_every_value_of_every_table_is_the_same_on_any_database(source: Place, target: Place, tmp_path: Path) -> None:
    engine = source._engine()
    fill(engine)
    engine.dispose()
    made = source.back_up(tmp_path / "first.zip")
    assert all(table.rows == 2 for table in made.manifest.tables.values())
    target.restore(made.path)
    again = target.back_up(tmp_path / "second.zip")
    before, after = lines(made.path), lines(again.path)
    for name in before:
        assert after[name] == before[name], name


@pytest.mark.service
def test_what_was_restored_to_postgresql_can_be_written_to(file: Place, empty_database: str, tmp_path: Path) -> None:
    deltas = metadata.tables["rollup_deltas"]
    file.do(account(), insert(deltas).values(id=41, deltas="[]"))
    target = place_in(tmp_path / "target", url=empty_database)
    target.restore(file.back_up(tmp_path / "a.zip").path)
    assert target.do(insert(deltas).values(deltas="[]").returning(deltas.c.id)) == [(42,)]
    engine = open_postgres(empty_database)
    check_schema(engine)
    engine.dispose()


@pytest.mark.service
def test_history_comes_into_the_tables_of_its_months(file: Place, empty_database: str, tmp_path: Path) -> None:
    moments = [1_735_000_000_000, 1_745_000_000_000, 1_745_000_000_001, 1_790_000_000_000]
    ids = [uuid7_hex(milliseconds=moment, random=os.urandom(10)) for moment in moments]
    strange = ["0" * 32, "f" * 32, "z" * 32]
    file.do(account(), *(ticket(identity) for identity in [*ids, *strange]))
    target = place_in(tmp_path / "target", url=empty_database)
    target.restore(file.back_up(tmp_path / "a.zip").path)
    found = look(empty_database, "SELECT tableoid::regclass::text, count(*) FROM tickets GROUP BY 1 ORDER BY 1")
    assert found == [("tickets_202412", 1), ("tickets_202504", 2), ("tickets_202609", 1), ("tickets_rest", 3)]


@pytest.mark.service
def test_a_nul_from_sqlite_is_replaced_on_postgresql_and_counted(
    file: Place, empty_database: str, tmp_path: Path
) -> None:
    file.do(account(), ticket(A, text="a\0b\0c"), ticket(B, text="plain"))
    target = place_in(tmp_path / "target", url=empty_database)
    done = target.restore(file.back_up(tmp_path / "a.zip").path)
    assert done.changed == 1
    assert look(empty_database, "SELECT text FROM tickets ORDER BY id") == [("a\ufffdb\ufffdc",), ("plain",)]


@pytest.mark.service
def test_a_text_that_does_not_fit_stops_the_move_with_its_row(file: Place, empty_database: str, tmp_path: Path) -> None:
    file.do(account(), ticket(A), ticket(B, language="far too long"))
    target = place_in(tmp_path / "target", url=empty_database)
    with pytest.raises(BackupFailed, match=r"Row 2 of tickets does not fit: language has 12 characters, and at most 8"):
        target.restore(file.back_up(tmp_path / "a.zip").path)
    assert look(empty_database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_backup_of_any_earlier_schema_is_upgraded(revision: str, tmp_path: Path) -> None:
    old = place_in(tmp_path / "old")
    old.settings.data_dir.mkdir()
    engine = open_engine(old.settings.data_dir / "firstline.db")
    settings = Config()
    settings.set_main_option("script_location", "firstline.adapters.sql:migrations")
    with engine.connect() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, revision)
        connection.commit()
    engine.dispose()
    old.do(account())
    made = old.back_up(tmp_path / "old.zip")
    assert made.manifest.schema_revision == revision
    assert revision_of(old.settings.data_dir / "firstline.db") == revision, "a backup changes nothing"
    new = place_in(tmp_path / "new")
    new.restore(made.path)
    assert revision_of(new.settings.data_dir / "firstline.db") == HEAD_REVISION
    assert new.do(select(accounts.c.id)) == [(A,)]


def test_a_backup_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.zip"
    path.write_bytes(forged(small_archive(), manifest={"schema_revision": "9999"}))
    with pytest.raises(BackupFailed, match=r"schema 9999, newer than this firstline's .*; upgrade firstline"):
        place_in(tmp_path / "data").restore(path)
    assert not (tmp_path / "data").exists()


def test_a_database_of_a_newer_firstline_is_not_saved_by_halves(file: Place, tmp_path: Path) -> None:
    with closing(sqlite3.connect(file.settings.data_dir / "firstline.db", isolation_level=None)) as database:
        database.execute("CREATE TABLE later (id INTEGER)")
        with pytest.raises(BackupFailed, match="a table later"):
            file.back_up(tmp_path / "a.zip")
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CannotStart, match="newer"):
        file.back_up(tmp_path / "a.zip")
    assert sorted(tmp_path.iterdir()) == [file.settings.data_dir]


# What is there already


def test_data_is_never_restored_over(source: Place, tmp_path: Path) -> None:
    made = source.back_up(tmp_path / "empty.zip")
    source.do(account())
    with pytest.raises(BackupFailed, match=r"already.*--force"):
        source.restore(made.path)
    assert source.do(select(accounts.c.id)) == [(A,)]


def test_force_moves_what_is_there_aside(source: Place, tmp_path: Path) -> None:
    source.do(account(A))
    made = source.back_up(tmp_path / "a.zip")
    source.do(account(B))
    done = source.restore(made.path, force=True)
    assert source.do(select(accounts.c.id)) == [(A,)]
    (aside,) = done.aside
    query = "SELECT id FROM {}accounts ORDER BY id"
    if source.settings.database_url is None:
        with closing(sqlite3.connect(Path(aside) / "firstline.db")) as database:
            assert database.execute(query.format("")).fetchall() == [(A,), (B,)]
    else:
        url = source.settings.database_url.get_secret_value()
        assert look(url, query.format(f"{aside.removeprefix('schema ')}.")) == [(A,), (B,)]
    source.do(ticket(A))
    assert source.back_up(tmp_path / "b.zip").manifest.tables["tickets"].rows == 1


def test_force_moves_a_damaged_file_aside(file: Place, tmp_path: Path) -> None:
    file.do(account())
    made = file.back_up(tmp_path / "a.zip")
    path = file.settings.data_dir / "firstline.db"
    path.write_bytes(b"no database" * 1_000)
    done = file.restore(made.path, force=True)
    assert (Path(done.aside[0]) / "firstline.db").read_bytes().startswith(b"no database")
    assert file.do(select(accounts.c.id)) == [(A,)]


def test_a_folder_that_a_server_uses_is_refused(file: Place, tmp_path: Path) -> None:
    made = file.back_up(tmp_path / "a.zip")
    with (file.settings.data_dir / "serve.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CannotStart, match="Another firstline server is using"):
            file.restore(made.path, force=True)


def test_a_file_that_a_worker_has_open_is_refused(file: Place, tmp_path: Path) -> None:
    made = file.back_up(tmp_path / "a.zip")
    with closing(sqlite3.connect(file.settings.data_dir / "firstline.db")) as worker:
        worker.execute("SELECT count(*) FROM accounts").fetchall()
        with pytest.raises(BackupFailed, match=r"Another program has .* open"):
            file.restore(made.path, force=True)
    assert file.do(select(func.count()).select_from(accounts)) == [(0,)]


@pytest.mark.service
def test_a_database_that_a_server_uses_is_refused(file: Place, empty_database: str, tmp_path: Path) -> None:
    made = file.back_up(tmp_path / "a.zip")
    engine = open_postgres(empty_database)
    with engine.connect(), pytest.raises(BackupFailed, match="is using this database"):
        place_in(tmp_path / "target", url=empty_database).restore(made.path)
    engine.dispose()


def test_a_restore_that_fails_at_the_end_leaves_everything_as_it_was(
    source: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.do(account(A))
    JobFolder(source.settings.data_dir).begin(A)
    made = source.back_up(tmp_path / "a.zip")
    source.do(account(B))
    before = sorted(path.name for path in source.settings.data_dir.iterdir())

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("firstline.adapters.backup.placing.Moves.sync", full)
    with pytest.raises(BackupFailed, match="No space left on device"):
        source.restore(made.path, force=True)
    assert source.do(select(accounts.c.id).order_by(accounts.c.id)) == [(A,), (B,)]
    after = {path.name for path in source.settings.data_dir.iterdir() if not path.name.startswith("before-restore-")}
    assert set(before) <= after | {"firstline.db-wal", "firstline.db-shm"}
    assert not any(name.startswith(".restore-") for name in after)


# What is not believed


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        ({"members": {"jobs/../../evil": b"x"}}, "a file that no backup has"),
        ({"members": {"/etc/passwd": b"x"}}, "a file that no backup has"),
        ({"members": {f"jobs/{A}/rows-0000001": b"x"}}, "files of jobs/ are not what"),
        ({"without": ("tables/accounts.jsonl",)}, "lacks files"),
        ({"members": {"tables/accounts.jsonl": b"[]\n"}}, "Row 1 of accounts cannot be read: it is no list of 7"),
        ({"members": {"tables/accounts.jsonl": b"{\n"}}, "Row 1 of accounts cannot be read: it is no JSON"),
        ({"members": {"tables/accounts.jsonl": b'["a"]'}}, "cut off"),
        ({"members": {"tables/accounts.jsonl": b""}, "honest": False}, "accounts is not what the manifest says"),
        ({"members": {"tables/accounts.jsonl": b"\n" * (1 << 21)}, "honest": False}, "larger than the manifest says"),
        ({"manifest": {"format": "other"}}, "manifest.json is not one of firstline"),
        ({"manifest": {"tables": {"evil": {}}}}, "manifest.json is not one of firstline"),
        ({"manifest": {"schema_revision": "0000"}}, "schema is none"),
    ],
)
def test_a_forged_archive_is_refused_before_anything_is_written(
    forge: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "forged.zip"
    path.write_bytes(forged(small_archive(), **forge))
    with pytest.raises(ArchiveDamaged, match=said):
        place_in(tmp_path / "data").restore(path)
    assert sorted(tmp_path.iterdir()) == [path]


def test_an_archive_with_tables_of_a_later_firstline_is_refused(tmp_path: Path) -> None:
    manifest = json.loads(zipfile.ZipFile(path := write(tmp_path / "a.zip", small_archive())).read("manifest.json"))
    tables = manifest["tables"] | {"later": manifest["tables"]["accounts"]}
    write(path, forged(small_archive(), manifest={"tables": tables}))
    with pytest.raises(BackupFailed, match="upgrade firstline"):
        verified(path, on_rows=lambda *_: None)


def test_rows_that_break_a_rule_of_the_database_are_refused(target: Place, tmp_path: Path) -> None:
    with opened_file(write(tmp_path / "a.zip", small_archive())) as archive:
        columns = [column.name for column in archive.manifest.tables["tickets"].columns]
    row = {"id": A, "account_id": "nobody", "received_at_us": 1, "contract": "decision"}
    line = json.dumps([row.get(name) for name in columns]).encode() + b"\n"
    path = write(tmp_path / "a.zip", forged(small_archive(), members={"tables/tickets.jsonl": line}))
    with pytest.raises(BackupFailed, match=r"A row of tickets (breaks a rule|refers to one of accounts)"):
        target.restore(path)
    assert not (target.settings.data_dir / "firstline.db").exists()


def test_rows_that_are_not_in_the_database_as_in_the_backup_undo_the_restore(target: Place, tmp_path: Path) -> None:
    with zipfile.ZipFile(write(tmp_path / "a.zip", small_archive())) as archive:
        first, second = archive.read("tables/accounts.jsonl").splitlines(keepends=True)
    path = write(tmp_path / "a.zip", forged(small_archive(), members={"tables/accounts.jsonl": second + first}))
    with pytest.raises(BackupFailed, match="accounts is not in the database as it is in the backup"):
        target.restore(path)
    if target.settings.database_url is None:
        assert [found.name for found in target.settings.data_dir.iterdir()] == ["serve.lock"]
    else:
        url = target.settings.database_url.get_secret_value()
        assert look(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


@pytest.mark.parametrize(
    "data", [b"", b"x", b"PK\5\6" + b"\0" * 18, sealed({}), sealed({"manifest.json": b"[" * 9_999})]
)
def test_a_file_that_is_no_backup_is_refused_with_its_name(data: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "none.zip", data)
    with pytest.raises(ArchiveDamaged, match=r"none\.zip: "):
        verified(path, on_rows=lambda *_: None)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_damaged_database_is_said_and_not_saved(file: Place, tmp_path: Path) -> None:
    file.do(account(), *(ticket(f"{number:032x}", text="x" * 3_000) for number in range(100)))
    path = file.settings.data_dir / "firstline.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        database.execute("PRAGMA writable_schema = 1")
        # An index that leads to other rows than the table has.
        database.execute("DELETE FROM sqlite_schema WHERE name = 'ix_tickets_account_id_received_at_us_id'")
        database.execute("PRAGMA writable_schema = 0")
    with pytest.raises((BackupFailed, CannotStart), match="damaged"):
        file.back_up(tmp_path / "a.zip")
    assert sorted(tmp_path.iterdir()) == [file.settings.data_dir]


# What belongs to the database


def test_files_of_jobs_come_along_and_leases_are_given_back(source: Place, target: Place, tmp_path: Path) -> None:
    jobs, chunks = metadata.tables["jobs"], metadata.tables["job_chunks"]
    state = {"contract": "decision", "created_at_us": 1, "claimed_at_us": 1, "rows": 3, "done": 1, "failed": 0}
    counts = {"reviews": 0, "chunks": 3, "chunks_done": 1, "options": "{}"}
    chunk = {"job_id": A, "first_row": 1, "rows": 1, "attempts": 1, "deaths": 0}
    source.do(
        account(),
        insert(jobs).values(id=A, account_id=A, state="running", **state, **counts),
        insert(chunks).values(number=0, state="done", token=TOKEN, **chunk),
        insert(chunks).values(number=1, state="leased", token=B, lease_until_us=1 << 60, **chunk),
        insert(chunks).values(number=2, state="ready", **chunk),
    )
    folder = JobFolder(source.settings.data_dir)
    folder.begin(A)
    for number in (1, 2):
        folder.write_rows(A, number, [])
    folder.write_results(A, 0, TOKEN, lambda path: path.write_bytes(b"answer\n") and None)
    (folder.path(A) / "upload").write_bytes(b"taken in already")
    made = source.back_up(tmp_path / "a.zip")
    assert made.manifest.jobs is not None
    assert (made.manifest.jobs.files, made.manifest.jobs.missing) == (3, 0)
    target.restore(made.path)
    kept = JobFolder(target.settings.data_dir)
    assert sorted(path.name for path in kept.path(A).iterdir()) == [
        f"out-0000000-{TOKEN}",
        "rows-0000001",
        "rows-0000002",
    ]
    assert list(kept.results(A, [(0, TOKEN)])) == [b"answer\n"]
    found = target.do(select(chunks.c.state, chunks.c.token, chunks.c.lease_until_us).order_by(chunks.c.number))
    assert found == [("done", TOKEN, None), ("ready", None, None), ("ready", None, None)]
    assert [path.name for path in (source.settings.data_dir / "jobs").iterdir()] == [A], "no link is left"


def test_jobs_that_lack_files_are_counted(file: Place, tmp_path: Path) -> None:
    jobs, chunks = metadata.tables["jobs"], metadata.tables["job_chunks"]
    state = {"contract": "decision", "created_at_us": 1, "claimed_at_us": 1, "rows": 1, "done": 0, "failed": 0}
    counts = {"reviews": 0, "chunks": 1, "chunks_done": 0, "options": "{}"}
    chunk = {"number": 0, "state": "ready", "first_row": 1, "rows": 1, "attempts": 0, "deaths": 0}
    file.do(
        account(),
        *(
            insert(jobs).values(id=one, account_id=A, state=how, **state, **counts)
            for one, how in ((A, "queued"), (B, "cancelled"))
        ),
        *(insert(chunks).values(job_id=one, **chunk) for one in (A, B)),
    )
    made = file.back_up(tmp_path / "a.zip")
    assert made.manifest.jobs is not None
    assert made.manifest.jobs.missing == 1, "a job that was cancelled needs no rows"
    assert file.back_up(tmp_path / "b.zip", jobs=False).manifest.jobs is None


@pytest.fixture
def spooled(tmp_path: Path) -> Iterator[Place]:
    """A file with a spool of which one of three records is stored."""
    spool = tmp_path / "spool"
    found = place_in(tmp_path / "file", spool=spool)
    found.make()
    found.do(account())
    folder = SpoolFolder(spool)
    folder.append([packed(Spooled(record(number)), at_us=number, sealing=None) for number in (1, 2, 3)])
    batch = folder.read(1)
    assert batch is not None
    folder.done(batch)
    yield found
    folder.close()


def record(number: int) -> Record:
    return Record(
        tickets=(TicketRow(f"{number:032x}", A, 1, "decision", "email", "en", f"spooled {number}", None, None),)
    )


def test_what_a_spool_holds_and_the_database_does_not_comes_along(spooled: Place, tmp_path: Path) -> None:
    made = spooled.back_up(tmp_path / "a.zip")
    assert made.manifest.spool is not None
    assert made.manifest.spool.records == 2
    with pytest.raises(BackupFailed, match=r"2 records of a spool\. Set FIRSTLINE_SPOOL_DIR"):
        place_in(tmp_path / "none").restore(made.path)
    place_in(tmp_path / "new", spool=tmp_path / "new-spool").restore(made.path)
    folder = SpoolFolder(tmp_path / "new-spool")
    batch = folder.read(10)
    assert batch is not None
    found = [unpacked(frame.body, sealing=None).record for frame in batch.frames]
    assert found == [record(2), record(3)]
    folder.close()


def test_a_part_of_a_spool_that_is_being_stored_keeps_its_mark(tmp_path: Path) -> None:
    place = place_in(tmp_path / "file", spool=tmp_path / "spool")
    place.make()
    place.do(account())
    folder = SpoolFolder(tmp_path / "spool")
    folder.append([packed(Spooled(record(number)), at_us=number, sealing=None) for number in (1, 2, 3)])
    first = folder.read(1)
    assert first is not None
    folder.done(first)
    second = folder.read(1)
    assert second is not None
    folder.begin(second, mark="m" * 32)
    made = place.back_up(tmp_path / "a.zip")
    folder.close()
    place_in(tmp_path / "new", spool=tmp_path / "new-spool").restore(made.path)
    restored = SpoolFolder(tmp_path / "new-spool")
    batch = restored.read(10)
    assert batch is not None
    assert (batch.mark, [unpacked(frame.body, sealing=None).record for frame in batch.frames]) == (
        "m" * 32,
        [record(2)],
    )
    restored.close()


def test_a_spool_that_is_emptied_as_the_snapshot_begins_is_taken_again(
    spooled: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = tmp_path / "spool" / "position.json"
    before = json.loads(position.read_bytes())
    begun = 0

    @contextmanager
    def late(engine: Engine) -> Iterator[Snapshot]:
        """The server stores the second record and moves on, just before the first snapshot."""
        nonlocal begun
        begun += 1
        if begun == 1:
            spooled.do(ticket(f"{2:032x}", text="spooled 2"))
            size = len(packed(Spooled(record(2)), at_us=2, sealing=None))
            position.write_text(json.dumps(before | {"offset": before["offset"] + size}))
        with snapshot(engine) as found:
            yield found

    monkeypatch.setattr("firstline.bootstrap_backup.snapshot", late)
    made = spooled.back_up(tmp_path / "a.zip")
    assert begun == 2
    assert made.manifest.spool is not None
    assert (made.manifest.spool.records, made.manifest.tables["tickets"].rows) == (1, 1)


def test_a_chunk_that_is_done_as_the_snapshot_begins_has_its_rows_or_its_answers(
    file: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, chunks = metadata.tables["jobs"], metadata.tables["job_chunks"]
    state = {"contract": "decision", "created_at_us": 1, "claimed_at_us": 1, "rows": 2, "done": 0, "failed": 0}
    counts = {"reviews": 0, "chunks": 2, "chunks_done": 0, "options": "{}"}
    chunk = {"job_id": A, "first_row": 1, "rows": 1, "attempts": 1, "deaths": 0, "state": "leased"}
    file.do(
        account(),
        insert(jobs).values(id=A, account_id=A, state="running", **state, **counts),
        insert(chunks).values(number=0, token=TOKEN, **chunk),
        insert(chunks).values(number=1, token=B, **chunk),
    )
    folder = JobFolder(file.settings.data_dir)
    folder.begin(A)
    folder.write_rows(A, 0, [])
    folder.write_rows(A, 1, [])

    def finish(number: int, token: str) -> None:
        folder.write_results(A, number, token, lambda path: path.write_bytes(b"answer\n") and None)
        file.do(update(chunks).where(chunks.c.number == number).values(state="done", lease_until_us=None))
        folder.done_with(A, number)

    @contextmanager
    def busy(engine: Engine) -> Iterator[Snapshot]:
        """A worker finishes one chunk just before the snapshot, and the other just after."""
        finish(0, TOKEN)
        with snapshot(engine) as found:
            finish(1, B)
            yield found

    monkeypatch.setattr("firstline.bootstrap_backup.snapshot", busy)
    made = file.back_up(tmp_path / "a.zip")
    assert made.manifest.jobs is not None
    assert made.manifest.jobs.missing == 0
    with zipfile.ZipFile(made.path) as archive:
        names = {name for name in archive.namelist() if name.startswith("jobs/")}
    assert names == {f"jobs/{A}/out-0000000-{TOKEN}", f"jobs/{A}/rows-0000001"}


def test_a_spool_with_records_is_not_restored_over(spooled: Place, tmp_path: Path) -> None:
    made = spooled.back_up(tmp_path / "a.zip")
    other = place_in(tmp_path / "other", spool=tmp_path / "spool")
    with pytest.raises(BackupFailed, match="server is using the spool"):
        other.restore(made.path, force=True)


def test_a_key_comes_along_only_when_it_is_asked_for(file: Place, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match=r"secret\.key cannot be read"):
        file.back_up(tmp_path / "none.zip", secret_key=True)
    (file.settings.data_dir / KEY_FILE).write_text("the key")
    without = file.back_up(tmp_path / "without.zip")
    made = file.back_up(tmp_path / "with.zip", secret_key=True)
    assert b"the key" not in without.path.read_bytes()
    place_in(tmp_path / "new").restore(made.path)
    restored = tmp_path / "new" / KEY_FILE
    assert restored.read_text() == "the key"
    assert restored.stat().st_mode & 0o777 == 0o600
    place_in(tmp_path / "other").restore(without.path)
    assert not (tmp_path / "other" / KEY_FILE).exists()


def test_no_webhooks_disables_every_endpoint(source: Place, target: Place, tmp_path: Path) -> None:
    endpoints = metadata.tables["webhook_endpoints"]
    row = {"account_id": A, "url": "https://x", "description": "", "kinds": "[]", "secrets": "[]"}
    times = {"created_at_us": 1, "changed_at_us": 1}
    source.do(account(), insert(endpoints).values(id=A, state="enabled", **row, **times))
    made = source.back_up(tmp_path / "a.zip")
    target.restore(made.path, webhooks=False)
    assert target.do(select(endpoints.c.state, endpoints.c.disabled_reason)) == [("disabled", "owner")]
    target.restore(made.path, force=True)
    assert target.do(select(endpoints.c.state)) == [("enabled",)]


def test_a_restore_is_in_the_audit_trail(source: Place, target: Place, tmp_path: Path) -> None:
    made = source.back_up(tmp_path / "a.zip")
    target.restore(made.path)
    audit = metadata.tables["audit"]
    ((actor, action, detail),) = target.do(select(audit.c.actor, audit.c.action, audit.c.detail))
    assert (actor, action) == ("cli", "database.restore")
    assert json.loads(detail)["fingerprint"] == made.fingerprint


# The file


def test_a_backup_is_for_its_user_alone_and_replaces_nothing(file: Place, tmp_path: Path) -> None:
    made = file.back_up(tmp_path / "a.zip")
    assert made.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(BackupFailed, match="is there already"):
        file.back_up(made.path)
    (tmp_path / "folder").mkdir()
    assert file.back_up(tmp_path / "folder").path.parent == tmp_path / "folder"
    named = make_backup(file.settings, f"{tmp_path}/new/", Wishes(), on_rows=lambda *_: None)
    assert named.path.parent == tmp_path / "new"
    assert named.path.suffix == ".zip"


def test_an_interrupted_backup_leaves_nothing(file: Place, tmp_path: Path) -> None:
    file.do(account())

    def interrupt(step: str, *_: object) -> None:
        if step == "checks":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_backup(file.settings, str(tmp_path / "a.zip"), Wishes(), on_rows=interrupt)
    assert sorted(tmp_path.iterdir()) == [file.settings.data_dir]
