"""Servers on a shared PostgreSQL database: what was answered is stored, whoever dies; changes reach all of them."""

import http.client
import json
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from served import Load, NotStarted, Served, command_line, exchange, serve

from services import OwnPostgres, look
from waiting import until

pytestmark = pytest.mark.service
KILLS = 4
NEEDED = 60
URL = "FIRSTLINE_DATABASE_URL"


@pytest.fixture
def start(tmp_path: Path, database_url: str) -> Any:
    """Starts servers on the database, each in a folder of its own; they end with the test."""
    with ExitStack() as stack:
        numbers = iter(range(100))

        def started() -> Served:
            folder = tmp_path / f"data-{next(numbers)}"
            return stack.enter_context(serve(folder, **{URL: database_url}))

        yield started


Start = Callable[[], Served]


def create_key(url: str, folder: Path, *, plan: str = "enterprise") -> dict[str, str]:
    flags = ("--email", "load@example.com", "--plan", plan, "--catalogue", "classifier", "--json")
    done = command_line("keys", "create", *flags, cwd=folder, **{URL: url})
    assert done.returncode == 0, done.stderr
    created: dict[str, str] = json.loads(done.stdout)
    return created


def verdicts_in(url: str) -> set[str]:
    return {found for (found,) in look(url, "SELECT ticket_id FROM verdicts")}


def charged_in(url: str) -> int:
    return int(look(url, "SELECT coalesce(sum(requests), 0) FROM usage WHERE \"window\" = 'day'")[0][0])


def assert_whole(url: str) -> None:
    """No ticket without a verdict, no half-written batch."""
    assert {found for (found,) in look(url, "SELECT id FROM tickets")} == verdicts_in(url)
    parts: dict[str, int] = {}
    for (text,) in look(url, "SELECT text FROM tickets WHERE text LIKE '% part %'"):
        name = text.partition(" part ")[0]
        parts[name] = parts.get(name, 0) + 1
    assert set(parts.values()) <= {Load.BATCH}


def test_kill_under_load_loses_no_acknowledged_verdict(start: Start, database_url: str, tmp_path: Path) -> None:
    key = create_key(database_url, tmp_path)["key"]
    acknowledged: set[str] = set()
    requests = 0
    for kill in range(KILLS):
        server = start()
        load = Load(server, key, name=f"kill-{kill}")
        load.wait_for(NEEDED + 37 * kill)
        server.kill()
        load.finish()
        assert not load.other_answers
        acknowledged |= load.acknowledged
        requests += load.requests
        # What the dead server had sent is committed or undone before another transaction sees it.
        stored = verdicts_in(database_url)
        assert acknowledged <= stored, f"{len(acknowledged - stored)} are lost"
        assert_whole(database_url)
        assert charged_in(database_url) >= requests
    assert start().lives()
    print(f"{KILLS} kills: {requests} requests, {len(acknowledged)} acknowledged, {len(stored)} stored")


def test_two_servers_store_exactly_what_both_acknowledged(start: Start, database_url: str, tmp_path: Path) -> None:
    key = create_key(database_url, tmp_path)["key"]
    servers = [start(), start()]
    loads = [Load(server, key, name=f"two-{number}") for number, server in enumerate(servers)]
    for load in loads:
        load.wait_for(150)
    assert [server.stop() for server in servers] == [0, 0]
    for load in loads:
        load.finish()
        assert not load.other_answers
    assert verdicts_in(database_url) == loads[0].acknowledged | loads[1].acknowledged
    assert charged_in(database_url) == loads[0].requests + loads[1].requests
    assert_whole(database_url)


