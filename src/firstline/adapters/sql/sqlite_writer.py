"""The one thread that writes to SQLite: group commit without a timer.

The winning shape in our measurements: whatever queued up while the last commit ran is the next group. Rows go in as
one JSON text per table, so that a group costs a handful of statements however many records it has, and the
interpreter is free while SQLite works.
"""

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson
from sqlalchemy import Connection, Engine

from firstline.adapters.sql.engine import cause_of, storage_errors
from firstline.adapters.sql.merged_rows import added_up, counted, uses
from firstline.adapters.sql.storable_text import storable, storable_row
from firstline.ports.journal import (
    IdempotencyEntry,
    JournalUnavailable,
    OutboxEvent,
    Record,
    RecordRefused,
    SpendDelta,
    StoreAway,
    TicketRow,
    VerdictRow,
)
from firstline.ports.storage import StorageUnavailable

MAX_QUEUED: Final = 20_000
MAX_GROUP_ROWS: Final = 5_000
POLL_S: Final = 0.25

_Result = TypeVar("_Result")


def _insert(table: str, columns: Sequence[str], tail: str = "") -> str:
    # Table and column names are constants of this module; values travel as one bound JSON text per table.
    values = ", ".join(f"json_extract(value, '$[{index}]')" for index in range(len(columns)))
    quoted = ", ".join(f'"{column}"' for column in columns)
    return f"INSERT INTO {table} ({quoted}) SELECT {values} FROM json_each(NEW.{table}) WHERE true {tail};"  # noqa: S608  # constant names


_INBOX: Final = "\n".join(
    (
        'CREATE TEMP VIEW inbox AS SELECT NULL AS tickets, NULL AS verdicts, NULL AS "usage", NULL AS key_uses, '
        "NULL AS idempotency, NULL AS outbox, NULL AS provider_spend, NULL AS rollup_deltas;",
        "CREATE TEMP TRIGGER store INSTEAD OF INSERT ON inbox BEGIN",
        _insert("tickets", TicketRow._fields),
        _insert("verdicts", VerdictRow._fields),
        _insert(
            "usage",
            ("account_id", "catalogue", "window", "starts_at_us", "ends_at_us", "requests"),
            'ON CONFLICT (account_id, catalogue, "window", starts_at_us) '
            "DO UPDATE SET requests = requests + excluded.requests",
        ),
        _insert(
            "key_uses",
            ("key_id", "last_used_at_us", "requests"),
            "ON CONFLICT (key_id) DO UPDATE SET requests = requests + excluded.requests, "
            "last_used_at_us = max(last_used_at_us, excluded.last_used_at_us)",
        ),
        _insert("idempotency", IdempotencyEntry._fields),
        _insert("outbox", OutboxEvent._fields),
        _insert(
            "provider_spend",
            SpendDelta._fields,
            "ON CONFLICT (account_id, starts_at_us, provider, model) DO UPDATE SET "
            + ", ".join(f"{amount} = {amount} + excluded.{amount}" for amount in SpendDelta._fields[4:]),  # nosec B608  # constant names
        ),
        "INSERT INTO rollup_deltas (deltas) SELECT NEW.rollup_deltas WHERE NEW.rollup_deltas IS NOT NULL;",
        "END;",
    )
)
"""A group of records is one INSERT into a view whose trigger fills the tables. One statement is one transaction,
and the interpreter is handed over once per group, not once per statement: with a busy event loop beside the writer,
every hand-over waits for the interpreter's switch interval."""

_STORE: Final = "INSERT INTO temp.inbox VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(slots=True)
class _Write:
    """Something to do on the writer's connection, and who waits for it."""

    future: "asyncio.Future[Any]"
    record: Record | None = None
    task: Callable[[Connection], Any] | None = None


