"""What was answered is stored, whatever happens to the process, the disk or the database."""

import http.client
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from served import Answer, Load, NotStarted, Served, command_line, create_key, exchange, history_of, serve

from waiting import until

KILLS = 5
NEEDED = 60


def assert_whole(data_dir: Path) -> None:
    """No half-written ticket, no half-written batch, no damaged page."""
    history = history_of(data_dir)
    assert history.integrity == "ok"
    assert history.tickets == history.verdicts
    parts: dict[str, int] = {}
    for text in history.texts:
        if " part " in text:
            name = text.partition(" part ")[0]
            parts[name] = parts.get(name, 0) + 1
    assert set(parts.values()) <= {Load.BATCH}


@pytest.mark.parametrize("chain", ["one", "two"])
def test_kill_under_load_loses_no_acknowledged_verdict(chain: str, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    acknowledged: set[str] = set()
    requests = 0
    for kill in range(KILLS):
        with serve(data_dir) as server:
            load = Load(server, key, name=f"{chain}-{kill}")
            load.wait_for(NEEDED + 37 * kill)
            server.kill()
            load.finish()
        assert not load.other_answers
        acknowledged |= load.acknowledged
        requests += load.requests
        history = history_of(data_dir)
        assert acknowledged <= history.verdicts, f"{len(acknowledged - history.verdicts)} are lost"
        assert_whole(data_dir)
        assert history.charged >= requests
    with serve(data_dir) as server:
        assert server.lives()
    print(
        f"{KILLS} kills: {requests} requests, {len(acknowledged)} verdicts acknowledged, {len(history.verdicts)} stored"
    )


def test_terminate_under_load_answers_everything_that_it_stored(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    with serve(data_dir) as server:
        load = Load(server, key)
        load.wait_for(200)
        assert server.stop() == 0
        load.finish()
    history = history_of(data_dir)
    assert not load.other_answers
    assert history.verdicts == load.acknowledged
    assert_whole(data_dir)
    assert history.charged == load.requests


def test_usage_is_kept_across_a_restart(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir, plan="free")["key"]
    usage = "/api/v1/auth/usage"
    with serve(data_dir) as server:
        for _ in range(3):
            assert server.request("POST", "/api/v1/classify", {"ticket": "VPN not working"}, key=key).status == 200
        before = server.request("GET", usage, key=key).data
        server.stop()
    with serve(data_dir) as server:
        after = server.request("GET", usage, key=key).data
    assert before == after
    assert after["rate_limits"]["daily_remaining"] == 997


def test_second_server_on_the_same_folder_is_refused_and_the_first_one_serves_on(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serve(data_dir) as first:
        with pytest.raises(NotStarted, match="Another firstline server is using"), serve(data_dir, log=tmp_path / "2"):
            pass
        assert first.lives()


def classify(server: Served, key: str) -> Answer:
    """One verdict on a connection of its own."""
    return server.request("POST", "/api/v1/classify", {"ticket": "VPN not working"}, key=key)


def assert_store_is_out(server: Served, key: str) -> None:
    """Each contract says 503 in its shape; health says degraded."""
    refused = classify(server, key)
    assert (refused.status, set(refused.data)) == (503, {"error", "message"})
    decision = server.request("POST", "/v1/decision", {"message": "I will sue you"})
    assert (decision.status, set(decision.data)) == (503, {"error", "message", "docs"})
    # The last probe may be a second old, and may have found the room that the verdict did not.
    assert until(lambda: server.request("GET", "/api/v1/health").status == 503, within_s=15)
    assert server.request("GET", "/api/v1/health").data["status"] == "degraded"


def fill_up(server: Served, key: str, *, stored: set[str]) -> None:
    """Ask for verdicts until none can be stored any more, not even a small one.

    After a refusal the log may begin anew in the room that it has, so one refusal is not the end.
    """
    with closing(http.client.HTTPConnection(server.host, server.port, timeout=30)) as connection:
        for ticket in ("VPN not working " + "x" * 4_000, "VPN not working"):
            refused = 0
            for _ in range(2_000):
                answer = exchange(connection, "POST", "/api/v1/classify", {"ticket": ticket}, key=key)
                if answer.status == 200:
                    refused = 0
                    stored.add(answer.data["id"].removeprefix("tkt_"))
                    continue
                assert answer.status == 503
                refused += 1
                if refused == 20:
                    break
            else:
                pytest.fail("the disk never filled up")


def test_file_that_may_not_grow_refuses_and_recovers(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    stored: set[str] = set()
    with serve(data_dir) as server:
        assert classify(server, key).status == 200
        pid = server.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        largest = max(path.stat().st_size for path in [*data_dir.iterdir(), server.log])
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest + 100_000, hard))
        fill_up(server, key, stored=stored)
        assert_store_is_out(server, key)
        assert_whole(data_dir)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert until(lambda: classify(server, key).status == 200, within_s=15)
        assert until(lambda: server.request("GET", "/api/v1/health").data["status"] == "healthy", within_s=15)
    assert stored <= history_of(data_dir).verdicts
    assert_whole(data_dir)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_refuses_and_recovers_when_there_is_room(small_disk: Path) -> None:
    data_dir = small_disk / "data"
    key = create_key(data_dir)["key"]
    stored: set[str] = set()
    with serve(data_dir) as server:  # its log lies on the same disk
        assert classify(server, key).status == 200
        ballast = small_disk / "ballast"
        free = int(subprocess.check_output(["stat", "-f", "-c", "%a", str(small_disk)])) * 4_096
        ballast.write_bytes(b"\0" * max(free - 200_000, 0))
        fill_up(server, key, stored=stored)
        assert_store_is_out(server, key)
        assert_store_is_out(server, key)
        ballast.unlink()
        assert until(lambda: classify(server, key).status == 200, within_s=15)
        assert until(lambda: server.request("GET", "/api/v1/health").data["status"] == "healthy", within_s=15)
        assert_whole(data_dir)
    assert stored <= history_of(data_dir).verdicts


def test_database_locked_by_another_process_refuses_and_recovers(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    with serve(data_dir) as server:
        assert classify(server, key).status == 200
        with closing(sqlite3.connect(data_dir / "firstline.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            refused = classify(server, key)
            assert (refused.status, refused.data["error"]) == (503, "Service unavailable")
            assert server.request("GET", "/v1/pricing").status == 200
            other.execute("ROLLBACK")
        assert classify(server, key).status == 200
    assert_whole(data_dir)
    history = history_of(data_dir)
    assert len(history.verdicts) == 2
    assert history.charged == 2


def test_key_revoked_by_another_process_is_refused_within_a_second(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    created = create_key(data_dir)
    with serve(data_dir) as server:
        assert classify(server, created["key"]).status == 200
        done = command_line("keys", "revoke", created["key_id"], "--data-dir", str(data_dir), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        with closing(http.client.HTTPConnection(server.host, server.port, timeout=30)) as connection:
            last: list[Answer] = []

            def refused() -> bool:
                last[:] = [exchange(connection, "GET", "/api/v1/auth/usage", key=created["key"])]
                return last[0].status == 401

            assert until(refused, within_s=2)
        assert last[0].data["error"] == "API key revoked"


def assert_sentence(refused: NotStarted, *words: str) -> None:
    """One sentence for people and nothing of our insides."""
    assert refused.code not in (0, -9)
    assert "Traceback" not in refused.said
    assert len(refused.said.strip().splitlines()) == 1, refused.said
    for word in words:
        assert word in refused.said


def refusal(data_dir: Path, *arguments: str, port: int = 0, log: Path | None = None, **variables: str) -> NotStarted:
    """What a server says that cannot start."""
    with pytest.raises(NotStarted) as caught, serve(data_dir, *arguments, port=port, log=log, **variables):
        pass
    return caught.value


def test_corrupt_database_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "firstline.db").write_bytes(b"this is no database" * 1_000)
    assert_sentence(refusal(data_dir), "firstline.db", "no SQLite database")
    assert (data_dir / "firstline.db").read_bytes() == b"this is no database" * 1_000


def test_database_that_cannot_be_opened_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    (data_dir / "firstline.db").mkdir(parents=True)
    assert_sentence(refusal(data_dir), "firstline.db", "cannot be opened")


def test_folder_that_cannot_be_made_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert_sentence(refusal(tmp_path / "file" / "data", log=tmp_path / "log"), "data folder")


def test_folder_that_cannot_be_written_stops_the_start_with_a_sentence(small_disk: Path, tmp_path: Path) -> None:
    data_dir = small_disk / "data"
    create_key(data_dir)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert_sentence(refusal(data_dir, log=tmp_path / "log"), "data", "cannot be written")


def test_database_locked_at_the_start_stops_it_with_a_sentence(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    create_key(data_dir)
    with closing(sqlite3.connect(data_dir / "firstline.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert_sentence(refusal(data_dir), "locked by another process")


def test_database_of_a_newer_firstline_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    create_key(data_dir)
    with closing(sqlite3.connect(data_dir / "firstline.db", isolation_level=None)) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    assert_sentence(refusal(data_dir), "newer", "upgrade firstline")


@pytest.mark.parametrize("content", [b"", b"no model at all" * 100], ids=["empty", "garbage"])
def test_corrupt_model_stops_the_start_with_a_sentence(content: bytes, tmp_path: Path) -> None:
    model = tmp_path / "broken.safetensors"
    model.write_bytes(content)
    assert_sentence(refusal(tmp_path / "data", FIRSTLINE_MODEL_FILE=str(model)), "broken.safetensors")


def test_port_in_use_stops_the_start_with_a_sentence(server: Served, tmp_path: Path) -> None:
    refused = refusal(tmp_path / "data", port=server.port)
    assert_sentence(refused, f"127.0.0.1:{server.port}", "--port")


def test_foreign_address_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    assert_sentence(refusal(tmp_path / "data", "--host", "192.0.2.1"), "192.0.2.1", "--host")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FIRSTLINE_RATE_LIMIT_HOURLI": "5"}, ("FIRSTLINE_RATE_LIMIT_HOURLI", "FIRSTLINE_RATE_LIMIT_HOURLY")),
        ({"LOW_CONFIDENCE_THRESHOLD": "1.5"}, ("LOW_CONFIDENCE_THRESHOLD",)),
        ({"FIRSTLINE_TRUSTED_PROXIES": "everyone"}, ("FIRSTLINE_TRUSTED_PROXIES", "everyone")),
        ({"AI_MAX_TOKENS": "many"}, ("AI_MAX_TOKENS",)),
    ],
)
def test_wrong_setting_stops_the_start_with_a_sentence(
    variables: dict[str, str], words: tuple[str, ...], tmp_path: Path
) -> None:
    assert_sentence(refusal(tmp_path / "data", **variables), *words)
    assert not (tmp_path / "data").exists()


def test_development_on_an_address_that_others_reach_is_refused(tmp_path: Path) -> None:
    refused = refusal(tmp_path / "data", "--host", "0.0.0.0", FIRSTLINE_ENVIRONMENT="development")
    assert_sentence(refused, "development", "0.0.0.0")


def test_interrupt_stops_a_server_quietly(tmp_path: Path) -> None:
    with serve(tmp_path / "data") as server:
        server.process.send_signal(2)
        assert server.process.wait(40) == 0
    assert "Traceback" not in server.logged()
