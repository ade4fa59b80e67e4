"""The journal on PostgreSQL: group commit without a timer, over one connection of asyncpg.

Whatever queued up while the last group was committed is the next one. A group is one statement, and so one round trip
and one transaction.

Each group leaves a mark in `journal_groups`. Where the connection breaks before the answer, nobody knows whether the
group was committed. Its mark tells, and is put there by us if it is missing: the broken group cannot be committed after
that, because its own mark is taken. So a group is stored once, whatever happened. The next group removes the mark.

While the server is gone, the journal tries to reach it again and again. A record that is not durable within `timeout_s`
raises `JournalUnavailable`, and is not tried again then.
"""

import asyncio
import contextlib
import random
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import asyncpg  # type: ignore[import-untyped]  # asyncpg has no types

from firstline.adapters.sql.engine import cause_of
from firstline.adapters.sql.postgres_engine import APPLICATION, DURABLE
from firstline.adapters.sql.postgres_group import NOW, Group, group_of, is_refused
from firstline.adapters.sql.storable_text import storable
from firstline.ports.journal import JournalUnavailable, OutcomeUnknown, Record, RecordRefused, StoreAway

MAX_QUEUED: Final = 20_000
MAX_GROUP_ROWS: Final = 5_000
LOOK_S: Final = 0.1
"""How often waiting records are looked at for those whose time is over."""

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
_BUSY_ATTEMPTS: Final = 10

