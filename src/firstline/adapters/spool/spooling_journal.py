"""A journal that keeps records on disk while the store is away, and stores them in order when it is back.

While anything waits in the spool, new records go behind it; so records of a caller that awaits each keep their order.
When the last part of the spool is being stored, new ones wait for that and then go straight to the store: otherwise the
spool would never be empty under load.
Groups are written as on SQLite: whatever queued up during one fsync is the next write.

Each part of the spool is stored under a mark that is on disk before. After a crash or a broken connection the store is
asked for that mark first, so that nothing is stored twice. A record whose outcome was unknown when it was spooled is
asked for by the mark that it was tried under.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from typing import Final

from firstline.adapters.spool.folder import Batch, SpoolFolder, SpoolUnusable
from firstline.adapters.spool.frames import FrameUnreadable, Spooled, packed, unpacked
from firstline.adapters.sql.storable_text import storable
from firstline.ports.clock import Clock
from firstline.ports.journal import (
    Journal,
    JournalUnavailable,
    MarkedStore,
    OutcomeUnknown,
    Record,
    RecordRefused,
    StoreAway,
)
from firstline.ports.sealing import Sealing

MOST_RECORDS: Final = 500
"""Stored in one transaction."""

FULL_AGAIN_S: Final = 1.0
CLOSE_S: Final = 5.0
"""How long the end waits for what can still be stored."""

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0


class SpoolingJournal:
    """Implements `ports.journal.Journal`; what is in the spool counts as durable."""

    def __init__(
        self,
        journal: Journal,
        store: MarkedStore,
        folder: SpoolFolder,
        *,
        max_bytes: int,
        clock: Clock,
        sealing: Sealing | None = None,
    ) -> None:
        """Args:
        journal: where records go while nothing is in the spool.
        store: where the spool is emptied to; the same store.
        max_bytes: of the spool on disk; what goes beyond is refused.
        sealing: seals what lies in the spool; None where it is written as it is.
        Raises: SpoolUnusable when what lies in the folder cannot be read.
        """
        self._journal = journal
        self._store = store
        self._folder = folder
        self._max_bytes = max_bytes
        self._clock = clock
        self._sealing = sealing
        self.on_change: Callable[[bool], None] = lambda spooling: None
        """Told when records begin to be spooled, and when all of them are stored."""
        self.on_taken: Callable[[int], None] = lambda records: None
        """Told how many records went into the spool."""
        self.on_stored: Callable[[], None] = lambda: None
        """Told after some of them were stored."""
        self.on_refused: Callable[[], None] = lambda: None
        """Told of a spooled record that the store refuses for good."""
        self.on_fault: Callable[[BaseException], None] = lambda error: None
        """Told of what goes wrong beside the store."""
        self._queue: list[tuple[bytes, asyncio.Future[None]]] = []
        self._queued_bytes = 0
        self._writing = 0
        self._wake = asyncio.Event()
        self._filled = asyncio.Event()
        self._going = asyncio.Event()
        self._going.set()
        self._told = False
        self._closing = False
        self._limit = MOST_RECORDS
        self._oldest_us: int | None = None
        self._unwritable_until_s = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self.taken = 0
        """Records that went into the spool since the start."""
        batch = folder.read(1)
        if batch is not None:
            self._oldest_us = batch.frames[0].at_us
            try:
                unpacked(batch.frames[0].body, sealing=sealing)
            except FrameUnreadable:
                folder.close()
                raise SpoolUnusable(
                    "The spool holds records that cannot be opened: they are encrypted under a SECRET_KEY that is not "
                    "among those given, or were written by another version of firstline."
                ) from None

    @property
    def spooling(self) -> bool:
        """Whether records wait in the spool."""
        return bool(self._folder.records or self._queue or self._writing)

    @property
    def usable(self) -> bool:
        """Whether a record would be taken if the store were away."""
        return (
            not self._closing
            and self._folder.size + self._queued_bytes < self._max_bytes
            and asyncio.get_running_loop().time() >= self._unwritable_until_s
        )

    @property
    def records(self) -> int:
        """Records that wait in the spool."""
        return self._folder.records

    @property
    def size(self) -> int:
        """Bytes of the spool on disk."""
        return self._folder.size

    @property
    def oldest_s(self) -> float:
        """Age of the oldest record that waits; 0 where none does."""
        if self._oldest_us is None or not self._folder.records:
            return 0.0
        return max(self._clock.now_us() - self._oldest_us, 0) / 1_000_000

    async def start(self) -> None:
        """Store what an earlier process has left, as far as the store is there, and begin."""
        self._tell()
        try:
            while await self._store_some():
                pass
        except (StoreAway, OSError):
            self._filled.set()
            self._going.set()
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._empty())]

    async def append(self, record: Record) -> None:
        """See `ports.journal.Journal.append`."""
        mark = None
        await self._going.wait()
        if not self.spooling:
            try:
                await self._journal.append(record)
                return
            except OutcomeUnknown as error:
                if error.mark is None:
                    raise
                mark = error.mark
            except StoreAway:
                pass
        await self._spool(Spooled(record, mark))

    async def close(self) -> None:
        """Write what is queued and store what can be stored soon; the rest waits for the next start."""
        self._closing = True
        self._wake.set()
        if self._tasks:
            await self._tasks[0]
            self._tasks[1].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._tasks[1]
            self._going.set()
            with contextlib.suppress(StoreAway, OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    while await self._store_some():
                        pass
        await self._store.close()
        self._folder.close()

    async def _spool(self, spooled: Spooled) -> None:
        if self._closing or not self._tasks:
            raise JournalUnavailable("the spool is closed")
        at_us = self._clock.now_us()
        try:
            frame = packed(spooled, at_us=at_us, sealing=self._sealing)
        except TypeError:  # half of a surrogate pair
            frame = packed(Spooled(storable(spooled.record), spooled.mark), at_us=at_us, sealing=self._sealing)
        if self._folder.size + self._queued_bytes + len(frame) > self._max_bytes:
            raise JournalUnavailable("the store is away and the spool is full")
        if not self.spooling:
            self._oldest_us = at_us
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((frame, future))
        self._queued_bytes += len(frame)
        self._tell()
        self._wake.set()
        await future

    async def _write(self) -> None:
        """Write what is queued, again and again."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                group, self._queue = self._queue, []
                self._writing = len(group)
                try:
                    await asyncio.to_thread(self._folder.append, [frame for frame, _ in group])
                except OSError:
                    loop = asyncio.get_running_loop()
                    self._unwritable_until_s = loop.time() + FULL_AGAIN_S
                    for _, future in group:
                        if not future.done():
                            future.set_exception(JournalUnavailable("the spool cannot be written"))
                else:
                    self.taken += len(group)
                    self.on_taken(len(group))
                    for _, future in group:
                        if not future.done():
                            future.set_result(None)
                finally:
                    self._writing = 0
                    self._queued_bytes -= sum(len(frame) for frame, _ in group)
                self._filled.set()
            if self._closing:
                return

    async def _empty(self) -> None:
        """Store what is in the spool, again and again."""
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._filled.wait()
            self._filled.clear()
            try:
                while await self._store_some():
                    pause_s = _FIRST_PAUSE_S
            except (StoreAway, OSError) as error:
                self._filled.set()
                self._going.set()
                if not isinstance(error, StoreAway):
                    self.on_fault(error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            except Exception as error:  # a bug must not lose what waits
                self._filled.set()
                self._going.set()
                self.on_fault(error)
                await asyncio.sleep(_LONGEST_PAUSE_S)
            else:
                await self._store.close()

    async def _store_some(self) -> bool:
        """Store the next part of the spool; whether there was one.

        Raises: StoreAway, OSError.
        """
        batch = await asyncio.to_thread(self._folder.read, self._limit)
        if batch is None:
            self._ended()
            return False
        self._oldest_us = batch.frames[0].at_us
        if self._folder.records <= len(batch.frames) and not self._closing:
            self._going.clear()
        if batch.mark is not None:
            if await self._store.settle(batch.mark):
                await self._done(batch)
            else:
                await asyncio.to_thread(self._folder.forget_mark)
            return True
        records = await self._unstored(batch)
        if records:
            mark = uuid.uuid4().hex
            await asyncio.to_thread(self._folder.begin, batch, mark=mark)
            try:
                await self._store.append_all(records, mark=mark)
            except RecordRefused:
                await asyncio.to_thread(self._folder.forget_mark)
                await self._refused(batch, records)
                return True
        await self._done(batch)
        return True

    async def _unstored(self, batch: Batch) -> list[Record]:
        """The records of a batch that were not stored before they were spooled."""
        asked: dict[str, bool] = {}
        records = []
        for spooled in await asyncio.to_thread(self._unpacked, batch):
            mark = spooled.mark
            if mark is not None and mark not in asked:
                asked[mark] = await self._store.settle(mark)
            if mark is None or not asked[mark]:
                records.append(spooled.record)
        return records

    def _unpacked(self, batch: Batch) -> list[Spooled]:
        return [unpacked(frame.body, sealing=self._sealing) for frame in batch.frames]

    async def _refused(self, batch: Batch, records: list[Record]) -> None:
        """Store fewer at once until the one at fault is alone; that one is kept aside."""
        if len(batch.frames) > 1:
            self._limit = max(len(batch.frames) // 2, 1)
            return
        self._limit = MOST_RECORDS
        (record,) = records
        if record.idempotency is not None:
            # The same request may have been answered twice while nobody could know; both answers were given.
            bare = Record(
                tickets=record.tickets,
                verdicts=record.verdicts,
                counters=record.counters,
                key_use=record.key_use,
                outbox=record.outbox,
                spend=record.spend,
                rollups=record.rollups,
            )
            mark = uuid.uuid4().hex
            await asyncio.to_thread(self._folder.begin, batch, mark=mark)
            try:
                await self._store.append_all([bare], mark=mark)
            except RecordRefused:
                await asyncio.to_thread(self._folder.forget_mark)
            else:
                await self._done(batch)
                return
        frame = packed(Spooled(record), at_us=batch.frames[0].at_us, sealing=self._sealing)
        await asyncio.to_thread(self._folder.set_aside, batch, [frame])
        self.on_refused()
        self._ended()

    async def _done(self, batch: Batch) -> None:
        await asyncio.to_thread(self._folder.done, batch)
        self._limit = min(self._limit * 2, MOST_RECORDS)
        self.on_stored()
        self._ended()

    def _ended(self) -> None:
        """Let records go straight to the store where nothing waits any more."""
        if not self.spooling:
            self._oldest_us = None
            self._going.set()
            self._tell()

    def _tell(self) -> None:
        if self._told != self.spooling:
            self._told = self.spooling
            self.on_change(self._told)
