"""Processes that decide on chunks of jobs, for `ports.jobs.Deciders`.

They are started when there is work, run at the lowest priority, and end when there has been none for a while. One that
ends over a chunk, or takes longer than a deadline, costs that chunk a try and nobody else anything.
"""

import asyncio
import base64
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, BinaryIO, Final

import orjson

from firstline.core.taxonomy import Contract
from firstline.ports.jobs import (
    ChunkAnswer,
    ChunkCounts,
    ChunkTask,
    DecidersUnavailable,
    Job,
    JobFilesLost,
    JobState,
    Lease,
    OwnSettings,
    ProcessDied,
)
from firstline.ports.journal import TicketRow, VerdictRow
from firstline.ports.storage import Account

DEADLINE_S: Final = 300.0
START_S: Final = 120.0
HEAD_BYTES: Final = 4

_COMMAND: Final = (sys.executable, "-m", "firstline.decide_chunks")
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class ProcessDeciders:
    """Implements `ports.jobs.Deciders`."""

    def __init__(
        self,
        count: int,
        *,
        load: Mapping[str, Any],
        environment: Mapping[str, str],
        deadline_s: float = DEADLINE_S,
        command: Sequence[str] = _COMMAND,
    ) -> None:
        """Args:
        count: processes at most.
        load: settings that say what a process loads, as plain data.
        environment: of the processes.
        deadline_s: for a chunk.
        """
        self.count = count
        self._load = dict(load)
        self._environment = {**environment, **_ONE_THREAD}
        self._deadline_s = deadline_s
        self._command = tuple(command)
        self._slots = asyncio.Semaphore(count)
        self._idle: list[_Child] = []

    async def decide(self, task: ChunkTask, own: OwnSettings) -> ChunkAnswer:
        """See the port."""
        async with self._slots:
            child = self._idle.pop() if self._idle else await self._start()
            try:
                async with asyncio.timeout(self._deadline_s):
                    answer = await child.decide(task, own)
            except JobFilesLost:
                self._idle.append(child)
                raise
            except TimeoutError:
                await child.end()
                raise ProcessDied(f"a chunk took more than {self._deadline_s:g} seconds") from None
            except (OSError, EOFError):
                await child.end()
                raise ProcessDied("a process ended over a chunk") from None
            except BaseException:
                await child.end()
                raise
            self._idle.append(child)
            return answer

    async def rest(self) -> None:
        """See the port: the processes that have nothing to do end."""
        while self._idle:
            await self._idle.pop().end()

    async def close(self) -> None:
        """See the port; whoever decides has been cancelled before."""
        await self.rest()

    async def _start(self) -> "_Child":
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._environment,
            )
        except OSError as error:
            raise DecidersUnavailable(f"no process could be started: {error.strerror}") from None
        child = _Child(process)
        try:
            async with asyncio.timeout(START_S):
                await child.send(self._load)
                said = await child.receive()
        except (TimeoutError, OSError, EOFError):
            await child.end()
            raise DecidersUnavailable("a process ended before it was ready") from None
        except BaseException:
            await child.end()
            raise
        if "ready" not in said:
            await child.end()
            raise DecidersUnavailable(said["problem"])
        return child


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def decide(self, task: ChunkTask, own: OwnSettings) -> ChunkAnswer:
        await self.send(task_to_data(task))
        said = await self.receive()
        if "own" in said:
            found = await own(task.lease.account.id)
            categories = asdict(found.categories) if found.categories else None
            if categories is not None:
                categories["trained"] = base64.b64encode(categories["trained"]).decode()
            await self.send(
                {"categories": categories, "thresholds": asdict(found.thresholds) if found.thresholds else None}
            )
            said = await self.receive()
        if "lost" in said:
            raise JobFilesLost(said["lost"])
        if "problem" in said:
            raise DecidersUnavailable(said["problem"])
        parts = []
        for _ in range(said["parts"]):
            tickets, verdicts = await self.receive()
            parts.append(([TicketRow(*row) for row in tickets], [VerdictRow(*row) for row in verdicts]))
        return ChunkAnswer(ChunkCounts(*said["counts"]), parts)

    async def send(self, data: Any) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        body = orjson.dumps(data)
        pipe.write(len(body).to_bytes(HEAD_BYTES, "big") + body)
        await pipe.drain()

    async def receive(self) -> Any:
        pipe = self._process.stdout
        assert pipe is not None
        length = int.from_bytes(await pipe.readexactly(HEAD_BYTES), "big")
        return orjson.loads(await pipe.readexactly(length))

    async def end(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()


def write_frame(pipe: BinaryIO, data: Any) -> None:
    """A message to the other side."""
    body = orjson.dumps(data)
    pipe.write(len(body).to_bytes(HEAD_BYTES, "big") + body)
    pipe.flush()


def read_frame(pipe: BinaryIO) -> Any:
    """The next message; None when the other side is gone."""
    head = pipe.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES:
        return None
    length = int.from_bytes(head, "big")
    body = pipe.read(length)
    return orjson.loads(body) if len(body) == length else None


def task_to_data(task: ChunkTask) -> dict[str, Any]:
    """A task as plain data."""
    data = asdict(task)
    account = data["lease"]["account"]
    account["plans"] = {contract.value: plan for contract, plan in task.lease.account.plans.items()}
    return data


def task_from_data(data: Mapping[str, Any]) -> ChunkTask:
    """A task from `task_to_data`."""
    lease = data["lease"]
    account = lease["account"]
    plans = {Contract(name): plan for name, plan in account["plans"].items()}
    return ChunkTask(
        **{
            **data,
            "versions": tuple(data["versions"]),
            "lease": Lease(
                **{
                    **lease,
                    "job": Job(**{**lease["job"], "state": JobState(lease["job"]["state"])}),
                    "account": Account(**{**account, "plans": plans}),
                }
            ),
        }
    )
