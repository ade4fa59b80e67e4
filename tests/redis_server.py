"""A Redis server of a test's own, which it may stop, kill and start again."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType

from services import missing

START_S = 10.0


class RedisServer:
    """`redis-server` on a free port of loopback, without anything that outlives it."""

    def __init__(self, folder: Path) -> None:
        """Raises: pytest.skip.Exception where there is no redis-server."""
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        if found is None:
            missing("Redis", "no redis-server on PATH")
        self._program = str(found)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self._process = subprocess.Popen(
            [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ends = time.monotonic() + START_S
        while time.monotonic() < ends:
            try:
                if self.ask("PING") == "+PONG":
                    return
            except OSError:
                pass
            time.sleep(0.01)
        raise TimeoutError("redis-server does not answer")

    def kill(self) -> None:
        """End it at once, with all that it holds."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """It hangs: connections stay open and nothing is answered."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on with what has been sent to it meanwhile."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def ask(self, command: str) -> str:
        """One command from outside; the first line of the answer."""
        with closing(socket.create_connection(("127.0.0.1", self.port), 2.0)) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.makefile("rb").readline().decode().strip()
