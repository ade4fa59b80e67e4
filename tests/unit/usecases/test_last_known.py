"""What was read before a change may be used for a bounded time, and only where it cannot be read again."""

import asyncio

import pytest

from firstline.ports.storage import StorageUnavailable
from firstline.usecases.last_known import LastKnown

S = 1_000_000


class Set:
    """A clock that is set by hand."""

    at_us = 1_795_000_000 * S

    def now_us(self) -> int:
        return self.at_us


async def away() -> str:
    raise StorageUnavailable("away")


async def there() -> str:
    return "new"


def test_what_was_read_under_this_count_lasts() -> None:
    clock = Set()
    last = LastKnown(clock, stale_s=300)
    clock.at_us += 10_000 * S
    assert last.may_use(last.number)


def test_what_was_read_before_a_change_lasts_so_long_after_the_first_one() -> None:
    clock = Set()
    last = LastKnown(clock, stale_s=300)
    number = last.number
    last.note_change()
    clock.at_us += 299 * S
    last.note_change()
    assert last.may_use(number)
    clock.at_us += S
    assert not last.may_use(number)
    assert last.may_use(number + 1)


def test_without_trust_nothing_outlives_a_change() -> None:
    last = LastKnown(Set(), stale_s=0)
    number = last.number
    last.note_change()
    assert not last.may_use(number)


def test_a_clock_that_steps_back_gives_no_more_time() -> None:
    clock = Set()
    last = LastKnown(clock, stale_s=300)
    number = last.number
    last.note_change()
    clock.at_us -= 1
    assert not last.may_use(number)


def test_the_store_is_read_while_it_is_there_and_again_when_it_is_back() -> None:
    async def work() -> None:
        clock = Set()
        last = LastKnown(clock, stale_s=300)
        assert await last.read_or("old", there) == "new"
        assert await last.read_or("old", away) == "old"
        assert await last.read_or("old", there) == "old"  # it has just failed
        clock.at_us += S
        assert await last.read_or("old", there) == "new"
        with pytest.raises(StorageUnavailable):
            await last.read_or(None, away)

    asyncio.run(work())


def test_a_store_that_hangs_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firstline.usecases.last_known.AWAY_S", 0)

    async def hangs() -> str:
        await asyncio.Event().wait()
        return "never"

    assert asyncio.run(LastKnown(Set(), stale_s=300).read_or("old", hangs)) == "old"
