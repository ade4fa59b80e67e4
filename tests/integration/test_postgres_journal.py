"""The journal on PostgreSQL behind a connection that breaks on purpose."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from firstline.adapters.sql.postgres_engine import open_postgres
from firstline.adapters.sql.postgres_journal import PostgresJournal
from firstline.adapters.sql.postgres_store import postgres_store
from firstline.adapters.sql.runners import read_in_threads, write_directly
from firstline.adapters.sql.server_stores import ServerStore
from firstline.core.plans import Window, window_bounds
from firstline.core.taxonomy import Contract
from firstline.ports.journal import CounterDelta, JournalUnavailable, KeyUse, OutcomeUnknown, Record, RecordRefused
from firstline.ports.storage import StorageUnavailable
from services import look

sys.path.append(str(Path(__file__).parents[1] / "contract"))
from stores import ACCOUNT, KEY, NOW_US, account, entry, key, record, ticket, verdict

pytestmark = pytest.mark.service
DAY = CounterDelta(ACCOUNT, "decision", "day", *window_bounds(Window.DAY, NOW_US), 1)
TIMEOUT_S = 1.0
SLACK_S = 4.0
"""What a busy machine may add to a bound; the bound itself is `TIMEOUT_S`."""


class Line:
    """A connection to PostgreSQL that can be cut, frozen, or cut before the next answer arrives."""

    def __init__(self, url: str) -> None:
        found = urlsplit(url)
        self._to = (found.hostname or "127.0.0.1", found.port or 5432)
        self._url = found
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.lose_answer = False
        self.lost_an_answer = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return self._url._replace(netloc=f"{self._url.username}@127.0.0.1:{self.port}").geturl()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Nobody can connect, and nobody is connected."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def freeze(self, frozen: bool) -> None:
        (self._flowing.clear if frozen else self._flowing.set)()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._to)
        self._writers |= {writer, up_writer}
        await asyncio.gather(self._pass(reader, up_writer), self._pass(up_reader, writer, answers=True))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._flowing.wait()
                if answers and self.lose_answer:
                    self.lose_answer = False
                    self.lost_an_answer.set()
                    self.cut()
                    return
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def opened(url: str, *, timeout_s: float = TIMEOUT_S) -> AsyncIterator[tuple[PostgresJournal, Line]]:
    """A journal behind a line, on a database with one account and one key."""
    store = postgres_store(url, connections=4, timeout_s=timeout_s, on_foreign_change=lambda: None)
    await store.storage.add_account(account(), key(), entry("1"))
    store.abandon()
    line = Line(url)
    await line.open()
    journal = PostgresJournal(line.url, timeout_s=timeout_s)
    await journal.start()
    try:
        yield journal, line
    finally:
        line.freeze(False)
        await journal.close()
        await line.close()


def stored(url: str) -> list[tuple[int, int]]:
    """Tickets, and requests that were charged."""
    return look(url, "SELECT (SELECT count(*) FROM tickets), (SELECT coalesce(sum(requests), 0)::int FROM usage)")


def until_waiting(url: str, number: int) -> None:
    """Until so many connections wait for a lock."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while len(look(url, waiting)) < number:
        pass


Work = Callable[[PostgresJournal, Line], Awaitable[None]]


def run(url: str, work: Work, *, timeout_s: float = TIMEOUT_S) -> None:
    async def with_journal() -> None:
        async with opened(url, timeout_s=timeout_s) as (journal, line):
            await work(journal, line)

    asyncio.run(with_journal())


def charged(number: int) -> Record:
    return record(number, counters=(DAY,))


def test_a_record_whose_answer_was_lost_is_stored_once(database_url: str) -> None:
    async def work(journal: PostgresJournal, line: Line) -> None:
        await journal.append(charged(1))
        line.lose_answer = True
        await journal.append(charged(2))
        assert line.lost_an_answer.is_set()
        await journal.append(charged(3))

    run(database_url, work, timeout_s=10)
    assert stored(database_url) == [(3, 3)]


