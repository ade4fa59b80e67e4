"""One connection to Redis: every call bounded in time, and nobody waits for a Redis that is away."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from firstline.core.breaker import Breaker, BreakerPolicy, Result, admit, record, trip
from firstline.core.plans import MICROSECONDS

TIMEOUT_S: Final = 0.1
CONNECT_S: Final = 1.0
POLICY: Final = BreakerPolicy(open_s=0.25, most_open_s=2.0)

_LATE_LOOP_S: Final = 0.02
"""A timer that fires later than this says that the loop was busy, not that Redis was."""


class Gone(Exception):
    """Redis has not answered, or not in time; whether the call had an effect is not known."""


def digest(script: str) -> str:
    """The name that Redis knows a script by."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def open_pool(url: str) -> ConnectionPool:
    """Connections to a Redis that are made when they are used.

    Raises: ValueError when the address cannot be used.
    """
    database = urlsplit(url).path.removeprefix("/")
    if database and not database.isdecimal():
        raise ValueError("a database is named by its number")
    return ConnectionPool.from_url(
        url,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=None,
        socket_connect_timeout=CONNECT_S,
        driver_info=None,
    )


def new_connection(pool: ConnectionPool) -> AbstractConnection:
    """A connection of one's own, which nobody else gets; not made yet."""
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has no type there
    return connection


class Link:
    """Calls Redis over one connection, in order.

    A call that fails ends the connection. From then on calls fail at once, while the connection is made again in the
    background.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        scripts: Sequence[str] = (),
        *,
        timeout_s: float = TIMEOUT_S,
        policy: BreakerPolicy = POLICY,
        on_change: Callable[[bool], None] = lambda works: None,
    ) -> None:
        """Args:
        scripts: loaded whenever the connection is made; called by their `digest`.
        on_change: told when Redis answers again, and when it no longer does.
        """
        self._pool = pool
        self._scripts = tuple(scripts)
        self.timeout_s = timeout_s
        self._policy = policy
        self.on_change = on_change
        self._connection: AbstractConnection | None = None
        self._breaker = Breaker()
        self._lost = asyncio.Event()
        self._lock = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None
        self.generation = 0
        """Counts the times that Redis has begun to answer."""
        self._up_since_s = float("inf")
        self._told_us = 0
        self._told_at_s = 0.0

    @property
    def works(self) -> bool:
        """Whether calls are made; otherwise they fail at once."""
        return self._connection is not None

    @property
    def up_s(self) -> float:
        """How long Redis has been answering, seconds."""
        return max(time.monotonic() - self._up_since_s, 0.0)

    def time_us(self) -> int:
        """What the clock of Redis shows at least, microseconds since 1970 UTC."""
        return self._told_us + int((time.monotonic() - self._told_at_s) * MICROSECONDS)

    def told_time(self, now_us: int) -> None:
        """Redis has said what time it is."""
        self._told_us, self._told_at_s = now_us, time.monotonic()

    async def start(self) -> None:
        """Try to connect once, and go on trying in the background."""
        self._breaker = trip(self._breaker, self._policy, now_s=float("-inf"))
        await self._probe()
        self._keeping = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """End the connection."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        async with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                await connection.disconnect(nowait=True)

    async def call(self, *command: Any) -> Any:
        """One command and its answer.

        Raises: Gone.
        """
        async with self._lock:
            connection = self._connection
            if connection is None:
                raise Gone
            try:
                return await self._bounded(connection, command, self.timeout_s)
            except (RedisError, OSError, TimeoutError, ValueError):
                await self._lose(connection)
                raise Gone from None
            except BaseException:  # the answer would be taken for that of the next call
                await self._lose(connection)
                raise

    async def _bounded(self, connection: AbstractConnection, command: Sequence[Any], timeout_s: float) -> Any:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:
            timer = _Timer(loop, limit, timeout_s)
            try:
                await connection.send_command(*command)
                return await connection.read_response()
            finally:
                timer.cancel()

    async def _lose(self, connection: AbstractConnection) -> None:
        self._connection = None
        self._breaker = trip(self._breaker, self._policy, now_s=time.monotonic())
        self._lost.set()
        await _disconnected(connection)
        self.on_change(False)

    async def _keep(self) -> None:
        while True:
            if self.works:
                self._lost.clear()
                await self._lost.wait()
            await asyncio.sleep(max(self._breaker.until_s - time.monotonic(), 0.0))
            await self._probe()

    async def _probe(self) -> None:
        self._breaker, permit = admit(self._breaker, now_s=time.monotonic())
        if permit is None:
            return
        connection = new_connection(self._pool)
        try:
            async with asyncio.timeout(CONNECT_S):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py has no type there
            seconds, micros = await self._bounded(connection, ("TIME",), self.timeout_s)
            for script in self._scripts:
                await self._bounded(connection, ("SCRIPT", "LOAD", script), self.timeout_s)
        except (RedisError, OSError, TimeoutError, ValueError):
            self._breaker = record(self._breaker, permit, Result.FAILURE, self._policy, now_s=time.monotonic())
            await _disconnected(connection)
            return
        except BaseException:
            await _disconnected(connection)
            raise
        self.told_time(int(seconds) * MICROSECONDS + int(micros))
        self._breaker = record(self._breaker, permit, Result.SUCCESS, self._policy, now_s=time.monotonic())
        self._connection = connection
        self.generation += 1
        self._up_since_s = time.monotonic()
        self.on_change(True)


class _Timer:
    """Ends a call after its time; a loop that was busy itself gets the time once more to read the answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: asyncio.Timeout, timeout_s: float) -> None:
        self._loop = loop
        self._limit = limit
        self._timeout_s = timeout_s
        self._due_s = loop.time() + timeout_s
        self._handle = loop.call_at(self._due_s, self._fire)

    def cancel(self) -> None:
        self._handle.cancel()

    def _fire(self) -> None:
        if self._loop.time() - self._due_s > _LATE_LOOP_S:
            self._handle = self._loop.call_later(self._timeout_s, self._limit.reschedule, self._loop.time())
        else:
            self._limit.reschedule(self._loop.time())


async def _disconnected(connection: AbstractConnection) -> None:
    disconnect: Callable[..., Awaitable[None]] = connection.disconnect
    try:
        await disconnect(nowait=True)
    except (RedisError, OSError, TimeoutError):  # it is gone anyhow
        return
