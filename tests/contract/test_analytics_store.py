"""What every store of counts promises, over memory, SQLite and PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stores import ACCOUNT, DAY_US, NOW_US, account, entry, key, spend, ticket, verdict

from firstline.adapters.memory_analytics import MemoryAnalytics
from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.sql.analytics_sql import SqlAnalytics
from firstline.adapters.sql.postgres_store import postgres_store
from firstline.adapters.sql.server_stores import sqlite_store
from firstline.core.plans import Window, window_bounds
from firstline.core.rollups import CLASSES, UNTIMED, Dimension, Span, Step, class_of, rounded, spans
from firstline.ports.analytics import AnalyticsStore, RollupQuery, RollupRow, TooManyGroups
from firstline.ports.journal import Journal, JournalUnavailable, Record, RollupDelta
from firstline.usecases.rollups import counted, moved

OTHER = "c" * 32
HOUR_US = 3_600 * 1_000_000
EVERYTHING = (0, NOW_US + 400 * DAY_US)


@dataclass
class Counting:
    """A journal and the counts over what it was given."""

    journal: Journal
    analytics: AnalyticsStore

    async def add(self, *deltas: RollupDelta) -> None:
        await self.journal.append(Record(rollups=deltas))

    async def fold(self) -> None:
        while await self.analytics.fold(most=100):
            pass

    async def ask(
        self,
        *by: Dimension,
        step: Step = Step.ALL,
        between: tuple[int, int] = EVERYTHING,
        account_id: str | None = ACCOUNT,
        limit: int = 1_000,
    ) -> list[RollupRow]:
        parts = spans(*rounded(*between, step), step)
        found = await self.analytics.counts(RollupQuery(account_id, parts, step, by, limit))
        return sorted(found, key=lambda row: (row.starts_at_us or 0, row.values))


Work = Callable[[Counting], Awaitable[None]]
Run = Callable[[Work], None]


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def on_a_store(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a function on fresh counts, with two accounts."""
    url = request.getfixturevalue("database_url") if request.param == "postgres" else None

    async def work_on_it(work: Work) -> None:
        if request.param == "memory":
            memory = MemoryStore()
            await fill(memory)
            await work(Counting(memory, MemoryAnalytics(memory)))
            return
        if url is None:
            store = sqlite_store(tmp_path / "store.db", on_foreign_change=lambda: None, release=lambda: None)
        else:
            store = postgres_store(url, connections=8, timeout_s=5, on_foreign_change=lambda: None)
        await store.start()
        try:
            await fill(store.storage)
            await work(Counting(store.journal, SqlAnalytics(store.database, store.write)))
        finally:
            await store.close()

    return lambda work: asyncio.run(work_on_it(work))


async def fill(storage: Any) -> None:
    await storage.add_account(account(), key(), entry("1"))
    await storage.add_account(account(OTHER, email="c@example.com"), None, entry("2"))


def delta(*, at_us: int = NOW_US, **fields: Any) -> RollupDelta:
    """One ticket, as it comes most of the time."""
    row = counted(ticket(1)._replace(received_at_us=at_us), verdict(1))
    return row._replace(**fields)


def tickets(rows: Sequence[RollupRow]) -> list[tuple[tuple[str, ...], int]]:
    return [(row.values, row.tickets) for row in rows]


def test_what_was_added_shows_once_it_is_folded_in(on_a_store: Run) -> None:
    async def work(store: Counting) -> None:
        await store.add(delta(), delta(reviews=1, processing_us=3_000, latency_class=class_of(3_000)))
        assert await store.ask() == []
        await store.fold()
        (row,) = await store.ask()
        assert (row.starts_at_us, row.values, row.tickets, row.reviews) == (None, (), 2, 1)
        assert row.sources == {"rule": 0, "local": 2, "provider": 0, "emergency": 0, "person": 0}
        assert row.processing_us == 1_234 + 3_000
        assert sum(row.latency) == 2
        assert (row.latency[class_of(1_234)], row.latency[class_of(3_000)]) == (1, 1)

    on_a_store(work)


