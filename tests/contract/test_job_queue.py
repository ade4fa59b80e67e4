"""Every queue of jobs keeps the guarantees of `ports.jobs`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from asgi_server import FakeClock
from stores import ACCOUNT, KINDS, account, entry, open_store, record

from firstline.adapters.memory_jobs import MemoryJobs
from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.sql.postgres_store import postgres_store
from firstline.adapters.sql.runners import read_in_threads, write_directly
from firstline.adapters.sql.server_stores import sqlite_store
from firstline.adapters.sql.sql_jobs import SqlJobs
from firstline.core.plans import Window, window_bounds
from firstline.core.taxonomy import Contract
from firstline.ports.jobs import ChunkCounts, Job, JobBacklog, JobQueue, JobState, TooManyJobs
from firstline.ports.journal import CounterDelta, Journal
from firstline.ports.storage import Storage

OTHER = "c" * 32
LEASE_S = 10.0


class Opened:
    """A queue with its journal and storage, a clock to set, and two accounts."""

    def __init__(
        self, queue: JobQueue, journal: Journal, storage: Storage, events: Callable[[], Awaitable[list[Any]]]
    ) -> None:
        self.queue = queue
        self.journal = journal
        self.storage = storage
        self.events = events
        self.clock = FakeClock()
        self._ids = (f"{number:032x}" for number in range(1, 10_000))

    def new_id(self) -> str:
        return next(self._ids)

    async def add(self, sizes: list[int], *, account_id: str = ACCOUNT, most: int = 20) -> Job:
        job = Job(
            self.new_id(),
            account_id,
            Contract.CLASSIFIER.value,
            self.clock.now_us(),
            sum(sizes),
            len(sizes),
            {"keep": ["id"]},
        )
        await self.queue.add(job, sizes, most=most)
        return job

    async def finish(self, token: str, *, rows: int = 1, counters: tuple[CounterDelta, ...] = ()) -> Job | None:
        counts = ChunkCounts(rows, 0, 0)
        return await self.queue.finish(token, counts, counters=counters, event_id=self.new_id())


Run = Callable[[Callable[[Opened], Awaitable[None]]], None]


@asynccontextmanager
async def opened(kind: str, folder: Path, url: str | None) -> AsyncIterator[Opened]:
    clock = FakeClock()
    if kind == "memory":
        async with open_store(kind, folder) as store:
            memory = store.storage
            assert isinstance(memory, MemoryStore)

            async def kept() -> list[Any]:
                return [tuple(event) for event in memory.outbox.values()]

            found = Opened(MemoryJobs(memory, clock=clock), memory, memory, kept)
            found.clock = clock
            await memory.add_account(account(OTHER, email="c@example.com"), None, entry("2"))
            yield found
        return
    if kind == "sqlite":
        opened_store = sqlite_store(folder / "jobs.db", on_foreign_change=lambda: None, release=lambda: None)
    else:
        assert url is not None
        opened_store = postgres_store(url, connections=8, timeout_s=5, on_foreign_change=lambda: None)
    await opened_store.start()
    read = read_in_threads(opened_store.database)
    storage = opened_store.storage
    await storage.add_account(account(), None, entry("1"))
    await storage.add_account(account(OTHER, email="c@example.com"), None, entry("2"))

    async def stored() -> list[Any]:
        statement = "SELECT id, account_id, kind, payload, created_at_us FROM outbox ORDER BY id"
        return await read(lambda c: [tuple(row) for row in c.exec_driver_sql(statement)])

    write = opened_store.write
    if opened_store.shared:
        write = write_directly(opened_store.database, isolation="READ COMMITTED")
    found = Opened(SqlJobs(read, write, clock=clock), opened_store.journal, storage, stored)
    found.clock = clock
    try:
        yield found
    finally:
        await opened_store.close()


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a test on an opened queue of each kind."""
    url = request.getfixturevalue("database_url") if request.param == "postgres" else None

    async def main(test: Callable[[Opened], Awaitable[None]]) -> None:
        async with opened(request.param, tmp_path, url) as found:
            await test(found)

    return lambda test: asyncio.run(main(test))