class SqliteWriter:
    """Owns the write connection of a server process. Implements `ports.journal.Journal`."""

    def __init__(self, engine: Engine, *, on_foreign_change: Callable[[], None] = lambda: None) -> None:
        """Args:
        engine: on the file to write to.
        on_foreign_change: called in the event loop after another process has changed the file.
        """
        self._engine = engine
        self._on_foreign_change = on_foreign_change
        self.on_commit: Callable[[Sequence[Record], float], None] = lambda records, seconds: None
        """Told of each group once it is durable, and how many seconds that took; in the writer's thread, before those
        who wait for it."""
        self._queue: deque[_Write] = deque()
        self._wake = threading.Event()
        self._waking = False
        self._closing = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._data_version = -1

    def start(self) -> None:
        """Begin writing; call from the event loop that will await `append`."""
        self._loop = asyncio.get_running_loop()
        self._wake.set()  # connect at once: a change by another process counts from then on
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Writes that wait for their group."""
        return len(self._queue)

    async def append(self, record: Record) -> None:
        """See `ports.journal.Journal.append`."""
        await self._put(_Write(self._future(), record=record))

    async def run(self, task: Callable[[Connection], _Result]) -> _Result:
        """Run a function in a transaction of its own on the write connection.

        Raises: StorageUnavailable, or what the function raises (nothing is stored then).
        """
        try:
            result: _Result = await self._put(_Write(self._future(), task=task))
        except JournalUnavailable as error:
            raise StorageUnavailable(str(error)) from None
        return result

    async def close(self) -> None:
        """Write what is queued, then stop."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _future(self) -> "asyncio.Future[Any]":
        if self._loop is None or self._closing:
            raise JournalUnavailable("the store is closed")
        return self._loop.create_future()

    async def _put(self, write: _Write) -> Any:
        if len(self._queue) >= MAX_QUEUED:
            raise JournalUnavailable("too many writes are waiting")
        self._queue.append(write)
        if not self._waking and self._loop is not None:
            # Only once every request of this turn of the event loop has queued its record: they are one group then.
            self._waking = True
            self._loop.call_soon(self._wake_up)
        return await write.future

    def _wake_up(self) -> None:
        self._waking = False
        self._wake.set()

    def _run(self) -> None:
        connection: Connection | None = None
        polled = time.monotonic()
        while True:
            self._wake.wait(POLL_S)
            self._wake.clear()
            try:
                if connection is None and (self._queue or not self._closing):
                    with storage_errors():
                        connection = self._connect()
                        self._poll(connection)
            except StorageUnavailable as error:
                self._fail(self._take(MAX_QUEUED), StoreAway, str(error))
            if connection is not None:
                while self._queue:
                    self._write(connection, self._take(MAX_GROUP_ROWS))
                if time.monotonic() - polled >= POLL_S:
                    polled = time.monotonic()
                    self._poll(connection)
            if self._closing and not self._queue:
                break
        if connection is not None:
            connection.close()

    def _connect(self) -> Connection:
        connection = self._engine.connect()
        try:
            raw_of(connection).executescript(_INBOX)
        except BaseException:
            connection.invalidate()
            raise
        return connection

    def _take(self, rows: int) -> list[_Write]:
        """The next group: up to `rows` rows, at least one write; a task is always alone."""
        group: list[_Write] = []
        while self._queue and rows > 0:
            if self._queue[0].task is not None:
                if not group:
                    group.append(self._queue.popleft())
                break
            write = self._queue.popleft()
            group.append(write)
            rows -= 1 + (len(write.record.tickets) if write.record else 0)
        return group

    def _write(self, connection: Connection, group: list[_Write]) -> None:
        if not group:
            return
        if group[0].task is not None:
            self._run_task(connection, group[0])
            return
        raw = raw_of(connection)
        began_s = time.perf_counter()
        records = [write.record for write in group if write.record]
        try:
            store(raw, records)
        except Exception as error:  # whatever it was, it must reach those who wait
            if len(group) == 1:
                record = group[0].record or Record()
                cleaned = storable(record)
                if cleaned == record:
                    # A full disk or a lock is the store's fault; everything else lies in the record.
                    away = isinstance(error, sqlite3.OperationalError)
                    self._fail(group, StoreAway if away else RecordRefused, cause_of(error))
                    return
                group[0].record = cleaned
            for write in group:
                self._write(connection, [write])
        else:
            self.on_commit(records, time.perf_counter() - began_s)
            self._call(_succeed, [(write.future, None) for write in group])

    def _run_task(self, connection: Connection, write: _Write) -> None:
        try:
            with storage_errors(), connection.execution_options(immediate=True).begin():
                result = write.task(connection) if write.task else None
        except Exception as error:  # handed to the one who waits for it
            connection.rollback()
            self._call(_raise, [(write.future, error)])
        else:
            self._call(_succeed, [(write.future, result)])

    def _poll(self, connection: Connection) -> None:
        try:
            version = raw_of(connection).execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            return
        if self._data_version not in (-1, version) and self._loop is not None:
            self._call(lambda _: self._on_foreign_change(), [])
        self._data_version = version

    def _fail(self, group: Iterable[_Write], kind: type[JournalUnavailable], cause: str) -> None:
        self._call(_raise, [(write.future, kind(cause)) for write in group])

    def _call(self, function: Callable[[list[Any]], None], argument: list[Any]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, argument)


def _succeed(results: list[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, result in results:
        if not future.done():
            future.set_result(result)


def _raise(errors: list[tuple["asyncio.Future[Any]", BaseException]]) -> None:
    for future, error in errors:
        if not future.done():
            future.set_exception(error)


def raw_of(connection: Connection) -> sqlite3.Connection:
    """The driver's connection under one of SQLAlchemy's."""
    raw = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        raise TypeError("the embedded writer works on SQLite only")
    return raw


def store(raw: sqlite3.Connection, records: Sequence[Record]) -> None:
    """Write records in one transaction; all of them or, on any error, none."""
    raw.execute(
        _STORE,
        (
            _json([tuple(row) for record in records for row in record.tickets]),
            _json([tuple(row) for record in records for row in record.verdicts]),
            _json(added_up(delta for record in records for delta in record.counters)),
            _json(uses(record.key_use for record in records if record.key_use)),
            _json([tuple(record.idempotency) for record in records if record.idempotency]),
            _json([tuple(event) for record in records for event in record.outbox]),
            # Row by row, not added up before: every row has to hold against the constraints by itself.
            _json([tuple(spent) for record in records for spent in record.spend]),
            counted(delta for record in records for delta in record.rollups),
        ),
    )


def _json(rows: Sequence[tuple[Any, ...]]) -> str | None:
    if not rows:
        return None
    dumped = orjson.dumps(rows)
    if b"\\u0000" in dumped:  # SQLite would take the text before it for the whole
        dumped = orjson.dumps([storable_row(row) for row in rows])
    return dumped.decode()
