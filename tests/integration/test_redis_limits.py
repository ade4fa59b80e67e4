"""Limits that several replicas share: exact while Redis is there, bounded while it is not, right again afterwards."""

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from firstline.adapters.redis.shared import Shared
from firstline.core.plans import BURST_WINDOW, Denied, Granted, Plan, Window, window_bounds
from firstline.core.taxonomy import Contract
from firstline.ports.limiter import UsageUnknown
from firstline.ports.storage import StorageUnavailable
from redis_server import RedisServer

pytestmark = pytest.mark.service

S = 1_000_000
TIMEOUT_S = 0.5
"""Longer than that of a server, so that a busy machine is not taken for an outage."""

NOON_US = 1_795_003_200_000_000
PLAN = Plan(Contract.CLASSIFIER, "test", 0, {Window.HOUR: 100, Window.DAY: 500}, burst_per_minute=1_000, batch_size=1)
BURST_ONLY = Plan(Contract.CLASSIFIER, "test", 0, {}, burst_per_minute=20, batch_size=1)


@dataclass
class Ledger:
    """What is stored of the granted requests, as the database would know it."""

    counts: Counter[tuple[str, Window, int]] = field(default_factory=Counter)
    gone: bool = False
    reads: int = 0

    def store(self, granted: Granted, *, account: str = "a") -> None:
        for window in Window:
            self.counts[account, window, window_bounds(window, granted.at_us)[0]] += 1

    async def read(self, account: str, _catalogue: Contract, now_us: int) -> Mapping[Window, int]:
        await asyncio.sleep(0)
        self.reads += 1
        if self.gone:
            raise StorageUnavailable("gone")
        found = {window: self.counts[account, window, window_bounds(window, now_us)[0]] for window in Window}
        return {window: used for window, used in found.items() if used}


class Replica:
    """One server's limits, and what it has told."""

    def __init__(self, url: str, ledger: Ledger, *, least: int, check_after_s: float) -> None:
        self.outcomes: Counter[str] = Counter()
        self.works = asyncio.Event()
        self.fails = asyncio.Event()
        self.ledger = ledger
        self.shared = Shared(
            url,
            ledger.read,
            least_replicas=least,
            watcher=self,
            on_change=self.changed,
            check_after_s=check_after_s,
            timeout_s=TIMEOUT_S,
        )
        self.limiter = self.shared.limiter

    def local(self, outcome: str) -> None:
        self.outcomes[outcome] += 1

    def changed(self, works: bool) -> None:
        (self.works if works else self.fails).set()
        (self.fails if works else self.works).clear()

    async def grants(
        self, count: int, *, now_us: int = NOON_US, plan: Plan = PLAN, store: bool = True
    ) -> list[Granted]:
        outcomes = await asyncio.gather(
            *(self.limiter.charge("a", plan, now_us=now_us) for _ in range(count)), return_exceptions=True
        )
        granted = [outcome for outcome in outcomes if isinstance(outcome, Granted)]
        assert all(isinstance(outcome, Granted | Denied | UsageUnknown) for outcome in outcomes), outcomes
        if store:
            for grant in granted:
                self.ledger.store(grant)
        return granted

    async def used(self, *, now_us: int = NOON_US) -> tuple[int, int]:
        uses = await self.limiter.uses("a", PLAN, now_us=now_us)
        found = {use.window: use.used for use in uses}
        return found[Window.HOUR], found[Window.DAY]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as started:
        yield started


@asynccontextmanager
async def replicas(
    server: RedisServer, count: int = 2, *, ledger: Ledger | None = None, least: int = 1, check_after_s: float = 3_600.0
) -> AsyncIterator[Sequence[Replica]]:
    """Replicas that have heard of each other."""
    ledger = ledger or Ledger()
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            replica = Replica(server.url, ledger, least=least, check_after_s=check_after_s)
            await replica.shared.start()
            stack.push_async_callback(replica.shared.close)
            found.append(replica)
        for replica in [*found, *found]:
            if replica.limiter.shared:
                await replica.shared.replicas.beat()
        yield found


def test_a_redis_that_hangs_leaves_each_replica_its_part_and_every_grant_is_added_once(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server) as (first, second):
            assert len(await first.grants(10)) == 10
            server.pause()
            assert len(await first.grants(80)) == 45
            assert len(await second.grants(80)) == 22  # half of what the ledger shows to be left by then
            assert not first.limiter.shared
            with pytest.raises(UsageUnknown):
                await first.limiter.charge("a", PLAN, now_us=NOON_US)
            assert first.outcomes["granted"] == 45
            assert first.outcomes["unknown"] == 36
            server.resume()
            await first.works.wait()
            await second.works.wait()
            assert await second.used() in {(32, 32), (77, 77)}  # the first may not have told yet
            assert await first.used() == (77, 77)
            assert await second.used() == (77, 77)
            assert len(await first.grants(50)) == 23

    asyncio.run(work())


def test_what_redis_gets_to_late_counts_nothing(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server, 1) as (only,):
            assert len(await only.grants(3)) == 3
            server.pause()
            waiting = asyncio.create_task(only.grants(1, store=False))
            await only.fails.wait()
            (granted,) = await waiting
            only.limiter.refund("a", PLAN, granted)
            server.resume()
            await only.works.wait()
            assert await only.used() == (3, 3)

    asyncio.run(work())


def test_a_redis_that_comes_back_empty_is_filled_from_the_ledger(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server) as (first, second):
            assert len(await first.grants(10)) == 10
            server.kill()
            assert len(await first.grants(20)) == 20
            assert len(await second.grants(7)) == 7
            server.start()
            await first.works.wait()
            await second.works.wait()
            assert await first.used() == (37, 37)
            assert await second.used() == (37, 37)
            granted = await asyncio.gather(first.grants(60), second.grants(60))
            assert sum(map(len, granted)) == 63

    asyncio.run(work())


def test_after_a_flush_counts_come_from_the_ledger(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server) as (first, second):
            assert len(await first.grants(90)) == 90
            server.ask("FLUSHALL")
            granted = await asyncio.gather(first.grants(20), second.grants(20))
            assert sum(map(len, granted)) == 10

    asyncio.run(work())


def test_without_ledger_quota_goes_on_from_what_was_last_heard_and_fails_closed_for_others(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server) as (first, second):
            assert len(await first.grants(60)) == 60
            first.ledger.gone = True
            server.pause()
            assert len(await first.grants(50)) == 20
            with pytest.raises(UsageUnknown):
                await second.limiter.charge("a", PLAN, now_us=NOON_US)
            with pytest.raises(UsageUnknown):
                await second.limiter.uses("a", PLAN, now_us=NOON_US)
            assert second.outcomes == {"unknown": 1}
            server.resume()
            await first.works.wait()
            assert await first.used() == (80, 80)

    asyncio.run(work())


def test_without_redis_and_ledger_after_a_start_quota_fails_closed_and_burst_open(server: RedisServer) -> None:
    async def work() -> None:
        server.kill()
        async with replicas(server, 1, ledger=Ledger(gone=True)) as (only,):
            assert not only.limiter.shared
            with pytest.raises(UsageUnknown):
                await only.limiter.charge("a", PLAN, now_us=NOON_US)
            assert len(await only.grants(30, plan=BURST_ONLY, store=False)) == 20
            outcome = await only.limiter.charge("a", BURST_ONLY, now_us=NOON_US)
            assert isinstance(outcome, Denied)
            assert outcome.full.window is BURST_WINDOW

    asyncio.run(work())


def test_each_replica_allows_the_whole_burst_while_redis_is_away(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server) as (first, second):
            assert len(await first.grants(15, plan=BURST_ONLY, store=False)) == 15
            assert len(await second.grants(15, plan=BURST_ONLY, store=False)) == 5
            server.kill()
            assert len(await first.grants(30, plan=BURST_ONLY, store=False)) == 5
            assert len(await second.grants(30, plan=BURST_ONLY, store=False, now_us=NOON_US + 60 * S)) == 20

    asyncio.run(work())