def test_folding_again_counts_nothing_twice(on_a_store: Run) -> None:
    async def work(store: Counting) -> None:
        await store.add(delta())
        for _ in range(3):
            await store.fold()
        await store.add(delta())
        await store.fold()
        assert tickets(await store.ask()) == [((), 2)]

    on_a_store(work)


def test_folding_by_many_at_once_counts_each_record_once(on_a_store: Run) -> None:
    async def work(store: Counting) -> None:
        for number in range(30):
            await store.add(delta(category=f"c{number % 3}"))
        await asyncio.gather(*(store.fold() for _ in range(4)))
        await store.fold()
        assert tickets(await store.ask(Dimension.CATEGORY)) == [(("c0",), 10), (("c1",), 10), (("c2",), 10)]

    on_a_store(work)


def test_counts_of_a_record_that_is_refused_are_not_added(on_a_store: Run) -> None:
    async def work(store: Counting) -> None:
        good = Record(tickets=(ticket(1),), verdicts=(verdict(1),), rollups=(delta(),))
        bad = Record(verdicts=(verdict(9),), rollups=(delta(),))  # its ticket is missing
        outcomes = await asyncio.gather(
            *(store.journal.append(record) for record in (good, bad)), return_exceptions=True
        )
        assert outcomes[0] is None
        assert isinstance(outcomes[1], JournalUnavailable)
        await store.fold()
        assert tickets(await store.ask()) == [((), 1)]

    on_a_store(work)


@pytest.mark.parametrize("dimension", [one for one in Dimension if one is not Dimension.ACCOUNT])
def test_counts_are_split_by_what_is_asked_for(on_a_store: Run, dimension: Dimension) -> None:
    async def work(store: Counting) -> None:
        values = ("local", "rule") if dimension is Dimension.SOURCE else ("", "x")
        kinds: list[dict[str, Any]] = [{dimension.value: values[place]} for place in (0, 1, 1)]
        await store.add(*(delta(**kind) for kind in kinds))
        await store.fold()
        assert tickets(await store.ask(dimension)) == [((values[0],), 1), ((values[1],), 2)]

    on_a_store(work)


def test_values_come_in_the_order_that_was_asked_for(on_a_store: Run) -> None:
    async def work(store: Counting) -> None:
        await store.add(delta(category="Billing", language="de", priority="high"))
        await store.fold()
        asked = (Dimension.LANGUAGE, Dimension.PRIORITY, Dimension.CATEGORY)
        assert tickets(await store.ask(*asked)) == [(("de", "high", "Billing"), 1)]

    on_a_store(work)


@pytest.mark.parametrize("step", [Step.HOUR, Step.DAY, Step.MONTH])
def test_time_is_cut_at_calendar_windows_and_its_end_does_not_count(on_a_store: Run, step: Step) -> None:
    async def work(store: Counting) -> None:
        first, after = window_bounds(Window(step), NOW_US)
        for at_us in (first - 1, first, after - 1, after):
            await store.add(delta(starts_at_us=window_bounds(Window.HOUR, at_us)[0]))
        await store.fold()
        found = await store.ask(step=step, between=(first, after))
        assert [(row.starts_at_us, row.tickets) for row in found] == [(first, 2)]
        wide = await store.ask(step=step, between=(first - 1, after + 1))
        assert [row.tickets for row in wide] == [1, 2, 1]

    on_a_store(work)


def test_an_uncut_range_counts_its_months_and_the_days_at_its_ends_once(on_a_store: Run) -> None:
    async def work(store: Counting) -> None:
        start = window_bounds(Window.DAY, NOW_US)[0] - 300 * DAY_US
        await store.add(*(delta(starts_at_us=start + day * DAY_US + HOUR_US) for day in range(-2, 303)))
        await store.fold()
        assert tickets(await store.ask(between=(start, start + 300 * DAY_US))) == [((), 300)]

    on_a_store(work)


