"""How many replicas there are: each says every two seconds that it lives."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from firstline.adapters.redis.link import Gone, Link, digest
from firstline.adapters.redis.script import HEARTBEAT

KEY: Final = "firstline:replicas"
BEAT_S: Final = 2.0
SILENT_S: Final = 10
REMEMBERED_BEATS: Final = 15
"""The highest count of so many beats holds: replicas that come back after Redis did are not all counted at once."""


class Replicas:
    """Counts this replica among the others."""

    def __init__(self, link: Link, name: str, *, least: int) -> None:
        """Args:
        least: how many there are at least, as the settings say.
        """
        self._link = link
        self._name = name
        self._least = least
        self._counts: deque[int] = deque(maxlen=REMEMBERED_BEATS)

    @property
    def count(self) -> int:
        """Replicas, this one included, as last known."""
        return max(self._least, *self._counts, 1)

    async def beat(self) -> None:
        """Say once that this replica lives.

        Raises: Gone.
        """
        self._counts.append(int(await self._link.call("EVALSHA", digest(HEARTBEAT), 1, KEY, self._name, SILENT_S)))

    async def run(self) -> None:
        """The same again and again."""
        while True:
            with suppress(Gone):
                await self.beat()
            await asyncio.sleep(BEAT_S)

    async def leave(self) -> None:
        """Say that this replica is gone, as far as Redis answers."""
        with suppress(Gone):
            await self._link.call("ZREM", KEY, self._name)
