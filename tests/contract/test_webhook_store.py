"""One suite for every store of endpoints and deliveries."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import pytest
from stores import ACCOUNT, KINDS, NOW_US, account, entry

from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.memory_webhooks import MemoryWebhooks
from firstline.adapters.sql.postgres_store import postgres_store
from firstline.adapters.sql.runners import read_in_threads, write_directly
from firstline.adapters.sql.server_stores import sqlite_store
from firstline.adapters.sql.sql_webhooks import SqlWebhooks
from firstline.ports.journal import Journal, OutboxEvent, Record
from firstline.ports.webhooks import (
    Attempt,
    Attempted,
    Claimed,
    DeliveryNotFound,
    DeliveryState,
    DisabledReason,
    Endpoint,
    EndpointNotFound,
    EndpointState,
    SealedSecret,
    TooManyEndpoints,
    Webhooks,
)

OTHER = "e" * 32
SECOND_US = 1_000_000
LEASE_US = NOW_US + 30 * SECOND_US


@dataclass
class Store:
    """Deliveries and the journal whose outbox they come from; `again` is another process on the same rows."""

    journal: Journal
    webhooks: Webhooks
    again: Webhooks


Run = Callable[[Callable[[Store], Awaitable[None]]], None]


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a test on a store of each kind."""
    url = request.getfixturevalue("database_url") if request.param == "postgres" else None

    def run(test: Callable[[Store], Awaitable[None]]) -> None:
        async def work() -> None:
            async with open_store(request.param, tmp_path, url) as store:
                await test(store)

        asyncio.run(work())

    return run


@asynccontextmanager
async def open_store(kind: str, folder: Path, url: str | None) -> AsyncIterator[Store]:
    if kind == "memory":
        memory = MemoryStore()
        await memory.add_account(account(), None, entry("1"))
        await memory.add_account(account(OTHER, email="o@example.com"), None, entry("2"))
        webhooks = MemoryWebhooks(memory)
        yield Store(memory, webhooks, webhooks)
        return
    if url is None:
        store = sqlite_store(folder / "store.db", on_foreign_change=lambda: None, release=lambda: None)
    else:
        store = postgres_store(url, connections=8, timeout_s=5, on_foreign_change=lambda: None)
    await store.start()
    await store.storage.add_account(account(), None, entry("1"))
    await store.storage.add_account(account(OTHER, email="o@example.com"), None, entry("2"))
    deliver = write_directly(store.database, isolation="READ COMMITTED") if store.shared else None
    first, again = (SqlWebhooks(read_in_threads(store.database), store.write, deliver=deliver) for _ in range(2))
    try:
        yield Store(store.journal, first, again)
    finally:
        await store.close()


def endpoint(
    number: int = 1, *, account_id: str = ACCOUNT, kinds: tuple[str, ...] = ("ticket.classified",)
) -> Endpoint:
    return Endpoint(
        id=f"{number:032x}",
        account_id=account_id,
        url="https://hooks.example.com/in",
        description="ours",
        kinds=kinds,
        secrets=(SealedSecret("sealed-new"), SealedSecret("sealed-old", NOW_US + 5)),
        created_at_us=NOW_US,
        changed_at_us=NOW_US,
    )


def event(number: int, *, ticket: str | None = None, kind: str = "ticket.classified", account_id: str = ACCOUNT) -> (
    OutboxEvent
):  # fmt: skip
    payload = orjson.dumps({"ticket": ticket or f"tkt_{number}"}).decode()
    return OutboxEvent(f"{number:032x}", account_id, kind, payload, NOW_US + number)


async def claim(webhooks: Webhooks, *, now_us: int = NOW_US, lease_us: int = LEASE_US, slots: int = 10,
                endpoint_slots: int = 4, busy: dict[str, int] | None = None) -> list[Claimed]:  # fmt: skip
    found = await webhooks.claim(
        now_us=now_us, lease_us=lease_us, slots=slots, endpoint_slots=endpoint_slots, busy=busy or {}
    )
    return list(found)


async def begin(store: Store, *events: OutboxEvent, endpoints: tuple[Endpoint, ...] = (endpoint(),)) -> None:
    """Endpoints, and events that have been fanned out to them."""
    for one in endpoints:
        await store.webhooks.add_endpoint(one, most=20, audit=entry(f"9{one.id[-3:]}"))
    await store.journal.append(Record(outbox=events))
    assert await store.webhooks.fan_out(limit=100, now_us=NOW_US) == len(events)


def tried(claimed: Claimed, state: DeliveryState, **fields: object) -> Attempted:
    status = 200 if state is DeliveryState.DELIVERED else 500
    attempt = Attempt(NOW_US + 1, 2_000, status, None if status == 200 else "status")
    return replace(Attempted(claimed, attempt, state), **fields)  # type: ignore[arg-type]


