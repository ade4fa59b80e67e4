"""Load: keep-alive connections driven by a bare protocol, cheap enough not to be what is measured."""

import asyncio
import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

import uvloop

TICK_S = 0.001


@dataclass(slots=True)
class Outcome:
    """What a run of load saw.

    Attributes:
        seconds: from the first request to the last answer.
        latencies: seconds from when each request was meant to be sent to its last byte.
        late: seconds between when each request was meant to be sent and when the generator got to it.
        refused: answers by status other than 200.
        cpu_seconds: of the generator itself.
    """

    seconds: float = 0.0
    answered: int = 0
    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, on_reply: Callable[["_Connection", str], None]) -> None:
        self._on_reply = on_reply
        self._buffer = b""
        self._need = 0
        self._transport: asyncio.WriteTransport | None = None
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def send(self, request: bytes, *, at: float) -> None:
        self.sent_at = at
        assert self._transport is not None
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._need:
            head = self._buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            headers = self._buffer[:head].lower()
            _, _, length = headers.partition(b"\r\ncontent-length:")
            self._need = head + 4 + int(length.partition(b"\r\n")[0])
        if len(self._buffer) >= self._need:
            status = self._buffer[9:12].decode()
            self._buffer, self._need = b"", 0
            self._on_reply(self, status)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def pin(cores: Sequence[int]) -> None:
    """Keep this process on some cores."""
    if cores:
        os.sched_setaffinity(0, cores)


def closed_loop(port: int, requests: Sequence[bytes], concurrency: int) -> Outcome:
    """Send all requests, `concurrency` at a time."""
    return uvloop.run(_closed_loop(port, requests, concurrency))


def repeating(port: int, requests: Sequence[bytes], seconds: float) -> Outcome:
    """Send one request after another for some time."""
    return uvloop.run(_closed_loop(port, requests, 1, seconds=seconds))


def open_loop(port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int) -> Outcome:
    """Send at random moments, `rate` a second on average, whatever the server does meanwhile."""
    return uvloop.run(_open_loop(port, requests, rate, seconds, seed))


async def _connect(port: int, count: int, on_reply: Callable[[_Connection, str], None]) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    opened = [await loop.create_connection(lambda: _Connection(on_reply), "127.0.0.1", port) for _ in range(count)]
    return [connection for _, connection in opened]


async def _closed_loop(
    port: int, requests: Sequence[bytes], concurrency: int, *, seconds: float | None = None
) -> Outcome:
    outcome, done = Outcome(), asyncio.get_running_loop().create_future()
    sent = open_now = 0

    def more(now: float) -> bool:
        return sent < len(requests) if seconds is None else now - began < seconds

    def on_reply(connection: _Connection, status: str) -> None:
        nonlocal sent, open_now
        now = perf_counter()
        outcome.latencies.append(now - connection.sent_at)
        _count(outcome, status)
        if more(now):
            connection.send(requests[sent % len(requests)], at=now)
            sent += 1
        else:
            open_now -= 1
            if not open_now:
                done.set_result(None)

    connections = await _connect(port, min(concurrency, len(requests)), on_reply)
    began, cpu = perf_counter(), _cpu_seconds()
    for connection in connections:
        open_now += 1
        connection.send(requests[sent], at=perf_counter())
        sent += 1
    await done
    outcome.seconds, outcome.cpu_seconds = perf_counter() - began, _cpu_seconds() - cpu
    _close(connections)
    return outcome


async def _open_loop(port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int) -> Outcome:
    outcome = Outcome()
    draw = random.Random(seed)
    waiting: deque[tuple[bytes, float]] = deque()
    idle: list[_Connection] = []

    def on_reply(connection: _Connection, status: str) -> None:
        outcome.latencies.append(perf_counter() - connection.sent_at)
        _count(outcome, status)
        if waiting:
            request, due = waiting.popleft()
            connection.send(request, at=due)
        else:
            idle.append(connection)

    connections = await _connect(port, 128, on_reply)
    idle.extend(connections)
    began = due = perf_counter()
    cpu = _cpu_seconds()
    sent = 0
    while due - began < seconds:
        now = perf_counter()
        while due <= now:
            outcome.late.append(now - due)
            request = requests[sent % len(requests)]
            if idle:
                idle.pop().send(request, at=due)
            else:
                waiting.append((request, due))
            sent += 1
            due += draw.expovariate(rate)
        await asyncio.sleep(TICK_S)
    patience = perf_counter() + 30
    while outcome.answered < sent and perf_counter() < patience:  # noqa: ASYNC110
        await asyncio.sleep(TICK_S)
    outcome.seconds, outcome.cpu_seconds = perf_counter() - began, _cpu_seconds() - cpu
    if outcome.answered < sent:
        outcome.refused["no answer"] = sent - outcome.answered
    _close(connections)
    return outcome


def _count(outcome: Outcome, status: str) -> None:
    outcome.answered += 1
    if status != "200":
        outcome.refused[status] = outcome.refused.get(status, 0) + 1


def _close(connections: Sequence[_Connection]) -> None:
    for connection in connections:
        connection.close()


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system


def post(path: str, body: bytes, *, key: str = "") -> bytes:
    """A request as bytes."""
    authentication = f"X-API-Key: {key}\r\n" if key else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{authentication}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
