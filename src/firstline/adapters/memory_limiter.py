"""Limits counted in this process, rebuilt from the usage ledger."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from firstline.core.plans import (
    BURST_WINDOW,
    Denied,
    Granted,
    Plan,
    Window,
    WindowUse,
    retry_after_s,
    window_bounds,
)
from firstline.core.taxonomy import Contract
from firstline.ports.limiter import UsageUnknown
from firstline.ports.storage import StorageUnavailable

MAX_IDLE_US: Final = 3_600 * 1_000_000
MAX_STATES: Final = 100_000

ReadLedger = Callable[[str, Contract, int], Awaitable[Mapping[Window, int]]]


@dataclass(slots=True)
class _Counter:
    starts_at_us: int
    ends_at_us: int
    used: int


@dataclass(slots=True)
class _State:
    touched_us: int
    counters: dict[Window, _Counter] = field(default_factory=dict)


class MemoryLimiter:
    """Implements `ports.limiter.Limiter` for one process."""

    def __init__(self, read_ledger: ReadLedger) -> None:
        """Args:
        read_ledger: (account id, catalogue, microseconds) → requests by window; raises StorageUnavailable.
        """
        self._read_ledger = read_ledger
        self._states: dict[tuple[str, Contract], _State] = {}
        self._loading: dict[tuple[str, Contract], asyncio.Task[_State]] = {}

    @property
    def shared(self) -> bool:
        """See the port."""
        return False

    async def charge(self, account_id: str, plan: Plan, *, now_us: int) -> Granted | Denied:
        """See the port."""
        state = await self._state(account_id, plan.catalogue, now_us)
        counters = [(_current(state, window, now_us), window, limit) for window, limit in plan.windows]
        full = [entry for entry in counters if entry[0].used >= entry[2]]
        if full:
            uses = self._uses(state, plan)
            last = max((use for use in uses if use.used >= use.limit), key=lambda use: use.resets_at_us)
            return Denied(last, retry_after_s(resets_at_us=last.resets_at_us, now_us=now_us), uses)
        for counter, _, _ in counters:
            counter.used += 1
        return Granted(self._uses(state, plan), now_us)

    def refund(self, account_id: str, plan: Plan, granted: Granted) -> tuple[WindowUse, ...]:
        """See the port."""
        state = self._states.get((account_id, plan.catalogue))
        if state is None:
            return granted.uses
        for window, _ in plan.windows:
            counter = state.counters.get(window)
            if window is BURST_WINDOW or counter is None:
                continue
            if counter.starts_at_us <= granted.at_us < counter.ends_at_us and counter.used > 0:
                counter.used -= 1
        return self._uses(state, plan)

    async def add(self, account_id: str, plan: Plan, amount: int, *, windows: Collection[Window], now_us: int) -> None:
        """See the port; an account that is not known yet is read from the ledger when it is."""
        state = self._states.get((account_id, plan.catalogue))
        if state is not None:
            for window in windows:
                _current(state, window, now_us).used += amount

    async def uses(self, account_id: str, plan: Plan, *, now_us: int) -> tuple[WindowUse, ...]:
        """See the port."""
        state = await self._state(account_id, plan.catalogue, now_us)
        for window, _ in plan.windows:
            _current(state, window, now_us)
        return self._uses(state, plan)

    async def _state(self, account_id: str, catalogue: Contract, now_us: int) -> _State:
        key = (account_id, catalogue)
        state = self._states.get(key)
        if state is not None and not _before(state, now_us):
            state.touched_us = now_us
            return state
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.create_task(self._load(key, now_us))
            loading.add_done_callback(lambda _: self._loading.pop(key, None))
        return await asyncio.shield(loading)

    async def _load(self, key: tuple[str, Contract], now_us: int) -> _State:
        try:
            counted = await self._read_ledger(key[0], key[1], now_us)
        except StorageUnavailable as error:
            raise UsageUnknown(str(error)) from None
        state = _State(now_us)
        for window in Window:
            state.counters[window] = _Counter(*window_bounds(window, now_us), counted.get(window, 0))
        if len(self._states) >= MAX_STATES:
            self._forget_idle(now_us)
        self._states[key] = state
        return state

    def _forget_idle(self, now_us: int) -> None:
        for key in [key for key, state in self._states.items() if now_us - state.touched_us > MAX_IDLE_US]:
            del self._states[key]

    def _uses(self, state: _State, plan: Plan) -> tuple[WindowUse, ...]:
        return tuple(
            WindowUse(window, limit, counter.used, counter.ends_at_us, window in plan.limits)
            for window, limit in plan.windows
            if (counter := state.counters.get(window)) is not None
        )


def _current(state: _State, window: Window, now_us: int) -> _Counter:
    counter = state.counters.get(window)
    if counter is None or now_us >= counter.ends_at_us:
        counter = state.counters[window] = _Counter(*window_bounds(window, now_us), 0)
    return counter


def _before(state: _State, now_us: int) -> bool:
    """The clock has stepped back behind a window that was counted: what it holds is not of this time."""
    return any(now_us < counter.starts_at_us for counter in state.counters.values())
