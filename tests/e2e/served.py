"""The server as an operator starts it: a process of its own, an address that it prints, signals that stop it."""

import atexit
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from firstline.settings import PREFIX, variable_names

START_S: Final = 60
STOP_S: Final = 40
CLIENT_S: Final = 30

_ADDRESS: Final = re.compile(r"https?://([\d.]+):(\d+)")
_WITH_BOUNDS: Final = """
import json, sys
from pathlib import Path
from firstline.bootstrap import build
from firstline.delivery.http import bodies, server
from firstline.delivery.http.protocol import Bounds
from firstline.settings import load_settings
data_dir, given, progress_s = json.loads(sys.argv[1])
bodies.PROGRESS_S = progress_s
settings = load_settings(env_file=None, port=0, data_dir=Path(data_dir))
server.run(settings, app=build(settings), on_ready=lambda url: print(url, flush=True), bounds=Bounds(**given))
"""


class NotStarted(Exception):
    """The server ended before it listened; holds what it said."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"exit code {code}: {said}")
        self.code = code
        self.said = said


@dataclass(slots=True)
class Answer:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class Served:
    """A running server."""

    process: "subprocess.Popen[str]"
    data_dir: Path
    log: Path
    host: str = ""
    port: int = 0
    greeting: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{self.host}:{self.port}"

    def request(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, raw: bytes | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=CLIENT_S)) as connection:
            return exchange(connection, method, path, body, key=key, raw=raw)

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection((self.host, self.port), timeout=CLIENT_S)

    def lives(self) -> bool:
        """Whether the next ordinary request is served, verdict and all."""
        answer = self.request("POST", "/v1/decision", {"message": "How do I reset my password?"})
        return answer.status == 200 and answer.data["decision"] == "standard_response"

    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> int:
        """Ask it to stop, wait for it; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(STOP_S)

    def logged(self) -> str:
        """What it wrote to standard error so far."""
        return self.log.read_text()


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    *,
    key: str | None = None,
    raw: bytes | None = None,
) -> Answer:
    """One request and its answer on a given connection."""
    headers = {"X-API-Key": key} if key else {}
    data = raw if raw is not None else (json.dumps(body).encode() if body is not None else None)
    connection.request(method, path, data, headers)
    response = connection.getresponse()
    return Answer(response.status, dict(response.headers), response.read())


def environment(**variables: str) -> dict[str, str]:
    """The environment of a child: this one without any setting of firstline, plus the given ones."""
    known = {name for names in variable_names().values() for name in names}
    kept = {name: value for name, value in os.environ.items() if name not in known and not name.startswith(PREFIX)}
    return {**kept, **variables}


