"""The database goes away under load: what was answered is stored once, also when the server is killed meanwhile."""

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from served import Load, Served, command_line, environment, exchange, serve

from redis_server import RedisServer
from services import OwnPostgres, look
from waiting import until

pytestmark = pytest.mark.service
URL = "FIRSTLINE_DATABASE_URL"
TIMEOUT = {"FIRSTLINE_DATABASE_TIMEOUT_SECONDS": "0.5"}


def spooling(folder: Path, url: str, **variables: str) -> Any:
    """A server with a spool in a folder of its own."""
    given = {URL: url, "FIRSTLINE_SPOOL_DIR": str(folder / "spool"), **TIMEOUT, **variables}
    return serve(folder / "data", **given)


def made(own_postgres: OwnPostgres, folder: Path, *, email: str = "load@example.com") -> str:
    """A key of an account of its own."""
    flags = ("--email", email, "--plan", "enterprise", "--catalogue", "classifier", "--json")
    done = command_line("keys", "create", *flags, cwd=folder, **{URL: own_postgres.url})
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["key"])


def stored_in(url: str) -> tuple[set[str], int]:
    """Ids of the verdicts, and requests that were charged."""
    ids = [found for (found,) in look(url, "SELECT ticket_id FROM verdicts")]
    assert len(ids) == len(set(ids))
    assert set(ids) == {found for (found,) in look(url, "SELECT id FROM tickets")}
    return set(ids), int(
        look(url, "SELECT coalesce(sum(requests), 0) FROM usage WHERE \"window\" = 'day' AND catalogue = 'classifier'")[
            0
        ][0]
    )


def storage_of(server: Served) -> str:
    return str(server.request("GET", "/health").data["storage"])


def settled(server: Served, key: str) -> None:
    """Until the server has seen every change that the start has made, and knows the key."""
    with closing(http.client.HTTPConnection(server.host, server.port, timeout=30)) as connection:
        end = monotonic() + 1
        while monotonic() < end:
            answer = exchange(connection, "GET", "/api/v1/auth/usage", key=key)
            assert answer.status == 200


def metric(server: Served, name: str) -> float:
    for line in server.request("GET", "/metrics").body.decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    raise AssertionError(name)


