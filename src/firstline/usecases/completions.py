"""Answers at hand: a cache with a bound and a lifetime, and one call for all who ask the same at once."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from firstline.core.completion import Asked, Outcome


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
        self._flights: dict[bytes, asyncio.Task[Asked]] = {}

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

    def flight(self, key: bytes, ask: Callable[[], Coroutine[Any, Any, Asked]]) -> "asyncio.Task[Asked]":
        """The call under way for a question, begun if there is none; cancelling who waits does not end it."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(ask())
            flight.add_done_callback(lambda done: self._landed(key, done))
        return flight

    @property
    def flying(self) -> int:
        """Questions under way."""
        return len(self._flights)

    def forget(self) -> None:
        """Drop every answer."""
        self._kept.clear()

    async def close(self) -> None:
        """End what is under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _landed(self, key: bytes, flight: "asyncio.Task[Asked]") -> None:
        del self._flights[key]
        if flight.cancelled() or flight.exception() is not None or not self._most:
            return
        asked = flight.result()
        if asked.outcome is not Outcome.ANSWERED:
            return
        self._kept[key] = (asyncio.get_running_loop().time() + self._seconds, asked)
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