def test_an_endpoint_is_read_as_it_was_written(run: Run) -> None:
    async def test(store: Store) -> None:
        own = endpoint(kinds=("job.finished", "ticket.revised"))
        await store.webhooks.add_endpoint(own, most=20, audit=entry("3"))
        assert await store.again.get_endpoint(own.id, account_id=ACCOUNT) == own
        assert await store.again.list_endpoints(ACCOUNT) == [own]
        assert await store.webhooks.interests() == {ACCOUNT: frozenset(own.kinds)}

    run(test)


def test_endpoints_of_other_accounts_are_not_there(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store, event(1))
        own = endpoint()
        for call in (
            store.webhooks.get_endpoint(own.id, account_id=OTHER),
            store.webhooks.change_endpoint(
                replace(own, account_id=OTHER), expected_us=own.changed_at_us, audit=entry("4")
            ),
            store.webhooks.delete_endpoint(own.id, account_id=OTHER, audit=entry("5")),
            store.webhooks.add_delivery(event(9, account_id=OTHER), endpoint_id=own.id),
        ):
            with pytest.raises(EndpointNotFound):
                await call
        assert await store.webhooks.list_endpoints(OTHER) == []
        with pytest.raises(DeliveryNotFound):
            await store.webhooks.get_delivery(event(1).id, endpoint_id=endpoint(2).id)

    run(test)


def test_an_account_has_no_more_endpoints_than_it_may(run: Run) -> None:
    async def test(store: Store) -> None:
        await store.webhooks.add_endpoint(endpoint(1), most=1, audit=entry("3"))
        with pytest.raises(TooManyEndpoints):
            await store.webhooks.add_endpoint(endpoint(2), most=1, audit=entry("4"))
        await store.webhooks.add_endpoint(endpoint(3, account_id=OTHER), most=1, audit=entry("5"))

    run(test)


def test_a_change_is_made_only_to_what_was_read(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store)
        changed = replace(endpoint(), url="https://other.example.com/", changed_at_us=NOW_US + 1)
        assert await store.webhooks.change_endpoint(changed, expected_us=NOW_US, audit=entry("4"))
        assert not await store.webhooks.change_endpoint(changed, expected_us=NOW_US, audit=entry("5"))
        assert await store.webhooks.get_endpoint(changed.id, account_id=ACCOUNT) == changed

    run(test)


def test_events_reach_the_endpoints_that_ask_for_them_once(run: Run) -> None:
    async def test(store: Store) -> None:
        endpoints = (
            endpoint(1),
            endpoint(2, kinds=("ticket.classified", "ticket.revised")),
            endpoint(3, kinds=("job.finished",)),
            endpoint(4, account_id=OTHER),
            replace(endpoint(5), state=EndpointState.DISABLED, disabled_reason=DisabledReason.OWNER),
        )
        await begin(store, event(1), event(2, kind="ticket.revised"), event(3, kind="unknown"), endpoints=endpoints)
        assert await store.again.fan_out(limit=100, now_us=NOW_US) == 0
        claimed = await claim(store.webhooks)
        assert sorted((one.endpoint.id[-1], one.event_id[-1]) for one in claimed) == [
            ("1", "1"),
            ("2", "1"),
            ("2", "2"),
        ]
        assert {one.happened_at_us for one in claimed if one.event_id == event(1).id} == {NOW_US + 1}
        assert orjson.loads(claimed[0].payload) == {"ticket": "tkt_1"}

    run(test)


def test_events_leave_the_outbox_in_parts(run: Run) -> None:
    async def test(store: Store) -> None:
        await store.webhooks.add_endpoint(endpoint(), most=1, audit=entry("3"))
        await store.journal.append(Record(outbox=tuple(event(number) for number in range(1, 8))))
        assert [await store.webhooks.fan_out(limit=3, now_us=NOW_US) for _ in range(4)] == [3, 3, 1, 0]
        assert (await store.webhooks.backlog()).pending == 7

    run(test)


def test_what_is_claimed_is_nobody_elses_until_its_lease_ends(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store, event(1))
        assert len(await claim(store.webhooks)) == 1
        assert await claim(store.again, now_us=LEASE_US - 1) == []
        assert len(await claim(store.again, now_us=LEASE_US, lease_us=LEASE_US + 1)) == 1

    run(test)


def test_two_that_claim_at_once_never_get_the_same(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store, *(event(number) for number in range(1, 21)))
        both = await asyncio.gather(*(claim(one, slots=10, endpoint_slots=10) for one in (store.webhooks, store.again)))
        names = [one.event_id for found in both for one in found]
        assert len(names) == len(set(names))
        assert names

    run(test)


