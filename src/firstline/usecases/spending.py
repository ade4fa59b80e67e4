"""What accounts spend on providers, against their budgets.

The store holds the truth, one row a day, provider and model. What this process has spent since it last read is added
on top, so that a budget holds exactly within one process, and to within a minute's spending across several. A budget
that cannot be checked counts as spent: the local answer is always there.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from firstline.core.asking import AskPolicy
from firstline.core.plans import MICROSECONDS, Window, window_bounds
from firstline.ports.clock import Clock
from firstline.ports.journal import SpendDelta
from firstline.ports.provider import Tokens
from firstline.ports.storage import Storage, StorageUnavailable
from firstline.usecases.ask_policies import Spent, spent

REREAD_S: Final = 60
MAX_ACCOUNTS: Final = 50_000
_MICROS: Final = 1_000_000

CostOf = Callable[[str, str, Tokens], int]
"""What tokens of a provider's model cost, in millionths of a US dollar."""


@dataclass(slots=True)
class _Account:
    day_us: int
    month_us: int
    read_at_us: int
    stored: Spent


class Spending:
    """Counts cost by account and says whether there is budget left."""

    def __init__(self, storage: Storage, *, clock: Clock, cost_of: CostOf) -> None:
        self._storage = storage
        self._clock = clock
        self.cost_of = cost_of
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._reading: dict[str, asyncio.Task[_Account]] = {}
        self._unstored: dict[str, dict[tuple[int, str, str], SpendDelta]] = {}
        self._reserved: dict[str, int] = {}

    async def allows(self, account_id: str, asking: AskPolicy, *, estimate_micros: int) -> bool:
        """Whether the budgets have room for a call that will cost about so much; always when none is set."""
        if asking.daily_budget_usd is None and asking.monthly_budget_usd is None:
            return True
        try:
            await self.spent(account_id)
        except StorageUnavailable:
            return False
        return self.has_room(account_id, asking, estimate_micros=estimate_micros)

    def has_room(self, account_id: str, asking: AskPolicy, *, estimate_micros: int) -> bool:
        """The same by what was last read, for one more call of a question that was allowed."""
        if asking.daily_budget_usd is None and asking.monthly_budget_usd is None:
            return True
        known = self._accounts.get(account_id)
        if known is None:
            return False
        extra = self._reserved.get(account_id, 0) + estimate_micros
        return _within(known.stored.today_micros, asking.daily_budget_usd, extra) and _within(
            known.stored.month_micros, asking.monthly_budget_usd, extra
        )

    def reserve(self, account_id: str, micros: int) -> None:
        """Count a call that has begun at what it will cost about; given back with a negative number."""
        left = self._reserved.get(account_id, 0) + micros
        if left > 0:
            self._reserved[account_id] = left
        else:
            self._reserved.pop(account_id, None)

    def add(self, account_id: str, provider: str, model: str, tokens: Tokens, *, failed: bool) -> int:
        """Count what a call has used; its cost in millionths of a US dollar."""
        cost = self.cost_of(provider, model, tokens)
        day_us = window_bounds(Window.DAY, self._clock.now_us())[0]
        deltas = self._unstored.setdefault(account_id, {})
        place = (day_us, provider, model)
        before = deltas.get(place) or SpendDelta(account_id, day_us, provider, model, 0, 0, 0, 0, 0)
        deltas[place] = before._replace(
            calls=before.calls + 1,
            failures=before.failures + failed,
            input_tokens=before.input_tokens + tokens.input,
            output_tokens=before.output_tokens + tokens.output,
            cost_usd_micros=before.cost_usd_micros + cost,
        )
        known = self._accounts.get(account_id)
        if known is not None:
            known.stored = _plus(known, day_us, cost)
        return cost

    def take(self, account_id: str) -> tuple[SpendDelta, ...]:
        """What is not stored yet of an account; the caller stores it, or gives it back."""
        return tuple(self._unstored.pop(account_id, {}).values())

    def take_all(self) -> tuple[SpendDelta, ...]:
        """The same of all accounts."""
        unstored, self._unstored = self._unstored, {}
        return tuple(delta for deltas in unstored.values() for delta in deltas.values())

    def give_back(self, deltas: tuple[SpendDelta, ...]) -> None:
        """What was taken and could not be stored."""
        for delta in deltas:
            place = (delta.starts_at_us, delta.provider, delta.model)
            kept = self._unstored.setdefault(delta.account_id, {})
            other = kept.get(place)
            kept[place] = delta if other is None else _sum(other, delta)

    async def spent(self, account_id: str) -> Spent:
        """Raises: StorageUnavailable."""
        now_us = self._clock.now_us()
        day_us, month_us = window_bounds(Window.DAY, now_us)[0], window_bounds(Window.MONTH, now_us)[0]
        known = self._accounts.get(account_id)
        if (
            known is None
            or (known.day_us, known.month_us) != (day_us, month_us)
            or not known.read_at_us <= now_us < known.read_at_us + REREAD_S * MICROSECONDS
        ):
            reading = self._reading.get(account_id)
            if reading is None:
                reading = asyncio.create_task(self._read(account_id, day_us, month_us, now_us))
                self._reading[account_id] = reading
                reading.add_done_callback(lambda _: self._reading.pop(account_id, None))
            known = await asyncio.shield(reading)
        return known.stored

    async def _read(self, account_id: str, day_us: int, month_us: int, now_us: int) -> _Account:
        found = _Account(day_us, month_us, now_us, await spent(self._storage, account_id, now_us=now_us))
        for (starts_at_us, _, _), delta in self._unstored.get(account_id, {}).items():
            found.stored = _plus(found, starts_at_us, delta.cost_usd_micros)
        known = self._accounts.get(account_id)
        if known is not None:  # what is on its way into the store may have been seen neither there nor here
            if known.day_us == day_us:
                today = max(found.stored.today_micros, known.stored.today_micros)
                found.stored = replace(found.stored, today_micros=today)
            if known.month_us == month_us:
                month = max(found.stored.month_micros, known.stored.month_micros)
                found.stored = replace(found.stored, month_micros=month)
        self._accounts[account_id] = found
        self._accounts.move_to_end(account_id)
        if len(self._accounts) > MAX_ACCOUNTS:
            self._accounts.popitem(last=False)
        return found


def _within(spent_micros: int, budget_usd: float | None, extra_micros: int) -> bool:
    return budget_usd is None or spent_micros + extra_micros <= round(budget_usd * _MICROS)


def _plus(account: _Account, starts_at_us: int, cost: int) -> Spent:
    spent = account.stored
    if starts_at_us >= account.day_us:
        spent = replace(spent, today_micros=spent.today_micros + cost)
    if starts_at_us >= account.month_us:
        spent = replace(spent, month_micros=spent.month_micros + cost)
    return spent


def _sum(left: SpendDelta, right: SpendDelta) -> SpendDelta:
    amounts = (a + b for a, b in zip(left[4:], right[4:], strict=True))
    return SpendDelta(*left[:4], *amounts)
