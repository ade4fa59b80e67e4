"""Answers at hand: a cache with a bound and a lifetime, and one call for all who ask the same at once."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from firstline.core.completion import Asked, Outcome


@dataclass(slots=True)
class Flight:
    """A question under way.

    Attributes:
        deadline_s: of the one who waits longest, on the event loop's clock; may still move until it has passed.
    """

    deadline_s: float


class Completions:
    """What providers have lately answered, by the hash of the question; masked, as it came back.

    The hash covers the account, so that nobody is answered from another account's question.
    """

    def __init__(self, *, most: int, seconds: float) -> None:
        """Args:
        most: answers kept; 0 for none.
        seconds: that an answer is kept.
        """
        self._most = most
        self._seconds = seconds
        self._kept: OrderedDict[bytes, tuple[float, Asked]] = OrderedDict()
        self._flights: dict[bytes, tuple[Flight, asyncio.Task[Asked]]] = {}
        self._tasks: set[asyncio.Task[Asked]] = set()

    def find(self, key: bytes) -> Asked | None:
        """An answer that is at hand and not too old."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if asyncio.get_running_loop().time() >= kept[0]:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return kept[1]

    def flight(
        self, key: bytes, ask: Callable[[Flight], Coroutine[Any, Any, Asked]], *, deadline_s: float
    ) -> "asyncio.Task[Asked]":
        """The call under way for a question, begun if there is none; cancelling who waits does not end it.

        Whoever waits longer than those before makes the call go on for so long. One that has missed its deadline is
        nobody's to wait for any more: what keeps it may be gone.
        """
        found = self._flights.get(key)
        if found is not None and found[0].deadline_s > asyncio.get_running_loop().time():
            found[0].deadline_s = max(found[0].deadline_s, deadline_s)
            return found[1]
        flight = Flight(deadline_s)
        task = asyncio.create_task(ask(flight))
        self._flights[key] = flight, task
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._landed(key, done))
        return task

    @property
    def flying(self) -> int:
        """Questions under way."""
        return len(self._tasks)

    def forget(self) -> None:
        """Drop every answer, and keep none of those that are under way."""
        self._kept.clear()
        self._flights.clear()

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: bytes, flight: "asyncio.Task[Asked]") -> None:
        self._tasks.discard(flight)
        wanted = key in self._flights and self._flights[key][1] is flight
        if wanted:
            del self._flights[key]
        if flight.cancelled() or flight.exception() is not None or not wanted or not self._most:
            return
        asked = flight.result()
        if asked.outcome is not Outcome.ANSWERED:
            return
        self._kept[key] = (asyncio.get_running_loop().time() + self._seconds, asked)
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