def test_a_job_is_there_for_its_account_alone(run: Run) -> None:
    async def test(o: Opened) -> None:
        job = await o.add([3, 2])
        assert await o.queue.find(job.id, account_id=ACCOUNT) == job
        assert await o.queue.find(job.id, account_id=OTHER) is None
        assert await o.queue.list(OTHER, before=None, limit=10) == []
        assert await o.queue.cancel(job.id, account_id=OTHER, event_id=o.new_id()) is None
        assert not await o.queue.delete(job.id, account_id=OTHER)
        assert await o.queue.find(job.id, account_id=ACCOUNT) == job

    run(test)


def test_jobs_are_listed_newest_first_page_by_page(run: Run) -> None:
    async def test(o: Opened) -> None:
        ids = [(await o.add([1])).id for _ in range(5)]
        first = await o.queue.list(ACCOUNT, before=None, limit=3)
        rest = await o.queue.list(ACCOUNT, before=first[-1].id, limit=3)
        assert [job.id for job in [*first, *rest]] == ids[::-1]

    run(test)


def test_unfinished_jobs_of_an_account_are_bounded(run: Run) -> None:
    async def test(o: Opened) -> None:
        await o.add([1], most=2)
        second = await o.add([1], most=2)
        with pytest.raises(TooManyJobs):
            await o.add([1], most=2)
        await o.add([1], account_id=OTHER, most=2)
        await o.queue.cancel(second.id, account_id=ACCOUNT, event_id=o.new_id())
        await o.add([1], most=2)

    run(test)


def test_every_chunk_is_leased_once_with_its_place(run: Run) -> None:
    async def test(o: Opened) -> None:
        job = await o.add([1_000, 1_000, 7])
        assert await o.queue.is_waiting()
        leases = [await o.queue.claim(o.new_id(), lease_s=LEASE_S) for _ in range(3)]
        places = [(one.number, one.first_row, one.rows, one.attempts) for one in leases if one]
        assert places == [(0, 1, 1_000, 1), (1, 1_001, 1_000, 1), (2, 2_001, 7, 1)]
        assert [one.in_flight for one in leases if one] == [0, 1_000, 2_000]
        assert leases[0] is not None
        assert leases[0].account == account()
        assert leases[0].job.options == {"keep": ["id"]}
        assert await o.queue.claim(o.new_id(), lease_s=LEASE_S) is None
        assert not await o.queue.is_waiting()
        found = await o.queue.find(job.id, account_id=ACCOUNT)
        assert found is not None
        assert (found.state, found.started_at_us) == (JobState.RUNNING, o.clock.now_us())

    run(test)


def test_no_chunk_is_given_to_two_workers_that_ask_at_once(run: Run) -> None:
    async def test(o: Opened) -> None:
        await o.add([1] * 12)
        found = await asyncio.gather(*(o.queue.claim(o.new_id(), lease_s=LEASE_S) for _ in range(8)))
        numbers = [one.number for one in found if one]
        assert numbers
        assert len(set(numbers)) == len(numbers)

    run(test)


def test_a_lease_that_is_not_extended_goes_to_another_worker(run: Run) -> None:
    async def test(o: Opened) -> None:
        await o.add([5])
        first = await o.queue.claim("1" * 32, lease_s=LEASE_S)
        assert first is not None
        o.clock.advance(LEASE_S - 1)
        assert await o.queue.extend([first.token], lease_s=LEASE_S) == {first.token}
        o.clock.advance(LEASE_S - 1)
        assert await o.queue.claim("2" * 32, lease_s=LEASE_S) is None
        o.clock.advance(2)
        second = await o.queue.claim("2" * 32, lease_s=LEASE_S)
        assert second is not None
        assert (second.number, second.attempts, second.deaths) == (0, 2, 0)
        assert await o.queue.extend([first.token, second.token], lease_s=LEASE_S) == {second.token}
        assert await o.finish(first.token) is None
        done = await o.finish(second.token, rows=5)
        assert done is not None
        assert (done.state, done.done) == (JobState.FINISHED, 5)

    run(test)


