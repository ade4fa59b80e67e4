"""What every journal promises, over memory, SQLite and PostgreSQL."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from stores import ACCOUNT, KEY, NOW_US, Store, idempotency, open_store, record, spend, ticket, verdict

from firstline.core.plans import Window, window_bounds
from firstline.core.taxonomy import Contract
from firstline.ports.journal import (
    CounterDelta,
    JournalUnavailable,
    KeyUse,
    OutboxEvent,
    Record,
    RecordRefused,
    StoreAway,
)
from firstline.ports.storage import StorageUnavailable

TABLES = ("tickets", "verdicts", "usage", "key_uses", "idempotency", "outbox", "provider_spend")
DAY = window_bounds(Window.DAY, NOW_US)


@pytest.fixture
def with_store(
    opened: Callable[[], AbstractAsyncContextManager[Store]],
) -> Callable[[Callable[[Store], Awaitable[None]]], Store]:
    """Runs a function on a fresh store, closes it, and gives it back to be looked at."""

    def run(work: Callable[[Store], Awaitable[None]]) -> Store:
        async def work_on_it() -> Store:
            async with opened() as store:
                await work(store)
                return store

        return asyncio.run(work_on_it())

    return run


Run = Callable[[Callable[[Store], Awaitable[None]]], Store]


def day(amount: int = 1, *, account_id: str = ACCOUNT) -> CounterDelta:
    return CounterDelta(account_id, "decision", "day", *DAY, amount)


def event(number: int, *, account_id: str = ACCOUNT) -> OutboxEvent:
    return OutboxEvent(f"{number:032x}", account_id, "verdict.given", '{"a":1}', NOW_US)


def full(number: int) -> Record:
    return record(
        number,
        counters=(day(),),
        key_use=KeyUse(KEY, NOW_US + number, 1),
        idempotency=idempotency(f"key-{number}"),
        outbox=(event(number),),
        spend=(spend(),),
    )


def counts(store: Store) -> list[int]:
    return [store.count(table) for table in TABLES]


def test_an_appended_record_is_there_when_append_returns(with_store: Run) -> None:
    async def work(store: Store) -> None:
        await store.journal.append(full(1))
        if store.look is not None:
            assert counts(store) == [1] * 7

    assert counts(with_store(work)) == [1] * 7


def test_an_empty_record_is_no_mistake(with_store: Run) -> None:
    async def work(store: Store) -> None:
        await store.journal.append(Record())

    assert counts(with_store(work)) == [0] * 7


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(lambda: full(1), id="a ticket that is there"),
        pytest.param(lambda: Record(tickets=(ticket(8), ticket(8))), id="a ticket twice"),
        pytest.param(lambda: Record(verdicts=(verdict(9),)), id="a verdict without its ticket"),
        pytest.param(lambda: Record(tickets=(ticket(9),), verdicts=(verdict(9), verdict(9))), id="a revision twice"),
        pytest.param(lambda: Record(verdicts=(verdict(1),)), id="a revision that is there"),
        pytest.param(lambda: Record(tickets=(ticket(9),), verdicts=(verdict(9, revision=0),)), id="revision 0"),
        pytest.param(
            lambda: Record(tickets=(ticket(9),), verdicts=(verdict(9, probability=1.5),)), id="a probability above 1"
        ),
        pytest.param(lambda: Record(tickets=(ticket(9, account_id="f" * 32),)), id="a ticket of nobody"),
        pytest.param(lambda: record(9, counters=(day(account_id="f" * 32),)), id="a counter of nobody"),
        pytest.param(lambda: record(9, key_use=KeyUse("f" * 32, NOW_US, 1)), id="a key that is not there"),
        pytest.param(lambda: record(9, idempotency=idempotency("key-1")), id="an idempotency key that is there"),
        pytest.param(lambda: record(9, outbox=(event(1),)), id="an event that is there"),
        pytest.param(lambda: record(9, outbox=(event(9, account_id="f" * 32),)), id="an event of nobody"),
        pytest.param(lambda: record(9, spend=(spend(account_id="f" * 32),)), id="spend of nobody"),
        pytest.param(lambda: record(9, spend=(spend(), spend(amounts=(-1, 0, 0, 0, 0)))), id="negative calls"),
        pytest.param(lambda: record(9, spend=(spend(amounts=(0, -1, 0, 0, 0)), spend())), id="negative failures"),
        pytest.param(lambda: record(9, spend=(spend(amounts=(1, 0, -1, 0, 0)),)), id="negative input tokens"),
        pytest.param(lambda: record(9, spend=(spend(amounts=(1, 0, 0, -1, 0)),)), id="negative output tokens"),
        pytest.param(lambda: record(9, spend=(spend(amounts=(1, 0, 0, 0, -1)),)), id="a negative cost"),
    ],
)
def test_a_record_is_stored_wholly_or_not_at_all(with_store: Run, bad: Callable[[], Record]) -> None:
    async def work(store: Store) -> None:
        await store.journal.append(full(1))
        with pytest.raises(RecordRefused):
            await store.journal.append(bad())

    assert counts(with_store(work)) == [1] * 7


def test_one_bad_record_never_fails_its_neighbours(with_store: Run) -> None:
    outcomes: list[object] = []

    async def work(store: Store) -> None:
        await store.journal.append(full(1))
        records = [
            Record(verdicts=(verdict(10_000 + number),)) if number % 7 == 3 else full(number)
            for number in range(2, 100)
        ]
        outcomes.extend(await asyncio.gather(*(store.journal.append(one) for one in records), return_exceptions=True))

    store = with_store(work)
    bad = sum(number % 7 == 3 for number in range(2, 100))
    assert sum(isinstance(outcome, RecordRefused) for outcome in outcomes) == bad
    assert sum(outcome is None for outcome in outcomes) == 98 - bad
    assert store.count("tickets") == 99 - bad


def test_counters_and_key_uses_add_up_under_concurrency(with_store: Run) -> None:
    async def work(store: Store) -> None:
        await asyncio.gather(
            *(
                store.journal.append(Record(counters=(day(2), day(1)), key_use=KeyUse(KEY, NOW_US + number % 50, 1)))
                for number in range(100)
            )
        )
        usage = await store.storage.usage(ACCOUNT, Contract.DECISION, now_us=NOW_US)
        assert usage == {Window.DAY: 300}
        ((found, _),) = await store.storage.list_keys(ACCOUNT)
        assert (found.requests, found.last_used_at_us) == (100, NOW_US + 49)
        assert await store.storage.last_request_at_us(ACCOUNT) == NOW_US + 49

    with_store(work)


@pytest.mark.parametrize("text", ["a\x00b", "half \ud83d of a pair", "\udc00\x00"])
def test_characters_that_a_database_cannot_store_cost_no_record(with_store: Run, text: str) -> None:
    async def work(store: Store) -> None:
        odd = Record(tickets=(ticket(1, text=text)._replace(customer_ref=text),), verdicts=(verdict(1),))
        await asyncio.gather(store.journal.append(odd), *(store.journal.append(record(n)) for n in range(2, 9)))

    store = with_store(work)
    assert store.count("tickets") == 8
    if store.look is not None:
        ((found,),) = store.look(f"SELECT text FROM tickets WHERE id = '{1:032x}'")
        assert len(found) == len(text)


def test_revisions_are_added_and_never_overwrite(with_store: Run) -> None:
    async def work(store: Store) -> None:
        await store.journal.append(record(1))
        await store.journal.append(Record(verdicts=(verdict(1, revision=2, probability=1.0),)))

    store = with_store(work)
    assert (store.count("tickets"), store.count("verdicts")) == (1, 2)


def test_spend_adds_up_by_account_day_provider_and_model(with_store: Run) -> None:
    async def work(store: Store) -> None:
        once = (
            spend(amounts=(1, 0, 500, 40, 9)),
            spend(amounts=(1, 1, 0, 0, 0)),
            spend(model="large", amounts=(1, 0, 500, 40, 90)),
            spend(provider="openai", amounts=(1, 0, 450, 30, 7)),
            spend(day=1, amounts=(1, 0, 10, 1, 1)),
        )
        await asyncio.gather(*(store.journal.append(Record(spend=once)) for _ in range(50)))
        found = await store.storage.provider_spend(ACCOUNT, since_us=DAY[0])
        assert [(row.starts_at_us, row.provider, row.model) for row in found] == [
            (DAY[0], "gemini", "large"),
            (DAY[0], "gemini", "small"),
            (DAY[0], "openai", "small"),
            (DAY[1], "gemini", "small"),
        ]
        amounts = (found[1].calls, found[1].failures, found[1].input_tokens, found[1].output_tokens)
        assert (*amounts, found[1].cost_usd_micros) == (100, 50, 25_000, 2_000, 450)

    with_store(work)


def test_a_negative_amount_is_refused_even_where_the_sum_is_not_negative(with_store: Run) -> None:
    outcomes: list[object] = []

    async def work(store: Store) -> None:
        await store.journal.append(Record(spend=(spend(),)))
        records = [Record(spend=(spend(amounts=(1, 0, 0, 0, cost)),)) for cost in (100, -5, 100)]
        outcomes.extend(await asyncio.gather(*(store.journal.append(one) for one in records), return_exceptions=True))
        (found,) = await store.storage.provider_spend(ACCOUNT, since_us=0)
        assert (found.calls, found.cost_usd_micros) == (5, 450)

    with_store(work)
    assert [type(outcome).__name__ for outcome in outcomes] == ["NoneType", "RecordRefused", "NoneType"]


def test_an_answer_that_came_too_late_adds_a_revision_an_event_and_its_spend(with_store: Run) -> None:
    async def work(store: Store) -> None:
        await store.journal.append(full(1))
        late = Record(verdicts=(verdict(1, revision=2),), outbox=(event(2),), spend=(spend(day=1),))
        await store.journal.append(late)
        with pytest.raises(RecordRefused):
            await store.journal.append(replace(late, outbox=(event(3),)))
        assert len(await store.storage.provider_spend(ACCOUNT, since_us=DAY[1])) == 1

    store = with_store(work)
    assert {table: store.count(table) for table in ("tickets", "verdicts", "outbox", "provider_spend")} == {
        "tickets": 1,
        "verdicts": 2,
        "outbox": 2,
        "provider_spend": 2,
    }


def test_a_late_answer_to_a_ticket_that_was_never_stored_leaves_nothing(with_store: Run) -> None:
    async def work(store: Store) -> None:
        late = Record(verdicts=(verdict(1, revision=2),), outbox=(event(2),), spend=(spend(),))
        with pytest.raises(RecordRefused):
            await store.journal.append(late)

    assert counts(with_store(work)) == [0] * 7


def test_after_closing_everything_appended_before_is_there_or_has_raised(with_store: Run) -> None:
    appended: list[asyncio.Task[None]] = []

    async def work(store: Store) -> None:
        all_begun = asyncio.Event()

        async def append(number: int) -> None:
            if number == 199:
                all_begun.set()
            await store.journal.append(record(number))

        appended.extend(asyncio.ensure_future(append(number)) for number in range(200))
        await all_begun.wait()

    async def finish(store: Store) -> None:
        await work(store)
        if store.look is not None:
            await store.journal.close()  # type: ignore[attr-defined]  # of the SQLite store alone
            with pytest.raises(JournalUnavailable):
                await store.journal.append(record(999))
        await asyncio.gather(*appended)

    assert with_store(finish).count("tickets") == 200


def test_sqlite_keeps_every_member_of_a_row_and_the_order_of_one_caller(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_store("sqlite", tmp_path) as store:
            for number in range(1, 30):
                await store.journal.append(record(number))

    asyncio.run(work())
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        rows = connection.execute("SELECT * FROM tickets ORDER BY rowid").fetchall()
        assert rows == [tuple(ticket(number)) for number in range(1, 30)]
        row = connection.execute("SELECT * FROM verdicts ORDER BY rowid LIMIT 1").fetchone()
        assert row == tuple(verdict(1))
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_locked_database_is_unavailable_with_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firstline.adapters.sql.engine.BUSY_TIMEOUT_S", 0.01)

    async def work() -> None:
        async with open_store("sqlite", tmp_path) as store:
            with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(StoreAway, match="locked by another process"):
                    await store.journal.append(record(1))
                other.execute("ROLLBACK")
            await store.journal.append(record(1))
            assert store.count("tickets") == 1

    asyncio.run(work())


def test_a_full_disk_is_unavailable_with_its_cause_and_nothing_is_half_written(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_store("sqlite", tmp_path) as store:

            def fill(connection: object) -> None:
                raw = connection.connection.driver_connection  # type: ignore[attr-defined]  # of the SQLite store alone
                pages = raw.execute("PRAGMA page_count").fetchone()[0]
                raw.execute(f"PRAGMA max_page_count = {pages}")

            await store.journal.run(fill)  # type: ignore[attr-defined]  # of the SQLite store alone
            big = Record(tickets=(ticket(1, text="x" * 500_000),), verdicts=(verdict(1),))
            with pytest.raises(StoreAway, match="the disk is full"):
                await store.journal.append(big)
            assert counts(store) == [0] * 7

    asyncio.run(work())


def test_a_task_on_the_writer_that_raises_changes_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_store("sqlite", tmp_path) as store:

            def task(connection: object) -> None:
                connection.exec_driver_sql("DELETE FROM key_uses")  # type: ignore[attr-defined]  # of the SQLite store alone
                connection.exec_driver_sql("DELETE FROM api_keys")  # type: ignore[attr-defined]  # of the SQLite store alone
                raise LookupError("mine")

            with pytest.raises(LookupError, match="mine"):
                await store.journal.run(task)  # type: ignore[attr-defined]  # of the SQLite store alone
            assert len(await store.storage.list_keys()) == 1
            await store.journal.append(record(1))

        with pytest.raises(StorageUnavailable):
            await store.journal.run(task)  # type: ignore[attr-defined]  # of the SQLite store alone

    asyncio.run(work())
