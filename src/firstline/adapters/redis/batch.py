"""All that is asked of the limits' script in one turn of the event loop, in one call."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from firstline.adapters.redis.link import Gone, Link, digest
from firstline.adapters.redis.script import LIMITS
from firstline.core.plans import MICROSECONDS

MOST_ENTRIES: Final = 512
"""Of one call; Redis serves nobody else meanwhile."""


def _ignore(_: Sequence[int] | None) -> None:
    return


@dataclass(slots=True)
class Entry:
    """One entry of a call.

    Attributes:
        width: whole numbers of its answer.
        answer: set when somebody waits for it.
        ended: told of an answer that nobody waits for; None when there is none.
    """

    key: str
    arguments: Sequence[Any]
    width: int
    answer: asyncio.Future[Sequence[int]] | None
    ended: Callable[[Sequence[int] | None], None] = _ignore


class Batch:
    """Collects entries; one call is on its way at a time, in the order of the entries."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: deque[Entry] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._name = digest(LIMITS)

    def ask(
        self,
        key: str,
        arguments: Sequence[Any],
        *,
        width: int,
        ended: Callable[[Sequence[int] | None], None] = _ignore,
    ) -> "asyncio.Future[Sequence[int]]":
        """The answer to an entry, or Gone.

        Args:
            ended: told of the answer if whoever waits has gone meanwhile.
        """
        answer: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()
        self._put(Entry(key, arguments, width, answer, ended))
        return answer

    def tell(
        self, key: str, arguments: Sequence[Any], *, ended: Callable[[Sequence[int] | None], None] = _ignore
    ) -> None:
        """An entry that nobody waits for; its answer is a code."""
        self._put(Entry(key, arguments, 1, None, ended))

    async def drain(self) -> None:
        """Wait until everything has been sent or given up."""
        while self._sending is not None:
            await asyncio.gather(self._sending, return_exceptions=True)

    def _put(self, entry: Entry) -> None:
        self._waiting.append(entry)
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._waiting:
                entries = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_ENTRIES))]
                try:
                    answer = await self._call(entries)
                except BaseException as error:
                    for entry in entries:
                        _failed(entry)
                    if not isinstance(error, Gone):
                        raise
                    continue
                at = 2
                for entry in entries:
                    _answered(entry, answer[at : at + entry.width])
                    at += entry.width
        finally:
            self._sending = None
            while self._waiting:  # only after a fault or an end
                _failed(self._waiting.popleft())

    async def _call(self, entries: Sequence[Entry]) -> Sequence[int]:
        arguments: list[Any] = []
        for entry in entries:
            arguments.extend(entry.arguments)
        keys = [entry.key for entry in entries]
        for _ in range(2):
            deadline = self._link.time_us() + int(self._link.timeout_s * MICROSECONDS)
            answer: Sequence[int] = await self._link.call("EVALSHA", self._name, len(keys), *keys, deadline, *arguments)
            self._link.told_time(answer[1])
            if answer[0]:
                return answer
        raise Gone  # twice past its deadline: not in time, and nothing was counted


def _answered(entry: Entry, answer: Sequence[int]) -> None:
    if entry.answer is not None and not entry.answer.done():
        entry.answer.set_result(answer)
    else:
        entry.ended(answer)


def _failed(entry: Entry) -> None:
    if entry.answer is not None and not entry.answer.done():
        entry.answer.set_exception(Gone())
    else:
        entry.ended(None)
