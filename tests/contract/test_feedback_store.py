"""What every store of feedback promises, under the judge that decides what is stored."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from stores import ACCOUNT, KINDS, NOW_US, account, entry, idempotency, ticket, verdict

from firstline.adapters.memory_analytics import MemoryAnalytics
from firstline.adapters.memory_feedback import MemoryFeedback
from firstline.adapters.memory_history import MemoryHistory
from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.sql.analytics_sql import SqlAnalytics
from firstline.adapters.sql.postgres_store import postgres_store
from firstline.adapters.sql.runners import read_in_threads, write_directly
from firstline.adapters.sql.server_stores import sqlite_store
from firstline.adapters.sql.sql_feedback import SqlFeedback
from firstline.adapters.sql.sql_history import SqlHistory
from firstline.adapters.system import SystemIdentities
from firstline.core.feedback import FeedbackInvalid, FeedbackSource, Judgement, Tally
from firstline.core.plans import Window, window_bounds
from firstline.core.policy import Policy
from firstline.core.rollups import Dimension, Span, Step
from firstline.core.taxonomy import Decision, Priority
from firstline.ports.analytics import AnalyticsStore, RollupQuery
from firstline.ports.feedback import FeedbackRow, FeedbackStore, Judged, TooMuchFeedback
from firstline.ports.history import History, Position, TicketNotFound
from firstline.ports.journal import IdempotencyEntry, Journal, Record, RecordRefused, TicketRow
from firstline.ports.storage import Storage, StorageUnavailable
from firstline.usecases.access import Caller
from firstline.usecases.feedback import Feedback
from firstline.usecases.in_force import InForce
from firstline.usecases.rollups import counted
from services import look

OTHER = "c" * 32
MINE, FOREIGN = Caller(account()), Caller(account(OTHER, email="c@example.com"))
TIMED_OUT = '{"v":3,"asked":["timeout",null,null,null,[]]}'


class Clock:
    """Implements `ports.clock.Clock`; stands still."""

    def __init__(self) -> None:
        self.us = NOW_US + 60_000_000

    def now_us(self) -> int:
        return self.us


class InForceForAll:
    """The default categories, whoever asks."""

    def cached(self, _account_id: str) -> InForce:
        return InForce(Policy(), "p")


@dataclass
class Stores:
    """The ports of one kind of store over the same rows, and the use case over them."""

    journal: Journal
    storage: Storage
    history: History
    analytics: AnalyticsStore
    store: FeedbackStore
    clock: Clock

    @property
    def feedback(self) -> Feedback:
        return Feedback(
            self.store,
            self.history,
            InForceForAll(),  # type: ignore[arg-type]
            clock=self.clock,
            identities=SystemIdentities(),
        )

    async def give(self, number: int, judgement: Judgement, *, caller: Caller = MINE, keep: Any = None) -> Judged:
        """Judge the ticket with a number."""
        return await self.feedback.give(caller, ticket(number).id, judgement, keep=keep)

    async def revisions(self, number: int) -> list[tuple[str, str, str, str]]:
        _, rows = await self.history.get(ACCOUNT, ticket(number).id)
        assert [row.revision for row in rows] == list(range(1, len(rows) + 1))
        return [(row.source, row.category, row.priority, row.decision) for row in rows]

    async def categories(self) -> dict[tuple[str | None, ...], int]:
        """Tickets by category and source, as the analytics count them."""
        while await self.analytics.fold(most=1_000):
            pass
        hour = Span(Window.HOUR, *window_bounds(Window.HOUR, NOW_US))
        by = (Dimension.CATEGORY, Dimension.SOURCE)
        rows = await self.analytics.counts(RollupQuery(ACCOUNT, (hour,), Step.HOUR, by, 100))
        return {row.values: row.tickets for row in rows}

    async def timed(self) -> dict[str, int]:
        """Tickets that somebody has waited for, by category."""
        hour = Span(Window.HOUR, *window_bounds(Window.HOUR, NOW_US))
        rows = await self.analytics.counts(RollupQuery(ACCOUNT, (hour,), Step.HOUR, (Dimension.CATEGORY,), 100))
        return {row.values[0]: sum(row.latency) for row in rows}


@asynccontextmanager
async def opened(kind: str, folder: Path, url: str | None) -> AsyncIterator[Stores]:
    if kind == "memory":
        memory = MemoryStore()
        stores = Stores(memory, memory, MemoryHistory(memory), MemoryAnalytics(memory), MemoryFeedback(memory), Clock())
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
    judging = write_directly(store.database, isolation="READ COMMITTED") if store.shared else store.write
    stores = Stores(
        store.journal,
        store.storage,
        SqlHistory(read, store.write),
        SqlAnalytics(store.database, store.write),
        SqlFeedback(read, judging),
        Clock(),
    )
    try:
        await filled(stores)
        yield stores
    finally:
        await store.close()


async def filled(stores: Stores) -> None:
    for identity, email in ((ACCOUNT, "a@example.com"), (OTHER, "c@example.com")):
        await stores.storage.add_account(account(identity, email=email), None, entry(identity[:8]))


Run = Callable[[Callable[[Stores], Awaitable[None]]], None]


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a function on a fresh store of each kind."""
    url = request.getfixturevalue("database_url") if request.param == "postgres" else None

    def running(work: Callable[[Stores], Awaitable[None]]) -> None:
        async def with_stores() -> None:
            async with opened(request.param, tmp_path, url) as stores:
                await work(stores)

        asyncio.run(with_stores())

    return running