def test_load_goes_on_while_the_database_is_away_and_all_of_it_is_stored_once(
    own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    key = made(own_postgres, tmp_path)
    with spooling(tmp_path, own_postgres.url) as server:
        settled(server, key)
        load = Load(server, key, clients=4)
        load.wait_for(50)
        own_postgres.stop()
        load.wait_for(load.requests + 300)
        assert storage_of(server) == "spooling"
        assert server.request("GET", "/health/ready").status == 200
        assert metric(server, "firstline_spool_records") > 0
        own_postgres.start()
        assert until(lambda: storage_of(server) == "ok", within_s=15)
        load.wait_for(load.requests + 50)
        assert server.stop() == 0
        load.finish()
    assert not load.other_answers
    assert stored_in(own_postgres.url) == (load.acknowledged, load.requests)


def test_a_server_killed_while_the_database_is_away_loses_nothing_and_stores_nothing_twice(
    own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    key = made(own_postgres, tmp_path)
    acknowledged: set[str] = set()
    requests = 0
    for number in range(2):
        with spooling(tmp_path, own_postgres.url) as server:
            settled(server, key)
            load = Load(server, key, clients=4, name=f"kill-{number}")
            load.wait_for(30)
            own_postgres.kill()
            load.wait_for(load.requests + 150)
            if number:  # while the spool is being stored
                own_postgres.start()
                until(lambda: bool(look(own_postgres.url, "SELECT 1 FROM tickets LIMIT 1")), within_s=0.2)
            server.kill()
            load.finish()
        if not number:
            own_postgres.start()
        assert not load.other_answers
        acknowledged |= load.acknowledged
        requests += load.requests
    with spooling(tmp_path, own_postgres.url) as server:
        assert metric(server, "firstline_spool_records") == 0  # stored before the server listens
        stored, charged = stored_in(own_postgres.url)
        assert acknowledged <= stored, f"{len(acknowledged - stored)} are lost"
        # Each client may have had one request under way that it was never answered.
        assert len(stored - acknowledged) <= 2 * 4 * Load.BATCH
        assert requests <= charged <= requests + 2 * 4
        again = Load(server, key, clients=2, name="again")
        again.wait_for(20)
        assert server.stop() == 0
        again.finish()
    assert stored_in(own_postgres.url)[0] == stored | again.acknowledged


def test_a_server_stopped_while_the_database_is_away_leaves_the_rest_to_the_next_one(
    own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    key = made(own_postgres, tmp_path)
    with spooling(tmp_path, own_postgres.url, SECRET_KEY="x" * 40) as server:
        settled(server, key)
        load = Load(server, key, clients=4)
        load.wait_for(20)
        own_postgres.stop()
        load.wait_for(load.requests + 50)
        assert server.stop() == 0
        load.finish()
    own_postgres.start()
    with spooling(tmp_path, own_postgres.url, SECRET_KEY="x" * 40):
        assert stored_in(own_postgres.url) == (load.acknowledged, load.requests)


def test_without_a_spool_the_loss_of_the_database_is_a_503(own_postgres: OwnPostgres, tmp_path: Path) -> None:
    key = made(own_postgres, tmp_path)
    with serve(tmp_path / "data", **{URL: own_postgres.url, **TIMEOUT}) as server:
        settled(server, key)
        own_postgres.stop()
        assert server.request("POST", "/api/v1/classify", {"ticket": "VPN not working"}, key=key).status == 503
        assert until(lambda: storage_of(server) == "unavailable", within_s=10)


def test_who_is_not_known_is_refused_and_a_full_spool_refuses_everybody(
    own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    key = made(own_postgres, tmp_path)
    with spooling(tmp_path, own_postgres.url, FIRSTLINE_SPOOL_MB="1") as server:
        settled(server, key)
        assert server.request("POST", "/api/v1/classify", {"ticket": "VPN not working"}, key=key).status == 200
        own_postgres.stop()
        with closing(http.client.HTTPConnection(server.host, server.port, timeout=30)) as connection:

            def asked(ticket: str) -> int:
                return exchange(connection, "POST", "/api/v1/classify", {"ticket": ticket}, key=key).status

            unknown = exchange(connection, "POST", "/api/v1/classify", {"ticket": "VPN"}, key="atc_" + "u" * 32)
            assert unknown.status == 503
            accepted = 0
            while (status := asked("My VPN is not working. " * 200)) == 200:
                accepted += 1
                assert accepted < 1_000
            assert status == 503
            health = exchange(connection, "GET", "/health")
            while asked("VPN") == 200:  # what is small may still have fitted
                pass
            assert health.status in {200, 503}
            own_postgres.start()
            assert until(lambda: metric(server, "firstline_spool_records") == 0, within_s=15)
            assert asked("VPN is not working again") == 200
        assert server.stop() == 0
    assert len(stored_in(own_postgres.url)[0]) >= accepted + 2


@contextmanager
def working(folder: Path, **variables: str) -> Iterator[None]:
    """A worker beside a server."""
    command = [sys.executable, "-m", "firstline.delivery.cli", "worker", "--data-dir", str(folder / "data")]
    given = environment(**variables)
    with subprocess.Popen([*command, "--processes", "1"], cwd=folder, env=given) as process:
        try:
            yield
        finally:
            process.kill()


def done_by_a_worker(server: Served, key: str) -> bool:
    """Have a job of one row done, by the key alone that no message was ever sent with."""
    posted = server.request("POST", "/v1/jobs?format=ndjson", raw=b'{"text": "VPN is down"}\n', key=key)
    assert posted.status == 202, posted.body
    return until(
        lambda: server.request("GET", f"/v1/jobs/{posted.data['id']}", key=key).data["state"] == "finished", within_s=45
    )


@pytest.mark.parametrize("counts_in", ["redis", "memory"])
def test_a_key_that_only_had_a_job_done_is_answered_while_the_database_is_away(
    own_postgres: OwnPostgres, tmp_path: Path, counts_in: str
) -> None:
    key = made(own_postgres, tmp_path)
    with RedisServer(tmp_path) as redis:
        names = {"SECRET_KEY": "x" * 40}
        if counts_in == "redis":
            names["FIRSTLINE_REDIS_URL"] = redis.url
        with (
            spooling(tmp_path, own_postgres.url, FIRSTLINE_JOB_PROCESSES="0", **names) as server,
            working(tmp_path, **{URL: own_postgres.url, **names}),
        ):
            assert done_by_a_worker(server, key)
            own_postgres.stop()
            ticket = {"ticket": "VPN not working"}
            statuses = [server.request("POST", "/api/v1/classify", ticket, key=key).status for _ in range(3)]
            assert statuses == [200, 200, 200]
            own_postgres.start()
            assert until(lambda: metric(server, "firstline_spool_records") == 0, within_s=15)
    assert len(stored_in(own_postgres.url)[0]) == 4


def test_changes_of_others_just_before_an_outage_cost_nobody_but_whom_they_are_about(
    own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    key, revoked = made(own_postgres, tmp_path), made(own_postgres, tmp_path, email="revoked@example.com")
    with spooling(tmp_path, own_postgres.url, SECRET_KEY="x" * 40) as server:

        def asked(with_key: str) -> int:
            return server.request("POST", "/api/v1/classify", {"ticket": "VPN not working"}, key=with_key).status

        assert (asked(key), asked(revoked)) == (200, 200)
        fresh = made(own_postgres, tmp_path, email="fresh@example.com")
        listed = command_line("keys", "list", "--json", cwd=tmp_path, **{URL: own_postgres.url})
        ids = {one["email"]: one["id"] for one in json.loads(listed.stdout)["keys"]}
        done = command_line("keys", "revoke", ids["revoked@example.com"], cwd=tmp_path, **{URL: own_postgres.url})
        assert done.returncode == 0, done.stderr
        assert until(lambda: asked(revoked) == 401, within_s=5)  # so the change was seen
        own_postgres.stop()
        assert [asked(key) for _ in range(3)] == [200, 200, 200]
        assert asked(revoked) == 401
        assert asked(fresh) == 503


@contextmanager
def behind_a_balancer(servers: list[Served]) -> Iterator[Callable[[], Served]]:
    """Gives those in turn that were ready when they were last asked, twenty times a second."""
    ready: list[Served] = list(servers)
    over = threading.Event()

    def look_at() -> None:
        while not over.wait(0.05):
            for server in list(servers):
                try:
                    works = server.request("GET", "/health/ready").status == 200
                except OSError:
                    works = False
                if works and server not in ready:
                    ready.append(server)
                elif not works and server in ready:
                    ready.remove(server)

    looking = threading.Thread(target=look_at)
    looking.start()
    numbers = iter(range(1_000_000))
    try:
        yield lambda: ready[next(numbers) % len(ready)]
    finally:
        over.set()
        looking.join()


def test_replicas_are_replaced_one_after_the_other_without_an_error(database_url: str, tmp_path: Path) -> None:
    done = command_line(
        *("keys", "create", "--email", "a@example.com", "--plan", "enterprise", "--catalogue", "classifier", "--json"),
        cwd=tmp_path,
        **{URL: database_url},
    )
    key = json.loads(done.stdout)["key"]
    drains = {URL: database_url, "FIRSTLINE_DRAIN_SECONDS": "1"}
    statuses: list[int] = []
    acknowledged: set[str] = set()
    over = threading.Event()
    with serve(tmp_path / "a", **drains) as first, serve(tmp_path / "b", **drains) as second:
        servers = [first, second]
        with behind_a_balancer(servers) as chosen:

            def ask(client: int) -> None:
                number = 0
                while not over.is_set():
                    number += 1
                    answer = chosen().request("POST", "/api/v1/classify", {"ticket": f"VPN {client} {number}"}, key=key)
                    statuses.append(answer.status)
                    if answer.status == 200:
                        acknowledged.add(answer.data["id"].removeprefix("tkt_"))

            def ask_safely(client: int) -> None:
                try:
                    ask(client)
                except Exception:  # a connection that was refused or broken is an error like any other
                    statuses.append(0)

            clients = [threading.Thread(target=ask_safely, args=(number,)) for number in range(4)]
            for client in clients:
                client.start()
            with serve(tmp_path / "c", **drains) as third:
                servers.append(third)
                assert first.stop() == 0
                servers.remove(first)
                assert second.stop() == 0
                servers.remove(second)
                before = len(statuses)
                assert until(lambda: len(statuses) > before + 20, within_s=15)
                over.set()
                for client in clients:
                    client.join()
    assert set(statuses) == {200}
    assert stored_in(database_url)[0] == acknowledged


def test_a_server_that_drains_says_so_and_goes_on_serving(tmp_path: Path) -> None:
    with serve(tmp_path / "data", FIRSTLINE_DRAIN_SECONDS="60") as server:
        with closing(http.client.HTTPConnection(server.host, server.port, timeout=30)) as connection:
            assert exchange(connection, "GET", "/health/ready").status == 200
            server.process.terminate()
            assert until(lambda: server.request("GET", "/health/ready").status == 503, within_s=10)
            answer = exchange(connection, "POST", "/v1/decision", {"message": "How do I reset my password?"})
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert server.stop() == 0  # the second signal ends the wait
