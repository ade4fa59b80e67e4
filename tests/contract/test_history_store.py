"""What every history, every store of receipts and every store of keys promises."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stores import ACCOUNT, KINDS, NOW_US, account, entry, idempotency, ticket, verdict

from firstline.adapters.memory_history import MemoryDataKeys, MemoryErasures, MemoryHistory
from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.sql.postgres_store import postgres_store
from firstline.adapters.sql.runners import read_in_threads
from firstline.adapters.sql.server_stores import sqlite_store
from firstline.adapters.sql.sql_erasures import SqlDataKeys, SqlErasures
from firstline.adapters.sql.sql_history import SqlHistory
from firstline.core.plans import MICROSECONDS
from firstline.ports.data_keys import DataKeys
from firstline.ports.erasure import Erasure, ErasureNotFound, Erasures, Scope
from firstline.ports.history import Filters, History, Position, TicketNotFound
from firstline.ports.journal import Journal, JournalUnavailable, OutboxEvent, Record
from firstline.ports.storage import AuditEntry, CategoriesRow, Storage

OTHER = "c" * 32
ALL = Filters()


@dataclass(frozen=True)
class Stores:
    """The ports of one kind of store over the same rows."""

    journal: Journal
    storage: Storage
    history: History
    erasures: Erasures
    keys: DataKeys


@asynccontextmanager
async def opened(kind: str, folder: Path, url: str | None) -> AsyncIterator[Stores]:
    if kind == "memory":
        memory = MemoryStore()
        stores = Stores(memory, memory, MemoryHistory(memory), MemoryErasures(memory), MemoryDataKeys())
        await filled(stores)
        yield stores
        return
    if kind == "sqlite":
        store = sqlite_store(folder / "store.db", on_foreign_change=lambda: None, release=lambda: None)
    else:
        assert url is not None
        store = postgres_store(url, connections=8, timeout_s=5, on_foreign_change=lambda: None)
    await store.start()
    read = read_in_threads(store.database)
    stores = Stores(
        store.journal,
        store.storage,
        SqlHistory(read, store.write),
        SqlErasures(read, store.write),
        SqlDataKeys(read, store.write),
    )
    try:
        await filled(stores)
        yield stores
    finally:
        await store.close()


async def filled(stores: Stores) -> None:
    for identity, email in ((ACCOUNT, "a@example.com"), (OTHER, "c@example.com")):
        await stores.storage.add_account(account(identity, email=email), None, entry(identity[:8]))


Work = Callable[[Stores], Awaitable[None]]
Run = Callable[[Work], None]


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a function on a fresh store of each kind."""
    url = request.getfixturevalue("database_url") if request.param == "postgres" else None

    def running(work: Work) -> None:
        async def with_stores() -> None:
            async with opened(request.param, tmp_path, url) as stores:
                await work(stores)

        asyncio.run(with_stores())

    return running


async def put(stores: Stores, number: int, *, account_id: str = ACCOUNT, revisions: int = 1, **fields: Any) -> None:
    """A ticket with its verdicts; fields go where they belong."""
    row = ticket(number, account_id=account_id)
    verdicts = []
    for revision in range(1, revisions + 1):
        one = verdict(number, revision=revision)._replace(account_id=account_id)
        verdicts.append(one._replace(**{name: value for name, value in fields.items() if name in one._fields}))
    row = row._replace(**{name: value for name, value in fields.items() if name in row._fields})
    await stores.journal.append(Record(tickets=(row,), verdicts=tuple(verdicts)))


def numbers(page_or_positions: object) -> list[int]:
    found = getattr(page_or_positions, "tickets", page_or_positions)
    return [int(getattr(one, "ticket", one)[0 if hasattr(one, "ticket") else 1], 16) for one in found]  # type: ignore[attr-defined]