def test_who_lost_its_lease_changes_nothing(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store, event(1))
        (lost,) = await claim(store.webhooks)
        (held,) = await claim(store.again, now_us=LEASE_US, lease_us=LEASE_US + 7)
        await store.webhooks.settle([tried(lost, DeliveryState.DEAD)])
        await store.webhooks.release([lost])
        assert await claim(store.webhooks, now_us=LEASE_US + 6, lease_us=LEASE_US + 9) == []
        await store.again.settle([tried(held, DeliveryState.DELIVERED)])
        found = await store.webhooks.get_delivery(event(1).id, endpoint_id=endpoint().id)
        assert (found.state, found.attempts) == (DeliveryState.DELIVERED, 1)

    run(test)


def test_a_later_event_of_a_ticket_waits_for_the_earlier_one_at_each_endpoint(run: Run) -> None:
    async def test(store: Store) -> None:
        events = (event(1, ticket="tkt_a"), event(2, ticket="tkt_a"), event(3, ticket="tkt_b"))
        await begin(store, *events, endpoints=(endpoint(1), endpoint(2)))
        first = {(one.endpoint.id, one.event_id): one for one in await claim(store.webhooks)}
        assert sorted(name[-1] for _, name in first) == ["1", "1", "3", "3"]
        again = NOW_US + 10 * SECOND_US
        await store.webhooks.settle(
            [
                tried(first[endpoint(1).id, event(1).id], DeliveryState.DELIVERED),
                tried(first[endpoint(2).id, event(1).id], DeliveryState.PENDING, next_at_us=again),
            ]
        )
        (released,) = await claim(store.webhooks)
        assert (released.endpoint.id, released.event_id) == (endpoint(1).id, event(2).id)
        (retried,) = await claim(store.webhooks, now_us=again)
        assert (retried.endpoint.id, retried.event_id, retried.attempts) == (endpoint(2).id, event(1).id, 1)
        await store.webhooks.settle([tried(retried, DeliveryState.DEAD)])
        (after,) = await claim(store.webhooks, now_us=again)
        assert (after.endpoint.id, after.event_id) == (endpoint(2).id, event(2).id)

    run(test)


def test_a_full_or_failing_endpoint_leaves_room_for_others(run: Run) -> None:
    async def test(store: Store) -> None:
        many = tuple(event(number) for number in range(1, 11))
        ill = replace(endpoint(1), failing_since_us=NOW_US - 1)
        await begin(store, *many, endpoints=(ill, endpoint(2), endpoint(3)))
        found = await claim(store.webhooks, endpoint_slots=4, busy={endpoint(3).id: 4})
        by = [one.endpoint.id[-1] for one in found]
        assert (by.count("1"), by.count("2"), by.count("3")) == (1, 4, 0)
        more = await claim(store.webhooks, endpoint_slots=4, busy={ill.id: 1, endpoint(2).id: 4, endpoint(3).id: 3})
        assert [one.endpoint.id[-1] for one in more] == ["3"]

    run(test)


def test_no_more_is_claimed_than_there_are_slots(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store, *(event(number) for number in range(1, 6)), endpoints=(endpoint(1), endpoint(2)))
        assert await claim(store.webhooks, slots=0) == []
        assert len(await claim(store.webhooks, slots=3, endpoint_slots=2)) == 3

    run(test)


def test_failures_and_successes_are_remembered_by_the_endpoint(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store, event(1), event(2))
        one, other = await claim(store.webhooks)
        await store.webhooks.settle([tried(one, DeliveryState.PENDING, next_at_us=NOW_US + 9)])
        assert (await store.webhooks.get_endpoint(endpoint().id, account_id=ACCOUNT)).failing_since_us == NOW_US + 1
        await store.webhooks.settle([tried(other, DeliveryState.DELIVERED)])
        assert (await store.webhooks.get_endpoint(endpoint().id, account_id=ACCOUNT)).failing_since_us is None
        found = await store.webhooks.get_delivery(one.event_id, endpoint_id=endpoint().id)
        assert found.log == (Attempt(NOW_US + 1, 2_000, 500, "status"),)
        assert (found.state, found.attempts, found.next_at_us) == (DeliveryState.PENDING, 1, NOW_US + 9)

    run(test)


def test_an_endpoint_that_is_disabled_gets_nothing_and_what_waited_can_be_replayed(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store, event(1), event(2))
        (one, _) = await claim(store.webhooks)
        ends = tried(one, DeliveryState.DEAD, disable=DisabledReason.GONE, audit=entry("7", action="webhook.disable"))
        await store.webhooks.settle([ends])
        found = await store.webhooks.get_endpoint(endpoint().id, account_id=ACCOUNT)
        assert (found.state, found.disabled_reason) == (EndpointState.DISABLED, DisabledReason.GONE)
        assert await store.webhooks.interests() == {}
        assert await claim(store.webhooks, now_us=LEASE_US) == []
        assert (await store.webhooks.backlog()).dead == 2
        enabled = replace(found, state=EndpointState.ENABLED, disabled_reason=None, failing_since_us=None)
        assert await store.webhooks.change_endpoint(enabled, expected_us=found.changed_at_us, audit=entry("8"))
        assert await store.webhooks.replay_dead(endpoint().id, since_us=NOW_US + 2, now_us=LEASE_US) == 1
        assert [one.event_id for one in await claim(store.webhooks, now_us=LEASE_US)] == [event(2).id]

    run(test)


