"""What replicas tell each other at once: that the breaker of a model has opened."""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import orjson
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError

from firstline.adapters.redis.link import CONNECT_S, Gone, Link, new_connection

LONGEST_NAME: Final = 300
LONGEST_TRIP_S: Final = 3_600.0
LONGEST_NEWS: Final = 2_000
SILENCE_S: Final = 3.0
"""After so long without a word the other side is asked whether it is there, and given up after as long again."""

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 2.0

Trip = Callable[[str, str, float], None]


class News:
    """Publishes trips of this replica's breakers and hears of those of others, over a connection of its own.

    What is published while Redis is away reaches nobody: a breaker is about seconds, and each replica finds out by
    itself.
    """

    def __init__(
        self,
        link: Link,
        pool: ConnectionPool,
        *,
        channel: str,
        replica: str,
        on_trip: Trip,
        count: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        """Args:
        channel: the same for all replicas; Redis shares channels between its numbered databases.
        on_trip: told of provider, model and seconds when another replica has opened a breaker.
        count: told of every message: `sent`, `unsent`, `taken`, `own` or `malformed`.
        """
        self._link = link
        self._pool = pool
        self._channel = channel
        self._replica = replica
        self._on_trip = on_trip
        self._count = count
        self._sending: set[asyncio.Task[None]] = set()
        self.listening = asyncio.Event()

    def publish_trip(self, provider: str, model: str, seconds: float) -> None:
        """Tell the others that a breaker has opened here; returns at once."""
        news = {"from": self._replica, "provider": provider, "model": model, "seconds": round(seconds, 3)}
        sending = asyncio.get_running_loop().create_task(self._publish(orjson.dumps(news)))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    async def listen(self) -> None:
        """Hear of the others until cancelled; connects again whenever the connection is lost."""
        wait_s = FIRST_WAIT_S
        while True:
            connection = new_connection(self._pool)
            try:
                async with asyncio.timeout(CONNECT_S):
                    await connection.connect()  # type: ignore[no-untyped-call]  # redis-py has no type there
                    await connection.send_command("SUBSCRIBE", self._channel)
                wait_s = FIRST_WAIT_S
                await self._hear(connection)
            except (RedisError, OSError, TimeoutError, ValueError):
                self.listening.clear()
            finally:
                with suppress(RedisError, OSError, TimeoutError):
                    await connection.disconnect(nowait=True)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2.0, LONGEST_WAIT_S)

    async def close(self) -> None:
        """Wait for what is being published."""
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _publish(self, news: bytes) -> None:
        try:
            await self._link.call("PUBLISH", self._channel, news)
        except Gone:
            self._count("unsent")
        else:
            self._count("sent")

    async def _hear(self, connection: AbstractConnection) -> None:
        asked = False
        while True:
            heard = await connection.read_response(timeout=SILENCE_S)
            if heard is None:
                if asked:
                    raise TimeoutError
                asked = True
                await connection.send_command("PING", check_health=False)
                continue
            asked = False
            if heard[0] == b"subscribe":
                self.listening.set()
            elif heard[0] == b"message":
                self._take(heard[2])

    def _take(self, news: bytes) -> None:
        trip = _trip_of(news)
        if trip is None:
            self._count("malformed")
        elif trip[0] == self._replica:
            self._count("own")
        else:
            self._count("taken")
            self._on_trip(*trip[1:])


def _trip_of(news: bytes) -> tuple[str, str, str, float] | None:
    """Who has opened which breaker for how long; None for what is no such message."""
    if len(news) > LONGEST_NEWS:
        return None
    try:
        data: Any = orjson.loads(news)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(data, dict):
        return None
    names = (data.get("from"), data.get("provider"), data.get("model"))
    seconds = data.get("seconds")
    if not all(isinstance(name, str) and len(name) <= LONGEST_NAME for name in names):
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return None
    if not 0 < seconds <= LONGEST_TRIP_S:
        return None
    return str(names[0]), str(names[1]), str(names[2]), float(seconds)