@contextmanager
def serve(
    data_dir: Path,
    *arguments: str,
    log: Path | None = None,
    bounds: Mapping[str, float] | None = None,
    progress_s: float = 10.0,
    port: int = 0,
    **variables: str,
) -> Iterator[Served]:
    """Start a server, and end it in any case.

    Args:
        arguments: further ones of `firstline serve`.
        bounds: of connections, in place of the usual ones; it is then started without the command line.
        progress_s: how long a body may make no progress; with `bounds` only.
        variables: environment variables.
    Raises: NotStarted when it ends before it listens.
    """
    if bounds is None:
        flags = ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data_dir)]
        command = ["-m", "firstline.delivery.cli", "serve", *flags, *arguments]
    else:
        command = ["-c", _WITH_BOUNDS, json.dumps([str(data_dir), dict(bounds), progress_s])]
    log = log or data_dir.with_name(f"{data_dir.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a") as stderr,
        subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=log.parent,
            env=environment(**variables),
            text=True,
        ) as process,
    ):
        server = Served(process, data_dir, log)
        watchdog = threading.Timer(START_S, process.kill)
        watchdog.start()
        try:
            if process.stdout is None:
                raise NotStarted(0, "no standard output")
            for line in process.stdout:
                server.greeting.append(line)
                found = _ADDRESS.search(line)
                if found:
                    server.host, server.port = found[1], int(found[2])
                    break
            else:
                raise NotStarted(process.wait(STOP_S), log.read_text())
            watchdog.cancel()
            yield server
        finally:
            watchdog.cancel()
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def command_line(*arguments: str, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of firstline to its end."""
    return subprocess.run(
        [sys.executable, "-m", "firstline.delivery.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=START_S,
        cwd=cwd,
        env=environment(**variables),
        check=False,
    )


def create_key(data_dir: Path, *, plan: str = "enterprise") -> dict[str, str]:
    """A fresh data folder with a key of the classifier's catalogue, made on the command line; id under `key_id`."""
    template, created = _template(plan)
    shutil.copytree(template, data_dir)
    return created


@cache
def _template(plan: str) -> tuple[Path, dict[str, str]]:
    """Made once for all tests of a worker, for each start of the interpreter costs a second."""
    folder = tempfile.TemporaryDirectory(prefix="firstline-e2e-")
    atexit.register(folder.cleanup)
    data_dir = Path(folder.name) / "data"
    flags = ("--email", "load@example.com", "--plan", plan, "--catalogue", "classifier", "--json")
    done = command_line("keys", "create", *flags, "--data-dir", str(data_dir), cwd=data_dir.parent)
    assert done.returncode == 0, done.stderr
    created: dict[str, str] = json.loads(done.stdout)
    return data_dir, created


@dataclass(frozen=True, slots=True)
class History:
    """What the database of a server holds."""

    tickets: frozenset[str]
    verdicts: frozenset[str]
    texts: tuple[str, ...]
    charged: int
    integrity: str


def history_of(data_dir: Path) -> History:
    """Read a server's database, running or dead."""
    with closing(sqlite3.connect(data_dir / "firstline.db", timeout=CLIENT_S)) as database:
        return History(
            tickets=frozenset(row[0] for row in database.execute("SELECT id FROM tickets")),
            verdicts=frozenset(row[0] for row in database.execute("SELECT ticket_id FROM verdicts")),
            texts=tuple(row[0] for row in database.execute("SELECT text FROM tickets")),
            charged=database.execute(
                "SELECT coalesce(sum(requests), 0) FROM usage WHERE \"window\" = 'day'"
            ).fetchone()[0],
            integrity=database.execute("PRAGMA integrity_check").fetchone()[0],
        )


class Load:
    """Clients that ask for verdicts until the server goes away, and remember what they were promised."""

    BATCH: Final = 5

    def __init__(self, server: Served, key: str, *, clients: int = 8, name: str = "load") -> None:
        self._server = server
        self._key = key
        self._name = name
        self._changed = threading.Condition()
        self.acknowledged: set[str] = set()
        self.requests = 0
        self.other_answers: list[Answer] = []
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, requests: int) -> None:
        """Until so many requests have been answered with 200."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.requests >= requests, CLIENT_S), (
                f"{self.requests} answers: {self.other_answers[:1]}"
            )

    def finish(self) -> None:
        """Until every client has noticed that the server is gone."""
        for thread in self._threads:
            thread.join(CLIENT_S)
            assert not thread.is_alive()

    def _ask(self, client: int) -> None:
        with closing(http.client.HTTPConnection(self._server.host, self._server.port, timeout=CLIENT_S)) as connection:
            for number in range(100_000):
                name = f"{self._name}-{client}-{number}"
                try:
                    if number % 4 == 3:
                        tickets = [f"Refund request {name} part {part}" for part in range(self.BATCH)]
                        answer = exchange(connection, "POST", "/api/v1/batch", {"tickets": tickets}, key=self._key)
                        ids = [result["id"] for result in answer.data["results"]] if answer.status == 200 else []
                    else:
                        body = {"ticket": f"VPN not working {name}"}
                        answer = exchange(connection, "POST", "/api/v1/classify", body, key=self._key)
                        ids = [answer.data["id"]] if answer.status == 200 else []
                except (OSError, http.client.HTTPException):
                    return
                with self._changed:
                    if answer.status == 200:
                        self.acknowledged.update(ticket.removeprefix("tkt_") for ticket in ids)
                        self.requests += 1
                    else:
                        self.other_answers.append(answer)
                    self._changed.notify_all()


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection, be it with a reset."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def read_answer(connection: socket.socket) -> Answer:
    """One answer from a bare connection that may stay open."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    with closing(response):
        return Answer(response.status, dict(response.headers), response.read())


def send_what_it_takes(connection: socket.socket, parts: Iterator[bytes], *, pause_s: float = 0.0) -> bool:
    """Send parts until the server answers or closes; whether it did before they ended.

    Args:
        pause_s: how long to look for an answer after each part.
    """
    for part in parts:
        try:
            connection.sendall(part)
            connection.settimeout(pause_s)
            connection.recv(1, socket.MSG_PEEK)
        except (TimeoutError, BlockingIOError):
            connection.settimeout(CLIENT_S)
            continue
        except ConnectionError:
            pass
        connection.settimeout(CLIENT_S)
        return True
    return False
