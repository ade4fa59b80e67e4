"""Deliveries in virtual time: when it is tried again, who waits for whom, when it is given up."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import orjson
import pytest

from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.memory_webhooks import MemoryWebhooks
from firstline.adapters.sealing import Sealer
from firstline.adapters.system import SystemIdentities
from firstline.core.api_key import KeyKind, hash_of
from firstline.core.backoff import RETRY_DELAYS_S
from firstline.core.signature import verify
from firstline.core.taxonomy import Contract
from firstline.ports.journal import OutboxEvent, Record
from firstline.ports.outbound import DestinationRefused, NotSent, Reply, SendFailure
from firstline.ports.storage import Account
from firstline.ports.webhooks import Backlog, DeliveryState, DisabledReason, EndpointState
from firstline.usecases.access import Caller
from firstline.usecases.accounts import Accounts
from firstline.usecases.deliveries import ENDPOINT_SLOTS, DeliveryPolicy, Dispatcher
from firstline.usecases.events import Interests
from firstline.usecases.webhooks import Change, EndpointDisabled, EndpointInvalid, SealingMissing, WebhookEndpoints

NOW_US = 1_795_000_000_000_000
DAY_S = 86_400
ACCOUNT = Account("a" * 32, "a@example.com", NOW_US, dict.fromkeys(Contract, "free"))
URL = "https://hooks.example.com/in"


class Clock:
    """Implements `ports.clock.Clock`; stands still until told otherwise."""

    def __init__(self) -> None:
        self.us = NOW_US

    def now_us(self) -> int:
        return self.us

    def advance(self, seconds: float) -> None:
        self.us += int(seconds * 1_000_000)


@dataclass
class Sent:
    """One request that went out."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    at_us: int


@dataclass
class Way:
    """Implements `ports.outbound.Outbound`: answers as it is told, by URL."""

    clock: Clock
    answers: dict[str, Callable[[], Awaitable[Reply]]] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    async def check(self, url: str) -> None:
        if url in self.refused:
            raise DestinationRefused("must lead to a public address")

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Reply:
        self.sent.append(Sent(url, headers, body, self.clock.us))
        answer = self.answers.get(url)
        return await answer() if answer else Reply(204)

    async def close(self) -> None:
        pass

    def says(self, status: int, *, retry_after_s: float | None = None, url: str = URL) -> None:
        async def answer() -> Reply:
            return Reply(status, retry_after_s)

        self.answers[url] = answer

    def fails(self, failure: SendFailure, *, url: str = URL) -> None:
        async def answer() -> Reply:
            raise NotSent(failure)

        self.answers[url] = answer

    def hangs(self, url: str) -> None:
        async def answer() -> Reply:
            await asyncio.Event().wait()
            raise AssertionError

        self.answers[url] = answer


class Told:
    """Implements `usecases.deliveries.Watcher`."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.backlogs: list[Backlog] = []
        self.disabled_by: list[str] = []

    def attempted(self, outcome: str) -> None:
        self.outcomes.append(outcome)

    def backlog(self, found: Backlog) -> None:
        self.backlogs.append(found)

    def disabled(self, endpoint: str, reason: str) -> None:
        self.disabled_by.append(reason)


class World:
    """Everything that deliveries need, in memory."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.webhooks = MemoryWebhooks(self.store)
        self.way = Way(self.clock)
        self.told = Told()
        self.faults: list[BaseException] = []
        self.sealer: Sealer | None = Sealer(["a secret of the server, for tests"])
        self.accounts = Accounts(self.store, self.clock, SystemIdentities())
        self.interests = Interests(self.webhooks)
        self.caller = Caller(ACCOUNT)
        self.numbers = iter(range(1, 1_000))
        self.dispatcher = self.another()

    def another(self) -> Dispatcher:
        """A dispatcher on the same store, as after a restart."""
        return Dispatcher(
            self.webhooks,
            self.way,
            self.sealer,
            accounts=self.accounts,
            policy=DeliveryPolicy(),
            random=lambda: 0.5,
            watcher=self.told,
            on_fault=self.faults.append,
        )

    @property
    def endpoints(self) -> WebhookEndpoints:
        return WebhookEndpoints(self.webhooks, self.way, self.sealer, self.accounts, self.interests)

    async def begin(self, url: str = URL) -> tuple[str, str]:
        """An account with an endpoint: its id and secret."""
        if await self.store.find_account(ACCOUNT.email) is None:
            key = self.accounts.new_key(ACCOUNT, name="k", kind=KeyKind.CLASSIFIER)
            assert key.key.hash == hash_of(key.secret)
            await self.store.add_account(ACCOUNT, key.key, self.accounts.entry("t", "account.create", ACCOUNT.id))
        endpoint, secret = await self.endpoints.create(self.caller, url=url, kinds=["ticket.classified"])
        return endpoint.id, secret

    async def happen(self, ticket: str = "tkt_1") -> str:
        """An event about a ticket; its id."""
        event_id = f"{next(self.numbers):032x}"
        payload = orjson.dumps({"ticket": ticket}).decode()
        event = OutboxEvent(event_id, ACCOUNT.id, "ticket.classified", payload, self.clock.us)
        await self.store.append(Record(outbox=(event,)))
        return event_id

    async def turn(self) -> None:
        """One turn of the dispatcher, with all that it began."""
        await self.dispatcher.turn()
        await self.dispatcher.settled()