def test_finish_takes_effect_once(run: Run) -> None:
    async def test(o: Opened) -> None:
        job = await o.add([2, 2])
        lease = await o.queue.claim("1" * 32, lease_s=LEASE_S)
        assert lease is not None
        starts_at_us, ends_at_us = window_bounds(Window.DAY, o.clock.now_us())
        charged = (CounterDelta(ACCOUNT, "classifier", "day", starts_at_us, ends_at_us, 2),)
        assert await o.finish(lease.token, rows=2, counters=charged) is not None
        assert await o.finish(lease.token, rows=2, counters=charged) is None
        found = await o.queue.find(job.id, account_id=ACCOUNT)
        assert found is not None
        assert (found.state, found.done, found.chunks_done) == (JobState.RUNNING, 2, 1)
        used = await o.storage.usage(ACCOUNT, Contract.CLASSIFIER, now_us=o.clock.now_us())
        assert used == {Window.DAY: 2}
        other = await o.queue.claim("2" * 32, lease_s=LEASE_S)
        assert other is not None
        await o.finish(other.token, rows=2, counters=charged)
        used = await o.storage.usage(ACCOUNT, Contract.CLASSIFIER, now_us=o.clock.now_us())
        assert used == {Window.DAY: 4}
        assert await o.queue.results(job.id) == [(0, "1" * 32), (1, "2" * 32)]

    run(test)


def test_the_last_chunk_fires_one_event(run: Run) -> None:
    async def test(o: Opened) -> None:
        job = await o.add([1, 1])
        for token in ("1" * 32, "2" * 32):
            assert await o.events() == []
            assert await o.queue.claim(token, lease_s=LEASE_S)
            await o.finish(token)
        ((_, account_id, kind, payload, _),) = await o.events()
        assert (account_id, kind) == (ACCOUNT, "job.finished")
        assert orjson.loads(payload) == {
            "job": f"job_{job.id}", "state": "finished", "rows": 2, "done": 2, "failed": 0, "needs_review": 0,
        }  # fmt: skip
        found = await o.queue.find(job.id, account_id=ACCOUNT)
        assert found is not None
        assert found.finished_at_us == o.clock.now_us()

    run(test)


def test_a_chunk_that_is_given_back_is_there_at_once(run: Run) -> None:
    async def test(o: Opened) -> None:
        await o.add([1])
        assert await o.queue.claim("1" * 32, lease_s=LEASE_S)
        await o.queue.release("1" * 32, died=True)
        assert await o.finish("1" * 32) is None
        lease = await o.queue.claim("2" * 32, lease_s=LEASE_S)
        assert lease is not None
        assert (lease.attempts, lease.deaths) == (2, 1)

    run(test)


def test_a_paused_job_waits_for_its_time(run: Run) -> None:
    async def test(o: Opened) -> None:
        job = await o.add([1])
        assert await o.queue.claim("1" * 32, lease_s=LEASE_S)
        until_us = o.clock.now_us() + 5_000_000
        await o.queue.pause("1" * 32, until_us=until_us)
        found = await o.queue.find(job.id, account_id=ACCOUNT)
        assert found is not None
        assert (found.state, found.resumes_at_us) == (JobState.PAUSED, until_us)
        assert await o.queue.claim("2" * 32, lease_s=LEASE_S) is None
        o.clock.advance(5)
        lease = await o.queue.claim("2" * 32, lease_s=LEASE_S)
        assert lease is not None
        assert (lease.attempts, lease.job.state, lease.job.resumes_at_us) == (1, JobState.RUNNING, None)

    run(test)


def test_accounts_take_turns_whatever_they_have_waiting(run: Run) -> None:
    async def test(o: Opened) -> None:
        large = [await o.add([1_000] * 30), await o.add([1_000] * 30)]
        turns = []
        for number in range(4):
            lease = await o.queue.claim(o.new_id(), lease_s=LEASE_S)
            assert lease is not None
            turns.append(lease.account.id)
            if number == 0:
                await o.add([50, 50], account_id=OTHER)
        assert turns == [ACCOUNT, OTHER, ACCOUNT, OTHER]
        rest = [await o.queue.claim(o.new_id(), lease_s=LEASE_S) for _ in range(4)]
        assert [one.job.id for one in rest if one] == [large[0].id, large[1].id] * 2
        for _ in range(3):  # one small job after the other does not jump the queue
            await o.add([1], account_id=OTHER)
        after = [await o.queue.claim(o.new_id(), lease_s=LEASE_S) for _ in range(4)]
        assert [one.account.id for one in after if one] == [OTHER, ACCOUNT, OTHER, ACCOUNT]

    run(test)


