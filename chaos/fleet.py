"""Replicas and workers, each started again by a supervisor whenever it ends."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from chaos.services import free_port

RESTART_S: Final = 0.5
"""How long a supervisor waits before it starts a process again."""

TERM_S: Final = 30.0
SPOOL_MB: Final = 1
SPOOL_BYTES: Final = SPOOL_MB << 20


class Member:
    """One process and its supervisor."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.kills = 0
        self.starts = 0
        self.status: int | None = None
        self.groups: list[int] = []
        self._command = [sys.executable, "-m", "firstline.delivery.cli", *arguments]
        self._environment = {**os.environ, **environment}
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._ending = False

    def start(self) -> None:
        """Begin to supervise it."""
        self._supervisor = asyncio.create_task(self._supervise())

    def kill(self) -> bool:
        """`kill -9`; False if it does not run at the moment."""
        if self._process is None or self._process.returncode is not None:
            return False
        self._process.kill()
        self.kills += 1
        return True

    async def end(self) -> None:
        """SIGTERM, and no new start."""
        self._ending = True
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                self.status = await asyncio.wait_for(process.wait(), TERM_S)
            except TimeoutError:
                process.kill()
        if self._supervisor is not None:
            await self._supervisor

    def left_over(self) -> list[int]:
        """Processes of its killed lives that still run; each is ended."""
        found = [pid for pid in _processes() if _group_of(pid) in self.groups]
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return found

    async def _supervise(self) -> None:
        while not self._ending:
            with self.log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
                )
            self.groups.append(self._process.pid)
            self.starts += 1
            self.status = await self._process.wait()
            if not self._ending:
                await asyncio.sleep(RESTART_S)


class Fleet:
    """Two replicas and two workers over one database and one folder for jobs."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.ports = [free_port(), free_port()]
        self.replicas = []
        for number, port in enumerate(self.ports):
            own = {
                "FIRSTLINE_JOB_PROCESSES": "0",
                "FIRSTLINE_SPOOL_DIR": str(folder / f"spool-{number}"),
                "FIRSTLINE_SPOOL_MB": str(SPOOL_MB),
            }
            self.replicas.append(
                Member(f"replica-{number}", ["serve", "--port", str(port)], {**environment, **own}, folder)
            )
        own = {"FIRSTLINE_JOB_PROCESSES": "1"}
        self.workers = [Member(f"worker-{number}", ["worker"], {**environment, **own}, folder) for number in range(2)]

    @property
    def members(self) -> list[Member]:
        """All of them."""
        return [*self.replicas, *self.workers]

    def start(self) -> None:
        """Start all."""
        for member in self.members:
            member.start()

    async def end(self) -> None:
        """End all, the workers last."""
        await asyncio.gather(*(member.end() for member in self.replicas))
        await asyncio.gather(*(member.end() for member in self.workers))


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1