_LOST: Final = (OSError, TimeoutError, EOFError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_LOST_STATES: Final = ("08", "57P")
_BUSY_STATES: Final = frozenset({"40001", "40P01"})
_OF_THE_RECORD: Final = ("21", "22", "23", "54")
"""SQLSTATE classes of errors that lie in a record, so that its neighbours are better off without it."""


class _Append:
    """A record and who waits for it."""

    __slots__ = ("deadline", "future", "over", "record")

    def __init__(self, record: Record, future: "asyncio.Future[None]", deadline: float) -> None:
        self.record = record
        self.future = future
        self.deadline = deadline
        self.over = False

    def fail(self, error: BaseException) -> None:
        self.over = True
        if not self.future.done():
            self.future.set_exception(error)

    def succeed(self) -> None:
        self.over = True
        if not self.future.done():
            self.future.set_result(None)


class _AllOver(Exception):
    """The time of every record of a group is over."""


class PostgresJournal:
    """Implements `ports.journal.Journal`."""

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self.on_commit: Callable[[Sequence[Record], float], None] = lambda records, seconds: None
        """Told of a group that is durable, before those who wait for it, and of how long it took."""
        self._queue: deque[_Append] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._connection: asyncpg.Connection | None = None
        self._cause = "the database cannot be reached"
        self._pause_s = _FIRST_PAUSE_S
        self._old_marks: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._trying: list[_Append] = []
        self._unknown: str | None = None

    async def start(self) -> None:
        """Begin writing; call from the event loop that will await `append`."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._end_waits())]

    @property
    def queued(self) -> int:
        """Records that wait for their group."""
        return len(self._queue)

    @property
    def reachable(self) -> bool:
        """Whether the last attempt to reach the server succeeded."""
        return self._connection is not None and not self._connection.is_closed()

    async def append(self, record: Record) -> None:
        """See `ports.journal.Journal.append`."""
        if self._closing or not self._tasks:
            raise JournalUnavailable("the store is closed")
        if len(self._queue) >= MAX_QUEUED:
            raise JournalUnavailable("too many writes are waiting")
        if is_refused(record):
            raise RecordRefused("the record breaks a constraint")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._queue.append(_Append(record, future, loop.time() + self._timeout_s))
        self._wake.set()
        await future

    async def close(self) -> None:
        """Write what is queued, or let it fail in its time, then stop."""
        self._closing = True
        self._wake.set()
        if self._tasks:
            await self._tasks[0]
            self._tasks[1].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._tasks[1]
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*_LOST, asyncpg.PostgresError):
                await connection.execute("DELETE FROM journal_groups WHERE id = ANY($1::text[])", self._old_marks)
                await connection.close(timeout=1)
            connection.terminate()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                group = self._take()
                await self._store(group)
            if self._closing:
                return

    def _take(self) -> list[_Append]:
        group: list[_Append] = []
        rows = MAX_GROUP_ROWS
        while self._queue and rows > 0:
            append = self._queue.popleft()
            group.append(append)
            rows -= 1 + len(append.record.tickets)
        return group

    async def _store(self, group: list[_Append]) -> None:
        """Store a group; one that fails by a record of it is halved until that record is alone."""
        group = [append for append in group if not append.over]
        if not group:
            return
        try:
            await self._commit(group)
        except _AllOver:
            return
        except asyncpg.PostgresError as error:
            if not (error.sqlstate or "").startswith(_OF_THE_RECORD):
                _fail(group, StoreAway, cause_of(error))
                return
            cause = cause_of(error)
        except Exception as error:  # whatever it was, it must reach those who wait
            cause = f"the record cannot be written ({type(error).__name__})"
        else:
            for append in group:
                append.succeed()
            return
        if len(group) > 1:
            for half in (group[: len(group) // 2], group[len(group) // 2 :]):
                await self._store(half)
            return
        cleaned = storable(group[0].record)
        if cleaned == group[0].record:
            _fail(group, RecordRefused, cause)
        else:
            group[0].record = cleaned
            await self._store(group)

    async def _commit(self, group: list[_Append]) -> None:
        """Store a group in one transaction, exactly once.

        Raises: asyncpg.PostgresError when the server refused it; _AllOver.
        """
        busy = 0
        built: Group | None = None
        while True:
            connection = await self._connected(group)
            waiting = [append for append in group if not append.over]
            if not waiting:
                raise _AllOver
            if built is None or len(waiting) < len(group):
                group[:] = waiting
                built = group_of([append.record for append in group])
            mark = uuid.uuid4().hex
            began_s = asyncio.get_running_loop().time()
            rest_s = group[0].deadline - began_s
            try:
                await connection.execute(
                    built.statement, mark, self._old_marks, *built.arguments, timeout=max(rest_s, LOOK_S)
                )
            except asyncpg.PostgresError as error:
                state = error.sqlstate or ""
                if state in _BUSY_STATES and busy < _BUSY_ATTEMPTS:
                    busy += 1
                    continue
                if not state.startswith(_LOST_STATES):
                    raise
                self._drop(error)
            except _LOST as error:
                self._drop(error)
            else:
                self._old_marks = [mark]
                self.on_commit([append.record for append in group], asyncio.get_running_loop().time() - began_s)
                return
            self._trying, self._unknown = group, mark
            try:
                stored = await self._was_stored(mark, group)
            finally:
                self._trying, self._unknown = [], None
            if stored:
                if not any(append.over for append in group):  # else somebody may ask for the mark later
                    self._old_marks.append(mark)
                return

    async def _was_stored(self, mark: str, group: list[_Append]) -> bool:
        """Whether a group was committed whose answer never came; if not, it never will be."""
        while True:
            try:
                connection = await self._connected(group)
                await connection.execute(
                    f"INSERT INTO journal_groups (id, fenced, at_us) VALUES ($1, 1, {NOW}) ON CONFLICT DO NOTHING",  # noqa: S608  # constant names; values are bound
                    mark,
                    timeout=self._timeout_s,
                )
                fenced = await connection.fetchval(
                    "SELECT fenced FROM journal_groups WHERE id = $1", mark, timeout=self._timeout_s
                )
            except (*_LOST, asyncpg.PostgresError) as error:
                self._drop(error)
            else:
                return bool(fenced == 0)

    async def _connected(self, group: list[_Append]) -> asyncpg.Connection:
        """The connection, made anew where it broke.

        Raises: _AllOver when the time of all records of the group is over before.
        """
        while self._connection is None or self._connection.is_closed():
            before, self._trying = self._trying, group
            try:
                self._connection = await self._open()
                self._pause_s = _FIRST_PAUSE_S
            except (*_LOST, asyncpg.PostgresError) as error:
                self._cause = cause_of(error)
                # Jitter, so that all servers do not come back at once.
                await asyncio.sleep(self._pause_s * random.uniform(0.5, 1))  # noqa: S311  # spreads reconnects, hides nothing
                self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
            finally:
                self._trying = before
            if all(append.over for append in group):
                raise _AllOver
        return self._connection

    async def _open(self) -> asyncpg.Connection:
        timeout_s = max(1.0, min(self._timeout_s, 3.0))
        # Planning a statement of seven tables takes longer than the generic plan could ever lose.
        settings = {"application_name": f"{APPLICATION} journal", "plan_cache_mode": "force_generic_plan"}
        connection = await asyncpg.connect(self._url, timeout=timeout_s, server_settings=settings)
        try:
            await connection.execute(DURABLE, timeout=timeout_s)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _drop(self, error: BaseException) -> None:
        self._cause = cause_of(error)
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _end_waits(self) -> None:
        """Fail what waits longer than it may."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            now = loop.time()
            while self._queue and self._queue[0].deadline <= now:
                self._queue.popleft().fail(StoreAway(self._cause))
            for append in self._trying:
                if not append.over and append.deadline <= now:
                    mark = self._unknown
                    append.fail(OutcomeUnknown(self._cause, mark=mark) if mark else StoreAway(self._cause))


def _fail(group: Iterable[_Append], kind: type[JournalUnavailable], cause: str) -> None:
    for append in group:
        append.fail(kind(cause))