def test_a_revision_moves_a_ticket_and_keeps_the_time_that_its_first_answer_took(on_a_store: Run) -> None:
    async def work(store: Counting) -> None:
        first = verdict(1)._replace(needs_review=1)
        now = counted(ticket(1), first)
        await store.add(now, delta())
        later = verdict(1, revision=2)._replace(category="Payment Issue", source="provider", processing_us=9_000_000)
        await store.add(*moved(now, later))
        await store.fold()
        other, payment = await store.ask(Dimension.CATEGORY)
        assert (other.values, other.tickets, other.reviews) == (("Other",), 1, 0)
        assert (payment.values, payment.tickets, payment.reviews) == (("Payment Issue",), 1, 0)
        assert payment.sources["provider"] == 1
        assert (payment.processing_us, payment.latency[class_of(1_234)]) == (1_234, 1)
        await store.add(*moved(delta(), later))
        await store.fold()
        assert tickets(await store.ask(Dimension.CATEGORY)) == [(("Payment Issue",), 2)]

    on_a_store(work)


def test_what_nobody_waited_for_has_no_time(on_a_store: Run) -> None:
    async def work(store: Counting) -> None:
        row = counted(ticket(1), verdict(1)._replace(processing_us=10**12), timed=False)
        assert row.latency_class == UNTIMED
        await store.add(row)
        await store.fold()
        (found,) = await store.ask()
        assert (found.tickets, found.processing_us, found.latency) == (1, 0, (0,) * CLASSES)

    on_a_store(work)


def test_accounts_are_apart_and_everybody_is_together(on_a_store: Run) -> None:
    async def work(store: Counting) -> None:
        await store.add(delta(), delta(account_id=OTHER), delta(account_id=OTHER))
        await store.fold()
        assert tickets(await store.ask()) == [((), 1)]
        assert tickets(await store.ask(account_id=None)) == [((), 3)]
        assert tickets(await store.ask(Dimension.ACCOUNT, account_id=None)) == [((ACCOUNT,), 1), ((OTHER,), 2)]

    on_a_store(work)


def test_more_groups_than_wanted_are_refused(on_a_store: Run) -> None:
    async def work(store: Counting) -> None:
        await store.add(*(delta(category=f"c{number}") for number in range(4)))
        await store.fold()
        assert len(await store.ask(Dimension.CATEGORY, limit=4)) == 4
        with pytest.raises(TooManyGroups):
            await store.ask(Dimension.CATEGORY, limit=3)

    on_a_store(work)


def test_pruning_removes_hours_and_leaves_days_and_months(on_a_store: Run) -> None:
    async def work(store: Counting) -> None:
        old = window_bounds(Window.HOUR, NOW_US - 100 * DAY_US)[0]
        await store.add(delta(starts_at_us=old), delta())
        await store.fold()
        assert await store.analytics.prune(before_us=old) == 0
        assert await store.analytics.prune(before_us=old + HOUR_US) > 0
        assert await store.analytics.prune(before_us=old + HOUR_US) == 0
        assert await store.ask(step=Step.HOUR, between=(old, old + HOUR_US)) == []
        for step in (Step.DAY, Step.MONTH, Step.ALL):
            assert sum(row.tickets for row in await store.ask(step=step)) == 2

    on_a_store(work)


def test_costs_are_those_of_the_days_of_a_span(on_a_store: Run) -> None:
    async def work(store: Counting) -> None:
        today = spend().starts_at_us
        await store.journal.append(
            Record(spend=(spend(), spend(provider="openai"), spend(day=-1), spend(account_id=OTHER), spend(day=-40)))
        )
        days = (Span(Window.DAY, today - DAY_US, today + DAY_US),)
        ask = store.analytics.costs
        assert await ask(ACCOUNT, days, by_account=False) == {(today - DAY_US, ""): 250, (today, ""): 500}
        assert await ask(None, days, by_account=True) == {
            (today - DAY_US, ACCOUNT): 250,
            (today, ACCOUNT): 500,
            (today, OTHER): 250,
        }
        month = Span(Window.MONTH, *window_bounds(Window.MONTH, NOW_US))
        assert await ask(None, (month,), by_account=False) == {(month.from_us, ""): 1_000}
        earlier = Span(Window.DAY, 0, DAY_US)
        assert await ask(ACCOUNT, (earlier,), by_account=False) == {}

    on_a_store(work)