def test_counts_without_a_ticket_are_added_once_when_the_answer_was_lost(database_url: str) -> None:
    async def work(journal: PostgresJournal, line: Line) -> None:
        for _ in range(3):
            await journal.append(Record(counters=(DAY,)))  # now the next answer is that to the commit
            line.lose_answer = True
            await journal.append(Record(counters=(DAY,)))

    run(database_url, work, timeout_s=10)
    assert stored(database_url) == [(0, 6)]


def test_a_group_that_is_still_under_way_behind_a_broken_connection_is_stored_once(database_url: str) -> None:
    async def work(journal: PostgresJournal, line: Line) -> None:
        await journal.append(charged(1))
        with psycopg.connect(database_url) as other:
            other.execute("LOCK TABLE usage IN ACCESS EXCLUSIVE MODE")
            under_way = asyncio.ensure_future(journal.append(charged(2)))
            await asyncio.to_thread(until_waiting, database_url, 1)
            line.cut()
            await asyncio.to_thread(until_waiting, database_url, 2)
            assert not under_way.done()
            other.rollback()
        await under_way

    run(database_url, work, timeout_s=20)
    assert stored(database_url) == [(2, 2)]


def test_while_the_server_is_gone_records_fail_in_time_and_are_never_stored(database_url: str) -> None:
    async def work(journal: PostgresJournal, line: Line) -> None:
        await journal.append(charged(1))
        await line.close()
        began = asyncio.get_running_loop().time()
        outcomes = await asyncio.gather(*(journal.append(charged(n)) for n in range(2, 40)), return_exceptions=True)
        assert asyncio.get_running_loop().time() - began < TIMEOUT_S + SLACK_S
        assert all(isinstance(outcome, JournalUnavailable) for outcome in outcomes)
        assert "cannot be reached" in str(outcomes[0])
        assert not journal.reachable
        await line.open()
        with suppress(JournalUnavailable):
            await journal.append(charged(50))
        await journal.append(charged(51))

    run(database_url, work)
    numbers = {int(found, 16) for (found,) in look(database_url, "SELECT id FROM tickets")}
    assert numbers <= {1, 50, 51}
    assert {1, 51} <= numbers


def test_a_server_that_hangs_lets_records_fail_in_time_and_is_used_again_when_it_answers(database_url: str) -> None:
    async def work(journal: PostgresJournal, line: Line) -> None:
        await journal.append(charged(1))
        line.freeze(True)
        began = asyncio.get_running_loop().time()
        outcomes = await asyncio.gather(*(journal.append(charged(n)) for n in range(2, 9)), return_exceptions=True)
        assert asyncio.get_running_loop().time() - began < TIMEOUT_S + SLACK_S
        assert all(isinstance(outcome, JournalUnavailable) for outcome in outcomes)
        assert any(isinstance(outcome, OutcomeUnknown) for outcome in outcomes)
        line.freeze(False)
        for number in range(50, 60):
            with suppress(JournalUnavailable):
                await journal.append(charged(number))
        await journal.append(charged(60))

    run(database_url, work)
    tickets, requests = stored(database_url)[0]
    assert tickets == requests


def test_connections_that_the_server_ends_are_made_anew_without_an_error(database_url: str) -> None:
    async def work(journal: PostgresJournal, _: Line) -> None:
        for number in range(5):
            await journal.append(charged(number))
            look(
                database_url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )

    run(database_url, work, timeout_s=10)
    assert stored(database_url) == [(5, 5)]


@pytest.mark.parametrize("text", ["a\x00b", "\x00", "half \ud83d of a pair", "\udc00\x00"])
def test_characters_that_cannot_be_stored_are_replaced_one_by_one(database_url: str, text: str) -> None:
    async def work(journal: PostgresJournal, _: Line) -> None:
        others = (charged(number) for number in range(2, 20))
        await asyncio.gather(
            journal.append(Record(tickets=(ticket(1, text=text),), verdicts=(verdict(1),))),
            *map(journal.append, others),
        )

    run(database_url, work, timeout_s=10)
    ((found,),) = look(database_url, f"SELECT text FROM tickets WHERE id = '{1:032x}'")
    assert len(found) == len(text)
    assert found.replace("\ufffd", "") == text.translate({0: None, 0xD83D: None, 0xDC00: None})
    assert stored(database_url) == [(19, 18)]


