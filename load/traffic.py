"""Sends requests at their moments and keeps the book."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from load.connections import Connections, NoAnswer
from load.mix import Mix, Request

PREPARED: Final = 2_000
"""Requests that are made before the first is sent; more are made when the sender has time."""

MOST_RUNNING: Final = 2_000
"""Requests under way at once; beyond it, a request counts as not answered."""


@dataclass(slots=True)
class Minute:
    """What a minute of the run saw, of requests that were due in it.

    Attributes:
        latencies: by kind, seconds from the moment a request was due to the last byte of its answer.
        late: seconds between the moment a request was due and its sending.
        statuses: by kind and status.
        wrong: by kind and what happened: answers with a status that is not right, and requests without one.
    """

    latencies: dict[str, list[float]] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)
    statuses: dict[tuple[str, int], int] = field(default_factory=dict)
    wrong: dict[tuple[str, str], int] = field(default_factory=dict)


class Traffic:
    """One run."""

    def __init__(self, connections: Connections, mix: Mix) -> None:
        self.minutes: list[Minute] = []
        self._connections = connections
        self._mix = mix
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, moments: Iterator[float]) -> None:
        """Send a request at each moment and wait for the last answer."""
        prepared = [self._mix.next() for _ in range(PREPARED)]
        began = perf_counter()
        for due in moments:
            while (wait := began + due - perf_counter()) > 0:
                if len(prepared) < PREPARED and wait > 0.001:
                    prepared.append(self._mix.next())
                else:
                    await asyncio.sleep(min(wait, 0.05))
            while len(self.minutes) <= due // 60:
                self.minutes.append(Minute())
            minute = self.minutes[int(due // 60)]
            request = prepared.pop() if prepared else self._mix.next()
            minute.late.append(perf_counter() - began - due)
            if len(self._running) >= MOST_RUNNING:
                _count(minute.wrong, (request.kind, "not sent"))
                continue
            task = asyncio.create_task(self._send(request, began + due, minute))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            await asyncio.sleep(0)
        await asyncio.gather(*self._running)

    async def _send(self, request: Request, due: float, minute: Minute) -> None:
        try:
            status = await self._connections.status(request)
        except NoAnswer as failure:
            _count(minute.wrong, (request.kind, str(failure)))
            return
        if not status:
            _count(minute.statuses, (request.kind, 0))
            return
        minute.latencies.setdefault(request.kind, []).append(perf_counter() - due)
        _count(minute.statuses, (request.kind, status))
        if status not in request.expects and status != 429:
            _count(minute.wrong, (request.kind, str(status)))


def _count(counts: dict[Any, int], key: tuple[str, int | str]) -> None:
    counts[key] = counts.get(key, 0) + 1
