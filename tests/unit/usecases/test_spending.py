"""What accounts spend: counted once, wherever it is on its way to."""

import pytest
from virtual_time import run

from firstline.adapters.memory_store import MemoryStore
from firstline.core.asking import AskPolicy
from firstline.ports.journal import Record
from firstline.ports.provider import Tokens
from firstline.usecases.access import ANONYMOUS
from firstline.usecases.spending import REREAD_S, Spending

SECOND = 1_000_000
DAY_S = 86_400
CENTS_10 = 100_000


class MovingClock:
    """Implements `ports.clock.Clock`."""

    def __init__(self) -> None:
        self.now = 1_795_000_000 * SECOND

    def now_us(self) -> int:
        return self.now


class World:
    """One account that pays ten cents a call."""

    def __init__(self) -> None:
        self.clock = MovingClock()
        self.store = MemoryStore()
        self.spending = Spending(self.store, clock=self.clock, cost_of=lambda *_: CENTS_10)

    def call(self) -> None:
        self.spending.add(ANONYMOUS.id, "gemini", "m", Tokens(1, 1), failed=False)

    async def today(self) -> int:
        return (await self.spending.spent(ANONYMOUS.id)).today_micros


def test_what_is_on_its_way_into_the_store_counts_when_the_store_is_read_again() -> None:
    async def scenario() -> tuple[int, int, bool]:
        world = World()
        await world.today()
        world.call()
        world.call()
        world.spending.take(ANONYMOUS.id)
        world.clock.now += REREAD_S * SECOND
        seen = await world.today()
        budget = AskPolicy(daily_budget_usd=0.2)
        allowed = await world.spending.allows(ANONYMOUS.id, budget, estimate_micros=CENTS_10)
        world.call()
        return seen, await world.today(), allowed

    assert run(scenario()) == (2 * CENTS_10, 3 * CENTS_10, False)


@pytest.mark.parametrize("day_s", [DAY_S, -DAY_S])
def test_another_day_begins_with_what_the_store_has_of_it(day_s: int) -> None:
    async def scenario() -> int:
        world = World()
        await world.today()
        world.call()
        world.spending.take(ANONYMOUS.id)
        world.clock.now += day_s * SECOND
        return await world.today()

    assert run(scenario()) == 0


def test_what_could_not_be_stored_is_stored_later_and_once() -> None:
    async def scenario() -> tuple[int, int]:
        world = World()
        world.call()
        world.spending.give_back(world.spending.take(ANONYMOUS.id))
        world.call()
        stored = Record(spend=world.spending.take_all())
        return sum(delta.calls for delta in stored.spend), len(world.spending.take_all())

    assert run(scenario()) == (2, 0)
