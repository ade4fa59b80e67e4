"""An open loop that keeps what was answered: who answered, whether it is valid, how long after it was due."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import orjson

from firstline.core.taxonomy import DEFAULT_CATEGORIES, Decision, Priority

_CATEGORIES: Final = frozenset(category.name for category in DEFAULT_CATEGORIES)
_PRIORITIES: Final = frozenset(Priority)
_DECISIONS: Final = frozenset(Decision)
_SOURCES: Final = frozenset({"rules", "local", "provider"})
_NO_ANSWER_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request.

    Attributes:
        due_s: when it was meant to be sent, on `time.perf_counter`'s clock.
        took_s: from then to the last byte.
        valid: status 200 and nothing but known values.
        provider: that has answered, or `local`, `timeout`, `failed`; empty without an answer.
    """

    due_s: float
    took_s: float
    valid: bool
    provider: str


Ask = Callable[[int], Awaitable[tuple[bool, str]]]
"""Makes the request of a number; whether its answer is valid, and who has given it."""


class OpenLoop:
    """Asks at random moments, at a rate, whatever has become of the questions before."""

    def __init__(self, ask: Ask, *, rate: float, seed: int) -> None:
        """Args:
        rate: requests a second on average.
        """
        self._ask = ask
        self._rate = rate
        self._draw = random.Random(seed)
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.answers: list[Answer] = []

    async def run(self) -> None:
        """Ask until stopped, and wait for what is under way."""
        number, due_s = 0, perf_counter()
        while not self._stopped:
            wait_s = due_s - perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            task = asyncio.create_task(self._one(number, due_s))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            number += 1
            due_s += self._draw.expovariate(self._rate)
        if self._running:
            await asyncio.wait(self._running, timeout=_NO_ANSWER_S)
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def stop(self) -> None:
        """Ask nothing more."""
        self._stopped = True

    async def _one(self, number: int, due_s: float) -> None:
        valid, provider = False, ""
        with suppress(OSError, EOFError, asyncio.CancelledError):
            valid, provider = await self._ask(number)
        self.answers.append(Answer(due_s, perf_counter() - due_s, valid, provider))


class Connections:
    """Keep-alive connections to one server, as many as are needed at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises: OSError or EOFError where the connection ends first.
        """
        reader, writer = await self._connection()
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return int(head[9:12]), body

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.close()  # the server has closed it after its idle time
        return await asyncio.open_connection("127.0.0.1", self._port)

    def close(self) -> None:
        """Close them all."""
        for _, writer in self._idle:
            writer.close()


def judged(status: int, body: bytes) -> tuple[bool, str]:
    """Whether an answer of the decision route is a valid verdict, and whose."""
    if status != 200:
        return False, ""
    try:
        verdict = orjson.loads(body)
        valid = (
            verdict["priority"] in _PRIORITIES
            and verdict["decision"] in _DECISIONS
            and verdict["category"] in _CATEGORIES
            and verdict["source"] in _SOURCES
            and 0 <= verdict["confidence"] <= 1
        )
        return valid, str(verdict["provider"])
    except (ValueError, KeyError, TypeError):
        return False, ""
