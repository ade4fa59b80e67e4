"""How functions on a `Connection` are run: reads and writes, in threads, within a bounded time.

On SQLite a write runs on the server's writer thread, or in a short `BEGIN IMMEDIATE` transaction of another process.
On PostgreSQL it is a serializable transaction, tried again where another one was in the way: a function that checks
and then writes may rely on what it saw, as on SQLite, and therefore must not do anything but use its connection.
"""

import asyncio
import random
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from firstline.adapters.sql.engine import storage_errors
from firstline.ports.storage import StorageUnavailable

TIMEOUT_S: Final = 30.0
SHORT_S: Final = 5.0
"""For what finds its rows by an index."""

LAST_WORDS_S: Final = 1.0
"""How long a thread has to end after its connection was cut."""

THREADS: Final = 32
ATTEMPTS: Final = 12
_IN_THE_WAY: Final = frozenset({"40001", "40P01"})

_Result = TypeVar("_Result")


class Reads(Protocol):
    """Runs a function that only reads."""

    def __call__(self, task: Callable[[Connection], _Result], /) -> Awaitable[_Result]:
        """Raises: StorageUnavailable, or what the function raises."""
        ...


class Writes(Protocol):
    """Runs a function in a write transaction; it may run more than once, and its last run is what is stored."""

    def __call__(self, task: Callable[[Connection], _Result], /) -> Awaitable[_Result]:
        """Raises: StorageUnavailable, or what the function raises."""
        ...


def read_in_threads(engine: Engine, *, timeout_s: float = TIMEOUT_S) -> Reads:
    """Reads on the engine's pool; on PostgreSQL a connection that does not answer in time is cut."""

    # One snapshot for all statements of a task, as SQLite has it.
    options = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}

    async def read(task: Callable[[Connection], _Result], /) -> _Result:
        def work(watch: _Watch) -> _Result:
            with storage_errors(), watch.connected(engine) as connection:
                return task(connection.execution_options(**options))

        return await _in_thread(work, timeout_s)

    return read


def write_directly(engine: Engine, *, timeout_s: float = TIMEOUT_S, isolation: str = "SERIALIZABLE") -> Writes:
    """Write transactions of their own: from a process that is not the server, and on PostgreSQL from any.

    Args:
        isolation: on PostgreSQL; a weaker one for functions that lock what they rely on.
    """
    if engine.dialect.name == "postgresql":
        options: dict[str, Any] = {"isolation_level": isolation}
    else:
        options = {"immediate": True}

    async def write(task: Callable[[Connection], _Result], /) -> _Result:
        def once(watch: _Watch) -> _Result:
            try:
                with watch.connected(engine) as connection:
                    connection = connection.execution_options(**options)
                    with connection.begin():
                        return task(connection)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) in _IN_THE_WAY:
                    raise _InTheWay from None
                raise

        def work(watch: _Watch) -> _Result:
            with storage_errors():
                for attempt in range(ATTEMPTS):
                    try:
                        return once(watch)
                    except _InTheWay:
                        # Full jitter, so that those who met once do not meet again.
                        time.sleep(random.uniform(0, min(0.005 * 2**attempt, 0.25)))  # noqa: S311  # spreads retries, hides nothing
            raise StorageUnavailable("the database is too busy: other writers were in the way again and again")

        return await _in_thread(work, timeout_s)

    return write


class _InTheWay(Exception):
    """Another transaction was in the way of this one; it can be tried again."""


class _Watch:
    """Which connection a thread waits on, so that it can be cut from outside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._raw: Any = None
        self._over = False

    @contextmanager
    def connected(self, engine: Engine) -> Iterator[Connection]:
        """A connection that answers, watched from its first word on."""
        for attempts_left in range(engine.pool.size() if isinstance(engine.pool, QueuePool) else 0, -1, -1):
            with engine.connect() as connection:
                raw: Any = connection.connection.driver_connection
                with self._lock:
                    if self._over:
                        raise StorageUnavailable("the database took too long")
                    self._raw = raw
                try:
                    if engine.dialect.name == "postgresql":
                        try:
                            engine.dialect.do_ping(raw)
                        except engine.dialect.loaded_dbapi.Error:
                            # The server has ended it while it lay in the pool, and maybe all others.
                            connection.invalidate()
                            if not attempts_left or self._over:
                                raise
                            continue
                    yield connection
                    return
                finally:
                    with self._lock:
                        self._raw = None

    def cut(self) -> None:
        """Shut the connection's socket; whoever waits on it gets an error at once."""
        with self._lock:
            self._over = True
            fileno = getattr(self._raw, "fileno", None)
            if fileno is None:  # SQLite, or no connection yet
                return
            try:
                with socket.socket(fileno=fileno()) as found:
                    try:
                        found.shutdown(socket.SHUT_RDWR)
                    finally:
                        found.detach()  # the driver closes it
            except Exception:  # it was closed meanwhile, in whatever words the driver has for that
                return


_threads: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="database")
"""Of their own: while a database hangs, nothing else has to wait for a thread."""


async def _in_thread(work: Callable[[_Watch], _Result], timeout_s: float) -> _Result:
    watch = _Watch()
    future = asyncio.get_running_loop().run_in_executor(_threads, work, watch)
    await asyncio.wait({future}, timeout=timeout_s)
    if not future.done():
        watch.cut()
        await asyncio.wait({future}, timeout=LAST_WORDS_S)
    if not future.done():
        future.add_done_callback(lambda late: late.cancelled() or late.exception())
        future.cancel()
        raise StorageUnavailable("the database took too long")
    return future.result()
