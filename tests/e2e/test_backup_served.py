"""Backups from the command line, beside a server under load, and a server on what was restored."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from served import Load, Served, command_line, create_key, environment, history_of, serve

from firstline.adapters.spool.folder import SpoolFolder
from firstline.adapters.spool.frames import Spooled, packed
from firstline.ports.journal import Record, TicketRow, VerdictRow
from services import look
from waiting import until

URL = "FIRSTLINE_DATABASE_URL"
COMMAND = [sys.executable, "-m", "firstline.delivery.cli"]


def back_up(target: Path, data_dir: Path, *flags: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return command_line("backup", str(target), "--data-dir", str(data_dir), *flags, cwd=target.parent, **variables)


def restore(source: Path, data_dir: Path, *flags: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return command_line("restore", str(source), "--data-dir", str(data_dir), *flags, cwd=source.parent, **variables)


def tickets_in(server: Served, key: str) -> list[Any]:
    """The whole history of a key, by HTTP."""
    found: list[Any] = []
    query = "/v1/tickets?limit=100"
    while query:
        page = server.request("GET", query, key=key).data
        found += page["tickets"]
        query = f"/v1/tickets?limit=100&cursor={page['next']}" if page.get("next") else ""
    return found


def test_a_backup_under_load_has_what_was_answered_before_and_fits_together(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    with serve(data_dir) as server:
        load = Load(server, key)
        load.wait_for(100)
        before = set(load.acknowledged)
        answered = load.requests
        done = back_up(tmp_path / "a.zip", data_dir)
        assert done.returncode == 0, done.stderr
        assert load.requests > answered, "verdicts are answered while it is made"
        assert done.stdout == f"{tmp_path / 'a.zip'}\n"
        server.stop()
        load.finish()
    assert not load.other_answers
    assert restore(tmp_path / "a.zip", tmp_path / "restored").returncode == 0
    history = history_of(tmp_path / "restored")
    assert before <= history.verdicts
    assert history.verdicts == history.tickets
    assert history.integrity == "ok"
    assert_usage_is_what_is_stored(tmp_path / "restored")


def assert_usage_is_what_is_stored(data_dir: Path) -> None:
    """Requests charged are requests stored: single ones, and batches of five."""
    with closing(sqlite3.connect(data_dir / "firstline.db")) as database:
        ((charged,),) = database.execute("SELECT sum(requests) FROM usage WHERE \"window\" = 'day'").fetchall()
        ((single, parts),) = database.execute(
            "SELECT sum(text NOT LIKE '% part %'), sum(text LIKE '% part %') FROM tickets"
        ).fetchall()
    assert parts % Load.BATCH == 0
    assert charged in {single + parts, single + parts // Load.BATCH}


def test_a_server_on_a_restore_knows_the_keys_the_history_and_the_usage(tmp_path: Path) -> None:
    key = create_key(tmp_path / "data", plan="free")["key"]
    with serve(tmp_path / "data") as server:
        for number in range(3):
            assert server.request("POST", "/api/v1/classify", {"ticket": f"VPN down {number}"}, key=key).status == 200
        assert back_up(tmp_path / "a.zip", tmp_path / "data").returncode == 0
        history = tickets_in(server, key)
        usage = server.request("GET", "/api/v1/auth/usage", key=key).data["rate_limits"]
    done = restore(tmp_path / "a.zip", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert "3 tickets, 3 verdicts" in done.stdout
    with serve(tmp_path / "new") as server:
        assert len(history) == 3
        assert tickets_in(server, key) == history
        assert server.request("GET", "/api/v1/auth/usage", key=key).data["rate_limits"] == usage
        assert server.request("POST", "/api/v1/classify", {"ticket": "VPN down again"}, key=key).status == 200
    assert len(history_of(tmp_path / "new").tickets) == 4


@pytest.mark.service
@pytest.mark.slow
def test_a_server_moves_from_sqlite_to_postgresql_and_back(tmp_path: Path, empty_database: str) -> None:
    key = create_key(tmp_path / "data")["key"]
    with serve(tmp_path / "data", FIRSTLINE_JOB_PROCESSES="1") as server:
        for number in range(3):
            assert server.request("POST", "/api/v1/classify", {"ticket": f"VPN down {number}"}, key=key).status == 200
        hook = {"url": "http://127.0.0.1:9/hook", "events": ["ticket.classified"]}
        assert server.request("POST", "/v1/webhooks", hook, key=key).status == 201
        rows = b'{"text": "Refund, please"}\n{"text": "VPN down"}\n'
        job = server.request("POST", "/v1/jobs?format=ndjson", raw=rows, key=key).data["id"]
        assert until(lambda: server.request("GET", f"/v1/jobs/{job}", key=key).data["state"] == "finished", within_s=30)
        answers = server.request("GET", f"/v1/jobs/{job}/results", key=key).body
        history = tickets_in(server, key)
        assert server.stop() == 0
    assert back_up(tmp_path / "moving.zip", tmp_path / "data").returncode == 0
    variables = {URL: empty_database, "SECRET_KEY": (tmp_path / "data" / "secret.key").read_text()}
    done = restore(tmp_path / "moving.zip", tmp_path / "shared", **variables)
    assert done.returncode == 0, done.stderr
    with serve(tmp_path / "shared", FIRSTLINE_JOB_PROCESSES="0", **variables) as server:
        assert tickets_in(server, key) == history
        assert server.request("GET", f"/v1/jobs/{job}/results", key=key).body == answers
        (endpoint,) = server.request("GET", "/v1/webhooks", key=key).data["webhooks"]
        assert server.request("POST", f"/v1/webhooks/{endpoint['id']}/test", key=key).status != 503
        assert server.request("POST", "/api/v1/classify", {"ticket": "on PostgreSQL"}, key=key).status == 200
        refused = restore(tmp_path / "moving.zip", tmp_path / "other", **variables)
        assert (refused.returncode, "Stop it first" in refused.stderr) == (2, True), refused.stderr
        under_way = back_up(tmp_path / "back.zip", tmp_path / "shared", **variables)
        assert under_way.returncode == 0, under_way.stderr
    assert look(empty_database, "SELECT count(*) FROM tickets_rest") == [(0,)]
    assert restore(tmp_path / "back.zip", tmp_path / "home").returncode == 0
    assert len(history_of(tmp_path / "home").tickets) == 6


def test_what_a_spool_held_is_in_the_history_of_a_restore(tmp_path: Path) -> None:
    data_dir, spool = tmp_path / "data", tmp_path / "spool"
    key = create_key(data_dir)["key"]
    with closing(sqlite3.connect(data_dir / "firstline.db")) as database:
        ((account,),) = database.execute("SELECT id FROM accounts").fetchall()
    folder = SpoolFolder(spool)
    folder.append([packed(Spooled(record(account, number)), at_us=1, sealing=None) for number in (1, 2)])
    folder.close()
    done = back_up(tmp_path / "a.zip", data_dir, FIRSTLINE_SPOOL_DIR=str(spool))
    assert "2 records of the spool" in done.stderr, done.stderr
    refused = restore(tmp_path / "a.zip", tmp_path / "new")
    assert (refused.returncode, "FIRSTLINE_SPOOL_DIR" in refused.stderr) == (2, True)
    variables = {"FIRSTLINE_SPOOL_DIR": str(tmp_path / "new-spool")}
    assert restore(tmp_path / "a.zip", tmp_path / "new", **variables).returncode == 0
    with serve(tmp_path / "new", **variables) as server:
        assert len(tickets_in(server, key)) == 2
    assert sorted(history_of(tmp_path / "new").texts) == ["spooled 1", "spooled 2"]


def record(account: str, number: int) -> Record:
    identity = f"019e{number:028x}"
    ticket = TicketRow(identity, account, number, "classifier", None, "en", f"spooled {number}", None, None)
    verdict = VerdictRow(
        identity, 1, account, number, "Other", "low", "ignore", 0.5, 0.5, 0.0, 0, "local", "-", "[]", None, 1
    )
    return Record(tickets=(ticket,), verdicts=(verdict,))


@contextmanager
def many_tickets(folder: Path) -> Iterator[Path]:
    """A data folder whose backup takes a moment."""
    data_dir = folder / "data"
    create_key(data_dir)
    with closing(sqlite3.connect(data_dir / "firstline.db", isolation_level=None)) as database:
        ((account,),) = database.execute("SELECT id FROM accounts").fetchall()
        database.execute("BEGIN")
        database.executemany(
            "INSERT INTO tickets (id, account_id, received_at_us, contract, text) VALUES (?, ?, 1, 'decision', ?)",
            ((f"019e{number:028x}", account, os.urandom(1_000).hex()) for number in range(6_000)),
        )
        database.execute("COMMIT")
    yield data_dir


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_backup_that_is_ended_in_the_middle_has_no_name(number: int, tmp_path: Path) -> None:
    with many_tickets(tmp_path) as data_dir:
        folder = tmp_path / "backups"
        folder.mkdir()
        command = [*COMMAND, "backup", str(folder / "a.zip"), "--data-dir", str(data_dir)]
        with subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE) as process:
            assert until(lambda: any(path.stat().st_size > 1_000_000 for path in folder.iterdir()), within_s=30)
            process.send_signal(number)
            _, said = process.communicate()
        assert process.returncode != 0
        assert b"Traceback" not in said
        assert not (folder / "a.zip").exists()
        done = back_up(folder / "a.zip", data_dir)
        assert done.returncode == 0, done.stderr
        assert [path.name for path in folder.iterdir()] == ["a.zip"], "what was left is removed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_a_sentence_and_leaves_nothing(small_disk: Path, tmp_path: Path) -> None:
    with many_tickets(tmp_path) as data_dir:
        done = back_up(small_disk / "a.zip", data_dir)
        assert (done.returncode, done.stdout) == (2, "")
        assert "No space left on device" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not list(small_disk.iterdir())
        assert back_up(tmp_path / "a.zip", data_dir).returncode == 0
        refused = restore(tmp_path / "a.zip", small_disk / "data")
        assert refused.returncode == 2
        assert "MB free" in refused.stderr
        assert [path.name for path in (small_disk / "data").iterdir()] == ["serve.lock"]


def test_a_file_that_may_not_grow_is_a_sentence_and_restores_nothing(tmp_path: Path) -> None:
    with many_tickets(tmp_path) as data_dir:
        assert back_up(tmp_path / "a.zip", data_dir).returncode == 0
        limited = ["sh", "-c", 'ulimit -f 4000; exec "$@"', "sh", *COMMAND]
        command = [*limited, "restore", str(tmp_path / "a.zip"), "--data-dir", str(tmp_path / "new")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["serve.lock"]


def test_verify_says_what_is_whole_and_what_is_not(tmp_path: Path) -> None:
    create_key(tmp_path / "data")
    made = back_up(tmp_path / "a.zip", tmp_path / "data", "--json")
    fingerprint = json.loads(made.stdout)["fingerprint"]
    whole = command_line("backup", "verify", "a.zip", cwd=tmp_path)
    assert whole.returncode == 0
    assert whole.stdout.startswith("a.zip: whole. ")
    assert fingerprint in whole.stdout
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-1_000])
    both = command_line("backup", "verify", "a.zip", "b.zip", cwd=tmp_path)
    assert both.returncode == 1
    assert both.stdout == whole.stdout
    assert both.stderr == "firstline: b.zip: It is no backup of firstline, or cut off.\n"
    missing = command_line("backup", "verify", "c.zip", cwd=tmp_path)
    assert (missing.returncode, missing.stderr) == (
        2,
        "firstline: c.zip cannot be read: No such file or directory.\n",
    )


def test_a_backup_can_be_opened_by_any_program_for_archives(tmp_path: Path) -> None:
    create_key(tmp_path / "data")
    assert back_up(tmp_path / "a.zip", tmp_path / "data").returncode == 0
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        (line,) = archive.read("tables/api_keys.jsonl").splitlines()
        assert "atc_" not in json.loads(line)[2], "keys are hashes"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backup"], "Missing argument 'DEST'"),
        (["backup", "none/a.zip", "--data-dir", "nowhere"], "There is no database at nowhere/firstline.db"),
        (["restore", "nothing.zip"], "nothing.zip cannot be read: No such file or directory."),
        (["restore", "."], ". cannot be read: Is a directory."),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = command_line(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.glob("*/*.zip"))


def test_a_url_that_cannot_be_used_is_one_sentence_without_the_password(tmp_path: Path) -> None:
    for url in ("postgresql://u:hunter2@127.0.0.1:9/x", "postgresql://u:hunter2@127.0.0.1:x/x"):
        done = back_up(tmp_path / "a.zip", tmp_path, **{URL: url})
        assert done.returncode == 2
        assert "hunter2" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not list(tmp_path.glob("*.zip"))
