"""`firstline health` against servers that answer well, otherwise, or not at all; e2e has the real one."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from firstline.delivery.cli import main
from firstline.settings import variable_names

Health = Callable[..., tuple[int, str, str]]


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Health:
    """Runs `firstline health` without settings from outside: exit code, standard output, standard error."""
    known = {name for names in variable_names().values() for name in names}
    for name in os.environ:
        if name.upper().startswith("FIRSTLINE_") or name.upper() in known:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["health", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@contextmanager
def answering(answers: dict[str, tuple[int, bytes]], **headers: str) -> Iterator[str]:
    """A server that gives these answers, 404 otherwise; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b"not here"))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


OK = b'{"status": "ok"}'
UNAVAILABLE = b'{"status": "unavailable"}'


def test_a_server_that_is_ready_is_said_to_be_in_a_sentence(health: Health) -> None:
    with answering({"/health/ready": (200, OK)}) as url:
        assert health("--url", url) == (0, f"{url} is ready.\n", "")


def test_a_server_that_cannot_serve_now_is_alive_and_not_ready(health: Health) -> None:
    with answering({"/health/ready": (503, UNAVAILABLE), "/health/live": (200, OK)}) as url:
        assert health("--url", url) == (1, f"{url} is not ready: it says that it cannot serve now.\n", "")
        assert health("--url", url, "--live") == (0, f"{url} is alive.\n", "")


def test_without_an_address_the_server_of_the_settings_is_asked_on_this_machine(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering({"/health/ready": (200, OK)}) as url:
        monkeypatch.setenv("FIRSTLINE_PORT", url.rsplit(":", 1)[1])
        assert health() == (0, f"{url} is ready.\n", "")
        monkeypatch.setenv("FIRSTLINE_HOST", "0.0.0.0")  # listens everywhere; not an address to connect to
        assert health() == (0, f"{url} is ready.\n", "")


def test_where_nothing_listens_is_said(health: Health) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert health("--url", url) == (1, f"{url} cannot be reached: connection refused.\n", "")


@pytest.mark.parametrize(
    ("answer", "why"),
    [(b"", "it ended the connection without an answer"), (b"SSH-2.0-server\r\n\r\n", "it does not speak HTTP")],
)
def test_a_program_that_speaks_something_else_is_said_to(health: Health, answer: bytes, why: str) -> None:
    def talk(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1_000)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=talk, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert health("--url", url) == (1, f"{url} cannot be reached: {why}.\n", "")
        thread.join()


def test_a_server_that_hangs_is_given_up(health: Health) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert health("--url", url, "--timeout", "0.1") == (1, f"{url} did not answer within 0.1 s.\n", "")


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b'{"status": "unavailable"}', b'{"status": "ok"', b"\xff"])
def test_another_program_that_answers_is_not_taken_for_firstline(health: Health, body: bytes) -> None:
    with answering({"/health/ready": (200, body)}) as url:
        assert health("--url", url) == (1, f"{url} answered something else; is it a firstline server?\n", "")


def test_a_redirect_is_not_followed(health: Health) -> None:
    with answering({"/elsewhere/health/ready": (200, OK)}) as there:
        location = f"{there}/elsewhere/health/ready"
        with answering({"/health/ready": (302, b"")}, Location=location) as url:
            assert health("--url", url) == (1, f"{url} answered 302; is it a firstline server?\n", "")


def test_a_proxy_of_the_environment_is_not_asked(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering({"/health/ready": (200, OK)}) as url:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert health("--url", f"{url}/")[0] == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "http://",
        "http://user:secret@127.0.0.1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:8000?a=b",
        "http://127.0.0.1 :8000",
        "http://127.0.0.1:8000/\x1b[2J",
        "http://[::1",
        "http://" + "a" * 500,
    ],
)
def test_an_address_that_is_none_is_a_mistake_with_a_sentence(health: Health, url: str) -> None:
    code, out, err = health("--url", url)
    assert (code, out) == (2, "")
    assert err.startswith("firstline: --url must be an http or https address of at most 500 characters")
    assert "secret" not in err


@pytest.mark.parametrize("timeout", ["0", "61", "nan", "soon"])
def test_a_wait_without_sense_is_a_mistake(health: Health, timeout: str) -> None:
    code, _, err = health("--timeout", timeout)
    assert code == 2
    assert "--timeout" in err


def test_a_port_that_is_not_known_has_to_be_said(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTLINE_PORT", "0")
    code, _, err = health()
    assert (code, err) == (2, "firstline: FIRSTLINE_PORT is 0, which takes any free port; say which with --url.\n")