def lived(test: Callable[[World], Awaitable[None]]) -> None:
    asyncio.run(_lived(test))


async def _lived(test: Callable[[World], Awaitable[None]]) -> None:
    await test(World())


def test_an_event_arrives_signed_and_holds_type_time_and_data() -> None:
    async def test(world: World) -> None:
        _, secret = await world.begin()
        event = await world.happen()
        await world.turn()
        (sent,) = world.way.sent
        verify(secret, headers=sent.headers, body=sent.body, now_s=world.clock.us / 1_000_000)
        assert sent.headers["webhook-id"] == f"evt_{event}"
        assert orjson.loads(sent.body) == {
            "type": "ticket.classified",
            "timestamp": "2026-11-18T11:06:40.000Z",
            "data": {"ticket": "tkt_1"},
        }
        assert world.told.outcomes == ["delivered"]

    lived(test)


def test_a_failing_endpoint_is_tried_eight_times_over_28_hours_under_one_id() -> None:
    async def test(world: World) -> None:
        endpoint, _ = await world.begin()
        event = await world.happen()
        world.way.says(500)
        for delay_s in RETRY_DELAYS_S:
            await world.turn()
            world.clock.advance(delay_s - 1)
            before = len(world.way.sent)
            await world.turn()
            assert len(world.way.sent) == before
            world.clock.advance(1)
        await world.turn()
        world.clock.advance(10 * DAY_S)
        await world.turn()
        times = [sent.at_us for sent in world.way.sent]
        waits = [(later - earlier) / 1_000_000 for earlier, later in pairwise(times)]
        assert waits == list(RETRY_DELAYS_S)
        assert {sent.headers["webhook-id"] for sent in world.way.sent} == {f"evt_{event}"}
        delivery = await world.webhooks.get_delivery(event, endpoint_id=endpoint)
        assert (delivery.state, delivery.attempts) == (DeliveryState.DEAD, 8)
        assert [attempt.status for attempt in delivery.log] == [500] * 8
        assert world.told.outcomes == ["failed"] * 7 + ["dead"]

    lived(test)


def test_each_attempt_is_signed_for_its_own_time() -> None:
    async def test(world: World) -> None:
        _, secret = await world.begin()
        await world.happen()
        world.way.says(503)
        await world.turn()
        world.clock.advance(600)
        world.way.says(200)
        await world.turn()
        last = world.way.sent[-1]
        verify(secret, headers=last.headers, body=last.body, now_s=world.clock.us / 1_000_000)
        assert last.body == world.way.sent[0].body

    lived(test)


def test_a_longer_retry_after_is_honoured() -> None:
    async def test(world: World) -> None:
        await world.begin()
        await world.happen()
        world.way.says(429, retry_after_s=120)
        await world.turn()
        world.clock.advance(119)
        await world.turn()
        assert len(world.way.sent) == 1
        world.clock.advance(1)
        await world.turn()
        assert len(world.way.sent) == 2

    lived(test)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 304, 400, 401, 404, 500])
def test_only_2xx_counts_as_arrived(status: int) -> None:
    async def test(world: World) -> None:
        await world.begin()
        await world.happen()
        world.way.says(status)
        await world.turn()
        assert world.told.outcomes == ["failed"]

    lived(test)