def test_connections_that_break_under_load_lose_nothing_and_store_nothing_twice(
    start: Start, database_url: str, tmp_path: Path
) -> None:
    key = create_key(database_url, tmp_path)["key"]
    server = start()
    load = Load(server, key, name="broken")
    for number in range(1, 6):
        load.wait_for(60 * number)
        look(
            database_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
    load.wait_for(400)
    assert server.stop() == 0
    load.finish()
    # A read that met a broken connection may have been refused; a verdict that waited for its commit may not.
    assert {answer.status for answer in load.other_answers} <= {503}
    assert verdicts_in(database_url) == load.acknowledged
    assert charged_in(database_url) == load.requests
    assert_whole(database_url)


def test_a_key_revoked_on_the_command_line_is_refused_by_all_servers_within_a_second(
    start: Start, database_url: str, tmp_path: Path
) -> None:
    created = create_key(database_url, tmp_path)
    servers = [start(), start()]
    connections = [http.client.HTTPConnection(server.host, server.port, timeout=30) for server in servers]
    with closing(connections[0]), closing(connections[1]):

        def statuses() -> set[int]:
            usage = "/api/v1/auth/usage"
            return {exchange(connection, "GET", usage, key=created["key"]).status for connection in connections}

        assert statuses() == {200}
        done = command_line("keys", "revoke", created["key_id"], cwd=tmp_path, **{URL: database_url})
        assert done.returncode == 0, done.stderr
        assert until(lambda: statuses() == {401}, within_s=1)


def test_an_account_made_on_one_server_is_known_to_the_other_at_once(start: Start) -> None:
    first, second = start(), start()
    made = first.request("POST", "/api/v1/auth/register", {"email": "new@example.com", "tier": "free"})
    assert made.status == 201
    key = made.data["api_key"]
    for server in (second, first):
        answer = server.request("POST", "/api/v1/classify", {"ticket": "VPN not working"}, key=key)
        assert answer.status == 200


def test_a_server_waits_for_the_schema_that_the_command_line_makes(empty_database: str, tmp_path: Path) -> None:
    with pytest.raises(NotStarted) as caught, serve(tmp_path / "data", **{URL: empty_database}):
        pass
    assert len(caught.value.said.strip().splitlines()) == 1
    assert "run firstline db upgrade" in caught.value.said
    done = command_line("db", "upgrade", cwd=tmp_path, **{URL: empty_database})
    assert (done.returncode, done.stderr) == (0, "")
    assert "Made the tables in 127.0.0.1" in done.stdout
    with serve(tmp_path / "data", **{URL: empty_database}) as server:
        assert server.lives()
        assert server.stop() == 0
    assert "up to date" in command_line("db", "upgrade", cwd=tmp_path, **{URL: empty_database}).stdout


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("127.0.0.1:1/nothing", "cannot be reached"),
        ("127.0.0.1:5432/firstline_that_is_not_there", "no such database"),
        ("127.0.0.1:x/nothing", "FIRSTLINE_DATABASE_URL"),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(
    place: str, said: str, postgres: str, tmp_path: Path
) -> None:
    password = "pass" + "word-of-mine"
    with (
        pytest.raises(NotStarted) as caught,
        serve(tmp_path / "data", **{URL: f"postgresql://postgres:{password}@{place}"}),
    ):
        pass
    assert said in caught.value.said
    assert password not in caught.value.said
    assert len(caught.value.said.strip().splitlines()) == 1


def test_health_says_degraded_while_the_database_lets_nobody_write(
    start: Start, database_url: str, tmp_path: Path
) -> None:
    server = start()
    assert server.request("GET", "/api/v1/health").data["status"] == "healthy"
    look(database_url, "ALTER TABLE journal_groups RENAME TO taken_away")
    assert until(lambda: server.request("GET", "/api/v1/health").status == 503, within_s=15)
    answer = server.request("POST", "/v1/decision", {"message": "I will sue you"})
    assert answer.status == 503
    look(database_url, "ALTER TABLE taken_away RENAME TO journal_groups")
    assert until(lambda: server.request("GET", "/api/v1/health").status == 200, within_s=15)
    assert server.lives()


def test_many_registrations_at_once_on_two_servers_all_succeed(start: Start, database_url: str) -> None:
    servers = [start(), start()]
    statuses: list[int] = []

    def register(caller: int) -> None:
        body = {"email": f"many-{caller}@example.com", "tier": "free"}
        statuses.append(servers[caller % 2].request("POST", "/api/v1/auth/register", body).status)

    threads = [threading.Thread(target=register, args=(caller,)) for caller in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * 16
    assert look(database_url, "SELECT count(*) FROM api_keys") == [(16,)]


def ask_until_gone(server: Served, key: str, stop: threading.Event, stored: set[str], refused: list[int]) -> None:
    """Ask for verdicts one after the other; note the ids of those that were given."""
    with closing(http.client.HTTPConnection(server.host, server.port, timeout=30)) as connection:
        while not stop.is_set():
            answer = exchange(connection, "POST", "/api/v1/classify", {"ticket": "VPN not working"}, key=key)
            if answer.status == 200:
                stored.add(answer.data["id"].removeprefix("tkt_"))
            else:
                refused.append(answer.status)


@pytest.mark.parametrize("kind", ["stopped", "killed"])
def test_a_database_that_goes_away_and_comes_back_has_everything_that_was_answered(
    kind: str, own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    key = create_key(own_postgres.url, tmp_path)["key"]
    stored: set[str] = set()
    refused: list[int] = []
    stop = threading.Event()
    with serve(tmp_path / "data", **{URL: own_postgres.url, "FIRSTLINE_DATABASE_TIMEOUT_SECONDS": "0.5"}) as server:
        callers = [threading.Thread(target=ask_until_gone, args=(server, key, stop, stored, refused)) for _ in range(6)]
        for caller in callers:
            caller.start()
        for _ in range(2):
            enough = len(stored) + 50
            assert until(lambda enough=enough: len(stored) >= enough, within_s=30)  # type: ignore[misc]  # mypy cannot type a default of a lambda
            (own_postgres.stop if kind == "stopped" else own_postgres.kill)()
            before = len(refused)
            assert until(lambda before=before: len(refused) > before, within_s=30)  # type: ignore[misc]  # mypy cannot type a default of a lambda
            assert until(lambda: server.request("GET", "/api/v1/health").status == 503, within_s=30)
            own_postgres.start()
            assert until(lambda: server.request("GET", "/api/v1/health").status == 200, within_s=30)
        enough = len(stored) + 50
        assert until(lambda: len(stored) >= enough, within_s=30)
        stop.set()
        for caller in callers:
            caller.join(30)
        assert server.stop() == 0
    assert set(refused) == {503}
    there = verdicts_in(own_postgres.url)
    assert stored <= there, f"{len(stored - there)} are lost"
    assert_whole(own_postgres.url)
    # What was refused is not there, but for those whose commit was under way when the database died.
    assert len(there - stored) <= 2 * len(callers)
    assert charged_in(own_postgres.url) == len(there)
    print(f"{kind}: {len(stored)} answered, {len(there)} stored, {len(refused)} refused")
