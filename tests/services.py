"""PostgreSQL and Redis for tests: found where the environment says, or on this machine; skipped by name where missing.

`TEST_POSTGRES_URL` and `TEST_REDIS_URL` say where they are. With `CI=true` a missing one is a failure. Every test gets
a database of its own, copied from one that the migrations have made.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from firstline.adapters.sql.postgres_engine import open_postgres
from firstline.adapters.sql.postgres_schema import upgrade

POSTGRES_URL: Final = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
REDIS_URL: Final = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
CONNECT_S: Final = 3


def missing(name: str, why: str) -> None:
    """Skip a test whose service is missing; in CI that is a failure.

    Raises: pytest.skip.Exception, pytest.fail.Exception.
    """
    said = f"needs {name}: {why}"
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(said, pytrace=False)
    pytest.skip(said)


@pytest.fixture(scope="session")
def postgres() -> str:
    """URL of a server on which databases may be made."""
    try:
        psycopg.connect(POSTGRES_URL, connect_timeout=CONNECT_S).close()
    except psycopg.OperationalError as error:
        missing("PostgreSQL", f"{type(error).__name__} at {urlsplit(POSTGRES_URL).hostname}")
    return POSTGRES_URL


@pytest.fixture(scope="session")
def redis_url() -> str:
    """URL of a Redis server that tests may write to, under keys of their own."""
    found = urlsplit(REDIS_URL)
    try:
        socket.create_connection((found.hostname or "127.0.0.1", found.port or 6379), CONNECT_S).close()
    except OSError as error:
        missing("Redis", f"{type(error).__name__} at {found.hostname}")
    return REDIS_URL


@pytest.fixture(scope="session")
def migrated_database(postgres: str) -> Iterator[str]:
    """Name of a database at the current schema, to be copied."""
    with _database(postgres) as (name, url):
        engine = open_postgres(url)
        upgrade(engine)
        engine.dispose()
        yield name


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """URL of a database without any table; dropped after the test."""
    with _database(postgres) as (_, url):
        yield url


@pytest.fixture
def database_url(postgres: str, migrated_database: str) -> Iterator[str]:
    """URL of a database at the current schema, without a row; dropped after the test."""
    with _database(postgres, template=migrated_database) as (_, url):
        yield url


class OwnPostgres:
    """A PostgreSQL server of a test's own, to be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        """Make its files."""
        if os.geteuid() == 0:  # which PostgreSQL refuses to run as
            shutil.chown(self._folder, "postgres")
        self._run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")

    def start(self) -> None:
        """Start it, and return once it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        self._run("pg_ctl", "start", "--wait", f"--log={self._folder}/log", f"--options={options}")

    def stop(self) -> None:
        """Stop it as an operator in a hurry would."""
        self._run("pg_ctl", "stop", "--wait", "--mode=fast")

    def kill(self) -> None:
        """End all of its processes as a power cut would."""
        lock = self._folder / "data" / "postmaster.pid"
        leader = int(lock.read_text().splitlines()[0])
        os.kill(leader, signal.SIGSTOP)  # so that it makes no further ones meanwhile
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        for pid in (leader, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(Path(f"/proc/{pid}/stat").exists() and not _is_dead(int(pid)) for pid in (leader, *children)):
            pass
        lock.unlink()  # where nobody reaps it, a dead leader looks alive to the next one

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(_programs() / program), f"--pgdata={self._folder}/data", *arguments]
        user = "postgres" if os.geteuid() == 0 else None
        with (self._folder / "programs.log").open("a+") as log:  # a server started here keeps it open
            done = subprocess.run(command, check=False, cwd=self._folder, user=user, stdout=log, stderr=log)
            log.seek(0)
            said = log.read()
        server = self._folder / "log"
        assert done.returncode == 0, f"{said}\n{server.read_text() if server.exists() else ''}"


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _programs() -> Path:
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if not versions:
        missing("PostgreSQL's own programs", "no initdb")
    return versions[-1].parent


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    """A running server of the test's own, with the current schema in its database `postgres`."""
    with running_postgres() as server:
        yield server


@contextmanager
def running_postgres() -> Iterator[OwnPostgres]:
    """The same, for fixtures that live longer than a test."""
    _programs()
    with tempfile.TemporaryDirectory(prefix="firstline-postgres-") as name:
        server = OwnPostgres(Path(name))
        server.make()
        server.start()
        try:
            engine = open_postgres(server.url)
            upgrade(engine)
            engine.dispose()
            yield server
        finally:
            with suppress(FileNotFoundError, ValueError, IndexError, ProcessLookupError):
                server.kill()


@contextmanager
def _database(server: str, *, template: str = "template0") -> Iterator[tuple[str, str]]:
    name = f"firstline_test_{uuid.uuid4().hex}"
    look(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}" ENCODING UTF8')
    try:
        yield name, urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        look(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def look(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows that a statement gives, seen from outside."""
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []
