"""What a limiter promises: never more than the limit, true after a restart, refunds that never go wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstline.adapters.memory_limiter import MemoryLimiter
from firstline.core.plans import BURST_WINDOW, Denied, Granted, Plan, Window, window_bounds
from firstline.core.taxonomy import Contract
from firstline.ports.limiter import UsageUnknown
from firstline.ports.storage import StorageUnavailable

S = 1_000_000
NOON_US = 1_795_003_200_000_000
PLAN = Plan(Contract.CLASSIFIER, "test", 0, {Window.HOUR: 5, Window.DAY: 8}, burst_per_minute=20, batch_size=1)

Ledger = Callable[[str, Contract, int], Awaitable[Mapping[Window, int]]]


def limiter(counted: Mapping[Window, int] | None = None) -> MemoryLimiter:
    async def read(_account: str, _catalogue: Contract, _now_us: int) -> Mapping[Window, int]:
        answered = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(answered.set_result, None)
        await answered  # as a database would: others run meanwhile
        return counted or {}

    return MemoryLimiter(read)


async def grants(of: MemoryLimiter, count: int, *, now_us: int = NOON_US) -> int:
    outcomes = await asyncio.gather(*(of.charge("a", PLAN, now_us=now_us) for _ in range(count)))
    return sum(isinstance(outcome, Granted) for outcome in outcomes)


def test_concurrent_charges_never_exceed_the_limit() -> None:
    assert asyncio.run(grants(limiter(), 50)) == 5


def test_what_the_ledger_knows_counts() -> None:
    assert asyncio.run(grants(limiter({Window.HOUR: 3}), 50)) == 2
    assert asyncio.run(grants(limiter({Window.DAY: 8}), 50)) == 0


def test_a_denial_counts_nothing_and_names_the_window_that_opens_last() -> None:
    async def work() -> None:
        of = limiter({Window.HOUR: 5, Window.DAY: 8})
        outcome = await of.charge("a", PLAN, now_us=NOON_US)
        assert isinstance(outcome, Denied)
        assert outcome.full.window is Window.DAY
        assert outcome.retry_after_s == (window_bounds(Window.DAY, NOON_US)[1] - NOON_US) // S
        assert {use.window: use.used for use in outcome.uses} == {BURST_WINDOW: 0, Window.HOUR: 5, Window.DAY: 8}

    asyncio.run(work())


def test_a_window_that_has_ended_opens_again() -> None:
    async def work() -> None:
        of = limiter()
        assert await grants(of, 9) == 5
        assert await grants(of, 9, now_us=NOON_US + 3_600 * S) == 3
        assert await grants(of, 9, now_us=NOON_US + 24 * 3_600 * S) == 5

    asyncio.run(work())


def test_a_refund_gives_the_quota_back_and_keeps_the_burst() -> None:
    async def work() -> None:
        of = limiter()
        granted = await of.charge("a", PLAN, now_us=NOON_US)
        assert isinstance(granted, Granted)
        uses = {use.window: use.used for use in of.refund("a", PLAN, granted)}
        assert uses == {BURST_WINDOW: 1, Window.HOUR: 0, Window.DAY: 0}
        assert all(use.used >= 0 for use in of.refund("a", PLAN, granted))

    asyncio.run(work())


def test_a_window_that_has_ended_meanwhile_is_not_refunded() -> None:
    async def work() -> None:
        of = limiter()
        granted = await of.charge("a", PLAN, now_us=NOON_US)
        assert isinstance(granted, Granted)
        await of.charge("a", PLAN, now_us=NOON_US + 3_600 * S)
        uses = {use.window: use.used for use in of.refund("a", PLAN, granted)}
        assert uses == {BURST_WINDOW: 1, Window.HOUR: 1, Window.DAY: 1}

    asyncio.run(work())


def test_accounts_and_catalogues_are_counted_apart() -> None:
    async def work() -> None:
        of = limiter()
        assert await grants(of, 9) == 5
        assert isinstance(await of.charge("b", PLAN, now_us=NOON_US), Granted)
        other = Plan(Contract.DECISION, "test", 0, {Window.MINUTE: 1}, 1, 1)
        assert isinstance(await of.charge("a", other, now_us=NOON_US), Granted)

    asyncio.run(work())


def test_an_unknown_usage_fails_closed_until_the_ledger_can_be_read() -> None:
    broken = [True]

    async def read(_account: str, _catalogue: Contract, _now_us: int) -> Mapping[Window, int]:
        if broken:
            raise StorageUnavailable("gone")
        return {Window.HOUR: 4}

    async def work() -> None:
        of = MemoryLimiter(read)
        for _ in range(2):
            with pytest.raises(UsageUnknown):
                await of.charge("a", PLAN, now_us=NOON_US)
            with pytest.raises(UsageUnknown):
                await of.uses("a", PLAN, now_us=NOON_US)
        broken.clear()
        assert await grants(of, 9) == 1

    asyncio.run(work())


def test_a_clock_that_steps_back_asks_the_ledger_again() -> None:
    async def work() -> None:
        of = limiter({Window.HOUR: 4})
        assert await grants(of, 9) == 1
        assert await grants(of, 9, now_us=NOON_US - 3_600 * S) == 1

    asyncio.run(work())


@given(
    st.lists(st.tuples(st.integers(0, 7_200), st.integers(1, 12), st.integers(0, 12)), min_size=1, max_size=12),
    st.dictionaries(st.sampled_from([Window.HOUR, Window.DAY]), st.integers(0, 10)),
)
def test_no_course_of_charges_and_refunds_exceeds_a_limit_or_goes_below_zero(
    course: list[tuple[int, int, int]], counted: dict[Window, int]
) -> None:
    async def work() -> None:
        of = limiter(counted)
        kept: dict[tuple[Window, int], int] = {}
        now_us = NOON_US
        for seconds, charges, refunds in course:
            now_us += seconds * S
            outcomes = await asyncio.gather(*(of.charge("a", PLAN, now_us=now_us) for _ in range(charges)))
            granted = [outcome for outcome in outcomes if isinstance(outcome, Granted)]
            for number, grant in enumerate(granted):
                if number < refunds:
                    assert all(use.used >= 0 for use in of.refund("a", PLAN, grant))
                    continue
                for window in PLAN.limits:
                    place = window, window_bounds(window, now_us)[0]
                    kept[place] = kept.get(place, 0) + 1
        for (window, _), count in kept.items():
            assert count <= PLAN.limits[window]

    asyncio.run(work())
