"""What the spool promises, over SQLite and PostgreSQL: nothing that it took is lost, nothing is stored twice."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from stores import ACCOUNT, KEY, NOW_US, _look, account, entry, idempotency, key, record, ticket, verdict

from firstline.adapters.sealing import Sealer
from firstline.adapters.spool.erasure import SpooledTexts
from firstline.adapters.spool.folder import SpoolFolder, SpoolUnusable
from firstline.adapters.spool.frames import FrameUnreadable, Spooled, frames_in, packed, unpacked
from firstline.adapters.spool.spooling_journal import SpoolingJournal
from firstline.adapters.sql.postgres_store import postgres_store
from firstline.adapters.sql.server_stores import ServerStore, sqlite_store
from firstline.core.plans import Window, window_bounds
from firstline.ports.erasure import Erasing
from firstline.ports.journal import (
    CounterDelta,
    Journal,
    JournalUnavailable,
    KeyUse,
    MarkedStore,
    OutboxEvent,
    OutcomeUnknown,
    Record,
    RecordRefused,
    StoreAway,
)
from firstline.ports.storage import StorageUnavailable
from services import look

DAY = CounterDelta(ACCOUNT, "decision", "day", *window_bounds(Window.DAY, NOW_US), 1)
MB = 1 << 20


class Clock:
    """A clock that stands."""

    def now_us(self) -> int:
        return NOW_US

    def monotonic_s(self) -> float:
        return 0.0


class Line:
    """The way to a store; it can be cut, and it can lose answers to what was stored."""

    def __init__(self, journal: Journal, marks: MarkedStore) -> None:
        self._journal = journal
        self._marks = marks
        self.away = False
        self.lost_answers = 0
        self.parts: list[int] = []

    async def append(self, record: Record) -> None:
        if self.away:
            raise StoreAway("away")
        await self._journal.append(record)

    async def append_all(self, records: Sequence[Record], *, mark: str) -> None:
        if self.away:
            raise StoreAway("away")
        await self._marks.append_all(records, mark=mark)
        self.parts.append(len(records))
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreAway("the answer was lost")

    async def settle(self, mark: str) -> bool:
        if self.away:
            raise StoreAway("away")
        return await self._marks.settle(mark)

    async def close(self) -> None:
        await self._marks.close()


class Place:
    """A store, the way to it and a folder for the spool."""

    def __init__(self, store: ServerStore, seen: Callable[[str], list[tuple[Any, ...]]], folder: Path) -> None:
        self.store = store
        self.look = seen
        self.folder = folder
        self.line = Line(store.journal, store.marks)
        self.changes: list[bool] = []
        self.refused = 0

    @asynccontextmanager
    async def spool(
        self, *, max_bytes: int = MB, sealing: Sealer | None = None, segment_bytes: int = 2_000
    ) -> AsyncIterator[SpoolingJournal]:
        spool = self.opened(max_bytes=max_bytes, sealing=sealing, segment_bytes=segment_bytes)
        await spool.start()
        try:
            yield spool
        finally:
            await spool.close()

    def opened(
        self, *, max_bytes: int = MB, sealing: Sealer | None = None, segment_bytes: int = 2_000
    ) -> SpoolingJournal:
        folder = SpoolFolder(self.folder, segment_bytes=segment_bytes)
        spool = SpoolingJournal(self.line, self.line, folder, max_bytes=max_bytes, clock=Clock(), sealing=sealing)
        spool.on_change = self.changes.append

        def refused() -> None:
            self.refused += 1

        spool.on_refused = refused
        return spool

    def tickets(self) -> list[int]:
        return sorted(int(found, 16) for (found,) in self.look("SELECT id FROM tickets"))

    def charged(self) -> int:
        return int(self.look("SELECT coalesce(sum(requests), 0) FROM usage")[0][0])

    def killed(self, spool: SpoolingJournal) -> None:
        """What `kill -9` leaves: the files as they are, and no lock."""
        for task in spool._tasks:
            task.cancel()
        spool._folder.close()


Run = Callable[[Callable[[Place], Awaitable[None]]], None]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a function on a fresh store with a spool beside it."""
    url = request.getfixturevalue("database_url") if request.param == "postgres" else None
    path = tmp_path / "store.db"

    def run_on_it(work: Callable[[Place], Awaitable[None]]) -> None:
        async def main() -> None:
            if url is None:
                store = sqlite_store(path, on_foreign_change=lambda: None, release=lambda: None)
            else:
                store = postgres_store(url, connections=4, timeout_s=5, on_foreign_change=lambda: None)
            await store.start()
            await store.storage.add_account(account(), key(), entry("1"))
            try:
                place = Place(store, lambda said: look(url, said) if url else _look(path, said), tmp_path / "spool")
                await work(place)
            finally:
                await store.close()

        asyncio.run(main())

    return run_on_it


def charged(number: int) -> Record:
    return record(number, counters=(DAY,), key_use=KeyUse(KEY, NOW_US, 1))


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110  # what is awaited happens in threads too
            await asyncio.sleep(0.005)


def test_records_go_straight_to_the_store_while_it_is_there(run: Run) -> None:
    async def work(place: Place) -> None:
        async with place.spool() as spool:
            await spool.append(charged(1))
            assert (place.tickets(), spool.taken, spool.spooling) == ([1], 0, False)

    run(work)


def test_what_was_taken_while_the_store_was_away_is_stored_once_when_it_is_back(run: Run) -> None:
    async def work(place: Place) -> None:
        async with place.spool() as spool:
            place.line.away = True
            await asyncio.gather(*(spool.append(charged(number)) for number in range(1, 51)))
            assert (place.tickets(), spool.records, spool.spooling) == ([], 50, True)
            place.line.away = False
            await until(lambda: not spool.spooling)
            assert (place.tickets(), place.charged()) == (list(range(1, 51)), 50)
            assert (spool.oldest_s, place.changes) == (0.0, [True, False])
            await until(lambda: spool.size == 0)
            await spool.append(charged(51))
            assert (spool.taken, place.charged()) == (50, 51)

    run(work)


def test_under_load_that_never_pauses_the_spool_is_empty_soon_after_the_store_is_back(run: Run) -> None:
    async def work(place: Place) -> None:
        async with place.spool(max_bytes=16 * MB, segment_bytes=MB) as spool:
            place.line.away = True
            ended = False
            appended = 0

            async def load(client: int) -> None:
                nonlocal appended
                for number in range(100_000):
                    await spool.append(charged(client * 100_000 + number))
                    appended += 1
                    if ended:
                        return

            clients = [asyncio.create_task(load(client)) for client in range(1, 9)]
            await until(lambda: appended > 100)
            place.line.away = False
            await until(lambda: False in place.changes)
            ended = True
            await asyncio.gather(*clients)
            await until(lambda: not spool.spooling)
            assert place.charged() == len(place.tickets()) == appended

    run(work)


def test_every_part_of_a_record_reaches_the_store(run: Run) -> None:
    async def work(place: Place) -> None:
        async with place.spool() as spool:
            place.line.away = True
            event = OutboxEvent("e" * 32, ACCOUNT, "ticket.classified", "{}", NOW_US)
            full = record(1, counters=(DAY,), outbox=(event,), idempotency=idempotency("x"), key_use=KeyUse(KEY, 5, 2))
            await spool.append(full)
            await spool.append(Record(verdicts=(verdict(1, revision=2),)))
            await spool.append(Record(tickets=(ticket(2, text="half \ud83d of a pair \x00"),), verdicts=(verdict(2),)))
            place.line.away = False
            await until(lambda: not spool.spooling)
        assert place.look("SELECT count(*) FROM verdicts") == [(3,)]
        assert place.look("SELECT count(*) FROM outbox") == [(1,)]
        assert place.look("SELECT count(*) FROM idempotency") == [(1,)]
        assert place.look("SELECT requests FROM key_uses") == [(2,)]
        assert place.look(f"SELECT text FROM tickets WHERE id = '{2:032x}'") == [("half \ufffd of a pair \ufffd",)]

    run(work)


@pytest.mark.parametrize("lost", [1, 3])
def test_a_part_whose_answer_was_lost_is_not_stored_again(run: Run, lost: int) -> None:
    async def work(place: Place) -> None:
        async with place.spool() as spool:
            place.line.away = True
            for _ in range(10):
                await spool.append(Record(counters=(DAY,)))  # nothing in it tells that it was stored
            place.line.lost_answers = lost
            place.line.away = False
            await until(lambda: not spool.spooling)
            assert place.charged() == 10

    run(work)


def test_a_server_killed_after_the_commit_and_before_it_heard_of_it_stores_nothing_twice(run: Run) -> None:
    async def work(place: Place) -> None:
        spool = place.opened(segment_bytes=100_000)
        await spool.start()
        place.line.away = True
        for _ in range(10):
            await spool.append(Record(counters=(DAY,)))
        place.line.away = False
        place.line.lost_answers = 1
        await until(lambda: place.charged() == 10)
        place.killed(spool)
        async with place.spool() as spool:
            assert (place.charged(), spool.records) == (10, 0)

    run(work)


def test_a_server_killed_before_the_commit_stores_everything_at_its_next_start(run: Run) -> None:
    async def work(place: Place) -> None:
        spool = place.opened()
        await spool.start()
        place.line.away = True
        await asyncio.gather(*(spool.append(charged(number)) for number in range(1, 31)))
        batch = spool._folder.read(7)
        assert batch is not None
        spool._folder.begin(batch, mark="f" * 32)
        place.killed(spool)
        place.line.away = False
        async with place.spool() as spool:
            assert (place.tickets(), place.charged(), spool.spooling) == (list(range(1, 31)), 30, False)
            await spool.append(charged(31))
        assert place.charged() == 31

    run(work)


def test_records_of_a_caller_that_awaits_each_are_stored_in_order(run: Run) -> None:
    async def work(place: Place) -> None:
        async with place.spool() as spool:
            await spool.append(record(1))
            for revision in range(2, 60):
                place.line.away = 5 < revision < 30
                # A revision of a verdict needs nothing but its ticket; the time tells the order.
                row = verdict(1, revision=revision)
                await spool.append(Record(verdicts=(row,), counters=(DAY,)))
            await until(lambda: not spool.spooling)
        assert place.look("SELECT count(*) FROM verdicts") == [(59,)]
        assert place.charged() == 58

    run(work)


def test_a_ticket_and_its_late_revision_behind_it_are_stored_in_order(run: Run) -> None:
    async def work(place: Place) -> None:
        async with place.spool() as spool:
            place.line.away = True
            await spool.append(record(1))
            place.line.away = False
            await spool.append(Record(verdicts=(verdict(1, revision=2),)))
            await until(lambda: not spool.spooling)
            assert place.look("SELECT count(*) FROM verdicts") == [(2,)]
            assert place.refused == 0

    run(work)


def test_a_record_that_breaks_a_constraint_is_refused_and_not_spooled(run: Run) -> None:
    async def work(place: Place) -> None:
        async with place.spool() as spool:
            await spool.append(charged(1))
            with pytest.raises(RecordRefused):
                await spool.append(charged(1))
            assert (spool.taken, place.charged()) == (0, 1)

    run(work)


def test_a_spooled_record_that_the_store_refuses_is_kept_aside_and_holds_up_nobody(run: Run) -> None:
    async def work(place: Place) -> None:
        async with place.spool() as spool:
            place.line.away = True
            for number in range(1, 41):
                await spool.append(charged(number) if number % 10 else Record(verdicts=(verdict(900 + number),)))
            place.line.away = False
            await until(lambda: not spool.spooling)
            assert (len(place.tickets()), place.charged(), place.refused) == (36, 36, 4)
        kept = list(frames_in((place.folder / "refused.frames").read_bytes(), at=0))
        assert [unpacked(one.body, sealing=None).record.verdicts[0].ticket_id for one in kept] == [
            f"{900 + number:032x}" for number in (10, 20, 30, 40)
        ]

    run(work)


def test_an_idempotency_key_answered_twice_costs_no_verdict(run: Run) -> None:
    async def work(place: Place) -> None:
        async with place.spool() as spool:
            await spool.append(record(1, idempotency=idempotency("same")))
            place.line.away = True
            await spool.append(record(2, idempotency=idempotency("same")))
            place.line.away = False
            await until(lambda: not spool.spooling)
            assert (place.tickets(), place.refused) == ([1, 2], 0)

    run(work)


def test_what_does_not_fit_is_refused_and_what_was_taken_is_kept(run: Run) -> None:
    async def work(place: Place) -> None:
        async with place.spool(max_bytes=5_000) as spool:
            place.line.away = True
            appends = [spool.append(charged(number)) for number in range(1, 51)]
            outcomes = await asyncio.gather(*appends, return_exceptions=True)
            taken = [number for number, outcome in enumerate(outcomes, start=1) if outcome is None]
            assert 0 < len(taken) < 50
            assert all(isinstance(outcome, JournalUnavailable) for outcome in outcomes if outcome is not None)
            assert spool.size <= 5_000
            place.line.away = False
            await until(lambda: not spool.spooling)
            assert place.tickets() == taken
            await spool.append(charged(99))

    run(work)


def test_a_disk_that_is_full_refuses_and_leaves_nothing_half_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(place: Place) -> None:
        async with place.spool() as spool:
            place.line.away = True
            await spool.append(charged(1))
            real = os.fsync

            def full(handle: int) -> None:
                raise OSError(28, "No space left on device")

            monkeypatch.setattr("firstline.adapters.spool.folder.os.fsync", full)
            with pytest.raises(JournalUnavailable):
                await spool.append(charged(2))
            assert not spool.usable
            monkeypatch.setattr("firstline.adapters.spool.folder.os.fsync", real)
            await spool.append(charged(3))
            place.line.away = False
            await until(lambda: not spool.spooling)
            assert place.tickets() == [1, 3]

    run(work)


