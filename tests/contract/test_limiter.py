"""What a limiter promises: never more than the limit, true after a restart, refunds that never go wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstline.adapters.memory_limiter import MemoryLimiter
from firstline.adapters.redis.shared import Shared
from firstline.core.plans import BURST_WINDOW, Denied, Granted, Plan, Window, window_bounds
from firstline.core.taxonomy import Contract
from firstline.ports.limiter import Limiter, UsageUnknown
from firstline.ports.storage import StorageUnavailable
from redis_server import RedisServer

S = 1_000_000
NOON_US = 1_795_003_200_000_000
HOUR_US = 3_600 * S
PLAN = Plan(Contract.CLASSIFIER, "test", 0, {Window.HOUR: 5, Window.DAY: 8}, burst_per_minute=20, batch_size=1)

Ledger = Callable[[str, Contract, int], Awaitable[Mapping[Window, int]]]
Open = Callable[..., AbstractAsyncContextManager[Limiter]]


class Unwatched:
    """Hears nothing of what is decided without Redis, for nothing may be."""

    def local(self, outcome: str) -> None:
        if outcome != "unknown":
            raise AssertionError(f"decided without Redis: {outcome}")


@pytest.fixture(scope="module")
def redis_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that is emptied for every limiter."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.service)])
def limiter(request: pytest.FixtureRequest) -> Open:
    """Opens a limiter that has counted nothing yet, over what the ledger knows."""
    server: RedisServer | None = None
    if request.param == "redis":
        server = request.getfixturevalue("redis_of_module")
    return lambda counted=None, read=None: opened(server, read or reading(counted or {}))


def reading(counted: Mapping[Window, int]) -> Ledger:
    """A ledger that knows the same of every account."""

    async def read(_account: str, _catalogue: Contract, _now_us: int) -> Mapping[Window, int]:
        answered = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(answered.set_result, None)
        await answered  # as a database would: others run meanwhile
        return counted

    return read


@asynccontextmanager
async def opened(server: RedisServer | None, read: Ledger, *, empty: bool = True) -> AsyncIterator[Limiter]:
    """A limiter; in Redis the only one, unless it joins others that count there already."""
    if server is None:
        yield MemoryLimiter(read)
        return
    if empty:
        server.ask("FLUSHALL")
    shared = Shared(server.url, read, least_replicas=1, watcher=Unwatched(), timeout_s=1.0)
    await shared.start()
    try:
        yield shared.limiter
    finally:
        await shared.close()


async def grants(of: Limiter, count: int, *, now_us: int = NOON_US) -> int:
    outcomes = await asyncio.gather(*(of.charge("a", PLAN, now_us=now_us) for _ in range(count)))
    return sum(isinstance(outcome, Granted) for outcome in outcomes)


async def granted_of(opening: AbstractAsyncContextManager[Limiter], count: int) -> int:
    async with opening as of:
        return await grants(of, count)


def test_concurrent_charges_never_exceed_the_limit(limiter: Open) -> None:
    assert asyncio.run(granted_of(limiter(), 50)) == 5


def test_what_the_ledger_knows_counts(limiter: Open) -> None:
    assert asyncio.run(granted_of(limiter({Window.HOUR: 3}), 50)) == 2
    assert asyncio.run(granted_of(limiter({Window.DAY: 8}), 50)) == 0


def test_a_denial_counts_nothing_and_names_the_window_that_opens_last(limiter: Open) -> None:
    async def work() -> None:
        async with limiter({Window.HOUR: 5, Window.DAY: 8}) as of:
            outcome = await of.charge("a", PLAN, now_us=NOON_US)
            assert isinstance(outcome, Denied)
            assert outcome.full.window is Window.DAY
            assert outcome.retry_after_s == (window_bounds(Window.DAY, NOON_US)[1] - NOON_US) // S
            assert {use.window: use.used for use in outcome.uses} == {BURST_WINDOW: 0, Window.HOUR: 5, Window.DAY: 8}

    asyncio.run(work())


def test_a_window_that_has_ended_opens_again(limiter: Open) -> None:
    async def work() -> None:
        async with limiter() as of:
            assert await grants(of, 9) == 5
            assert await grants(of, 9, now_us=NOON_US + 3_600 * S) == 3
            assert await grants(of, 9, now_us=NOON_US + 24 * 3_600 * S) == 5

    asyncio.run(work())


def test_a_refund_gives_the_quota_back_and_keeps_the_burst(limiter: Open) -> None:
    async def work() -> None:
        async with limiter() as of:
            granted = await of.charge("a", PLAN, now_us=NOON_US)
            assert isinstance(granted, Granted)
            uses = {use.window: use.used for use in of.refund("a", PLAN, granted)}
            assert uses == {BURST_WINDOW: 1, Window.HOUR: 0, Window.DAY: 0}
            assert await used(of) == uses
            assert all(use.used >= 0 for use in of.refund("a", PLAN, granted))
            assert await used(of) == uses

    asyncio.run(work())


async def used(of: Limiter, *, now_us: int = NOON_US) -> dict[Window, int]:
    return {use.window: use.used for use in await of.uses("a", PLAN, now_us=now_us)}


def test_a_window_that_has_ended_meanwhile_is_not_refunded(limiter: Open) -> None:
    async def work() -> None:
        async with limiter() as of:
            granted = await of.charge("a", PLAN, now_us=NOON_US)
            assert isinstance(granted, Granted)
            later = NOON_US + 3_600 * S
            await of.charge("a", PLAN, now_us=later)
            uses = {use.window: use.used for use in of.refund("a", PLAN, granted)}
            assert uses == {BURST_WINDOW: 1, Window.HOUR: 1, Window.DAY: 1}
            assert await used(of, now_us=later) == uses

    asyncio.run(work())


def test_accounts_and_catalogues_are_counted_apart(limiter: Open) -> None:
    async def work() -> None:
        async with limiter() as of:
            assert await grants(of, 9) == 5
            assert isinstance(await of.charge("b", PLAN, now_us=NOON_US), Granted)
            other = Plan(Contract.DECISION, "test", 0, {Window.MINUTE: 1}, 1, 1)
            assert isinstance(await of.charge("a", other, now_us=NOON_US), Granted)

    asyncio.run(work())


def test_whether_a_window_is_published_is_told_of_each_plan(limiter: Open) -> None:
    async def work() -> None:
        async with limiter() as of:
            limits = {Window.MINUTE: 20, **PLAN.limits}
            published = Plan(Contract.DECISION, "test", 0, limits, burst_per_minute=20, batch_size=1)
            told = {}
            for plan in (PLAN, published):
                assert plan.windows == PLAN.windows
                outcome = await of.charge("a", plan, now_us=NOON_US)
                told[plan.catalogue] = outcome.uses[0].published
            assert told == {Contract.CLASSIFIER: False, Contract.DECISION: True}

    asyncio.run(work())


def test_requests_that_the_ledger_has_counted_elsewhere_are_added(limiter: Open) -> None:
    async def work() -> None:
        async with limiter() as of:
            assert await grants(of, 1) == 1
            await of.add("a", PLAN, 3, windows=PLAN.limits, now_us=NOON_US)
            assert await used(of) == {BURST_WINDOW: 1, Window.HOUR: 4, Window.DAY: 4}
            assert await grants(of, 9) == 1

    asyncio.run(work())


def test_an_unknown_usage_fails_closed_until_the_ledger_can_be_read(limiter: Open) -> None:
    broken = [True]

    async def read(_account: str, _catalogue: Contract, _now_us: int) -> Mapping[Window, int]:
        if broken:
            raise StorageUnavailable("gone")
        return {Window.HOUR: 4}

    async def work() -> None:
        async with limiter(read=read) as of:
            for _ in range(2):
                with pytest.raises(UsageUnknown):
                    await of.charge("a", PLAN, now_us=NOON_US)
                with pytest.raises(UsageUnknown):
                    await of.uses("a", PLAN, now_us=NOON_US)
            broken.clear()
            assert await grants(of, 9) == 1

    asyncio.run(work())


def test_a_clock_that_steps_back_asks_the_ledger_again(limiter: Open) -> None:
    async def work() -> None:
        async with limiter({Window.HOUR: 4}) as of:
            assert await grants(of, 9) == 1
            assert await grants(of, 9, now_us=NOON_US - 3_600 * S) == 1

    asyncio.run(work())


COURSES = st.lists(st.tuples(st.integers(0, 7_200), st.integers(1, 12), st.integers(0, 12)), min_size=1, max_size=12)
LEDGERS = st.dictionaries(st.sampled_from([Window.HOUR, Window.DAY]), st.integers(0, 10))


async def run_course(of: list[Limiter], course: list[tuple[int, int, int]], counted: Mapping[Window, int]) -> None:
    kept = {(window, window_bounds(window, NOON_US)[0]): used for window, used in counted.items()}
    before = dict(kept)
    now_us = NOON_US
    await of[0].uses("a", PLAN, now_us=now_us)
    for seconds, charges, refunds in course:
        now_us += seconds * S
        outcomes = await asyncio.gather(
            *(of[number % len(of)].charge("a", PLAN, now_us=now_us) for number in range(charges))
        )
        for number, outcome in enumerate(outcomes):
            if not isinstance(outcome, Granted):
                continue
            if number < refunds:
                assert all(use.used >= 0 for use in of[number % len(of)].refund("a", PLAN, outcome))
                continue
            for window in PLAN.limits:
                place = window, window_bounds(window, now_us)[0]
                kept[place] = kept.get(place, 0) + 1
    for place, count in kept.items():
        assert count <= max(PLAN.limits[place[0]], before.get(place, 0))


def only_at_noon(counted: Mapping[Window, int]) -> Ledger:
    """A ledger that knows of the windows of noon alone."""

    async def read(_account: str, _catalogue: Contract, now_us: int) -> Mapping[Window, int]:
        return {
            window: used
            for window, used in counted.items()
            if window_bounds(window, now_us) == window_bounds(window, NOON_US)
        }

    return read


@given(COURSES, LEDGERS)
def test_no_course_of_charges_and_refunds_exceeds_a_limit_or_goes_below_zero(
    course: list[tuple[int, int, int]], counted: dict[Window, int]
) -> None:
    async def work() -> None:
        await run_course([MemoryLimiter(only_at_noon(counted))], course, counted)

    asyncio.run(work())


@pytest.mark.service
@given(COURSES, LEDGERS)
def test_nor_does_any_course_over_several_replicas(
    redis_of_module: RedisServer, course: list[tuple[int, int, int]], counted: dict[Window, int]
) -> None:
    read = only_at_noon(counted)

    async def work() -> None:
        async with (
            opened(redis_of_module, read) as first,
            opened(redis_of_module, read, empty=False) as second,
            opened(redis_of_module, read, empty=False) as third,
        ):
            await run_course([first, second, third], course, counted)

    asyncio.run(work())


def test_usage_that_was_only_looked_at_lasts_while_the_ledger_is_away_and_windows_turn(limiter: Open) -> None:
    away = False

    async def read(_account: str, _catalogue: Contract, _now_us: int) -> Mapping[Window, int]:
        if away:
            raise StorageUnavailable("away")
        return {Window.HOUR: 3, Window.DAY: 4}

    async def work() -> None:
        nonlocal away
        async with limiter(read=read) as of:
            await of.uses("a", PLAN, now_us=NOON_US)
            away = True
            assert await grants(of, 9) == 2
            assert await grants(of, 9, now_us=NOON_US + HOUR_US) == 2  # the day has eight
            assert await grants(of, 9, now_us=NOON_US + 24 * HOUR_US) == 5
            with pytest.raises(UsageUnknown):
                await of.charge("b", PLAN, now_us=NOON_US)

    asyncio.run(work())