def test_a_member_that_is_too_long_for_its_column_fails_alone(database_url: str) -> None:
    async def work(journal: PostgresJournal, _: Line) -> None:
        bad = Record(tickets=(ticket(1)._replace(language="x" * 9),))
        outcomes = await asyncio.gather(*map(journal.append, [charged(2), bad, charged(3)]), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), RecordRefused, type(None)]
        assert "x" * 9 not in str(outcomes[1])

    run(database_url, work, timeout_s=10)


def test_a_database_that_does_not_wait_for_its_disk_is_made_to_for_what_we_write(database_url: str) -> None:
    name = urlsplit(database_url).path[1:]
    look(database_url, f'ALTER DATABASE "{name}" SET synchronous_commit = off')

    async def work() -> None:
        store = postgres_store(database_url, connections=2, timeout_s=5, on_foreign_change=lambda: None)
        journal = PostgresJournal(database_url)
        await journal.start()
        await journal.append(Record())
        assert await journal._connection.fetchval("SHOW synchronous_commit") == "on"  # type: ignore[union-attr]
        with store.database.connect() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        await journal.close()
        store.abandon()

    asyncio.run(work())


def test_more_records_than_may_wait_are_refused_at_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firstline.adapters.sql.postgres_journal.MAX_QUEUED", 10)

    async def work(journal: PostgresJournal, line: Line) -> None:
        line.freeze(True)
        waiting = [asyncio.ensure_future(journal.append(charged(number))) for number in range(10)]
        await asyncio.sleep(0)
        with pytest.raises(JournalUnavailable, match="too many writes are waiting"):
            await asyncio.gather(*(journal.append(charged(number)) for number in range(10, 30)))
        line.freeze(False)
        await asyncio.gather(*waiting)

    run(database_url, work, timeout_s=20)
    assert stored(database_url)[0][0] >= 10


def test_closing_while_the_server_is_gone_ends_in_time(database_url: str) -> None:
    async def work(journal: PostgresJournal, line: Line) -> None:
        await line.close()
        appended = asyncio.ensure_future(journal.append(charged(1)))
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await journal.close()
        assert asyncio.get_running_loop().time() - began < TIMEOUT_S + SLACK_S
        with pytest.raises(JournalUnavailable):
            await appended

    run(database_url, work)


def test_two_journals_add_to_the_same_counts_without_losing_one_or_waiting_in_a_circle(database_url: str) -> None:
    async def work(first: PostgresJournal, line: Line) -> None:
        second = PostgresJournal(database_url, timeout_s=20)
        await second.start()
        windows = [DAY._replace(catalogue=name) for name in ("classifier", "decision", "a", "b", "c", "d")]

        async def add(journal: PostgresJournal, caller: int) -> None:
            for number in range(20):
                counters = windows[::-1] if (caller + number) % 2 else windows
                await journal.append(Record(counters=tuple(counters), key_use=KeyUse(KEY, NOW_US, 1)))

        await asyncio.gather(*(add(journal, caller) for journal in (first, second) for caller in range(10)))
        await second.close()

    run(database_url, work, timeout_s=20)
    assert look(database_url, "SELECT DISTINCT requests FROM usage") == [(400,)]
    assert look(database_url, "SELECT requests FROM key_uses") == [(400,)]
    assert look(database_url, "SELECT count(*) FROM journal_groups") == [(0,)]


@asynccontextmanager
async def two_servers(url: str, seen: "asyncio.Event") -> AsyncIterator[tuple[ServerStore, ServerStore]]:
    first = postgres_store(url, connections=4, timeout_s=5, on_foreign_change=lambda: None)
    second = postgres_store(url, connections=4, timeout_s=5, on_foreign_change=seen.set)
    await first.start()
    await second.start()
    try:
        yield first, second
    finally:
        await first.close()
        await second.close()


