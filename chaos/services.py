"""A PostgreSQL server and a Redis server of our own, which can be stopped, killed, frozen and started again."""

import asyncio
import os
import pwd
import shutil
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import psycopg
import redis.asyncio

START_S: Final = 30.0
POSTGRES_USER: Final = "postgres"
"""Who runs PostgreSQL where we are root, which it refuses."""

_POLL_S: Final = 0.05
_PLACES: Final = ("/usr/lib/postgresql/*/bin", "/usr/local/opt/postgresql*/bin", "/opt/homebrew/opt/postgresql*/bin")


class CannotRun(Exception):
    """Something that the run needs is not there; the message is a sentence."""


class Service:
    """A server process."""

    name = "service"

    def __init__(self) -> None:
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises: CannotRun.
        """
        self._process = await self._spawn()
        patience = asyncio.get_running_loop().time() + START_S
        while not await self._answers():
            if not self.is_up or asyncio.get_running_loop().time() > patience:
                raise CannotRun(f"{self.name} did not start.")
            await asyncio.sleep(_POLL_S)

    async def stop(self, how: signal.Signals) -> None:
        """End it by a signal and wait until it is gone."""
        if self._process is None or not self.is_up:
            return
        self._process.send_signal(how)
        try:
            await asyncio.wait_for(self._process.wait(), START_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def freeze(self) -> None:
        """It neither answers nor closes its connections."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """To the process and those that it has made."""
        assert self._process is not None
        for pid in (self._process.pid, *_children(self._process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def _spawn(self) -> asyncio.subprocess.Process:
        raise NotImplementedError

    async def _answers(self) -> bool:
        raise NotImplementedError


class Postgres(Service):
    """PostgreSQL on a data folder of its own, as durable as it is by default."""

    name = "PostgreSQL"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder / "postgres"
        self._log = folder / "postgres.log"
        self._as_user = POSTGRES_USER if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        """Of its database."""
        return f"postgresql://{POSTGRES_USER}@127.0.0.1:{self.port}/{POSTGRES_USER}"

    async def make(self) -> None:
        """Make the data folder.

        Raises: CannotRun.
        """
        self._folder.mkdir()
        if self._as_user is not None:
            try:
                found = pwd.getpwnam(self._as_user)
            except KeyError:
                raise CannotRun(
                    f"PostgreSQL refuses root, and there is no user {self._as_user} to run it as."
                ) from None
            os.chown(self._folder, found.pw_uid, found.pw_gid)
        command = [_binary("initdb"), "-D", str(self._folder), "-U", POSTGRES_USER, "-A", "trust", "-E", "UTF8"]
        made = await self._run([*command, "--locale=C", "--no-sync"])
        if await made.wait():
            raise CannotRun(f"initdb failed; see {self._log}.")

    async def _spawn(self) -> asyncio.subprocess.Process:
        settings = (
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            "unix_socket_directories=",
            "max_connections=120",
        )
        options = [part for setting in settings for part in ("-c", setting)]
        return await self._run([_binary("postgres"), "-D", str(self._folder), *options])

    async def _run(self, command: Sequence[str]) -> asyncio.subprocess.Process:
        with self._log.open("ab") as log:
            if self._as_user is None:
                return await asyncio.create_subprocess_exec(
                    *command, stdout=log, stderr=log, cwd="/", start_new_session=True
                )
            return await asyncio.create_subprocess_exec(
                *command,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                user=self._as_user,
                group=pwd.getpwnam(self._as_user).pw_gid,
                extra_groups=[],
            )

    async def _answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            connection = await psycopg.AsyncConnection.connect(self.url, connect_timeout=2)
            await connection.close()
            return True
        return False


class Redis(Service):
    """Redis that keeps nothing on disk: killed, it comes back empty."""

    name = "Redis"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._log = folder / "redis.log"

    @property
    def url(self) -> str:
        """Of its database."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def _spawn(self) -> asyncio.subprocess.Process:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                _binary("redis-server"), *options, stdout=log, stderr=log, cwd="/", start_new_session=True
            )

    async def _answers(self) -> bool:
        client = redis.asyncio.Redis.from_url(self.url, socket_timeout=1)
        with suppress(redis.RedisError):
            await client.ping()
            return True
        await client.aclose()
        return False


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _binary(name: str) -> str:
    """Where a program is.

    Raises: CannotRun.
    """
    found = shutil.which(name)
    if found is not None:
        return found
    places = [place for pattern in _PLACES for place in Path("/").glob(pattern[1:])]
    for place in sorted(places, reverse=True):
        if (place / name).exists():
            return str(place / name)
    raise CannotRun(f"{name} was not found: install PostgreSQL and Redis, or put them on PATH.")