def test_a_used_up_quota_is_denied_and_not_unknown(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server) as (first, second):
            assert len(await first.grants(100)) == 100
            server.kill()
            for replica in (first, second):
                outcome = await replica.limiter.charge("a", PLAN, now_us=NOON_US)
                assert isinstance(outcome, Denied)
                assert outcome.full.window is Window.HOUR

    asyncio.run(work())


def test_a_server_that_starts_without_redis_divides_by_the_number_in_the_settings(server: RedisServer) -> None:
    async def work() -> None:
        server.kill()
        async with replicas(server, 1, least=4) as (only,):
            assert len(await only.grants(80)) == 25
            server.start()
            await only.works.wait()
            assert await only.used() == (25, 25)
            assert len(await only.grants(80)) == 75

    asyncio.run(work())


def test_a_new_hour_begins_while_redis_is_away(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server) as (first, _):
            assert len(await first.grants(100)) == 100
            server.pause()
            later = NOON_US + 3_600 * S
            assert len(await first.grants(80, now_us=later)) == 50
            server.resume()
            await first.works.wait()
            assert await first.used(now_us=later) == (50, 150)

    asyncio.run(work())


def test_refunds_while_redis_is_away_are_taken_off_when_it_returns(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server) as (first, _):
            before = await first.grants(10, store=False)
            server.pause()
            meanwhile = await first.grants(6, store=False)
            for granted in [*before[:3], *meanwhile[:2]]:
                assert all(use.used >= 0 for use in first.limiter.refund("a", PLAN, granted))
            server.resume()
            await first.works.wait()
            first.limiter.refund("a", PLAN, meanwhile[2])
            assert await first.used() == (10, 10)

    asyncio.run(work())


def test_what_a_replica_granted_before_it_died_is_found_in_the_ledger(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server, 1, check_after_s=0.0) as (first,):
            assert len(await first.grants(10)) == 10
            ledger = first.ledger
            async with replicas(server, 1, ledger=ledger, least=2) as (doomed,):
                server.pause()
                assert len(await doomed.grants(30)) == 30
                await first.grants(5)
            server.resume()
            await first.works.wait()
            assert await first.used() == (45, 45)
            assert len(await first.grants(80)) == 55

    asyncio.run(work())


def test_what_a_dead_replica_granted_is_found_though_the_ledger_was_away_at_first(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server, 1, check_after_s=0.0) as (first,):
            assert len(await first.grants(10)) == 10
            ledger = first.ledger
            async with replicas(server, 1, ledger=ledger, least=2) as (doomed,):
                server.pause()
                assert len(await doomed.grants(30)) == 30
                await first.grants(5)
            ledger.gone = True
            server.resume()
            await first.works.wait()
            assert await first.used() == (15, 15)
            ledger.gone = False
            assert await first.used() == (45, 45)
            assert len(await first.grants(80)) == 55

    asyncio.run(work())


def test_the_ledger_adds_nothing_that_another_replica_is_about_to_add(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server, 2, check_after_s=0.0) as (first, second):
            assert len(await first.grants(10)) == 10
            assert len(await second.grants(10)) == 10
            server.pause()
            assert len(await first.grants(20)) == 20
            assert len(await second.grants(20)) == 20
            server.resume()
            await first.works.wait()
            assert await first.used() == (60, 60)  # the second may not have told yet
            await second.works.wait()
            assert await second.used() == (60, 60)
            assert await first.used() == (60, 60)

    asyncio.run(work())