@pytest.mark.parametrize("torn", [1, 10, 200])
def test_a_torn_end_is_cut_and_everything_before_it_is_stored(run: Run, torn: int) -> None:
    async def work(place: Place) -> None:
        spool = place.opened()
        await spool.start()
        place.line.away = True
        for number in range(1, 8):
            await spool.append(charged(number))
        place.killed(spool)
        last = max(place.folder.glob("*.spool"))
        whole = packed(Spooled(charged(8)), at_us=NOW_US, sealing=None)
        last.write_bytes(last.read_bytes() + whole[: -max(len(whole) - torn, 1)])
        place.line.away = False
        async with place.spool() as spool:
            assert place.tickets() == list(range(1, 8))
            place.line.away = True
            await spool.append(charged(9))
            place.line.away = False
            await until(lambda: not spool.spooling)
            assert place.tickets() == [*range(1, 8), 9]

    run(work)


def test_what_is_left_at_the_end_waits_for_the_next_start(run: Run) -> None:
    async def work(place: Place) -> None:
        async with place.spool() as spool:
            place.line.away = True
            await spool.append(charged(1))
        with pytest.raises(JournalUnavailable):
            await spool.append(charged(2))
        place.line.away = False
        async with place.spool():
            assert place.tickets() == [1]

    run(work)


def test_an_erasure_waits_for_what_is_in_the_spool(run: Run) -> None:
    async def work(place: Place) -> None:
        async with place.spool() as spool:
            texts = SpooledTexts(spool)
            assert await texts.erase(Erasing(ACCOUNT)) == 0
            place.line.away = True
            await spool.append(charged(1))
            with pytest.raises(StorageUnavailable):
                await texts.erase(Erasing(ACCOUNT))

    run(work)


def test_a_record_of_unknown_outcome_is_asked_for_before_it_is_stored(run: Run) -> None:
    async def work(place: Place) -> None:
        marks = ["1" * 32, "2" * 32]

        class Unknown(Line):
            async def append(self, record: Record) -> None:
                mark = marks.pop(0)
                if mark.startswith("1"):  # it was committed, and nobody heard of it
                    await self._marks.append_all([record], mark=mark)
                self.away = True
                raise OutcomeUnknown("the line broke", mark=mark)

        place.line = Unknown(place.store.journal, place.store.marks)
        async with place.spool() as spool:
            for _ in range(2):
                await spool.append(Record(counters=(DAY,)))
                place.line.away = False
                await until(lambda: not spool.spooling)
            assert place.charged() == 2

    run(work)


def test_under_a_secret_no_word_lies_in_the_folder_and_another_secret_opens_nothing(run: Run) -> None:
    async def work(place: Place) -> None:
        sealer = Sealer(["first" * 8], purpose="spool")
        async with place.spool(sealing=sealer) as spool:
            place.line.away = True
            await spool.append(Record(tickets=(ticket(1, text="my telephone is broken"),), verdicts=(verdict(1),)))
        assert all(b"telephone" not in file.read_bytes() for file in place.folder.iterdir())
        with pytest.raises(SpoolUnusable, match="SECRET_KEY"):
            place.opened(sealing=Sealer(["other" * 8], purpose="spool"))
        place.line.away = False
        async with place.spool(sealing=Sealer(["newer" * 8, "first" * 8], purpose="spool")):
            assert place.tickets() == [1]

    run(work)


def test_two_servers_never_share_a_spool(tmp_path: Path) -> None:
    first = SpoolFolder(tmp_path / "spool")
    with pytest.raises(SpoolUnusable, match="Another firstline server"):
        SpoolFolder(tmp_path / "spool")
    first.close()
    SpoolFolder(tmp_path / "spool").close()


def test_damage_in_the_middle_is_kept_beside_and_costs_one_segment_alone(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path / "spool", segment_bytes=1)
    for number in range(1, 4):
        folder.append([packed(Spooled(charged(number)), at_us=NOW_US, sealing=None)])
    folder.close()
    second = sorted((tmp_path / "spool").glob("*.spool"))[1]
    second.write_bytes(second.read_bytes()[:-1] + b"?")
    folder = SpoolFolder(tmp_path / "spool")
    assert (folder.records, folder.damaged > 0) == (2, True)
    assert second.with_suffix(".damaged").exists()
    folder.close()


def test_a_frame_of_another_shape_is_named_unreadable() -> None:
    with pytest.raises(FrameUnreadable):
        unpacked(b'{"mark":null,"tickets":[["too","short"]]}', sealing=None)