def test_a_replay_begins_anew_and_keeps_the_log(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store, event(1))
        (one,) = await claim(store.webhooks)
        pending = await store.webhooks.replay(one.event_id, endpoint_id=endpoint().id, now_us=LEASE_US)
        assert pending.next_at_us == NOW_US
        await store.webhooks.settle([tried(one, DeliveryState.DEAD)])
        begun = await store.webhooks.replay(one.event_id, endpoint_id=endpoint().id, now_us=LEASE_US)
        assert (begun.state, begun.attempts, begun.next_at_us) == (DeliveryState.PENDING, 0, LEASE_US)
        assert len(begun.log) == 1
        with pytest.raises(DeliveryNotFound):
            await store.webhooks.replay(event(2).id, endpoint_id=endpoint().id, now_us=LEASE_US)

    run(test)


def test_an_event_for_one_endpoint_reaches_it_whatever_it_asks_for(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store, endpoints=(endpoint(1), endpoint(2)))
        made = await store.webhooks.add_delivery(event(1, kind="webhook.test"), endpoint_id=endpoint(2).id)
        assert (made.kind, made.state) == ("webhook.test", DeliveryState.PENDING)
        assert [one.endpoint.id for one in await claim(store.webhooks, now_us=NOW_US + 1)] == [endpoint(2).id]

    run(test)


def test_the_log_of_deliveries_is_read_in_pages_newest_first(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store, *(event(number) for number in range(1, 6)))
        claimed = await claim(store.webhooks, endpoint_slots=2)
        await store.webhooks.settle([tried(one, DeliveryState.DEAD) for one in claimed])
        listed = store.webhooks.list_deliveries
        page = await listed(endpoint().id, state=None, before=None, limit=3)
        assert [one.event_id[-1] for one in page] == ["5", "4", "3"]
        rest = await listed(endpoint().id, state=None, before=page[-1].event_id, limit=3)
        assert [one.event_id[-1] for one in rest] == ["2", "1"]
        dead = await listed(endpoint().id, state=DeliveryState.DEAD, before=None, limit=3)
        assert [one.event_id for one in dead] == sorted((one.event_id for one in claimed), reverse=True)

    run(test)


def test_a_deleted_endpoint_takes_its_deliveries_along(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store, event(1), endpoints=(endpoint(1), endpoint(2)))
        await store.webhooks.delete_endpoint(endpoint(1).id, account_id=ACCOUNT, audit=entry("7"))
        assert await store.webhooks.list_deliveries(endpoint(1).id, state=None, before=None, limit=9) == []
        assert len(await claim(store.webhooks)) == 1

    run(test)


def test_released_deliveries_are_due_at_once(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store, event(1), event(2))
        first = await claim(store.webhooks)
        await store.webhooks.release(first[:1])
        assert [one.event_id for one in await claim(store.again)] == [first[0].event_id]
        await store.again.release_all()
        assert len(await claim(store.webhooks)) == 2

    run(test)


def test_the_backlog_tells_the_age_of_what_waits(run: Run) -> None:
    async def test(store: Store) -> None:
        empty = await store.webhooks.backlog()
        assert (empty.pending, empty.dead, empty.oldest_at_us) == (0, 0, None)
        await begin(store, event(3), event(4))
        assert (await store.webhooks.backlog()).oldest_at_us == NOW_US + 3
        await store.webhooks.settle([tried(one, DeliveryState.DELIVERED) for one in await claim(store.webhooks)])
        await store.journal.append(Record(outbox=(event(5),)))
        assert (await store.webhooks.backlog()).oldest_at_us == NOW_US + 5

    run(test)


def test_what_ended_long_ago_is_deleted_and_what_waits_is_not(run: Run) -> None:
    async def test(store: Store) -> None:
        await begin(store, event(1), event(2), event(3))
        claimed = sorted(await claim(store.webhooks), key=lambda one: one.event_id)
        await store.webhooks.settle([tried(one, DeliveryState.DELIVERED) for one in claimed[:2]])
        assert await store.webhooks.prune_deliveries(before_us=NOW_US + 2) == 1
        left = await store.webhooks.list_deliveries(endpoint().id, state=None, before=None, limit=9)
        assert [one.event_id[-1] for one in left] == ["3", "2"]

    run(test)