@pytest.mark.parametrize("failure", list(SendFailure))
def test_what_was_not_sent_is_tried_again_and_the_log_says_why(failure: SendFailure) -> None:
    async def test(world: World) -> None:
        endpoint, _ = await world.begin()
        event = await world.happen()
        world.way.fails(failure)
        await world.turn()
        delivery = await world.webhooks.get_delivery(event, endpoint_id=endpoint)
        assert (delivery.state, delivery.log[0].error) == (DeliveryState.PENDING, failure.value)

    lived(test)


def test_410_disables_the_endpoint_at_once_and_leaves_an_audit_entry() -> None:
    async def test(world: World) -> None:
        endpoint, _ = await world.begin()
        for ticket in ("tkt_1", "tkt_1"):
            await world.happen(ticket)
        world.way.says(410)
        await world.turn()
        found = await world.endpoints.get(world.caller, endpoint)
        assert (found.state, found.disabled_reason) == (EndpointState.DISABLED, DisabledReason.GONE)
        assert (await world.webhooks.backlog()).dead == 2
        assert world.store.audit[-1].action == "webhook.disable"
        assert world.store.audit[-1].detail == {"reason": "gone"}
        await world.happen()
        await world.turn()
        assert len(world.way.sent) == 1
        assert world.store.outbox == {}

    lived(test)


def test_five_days_of_failure_disable_and_one_success_forgives() -> None:
    async def test(world: World) -> None:
        endpoint, _ = await world.begin()
        world.way.says(500)
        for day in range(8):
            await world.happen(f"tkt_{day}")
            for _ in range(3):
                await world.turn()
                world.clock.advance(DAY_S / 3)
            if day == 3:
                world.way.says(200)
                await world.turn()
                world.way.says(500)
            assert (await world.endpoints.get(world.caller, endpoint)).state is EndpointState.ENABLED
        for day in range(8, 10):
            await world.happen(f"tkt_{day}")
            for _ in range(3):
                await world.turn()
                world.clock.advance(DAY_S / 3)
        found = await world.endpoints.get(world.caller, endpoint)
        assert (found.state, found.disabled_reason) == (EndpointState.DISABLED, DisabledReason.FAILING)
        assert world.told.disabled_by == ["failing"]

    lived(test)


def test_an_endpoint_that_hangs_delays_no_other() -> None:
    async def test(world: World) -> None:
        await world.begin("https://hangs.example.com/")
        await world.begin(URL)
        world.way.hangs("https://hangs.example.com/")
        for number in range(2 * ENDPOINT_SLOTS):
            await world.happen(f"tkt_{number}")
        for _ in range(4):
            await world.dispatcher.turn()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        urls = [sent.url for sent in world.way.sent]
        assert urls.count(URL) == 2 * ENDPOINT_SLOTS
        assert urls.count("https://hangs.example.com/") == ENDPOINT_SLOTS

    lived(test)


def test_events_of_a_ticket_arrive_in_order_and_others_do_not_wait() -> None:
    async def test(world: World) -> None:
        await world.begin()
        first, second, other = [await world.happen(ticket) for ticket in ("tkt_1", "tkt_1", "tkt_2")]
        world.way.says(500)
        await world.turn()
        world.way.says(200)
        world.clock.advance(6)
        await world.turn()
        await world.turn()
        names = [sent.headers["webhook-id"].removeprefix("evt_") for sent in world.way.sent]
        assert sorted(names[:2]) == sorted([first, other])
        assert names.index(second) > max(place for place, name in enumerate(names) if name == first)

    lived(test)


def test_what_a_dead_process_had_begun_is_sent_again() -> None:
    async def test(world: World) -> None:
        await world.begin()
        event = await world.happen()
        world.way.hangs(URL)
        await world.dispatcher.turn()
        await asyncio.sleep(0)
        world.way.says(200)
        world.dispatcher = world.another()
        await world.turn()
        assert [sent.headers["webhook-id"] for sent in world.way.sent] == [f"evt_{event}"] * 2

    lived(test)


def test_two_live_secrets_sign_until_the_overlap_ends() -> None:
    async def test(world: World) -> None:
        endpoint, old = await world.begin()
        _, new = await world.endpoints.rotate(world.caller, endpoint, overlap_s=60)
        for seconds, count in ((0, 2), (60, 1)):
            world.clock.advance(seconds)
            await world.happen(f"tkt_{seconds}")
            await world.turn()
            sent = world.way.sent[-1]
            assert len(sent.headers["webhook-signature"].split(" ")) == count
            for secret in (new, old)[:count]:
                verify(secret, headers=sent.headers, body=sent.body, now_s=world.clock.us / 1_000_000)

    lived(test)