def test_requests_of_jobs_are_added_once_wherever_redis_is(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server) as (first, worker):

            async def add(amount: int) -> None:
                for window in Window:
                    first.ledger.counts["a", window, window_bounds(window, NOON_US)[0]] += amount
                await worker.limiter.add("a", PLAN, amount, windows=PLAN.limits, now_us=NOON_US)

            await add(5)
            assert await first.used() == (5, 5)
            await add(10)
            assert await first.used() == (15, 15)
            server.pause()
            await add(20)
            assert await worker.used() == (35, 35)
            server.resume()
            await worker.works.wait()
            await first.works.wait()
            assert await worker.used() == (35, 35)
            assert await first.used() == (35, 35)

    asyncio.run(work())


def test_a_ledger_that_is_read_across_the_hour_tells_each_hour_its_own(server: RedisServer) -> None:
    class Slow(Ledger):
        waiting = 0

        async def read(self, account: str, catalogue: Contract, now_us: int) -> Mapping[Window, int]:
            self.waiting += 1
            if self.waiting == 2:
                both.set()
            await both.wait()
            return await super().read(account, catalogue, now_us)

    both = asyncio.Event()

    async def work() -> None:
        async with replicas(server, 1, ledger=Slow()) as (only,):
            last_us, first_us = NOON_US - 1, NOON_US
            for _ in range(100):
                only.ledger.store(Granted((), last_us))
            asking = [asyncio.create_task(only.grants(1, now_us=now_us)) for now_us in (last_us, first_us)]
            assert [len(granted) for granted in await asyncio.gather(*asking)] == [0, 1]

    asyncio.run(work())


def test_whoever_goes_away_before_the_answer_is_not_counted(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server, 1) as (only,):
            await only.used()
            asking = asyncio.create_task(only.limiter.charge("a", PLAN, now_us=NOON_US))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await only.used()  # may be asked together with the request; what follows is asked after it was given back
            assert await only.used() == (0, 0)

    asyncio.run(work())


def test_a_replica_counts_those_that_live_and_no_longer_those_that_have_left(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server, 3) as found:
            assert found[2].shared.replicas.count == 3
        async with replicas(server, 1) as (only,):
            assert only.shared.replicas.count == 1

    asyncio.run(work())


def test_a_worker_that_grants_nothing_takes_no_part_of_the_quota(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server, 1) as (only,):
            worker = Replica(server.url, only.ledger, least=1, check_after_s=3_600.0)
            await worker.shared.start(grants=False)
            await worker.used()
            await only.shared.replicas.beat()
            assert only.shared.replicas.count == 1
            await worker.shared.close()

    asyncio.run(work())


def test_a_password_that_is_refused_is_an_outage_and_not_an_end(server: RedisServer) -> None:
    server.ask("CONFIG SET requirepass another")

    async def work() -> None:
        async with replicas(server, 1) as (only,):
            assert not only.limiter.shared
            assert len(await only.grants(120)) == 100

    asyncio.run(work())


def test_a_redis_that_may_not_write_is_an_outage(server: RedisServer) -> None:
    async def work() -> None:
        async with replicas(server, 1) as (only,):
            assert len(await only.grants(4)) == 4
            server.ask("CONFIG SET maxmemory 1")
            assert len(await only.grants(4)) == 4
            assert only.outcomes["granted"] == 4
            server.ask("CONFIG SET maxmemory 0")
            await only.works.wait()
            assert await only.used() == (8, 8)

    asyncio.run(work())


def charge_in_a_process(url: str, count: int) -> int:
    async def work() -> int:
        shared = Shared(url, Ledger().read, least_replicas=1, watcher=_Silent(), timeout_s=TIMEOUT_S)
        await shared.start()
        outcomes = await asyncio.gather(
            *(shared.limiter.charge("a", PLAN, now_us=NOON_US) for _ in range(count)), return_exceptions=True
        )
        await shared.close()
        return sum(isinstance(outcome, Granted) for outcome in outcomes)

    return asyncio.run(work())


class _Silent:
    def local(self, outcome: str) -> None:
        raise AssertionError(outcome)


def test_several_processes_together_grant_exactly_the_limit(server: RedisServer) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        granted = pool.starmap(charge_in_a_process, [(server.url, 60)] * 3)
    assert sum(granted) == 100
