"""A worker that Prometheus and Kubernetes can see."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from served import CLIENT_S, STOP_S, Answer, command_line, create_key, environment, exchange, serve

from waiting import until

ROWS = 3


@contextmanager
def working(data_dir: Path, *arguments: str, **variables: str) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """A running worker, and the first two lines that it printed."""
    command = [sys.executable, "-m", "firstline.delivery.cli", "worker", "--data-dir", str(data_dir), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=data_dir.parent, env=environment(**variables), text=True
    ) as worker:
        try:
            assert worker.stdout is not None
            yield worker, "".join(worker.stdout.readline() for _ in range(2))
        finally:
            worker.kill()


def ask(greeting: str, method: str, path: str, *, token: str | None = None) -> Answer:
    found = re.search(r"http://([\d.]+):(\d+)/metrics", greeting)
    assert found, greeting
    with closing(http.client.HTTPConnection(found[1], int(found[2]), timeout=CLIENT_S)) as connection:
        if token is None:
            return exchange(connection, method, path)
        connection.request(method, path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())


def test_the_rows_that_a_worker_has_done_are_in_its_own_metrics(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    rows = json.dumps(["The VPN is down"] * ROWS).encode()
    with serve(data_dir, FIRSTLINE_JOB_PROCESSES="0") as server:
        assert server.request("POST", "/v1/jobs?format=json", raw=rows, key=key).status == 202
    with working(data_dir, "--processes", "1", FIRSTLINE_WORKER_PORT="0") as (worker, greeting):
        done = f'firstline_job_rows_total{{contract="classifier",outcome="answered"}} {ROWS}.0'
        assert until(lambda: done in ask(greeting, "GET", "/metrics").body.decode(), within_s=CLIENT_S)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(STOP_S) == 0


def test_a_worker_s_metrics_want_the_token_and_its_life_does_not(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    create_key(data_dir)
    with working(data_dir, "--metrics-port", "0", FIRSTLINE_METRICS_TOKEN="scrape-me") as (_, greeting):
        assert "http://127.0.0.1:" in greeting
        assert ask(greeting, "GET", "/metrics").status == 401
        assert ask(greeting, "GET", "/metrics", token="wrong").status == 401
        assert ask(greeting, "GET", "/metrics", token="scrape-me").status == 200
        assert ask(greeting, "GET", "/health/live").data == {"status": "ok"}
        assert ask(greeting, "HEAD", "/health/live").status == 200
        assert ask(greeting, "POST", "/v1/decision").status == 404
        refused = ask(greeting, "POST", "/metrics")
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


def test_a_worker_opens_no_provider_which_it_never_asks(tmp_path: Path) -> None:
    """Its breakers would be closed for ever, and hide that those of all servers are open."""
    data_dir = tmp_path / "data"
    create_key(data_dir)
    names = {"GEMINI_API_KEY": "fake", "GEMINI_BASE_URL": "http://127.0.0.1:9", "GEMINI_MODEL": "some-model"}
    with working(data_dir, "--metrics-port", "0", **names) as (_, greeting):
        told = ask(greeting, "GET", "/metrics").body.decode()
    assert 'circuit_breaker_state{model="",provider="gemini"} 0.0' in told
    assert "some-model" not in told


def test_a_worker_says_that_the_port_of_its_metrics_is_taken(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        done = command_line("worker", "--data-dir", "data", "--metrics-port", port, cwd=tmp_path)
    assert done.returncode != 0
    assert "choose another with --metrics-port" in done.stderr