def test_a_cancelled_job_ends_but_for_what_is_under_way(run: Run) -> None:
    async def test(o: Opened) -> None:
        job = await o.add([1, 1, 1])
        assert await o.queue.claim("1" * 32, lease_s=LEASE_S)
        ended = await o.queue.cancel(job.id, account_id=ACCOUNT, event_id=o.new_id())
        assert ended is not None
        assert (ended.state, ended.finished_at_us) == (JobState.CANCELLED, o.clock.now_us())
        assert await o.queue.claim("2" * 32, lease_s=LEASE_S) is None
        done = await o.finish("1" * 32)
        assert done is not None
        assert (done.state, done.done) == (JobState.CANCELLED, 1)
        again = await o.queue.cancel(job.id, account_id=ACCOUNT, event_id=o.new_id())
        assert again == done
        assert len(await o.events()) == 1

    run(test)


def test_a_deleted_job_is_gone(run: Run) -> None:
    async def test(o: Opened) -> None:
        job, other = await o.add([1, 1]), await o.add([1])
        assert await o.queue.claim("1" * 32, lease_s=LEASE_S)
        assert await o.queue.delete(job.id, account_id=ACCOUNT)
        assert await o.queue.find(job.id, account_id=ACCOUNT) is None
        assert await o.finish("1" * 32) is None
        assert await o.queue.known([job.id, other.id]) == {other.id}

    run(test)


def test_the_backlog_is_what_waits_for_a_worker_and_since_when(run: Run) -> None:
    async def test(o: Opened) -> None:
        start_us = o.clock.now_us()
        assert await o.queue.backlog() == JobBacklog(0, None)
        await o.add([3, 2])
        o.clock.advance(5)
        other = await o.add([4], account_id=OTHER)
        assert await o.queue.backlog() == JobBacklog(9, start_us)
        o.clock.advance(5)
        assert await o.queue.claim("1" * 32, lease_s=LEASE_S)  # the first job has had a turn; the other waits longer
        assert await o.queue.backlog() == JobBacklog(9, other.created_at_us)
        o.clock.advance(1)
        assert await o.queue.claim("2" * 32, lease_s=LEASE_S)
        assert await o.queue.backlog() == JobBacklog(9, start_us + 10_000_000)
        await o.finish("1" * 32, rows=3)
        o.clock.advance(1)
        assert await o.queue.claim("3" * 32, lease_s=LEASE_S)
        assert await o.queue.backlog() == JobBacklog(6, None)  # all of it is being worked on
        o.clock.advance(LEASE_S + 1)
        assert await o.queue.backlog() == JobBacklog(6, start_us + 11_000_000)  # by workers that have gone

    run(test)


def test_a_paused_job_is_no_backlog_until_it_may_go_on(run: Run) -> None:
    async def test(o: Opened) -> None:
        await o.add([3])
        assert await o.queue.claim("1" * 32, lease_s=LEASE_S)
        opens_us = o.clock.now_us() + 60_000_000
        await o.queue.pause("1" * 32, until_us=opens_us)
        assert await o.queue.backlog() == JobBacklog(0, None)
        o.clock.advance(61)
        assert await o.queue.backlog() == JobBacklog(3, opens_us)

    run(test)


def test_old_jobs_are_found_by_their_end(run: Run) -> None:
    async def test(o: Opened) -> None:
        job, _ = await o.add([1]), await o.add([1])
        await o.queue.cancel(job.id, account_id=ACCOUNT, event_id=o.new_id())
        now_us = o.clock.now_us()
        assert await o.queue.finished_before(now_us, limit=10) == []
        assert [old.id for old in await o.queue.finished_before(now_us + 1, limit=10)] == [job.id]

    run(test)


def test_tickets_that_are_stored_are_told_from_those_that_are_not(run: Run) -> None:
    async def test(o: Opened) -> None:
        await o.journal.append(record(7))
        assert await o.queue.stored([f"{7:032x}", f"{8:032x}"]) == {f"{7:032x}"}

    run(test)