async def put(stores: Stores, number: int, *, account_id: str = ACCOUNT, **fields: Any) -> TicketRow:
    """A ticket with its verdict, counted."""
    row = ticket(number, account_id=account_id)
    first = verdict(number)._replace(account_id=account_id, **fields)
    await stores.journal.append(Record(tickets=(row,), verdicts=(first,), rollups=(counted(row, first),)))
    return row


def test_a_correction_adds_a_revision_and_moves_the_ticket_in_the_counts(run: Run) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1)
        assert await stores.categories() == {("Other", "local"): 1}
        assert await stores.timed() == {"Other": 1}
        judged = await stores.give(1, Judgement(category="Payment Issue", decision=Decision.PRIORITY_RESPONSE))
        row = judged.feedback
        assert (row.revision, row.added_revision, row.correct, row.category_correct) == (1, 2, 0, 0)
        assert await stores.revisions(1) == [
            ("local", "Other", "medium", "standard_response"),
            ("person", "Payment Issue", "medium", "priority_response"),
        ]
        assert await stores.categories() == {("Payment Issue", "person"): 1}
        assert await stores.timed() == {"Payment Issue": 1}
        assert await stores.store.of_tickets(ACCOUNT, [row.ticket_id]) == {row.ticket_id: [row]}

    run(work)


def test_a_confirmation_changes_nothing_where_nothing_is_open(run: Run) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1)
        judged = await stores.give(1, Judgement(correct=True))
        assert (judged.feedback.correct, judged.feedback.added_revision, judged.verdict) == (1, None, None)
        assert len(await stores.revisions(1)) == 1

    run(work)


def test_a_confirmation_settles_what_a_person_should_look_at(run: Run) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1, needs_review=1)
        judged = await stores.give(1, Judgement(correct=True))
        assert judged.verdict is not None
        assert (judged.verdict.needs_review, judged.verdict.source, judged.verdict.probability) == (0, "person", 1.0)
        assert judged.feedback.correct == 1
        assert await stores.categories() == {("Other", "person"): 1}

    run(work)


@pytest.mark.parametrize("judgement", [Judgement(correct=True), Judgement(category="Payment Issue")])
def test_a_late_answer_does_not_overrule_a_person(run: Run, judgement: Judgement) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1, evidence=TIMED_OUT)
        await stores.give(1, judgement)
        with pytest.raises(RecordRefused):
            await stores.journal.append(Record(verdicts=(verdict(1, revision=2),)))
        assert [source for source, *_ in await stores.revisions(1)] == ["local", "person"]

    run(work)


def test_a_person_overrules_a_late_answer_that_was_faster(run: Run) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1, evidence=TIMED_OUT)
        late = verdict(1, revision=2)._replace(category="Network Issue", source="provider", probability=0.9)
        await stores.journal.append(Record(verdicts=(late,)))
        judged = await stores.give(1, Judgement(correct=True, revision=1))
        assert (judged.feedback.revision, judged.feedback.correct, judged.feedback.added_revision) == (1, 1, 3)
        assert (await stores.revisions(1))[-1][:2] == ("person", "Other")

    run(work)


def test_judging_again_is_about_what_firstline_said_and_the_newest_counts(run: Run) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1)
        first = await stores.give(1, Judgement(category="Payment Issue"))
        second = await stores.give(1, Judgement(category="Other", source=FeedbackSource.AGENT))
        third = await stores.give(1, Judgement(correct=True, author="b"))
        assert [one.feedback.revision for one in (first, second, third)] == [1, 1, 1]
        assert [one.feedback.correct for one in (first, second, third)] == [0, 1, 1]
        assert [one.feedback.added_revision for one in (first, second, third)] == [2, 3, None]
        said = await stores.feedback.of_ticket(MINE, ticket(1).id)
        assert [row.id for row in said] == [third.feedback.id, second.feedback.id, first.feedback.id]
        assert [row.newest for row in said] == [1, 0, 0]
        (tally,) = await stores.store.tallies(ACCOUNT, from_us=0, to_us=NOW_US * 2, without="emergency")
        assert tally == ("Other", 7, Tally(1, 1, 0.75))

    run(work)


def test_saying_the_same_again_stores_nothing(run: Run) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1)
        for judgement in (Judgement(correct=False), Judgement(category="Payment Issue", author="a")):
            first = await stores.give(1, judgement)
            again = await stores.give(1, judgement)
            assert (first.repeated, again.repeated) == (False, True)
            assert again.feedback == first.feedback
        assert len(await stores.feedback.of_ticket(MINE, ticket(1).id)) == 2
        assert len(await stores.revisions(1)) == 2

    run(work)


def test_corrections_at_once_give_revisions_in_an_order(run: Run) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1)
        names = ["Payment Issue", "Network Issue", "Account Problem", "Feature Request"]
        judged = await asyncio.gather(*(stores.give(1, Judgement(category=name)) for name in names))
        by_revision = sorted(judged, key=lambda one: one.feedback.added_revision or 0)
        assert [one.feedback.added_revision for one in by_revision] == [2, 3, 4, 5]
        given = [one.feedback.right_category for one in by_revision]
        assert [category for _, category, *_ in await stores.revisions(1)] == ["Other", *given]
        said = await stores.feedback.of_ticket(MINE, ticket(1).id)
        assert [row.right_category for row in said] == given[::-1]
        assert [row.newest for row in said] == [1, 0, 0, 0]
        assert await stores.categories() == {(given[-1], "person"): 1}

    run(work)


@pytest.mark.service
def test_on_postgres_a_judgement_waits_until_the_one_before_is_stored(database_url: str, tmp_path: Path) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    entered, release, given = threading.Event(), threading.Event(), []

    def keep(row: FeedbackRow, found: TicketRow, _repeated: bool) -> IdempotencyEntry:
        if found.id == ticket(1).id:  # within the first transaction
            entered.set()
            assert release.wait(30)
        given.append(row.given_at_us)
        return idempotency(row.id)

    async def work() -> None:
        async with opened("postgres", tmp_path, database_url) as stores:
            await put(stores, 1)
            await put(stores, 2)
            first = asyncio.create_task(stores.give(1, Judgement(correct=True), keep=keep))
            assert await asyncio.to_thread(entered.wait, 30)
            second = asyncio.create_task(stores.give(2, Judgement(correct=True), keep=keep))
            try:
                for _ in range(500):
                    if await asyncio.to_thread(look, database_url, waiting) == [(1,)]:
                        break
                else:
                    pytest.fail("nobody waits for the one before")
            finally:
                release.set()
                await asyncio.gather(first, second)
            page = await stores.store.list(ACCOUNT, after_us=0, limit=10)
            assert [row.given_at_us for row in page.feedback] == sorted(set(given))

    asyncio.run(work())


def test_a_correction_and_a_late_answer_at_once_leave_the_person_last(run: Run) -> None:
    async def work(stores: Stores) -> None:
        for number in range(1, 21):
            await put(stores, number, evidence=TIMED_OUT)
            late = verdict(number, revision=2)._replace(source="provider", category="Network Issue")
            outcomes = await asyncio.gather(
                stores.journal.append(Record(verdicts=(late,))),
                stores.give(number, Judgement(category="Payment Issue")),
                return_exceptions=True,
            )
            assert outcomes[0] is None or isinstance(outcomes[0], RecordRefused)
            assert isinstance(outcomes[1], Judged)
            assert (await stores.revisions(number))[-1][:2] == ("person", "Payment Issue")

    run(work)


def test_tickets_of_others_are_as_if_they_were_not_there(run: Run) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1)
        await put(stores, 2, account_id=OTHER)
        mine = await stores.give(1, Judgement(correct=True))
        for number in (2, 3):
            with pytest.raises(TicketNotFound):
                await stores.give(number, Judgement(correct=True))
            with pytest.raises(TicketNotFound):
                await stores.feedback.of_ticket(MINE, ticket(number).id)
        with pytest.raises(TicketNotFound):
            await stores.give(1, Judgement(correct=False), caller=FOREIGN)
        assert await stores.store.of_tickets(OTHER, [mine.feedback.ticket_id]) == {}
        assert (await stores.store.list(OTHER, after_us=0, limit=10)).feedback == []
        assert await stores.store.tallies(OTHER, from_us=0, to_us=NOW_US * 2, without="") == []

    run(work)


@pytest.mark.parametrize(
    ("judgement", "field"),
    [
        (Judgement(), "body"),
        (Judgement(correct=True, revision=2), "revision"),
        (Judgement(category="Payments"), "category"),
        (Judgement(correct=True, priority=Priority.CRITICAL), "priority"),
    ],
)
def test_what_cannot_be_meant_is_named_and_stores_nothing(run: Run, judgement: Judgement, field: str) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1)
        with pytest.raises(FeedbackInvalid) as raised:
            await stores.give(1, judgement)
        assert raised.value.field == field
        assert (await stores.store.list(ACCOUNT, after_us=0, limit=10)).feedback == []

    run(work)


def test_a_commit_that_fails_leaves_nothing_half(run: Run) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1)
        await stores.journal.append(Record(idempotency=idempotency("taken")))

        def keep(_row: FeedbackRow, _ticket: TicketRow, _repeated: bool) -> IdempotencyEntry:
            return idempotency("taken")

        with pytest.raises(StorageUnavailable):
            await stores.give(1, Judgement(category="Payment Issue"), keep=keep)
        assert await stores.feedback.of_ticket(MINE, ticket(1).id) == ()
        assert len(await stores.revisions(1)) == 1
        assert await stores.categories() == {("Other", "local"): 1}
        kept = await stores.give(1, Judgement(category="Payment Issue"), keep=lambda *_: idempotency("free"))
        assert kept.feedback.added_revision == 2
        assert await stores.storage.find_idempotency("free") is not None

    run(work)


def test_a_ticket_has_so_much_feedback_and_no_more(run: Run) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1)
        judges = [Judgement(correct=True, author=str(number)) for number in range(3)]
        for judgement in judges[:2]:
            await stores.give(1, judgement)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("firstline.usecases.feedback.MAX_PER_TICKET", 2)
            with pytest.raises(TooMuchFeedback):
                await stores.give(1, judges[2])
            assert (await stores.give(1, judges[1])).repeated
        assert len(await stores.feedback.of_ticket(MINE, ticket(1).id)) == 2

    run(work)


def test_pages_hold_all_feedback_once_in_the_order_in_which_it_was_given(run: Run) -> None:
    async def work(stores: Stores) -> None:
        for number in range(1, 31):
            await put(stores, number)
            await stores.give(number, Judgement(correct=number % 3 == 0))
        found: list[FeedbackRow] = []
        after_us: int | None = 0
        while after_us is not None:
            page = await stores.store.list(ACCOUNT, after_us=after_us, limit=7)
            assert len(page.feedback) <= 7
            found += page.feedback
            if len(found) == 14:  # what comes meanwhile comes at the end
                await put(stores, 31)
                await stores.give(31, Judgement(correct=True))
            after_us = page.next
        assert [int(row.ticket_id, 16) for row in found] == list(range(1, 32))
        moments = [row.given_at_us for row in found]
        assert moments == sorted(set(moments))

    run(work)


def test_feedback_goes_with_its_ticket(run: Run) -> None:
    async def work(stores: Stores) -> None:
        for number in (1, 2):
            await put(stores, number)
            await stores.give(number, Judgement(category="Payment Issue"))
        position = Position(NOW_US + 1, ticket(1).id)
        removed = await stores.history.erase(ACCOUNT, [position])
        assert (removed["feedback"], removed["verdicts"], removed["tickets"]) == (1, 2, 1)
        assert [row.ticket_id for row in (await stores.store.list(ACCOUNT, after_us=0, limit=10)).feedback] == [
            ticket(2).id
        ]
        with pytest.raises(TicketNotFound):
            await stores.give(1, Judgement(correct=True))

    run(work)


def test_judging_and_erasing_at_once_leaves_nothing_of_the_ticket(run: Run) -> None:
    async def work(stores: Stores) -> None:
        for number in range(1, 11):
            await put(stores, number)
            position = Position(NOW_US + number, ticket(number).id)
            outcomes = await asyncio.gather(
                stores.give(number, Judgement(category="Payment Issue")),
                stores.history.erase(ACCOUNT, [position]),
                return_exceptions=True,
            )
            assert isinstance(outcomes[0], Judged | TicketNotFound)
            assert not isinstance(outcomes[1], BaseException)
            with pytest.raises(TicketNotFound):
                await stores.feedback.of_ticket(MINE, ticket(number).id)
        assert (await stores.store.list(ACCOUNT, after_us=0, limit=100)).feedback == []

    run(work)


def test_tallies_count_the_newest_in_a_range_by_category_and_band(run: Run) -> None:
    async def work(stores: Stores) -> None:
        await put(stores, 1, probability=0.75)
        await put(stores, 2, probability=0.7)
        await put(stores, 3, probability=1.0, category="Payment Issue")
        await put(stores, 4, probability=0.0, source="emergency")
        given = [(await stores.give(number, Judgement(correct=number != 2))).feedback for number in (1, 2, 3, 4)]

        async def tallies(from_us: int, to_us: int) -> dict[tuple[str, int], Tally]:
            rows = await stores.store.tallies(ACCOUNT, from_us=from_us, to_us=to_us, without="emergency")
            return {(row.category, row.band): replace(row.tally, promised=round(row.tally.promised, 6)) for row in rows}

        everything = {("Other", 7): Tally(2, 1, 1.45), ("Payment Issue", 9): Tally(1, 1, 1.0)}
        assert await tallies(0, NOW_US * 2) == everything
        assert await tallies(given[1].given_at_us, given[2].given_at_us) == {("Other", 7): Tally(1, 0, 0.7)}
        assert await tallies(0, given[0].given_at_us) == {}

    run(work)