async def listed(stores: Stores, filters: Filters = ALL, *, limit: int = 10, examine: int = 100) -> list[int]:
    """Every ticket, page by page."""
    found: list[int] = []
    after: Position | None = None
    for _ in range(1_000):
        page = await stores.history.list(ACCOUNT, filters, after=after, limit=limit, examine=examine)
        assert len(page.tickets) <= limit
        found += numbers(page)
        if page.next is None:
            return found
        after = page.next
    raise AssertionError("the pages never end")


def test_pages_hold_every_ticket_once_newest_first(run: Run) -> None:
    async def work(stores: Stores) -> None:
        for number in range(1, 26):
            await put(stores, number)
        assert await listed(stores, limit=7) == list(range(25, 0, -1))
        assert await listed(stores, limit=25) == list(range(25, 0, -1))

    run(work)


def test_tickets_of_one_moment_are_neither_lost_nor_shown_twice(run: Run) -> None:
    async def work(stores: Stores) -> None:
        for number in range(1, 12):
            await put(stores, number, received_at_us=NOW_US)
        assert await listed(stores, limit=3) == list(range(11, 0, -1))

    run(work)


def test_what_comes_in_between_two_pages_changes_neither(run: Run) -> None:
    async def work(stores: Stores) -> None:
        for number in range(1, 7):
            await put(stores, number)
        page = await stores.history.list(ACCOUNT, ALL, after=None, limit=3, examine=100)
        await put(stores, 50)
        rest = await stores.history.list(ACCOUNT, ALL, after=page.next, limit=3, examine=100)
        assert (numbers(page), numbers(rest), rest.next) == ([6, 5, 4], [3, 2, 1], None)

    run(work)


@pytest.mark.parametrize(
    ("filters", "fields"),
    [
        (Filters(category="Billing"), {"category": "Billing"}),
        (Filters(priority="high"), {"priority": "high"}),
        (Filters(decision="immediate_escalation"), {"decision": "immediate_escalation"}),
        (Filters(source="provider"), {"source": "provider"}),
        (Filters(needs_review=True), {"needs_review": 1}),
        (Filters(language="de"), {"language": "de"}),
        (Filters(channel="chat"), {"channel": "chat"}),
        (Filters(contract="classifier"), {"contract": "classifier"}),
        (Filters(customer_ref="c-7"), {"customer_ref": "c-7"}),
        (Filters(external_id="x-7"), {"external_id": "x-7"}),
        (Filters(words="refund"), {"text": "My REFUND is late"}),
        (Filters(words="über"), {"text": "ÜBER alles"}),
        (Filters(words="100%_\\"), {"text": "it says 100%_\\ done"}),
        (Filters(since_us=NOW_US + 900), {"received_at_us": NOW_US + 900}),
        (Filters(until_us=NOW_US), {"received_at_us": NOW_US - 1}),
        (Filters(category="Billing", customer_ref="c-7"), {"category": "Billing", "customer_ref": "c-7"}),
    ],
    ids=str,
)
def test_a_filter_finds_what_it_names_and_nothing_else(run: Run, filters: Filters, fields: dict[str, Any]) -> None:
    async def work(stores: Stores) -> None:
        for number in range(1, 10):
            await put(stores, number, text="something else, 100 percent")
        await put(stores, 100, **fields)
        await put(stores, 200, account_id=OTHER, **fields)
        assert await listed(stores, filters) == [100]

    run(work)


def test_filters_hold_against_the_latest_revision(run: Run) -> None:
    async def work(stores: Stores) -> None:
        first, second = verdict(1)._replace(category="Old"), verdict(1, revision=2)._replace(category="New")
        await stores.journal.append(Record(tickets=(ticket(1),), verdicts=(first,)))
        await stores.journal.append(Record(verdicts=(second,)))
        assert await listed(stores, Filters(category="New")) == [1]
        assert await listed(stores, Filters(category="Old")) == []
        page = await stores.history.list(ACCOUNT, ALL, after=None, limit=5, examine=5)
        assert [one.verdict.revision for one in page.tickets] == [2]
        row, revisions = await stores.history.get(ACCOUNT, ticket(1).id)
        assert (row, [one.category for one in revisions]) == (ticket(1), ["Old", "New"])

    run(work)


def test_a_page_examines_no_more_than_it_may_and_says_where_to_go_on(run: Run) -> None:
    async def work(stores: Stores) -> None:
        for number in range(1, 31):
            await put(stores, number, category="Rare" if number in {1, 15} else "Other")
        page = await stores.history.list(ACCOUNT, Filters(category="Rare"), after=None, limit=5, examine=10)
        assert (numbers(page), page.next) == ([], Position(NOW_US + 21, f"{21:032x}"))
        assert await listed(stores, Filters(category="Rare"), limit=5, examine=10) == [15, 1]
        assert await listed(stores, Filters(category="Rare"), limit=1, examine=7) == [15, 1]

    run(work)


def test_tickets_of_other_accounts_are_not_there(run: Run) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1, account_id=OTHER)
        assert await listed(stores) == []
        with pytest.raises(TicketNotFound):
            await stores.history.get(ACCOUNT, ticket(1).id)
        assert (await stores.history.erase(ACCOUNT, [Position(NOW_US + 1, ticket(1).id)]))["tickets"] == 0
        row, _ = await stores.history.get(OTHER, ticket(1).id)
        assert row.account_id == OTHER

    run(work)


def test_the_oldest_and_those_of_a_customer_come_in_order_and_before_a_moment(run: Run) -> None:
    async def work(stores: Stores) -> None:
        for number in range(1, 9):
            await put(stores, number, customer_ref="c-1" if number % 2 else None)
        before_us = NOW_US + 6
        assert numbers(await stores.history.oldest(ACCOUNT, before_us=before_us, limit=3)) == [1, 2, 3]
        found = await stores.history.of_customer(ACCOUNT, "c-1", before_us=before_us, limit=10)
        assert numbers(found) == [1, 3, 5]
        assert await stores.history.of_customer(OTHER, "c-1", before_us=before_us, limit=10) == []

    run(work)


def test_erasing_takes_verdicts_kept_answers_and_events_along_and_nothing_else(run: Run) -> None:
    async def work(stores: Stores) -> None:
        for number in (1, 2):
            await put(stores, number, revisions=2)
            answer = idempotency(f"key-{number}")._replace(created_at_us=NOW_US + number)
            payload = f'{{"ticket":"tkt_{number:032x}"}}'
            event = OutboxEvent(f"{number:032x}", ACCOUNT, "ticket.revised", payload, NOW_US)
            await stores.journal.append(Record(idempotency=answer, outbox=(event,)))
        position = Position(NOW_US + 1, ticket(1).id)
        assert await stores.history.erase(ACCOUNT, [position]) == {
            "tickets": 1, "verdicts": 2, "feedback": 0, "idempotent_answers": 1, "events": 1,
        }  # fmt: skip
        assert await listed(stores) == [2]
        assert await stores.storage.find_idempotency("key-1") is None
        assert await stores.storage.find_idempotency("key-2") is not None
        assert sum((await stores.history.erase(ACCOUNT, [position])).values()) == 0
        assert (await stores.history.erase(ACCOUNT, [Position(NOW_US + 2, ticket(2).id)]))["events"] == 1

    run(work)


def test_a_late_verdict_on_an_erased_ticket_is_refused(run: Run) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1)
        await stores.history.erase(ACCOUNT, [Position(NOW_US + 1, ticket(1).id)])
        with pytest.raises(JournalUnavailable):
            await stores.journal.append(Record(verdicts=(verdict(1, revision=2),)))

    run(work)