def test_a_change_of_one_server_is_seen_by_the_other_within_a_second(database_url: str) -> None:
    async def work() -> None:
        seen = asyncio.Event()
        async with two_servers(database_url, seen) as (first, second):
            await first.storage.add_account(account(), key(), entry("1"))
            for number in range(100):  # until it has begun to look
                await first.storage.set_plan(ACCOUNT, Contract.DECISION, "starter", entry(str(1_000 + number)))
                with suppress(TimeoutError):
                    await asyncio.wait_for(seen.wait(), 0.3)
                    break
            for change in (
                first.storage.set_plan(ACCOUNT, Contract.DECISION, "free", entry("2")),
                first.storage.revoke_key(KEY, account_id=None, at_us=NOW_US, audit=entry("3")),
            ):
                seen.clear()
                await change
                await asyncio.wait_for(seen.wait(), 1)
            seen.clear()
            await first.journal.append(Record(counters=(DAY,), key_use=KeyUse(KEY, NOW_US, 1)))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(seen.wait(), 0.6)
            assert await second.storage.find_key(f"hash-{KEY}") is not None

    asyncio.run(work())


def test_checks_and_writes_of_many_at_once_are_as_if_one_came_after_the_other(database_url: str) -> None:
    async def work() -> None:
        async with two_servers(database_url, asyncio.Event()) as stores:
            accounts = (account(f"{n:032x}", email="race@example.com") for n in range(10))
            outcomes = await asyncio.gather(
                *(stores[n % 2].storage.add_account(one, None, entry(str(100 + n))) for n, one in enumerate(accounts)),
                return_exceptions=True,
            )
            assert sorted(type(outcome).__name__ for outcome in outcomes) == ["EmailTaken"] * 9 + ["NoneType"]
            kept = (
                stores[n % 2].storage.keep_version(
                    "rules", "same", "body", audit=entry(str(200 + n), action="rules.change", target="same")
                )
                for n in range(10)
            )
            await asyncio.gather(*kept)
            assert look(database_url, "SELECT count(*) FROM audit WHERE action = 'rules.change'") == [(1,)]

    asyncio.run(work())


@pytest.mark.parametrize("pooled", [True, False])
def test_a_read_of_a_server_that_hangs_fails_in_time_and_the_next_one_works(database_url: str, pooled: bool) -> None:
    async def work() -> None:
        line = Line(database_url)
        await line.open()
        engine = open_postgres(line.url, connections=2, timeout_s=1)
        read = read_in_threads(engine, timeout_s=0.5)
        if pooled:
            assert await read(lambda c: c.exec_driver_sql("SELECT 1").scalar()) == 1
        line.freeze(True)
        began = asyncio.get_running_loop().time()
        with pytest.raises(StorageUnavailable):
            await read(lambda c: c.exec_driver_sql("SELECT 1").scalar())
        assert asyncio.get_running_loop().time() - began < 0.5 + SLACK_S
        line.freeze(False)
        assert await read_in_threads(engine)(lambda c: c.exec_driver_sql("SELECT 1").scalar()) == 1
        engine.dispose()
        await line.close()

    asyncio.run(work())


def test_a_read_that_takes_too_long_is_cut_and_the_next_one_works(database_url: str) -> None:
    async def work() -> None:
        engine = open_postgres(database_url, connections=1)
        with pytest.raises(StorageUnavailable):
            await read_in_threads(engine, timeout_s=0.2)(lambda c: c.exec_driver_sql("SELECT pg_sleep(60)").scalar())
        assert await read_in_threads(engine)(lambda c: c.exec_driver_sql("SELECT 1").scalar()) == 1
        engine.dispose()

    asyncio.run(work())


def test_connections_that_were_ended_in_the_pool_are_replaced_without_an_error(database_url: str) -> None:
    async def work() -> None:
        engine = open_postgres(database_url, connections=4)
        read, write = read_in_threads(engine), write_directly(engine)
        for run in (read, write):
            await asyncio.gather(*(run(lambda c: c.exec_driver_sql("SELECT pg_sleep(0.05)")) for _ in range(4)))
            look(
                database_url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            assert await run(lambda c: c.exec_driver_sql("SELECT 1").scalar()) == 1
        engine.dispose()

    asyncio.run(work())