def test_a_secret_that_no_key_opens_fails_and_says_so() -> None:
    async def test(world: World) -> None:
        endpoint, _ = await world.begin()
        event = await world.happen()
        world.sealer = Sealer(["another secret of the server"])
        world.dispatcher = world.another()
        await world.turn()
        assert world.way.sent == []
        delivery = await world.webhooks.get_delivery(event, endpoint_id=endpoint)
        assert delivery.log[0].error == "secret_unreadable"
        _, secret = await world.endpoints.rotate(world.caller, endpoint, overlap_s=60)
        world.clock.advance(6)
        await world.turn()
        (sent,) = world.way.sent
        verify(secret, headers=sent.headers, body=sent.body, now_s=world.clock.us / 1_000_000)

    lived(test)


def test_dead_letters_are_replayed_since_a_time_or_one_by_one() -> None:
    async def test(world: World) -> None:
        endpoint, _ = await world.begin()
        world.way.says(410)
        early = await world.happen("tkt_1")
        await world.turn()
        with pytest.raises(EndpointDisabled):
            await world.endpoints.replay(world.caller, endpoint, early)
        await world.endpoints.change(world.caller, endpoint, Change(enabled=True))
        world.clock.advance(10)
        since_us = world.clock.us
        await world.happen("tkt_2")
        await world.turn()
        await world.endpoints.change(world.caller, endpoint, Change(enabled=True))
        world.way.says(200)
        assert await world.endpoints.replay_dead(world.caller, endpoint, since_us=since_us) == 1
        await world.endpoints.replay(world.caller, endpoint, early)
        await world.turn()
        assert (await world.webhooks.backlog()).dead == 0
        assert len(world.way.sent) == 4

    lived(test)


def test_our_own_faults_are_told_and_stop_nothing() -> None:
    async def test(world: World) -> None:
        await world.begin()
        await world.happen()

        async def broken() -> Reply:
            raise RuntimeError("a bug")

        world.way.answers[URL] = broken
        await world.turn()
        assert [type(fault) for fault in world.faults] == [RuntimeError]
        assert world.told.outcomes == ["failed"]

    lived(test)


def test_closing_stores_what_was_answered_and_gives_back_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firstline.usecases.deliveries.CLOSE_S", 0.01)

    async def test(world: World) -> None:
        endpoint, _ = await world.begin("https://hangs.example.com/")
        under_way = asyncio.Event()

        async def answer() -> Reply:
            under_way.set()
            await asyncio.Event().wait()
            raise AssertionError

        world.way.answers["https://hangs.example.com/"] = answer
        event = await world.happen()
        world.dispatcher.start()
        await under_way.wait()
        await world.dispatcher.close()
        delivery = await world.webhooks.get_delivery(event, endpoint_id=endpoint)
        assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 0)
        found = await world.webhooks.claim(now_us=NOW_US, lease_us=NOW_US + 1, slots=9, endpoint_slots=9, busy={})
        assert [one.event_id for one in found] == [event]

    lived(test)


def test_endpoints_are_refused_with_the_field_at_fault() -> None:
    async def test(world: World) -> None:
        endpoint, _ = await world.begin()
        world.way.refused.add("https://inside.example.com/")
        for given, name in (
            ({"url": "https://inside.example.com/", "kinds": ["job.finished"]}, "url"),
            ({"url": URL, "kinds": []}, "events"),
            ({"url": URL, "kinds": ["job.finished", "no.such"]}, "events[1]"),
            ({"url": URL, "kinds": ["job.finished"], "description": "x" * 201}, "description"),
        ):
            with pytest.raises(EndpointInvalid) as error:
                await world.endpoints.create(world.caller, **given)  # type: ignore[arg-type]
            assert error.value.field == name
        for overlap_s in (-1, 8 * DAY_S):
            with pytest.raises(EndpointInvalid, match="overlap_seconds"):
                await world.endpoints.rotate(world.caller, endpoint, overlap_s=overlap_s)

    lived(test)


def test_without_a_key_to_seal_under_nothing_is_created() -> None:
    async def test(world: World) -> None:
        world.sealer = None
        with pytest.raises(SealingMissing):
            await world.begin()

    lived(test)