def test_former_categories_go_and_those_in_force_stay(run: Run) -> None:
    async def work(stores: Stores) -> None:
        for number, version in enumerate(("one", "two")):
            row = CategoriesRow(ACCOUNT, version, NOW_US + number, "{}", "m", b"x")
            await stores.storage.put_categories(row, expected=None, audit=entry(f"7{number}"))
        assert (await stores.history.erase_settled(ACCOUNT))["former_categories"] == 1
        found = await stores.storage.find_categories(ACCOUNT)
        assert found is not None
        assert found.version == "two"
        assert sum((await stores.history.erase_settled(OTHER)).values()) == 0

    run(work)


def test_retention_is_set_changed_and_given_up(run: Run) -> None:
    async def work(stores: Stores) -> None:
        history = stores.history
        assert await history.retention_days(ACCOUNT) is None
        await history.put_retention(ACCOUNT, 30, at_us=NOW_US)
        await history.put_retention(ACCOUNT, 7, at_us=NOW_US + 1)
        await history.put_retention(OTHER, 9, at_us=NOW_US)
        assert await history.retention_days(ACCOUNT) == 7
        assert await history.retentions() == {ACCOUNT: 7, OTHER: 9}
        await history.put_retention(ACCOUNT, None, at_us=NOW_US + 2)
        assert await history.retentions() == {OTHER: 9}

    run(work)


def receipt(number: int, **fields: Any) -> Erasure:
    return Erasure(f"{number:032x}", ACCOUNT, Scope.CUSTOMER, NOW_US, "c-1", **fields)


def test_a_receipt_adds_up_and_forgets_whom_it_was_about(run: Run) -> None:
    async def work(stores: Stores) -> None:
        erasures = stores.erasures
        assert await erasures.newest() is None
        await erasures.add(receipt(1), audit=AuditEntry("9" * 32, NOW_US, "cli", "erasure.create", ACCOUNT))
        await erasures.add(receipt(2), audit=AuditEntry("8" * 32, NOW_US, "cli", "erasure.create", ACCOUNT))
        await erasures.count(receipt(1).id, {"tickets": 2})
        await erasures.count(receipt(1).id, {"tickets": 3, "events": 1})
        assert [one.id for one in await erasures.unfinished()] == [receipt(1).id, receipt(2).id]
        done = await erasures.finish(receipt(1).id, at_us=NOW_US + MICROSECONDS)
        assert (done.subject, done.finished_at_us) == (None, NOW_US + MICROSECONDS)
        assert done.counts == {"tickets": 5, "events": 1}
        assert await erasures.finish(receipt(1).id, at_us=NOW_US + 9 * MICROSECONDS) == done
        assert await erasures.get(ACCOUNT, receipt(1).id) == done
        assert await erasures.unfinished() == [receipt(2)]
        assert [one.id for one in await erasures.list(ACCOUNT, limit=5)] == [receipt(2).id, receipt(1).id]
        assert await erasures.newest() == receipt(2).id
        for account_id, number in ((OTHER, 1), (ACCOUNT, 3)):
            with pytest.raises(ErasureNotFound):
                await erasures.get(account_id, receipt(number).id)

    run(work)


def test_an_account_has_one_key_until_it_is_destroyed(run: Run) -> None:
    async def work(stores: Stores) -> None:
        keys = stores.keys
        assert await keys.find(ACCOUNT) == []
        (first,) = await keys.add(ACCOUNT, "sealed-1", at_us=NOW_US)
        assert await keys.add(ACCOUNT, "sealed-2", at_us=NOW_US) == [first]
        await keys.reseal(first, "sealed-3")
        (again,) = await keys.find(ACCOUNT)
        assert (again.number, again.sealed) == (1, "sealed-3")
        await keys.reseal(first, "sealed-4")
        assert await keys.all() == [again]
        assert await keys.destroy(ACCOUNT, at_us=NOW_US) == 1
        assert await keys.destroy(ACCOUNT, at_us=NOW_US) == 0
        await keys.reseal(again, "sealed-5")
        assert await keys.all() == []
        (fresh,) = await keys.add(ACCOUNT, "sealed-6", at_us=NOW_US)
        assert fresh.number == 2

    run(work)
