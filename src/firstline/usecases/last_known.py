"""What was read before a change: in doubt, and yet better than no answer while the store cannot be asked.

A change that is seen says that something is different, seldom that this is. So what was read before it is read again
when it is next needed, and where that fails, used as it was, for a bounded time after the change.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from firstline.core.plans import MICROSECONDS
from firstline.ports.clock import Clock
from firstline.ports.storage import StorageUnavailable

STALE_S: Final = 300
AWAY_S: Final = 1
"""How long those who know something wait for the store, and after a failure for how long they do not ask again."""

T = TypeVar("T")


class LastKnown:
    """Counts changes, and says what was read under an earlier count may still do."""

    def __init__(self, clock: Clock, *, stale_s: int) -> None:
        """Args:
        stale_s: how long after the change what was read before it may be used.
        """
        self._clock = clock
        self._stale_us = stale_s * MICROSECONDS
        self._ended: OrderedDict[int, int] = OrderedDict()
        self._away_until_us = 0
        self.number = 0
        """How many changes were seen; what is read now is read under this number."""

    def note_change(self) -> None:
        """Something has changed, here or elsewhere."""
        now_us = self._clock.now_us()
        self._ended[self.number] = now_us
        self.number += 1
        while self._ended and not self._lasts(next(iter(self._ended.values())), now_us):
            self._ended.popitem(last=False)

    def may_use(self, number: int) -> bool:
        """Whether what was read under a number may be used where it cannot be read again."""
        if number == self.number:
            return True
        ended_us = self._ended.get(number)
        return ended_us is not None and self._lasts(ended_us, self._clock.now_us())

    async def read_or(self, known: T | None, read: Callable[[], Awaitable[T]]) -> T:
        """What is read now; where the store is away, what is known instead.

        Args:
            known: None where nothing is that may be used; then the store is waited for.
        Raises: StorageUnavailable when nothing is known either.
        """
        if known is None:
            return await read()
        if self._clock.now_us() < self._away_until_us:
            return known
        try:
            async with asyncio.timeout(AWAY_S):  # a store that hangs is away as well
                return await read()
        except (StorageUnavailable, TimeoutError):
            self._away_until_us = self._clock.now_us() + AWAY_S * MICROSECONDS
            return known

    def _lasts(self, ended_us: int, now_us: int) -> bool:
        return ended_us <= now_us < ended_us + self._stale_us
