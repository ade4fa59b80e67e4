"""Limits counted in Redis, by every replica together; by this one alone while Redis is away."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from firstline.adapters.redis.account import AccountState, Allowance, Counted, field_of
from firstline.adapters.redis.batch import Batch
from firstline.adapters.redis.entries import Template, Templates, base_of, with_base
from firstline.adapters.redis.link import Gone, Link
from firstline.adapters.redis.script import DONE, MISSING, OTHER_LIFE
from firstline.core.plans import (
    BURST_WINDOW,
    MICROSECONDS,
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

MAX_STATES: Final = 100_000
MAX_IDLE_US: Final = 3_600 * MICROSECONDS
SETTLED_AT_ONCE: Final = 200
CHECK_AFTER_S: Final = 5.0
"""So long after Redis has begun to answer, an account's counts are held against the ledger once: a replica may have
died before it could tell what it had granted. All that live have told by then."""

CLOSE_S: Final = 1.0

_CATALOGUES: Final = {Contract.CLASSIFIER: "c", Contract.DECISION: "d"}

ReadLedger = Callable[[str, Contract, int], Awaitable[Mapping[Window, int]]]


class LimitWatcher(Protocol):
    """Told of what is decided without Redis."""

    def local(self, outcome: str) -> None:
        """A request that this replica decided by itself: `granted`, `denied` or `unknown`."""
        ...


class RedisLimiter:
    """Implements `ports.limiter.Limiter` for all replicas that share a Redis."""

    def __init__(
        self,
        link: Link,
        read_ledger: ReadLedger,
        *,
        replica: str,
        replicas: Callable[[], int],
        watcher: LimitWatcher,
        check_after_s: float = CHECK_AFTER_S,
    ) -> None:
        """Args:
        read_ledger: (account id, catalogue, microseconds) → requests by window; raises StorageUnavailable.
        replica: name of this one, of letters and digits; another one after every start.
        replicas: how many there are, this one included.
        """
        self._link = link
        self._batch = Batch(link)
        self._read_ledger = read_ledger
        self._replica = replica
        self._replicas = replicas
        self._watcher = watcher
        self._check_after_s = check_after_s
        self._states: dict[tuple[str, Contract], AccountState] = {}
        self._templates = Templates()
        self._reading: dict[tuple[str, Contract, int], asyncio.Task[Mapping[Window, int]]] = {}
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._unsettled: dict[str, tuple[tuple[str, Contract], AccountState]] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self._number = 0
        self._now_us = 0
        self._shared_until_us = 0

    @property
    def shared(self) -> bool:
        """See the port."""
        return self._link.works

    async def charge(self, account_id: str, plan: Plan, *, now_us: int) -> Granted | Denied:
        """See the port."""
        place, state = self._state(account_id, plan.catalogue, now_us)
        try:
            template, answer = await self._ask(place, state, plan, now_us, charges=True)
        except Gone:
            return await self._charge_alone(place, state, plan, now_us)
        uses = template.uses(answer)
        self._heard(state, plan, uses, answer[1], now_us)
        if answer[0] == DONE:
            return Counted(uses, now_us, answer[1])
        last = max((use for use in uses if use.used >= use.limit), key=lambda use: use.resets_at_us)
        return Denied(last, retry_after_s(resets_at_us=last.resets_at_us, now_us=now_us), uses)

    def refund(self, account_id: str, plan: Plan, granted: Granted) -> tuple[WindowUse, ...]:
        """See the port; Redis hears of it with the next call, or when it answers again."""
        place = (account_id, plan.catalogue)
        state = self._states.get(place)
        if state is None or not isinstance(granted, Counted):
            return granted.uses
        if self._link.works and not state.unsettled:
            self._give_back(place, state, plan, granted)
        elif granted.epoch == (state.own_epoch if state.unsettled else state.epoch):
            self._take_back(place, state, plan, granted)
        return state.uses_after_refund(plan, granted)

    async def add(self, account_id: str, plan: Plan, amount: int, *, windows: Collection[Window], now_us: int) -> None:
        """See the port; added once, also when Redis is away meanwhile."""
        quota = [window for window in windows if window is not BURST_WINDOW]
        place, state = self._state(account_id, plan.catalogue, now_us)
        with suppress(Gone):
            if self._link.works and not state.epoch and not state.unsettled:
                template = self._templates.of(plan, now_us)
                answer = await self._batch.ask(state.key, template.read, width=template.width)
                if not answer[1]:
                    return  # the ledger will be read before anything is counted
                state.epoch = answer[1]
        if quota and amount:
            state.add_requests(amount, windows=quota, now_us=now_us)
            self._remember_unsettled(place, state)
            with suppress(Gone):
                if self._link.works:
                    await self._settle(place, state)

    async def uses(self, account_id: str, plan: Plan, *, now_us: int) -> tuple[WindowUse, ...]:
        """See the port."""
        place, state = self._state(account_id, plan.catalogue, now_us)
        try:
            template, answer = await self._ask(place, state, plan, now_us, charges=False)
        except Gone:
            await self._allow(place, state, plan, now_us)
            return state.local_uses(plan, now_us)
        uses = template.uses(answer)
        self._heard(state, plan, uses, answer[1], now_us)
        return uses

    def settle_soon(self) -> None:
        """Begin to tell Redis what was granted without it; called when it answers again."""
        if self._unsettled and self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def close(self) -> None:
        """Tell Redis what it does not know yet, as far as it answers."""
        sweeping = self._sweeping
        if sweeping is not None:
            await asyncio.wait({sweeping}, timeout=CLOSE_S)
            sweeping.cancel()
        await self._batch.drain()

    async def _ask(
        self, place: tuple[str, Contract], state: AccountState, plan: Plan, now_us: int, *, charges: bool
    ) -> tuple[Template, Sequence[int]]:
        """The script's answer; the ledger is read where Redis lacks a count.

        Raises: Gone, UsageUnknown.
        """
        if not self._link.works:
            raise Gone
        if state.unsettled:
            await self._settle(place, state)
        template = self._templates.of(plan, now_us)
        arguments = template.charge if charges else template.read
        if self._is_to_be_checked(state):
            before, state.checked = state.checked, self._link.generation
            try:
                arguments = with_base(arguments, await self._ledger(place, now_us), now_us)
            except StorageUnavailable:
                state.checked = before
                state.unchecked_until = (self._link.generation, self._link.up_s + self._check_after_s)

        def ended(answer: Sequence[int] | None) -> None:
            """Whoever asked has gone: what was counted is given back."""
            if charges and answer is not None and answer[0] == DONE:
                self._give_back(place, state, plan, Counted((), now_us, answer[1]))

        answer = await self._batch.ask(state.key, arguments, width=template.width, ended=ended)
        if answer[0] == MISSING:
            try:
                counted = await self._ledger(place, now_us)
            except StorageUnavailable:
                raise Gone from None  # what this replica knows by itself may do
            arguments = with_base(template.charge if charges else template.read, counted, now_us)
            answer = await self._batch.ask(state.key, arguments, width=template.width, ended=ended)
            if answer[0] == MISSING:
                raise UsageUnknown("the windows of this moment are not those of the ledger")
        return template, answer

    def _is_to_be_checked(self, state: AccountState) -> bool:
        generation, tried_again_s = state.unchecked_until
        due_s = self._check_after_s if generation != self._link.generation else tried_again_s
        return state.checked != self._link.generation and self._link.up_s >= due_s

    async def _charge_alone(
        self, place: tuple[str, Contract], state: AccountState, plan: Plan, now_us: int
    ) -> Granted | Denied:
        try:
            await self._allow(place, state, plan, now_us)
            outcome = state.decide(plan, now_us=now_us, replicas=max(self._replicas(), 1))
        except UsageUnknown:
            self._watcher.local("unknown")
            raise
        if isinstance(outcome, Granted):
            self._remember_unsettled(place, state)
        self._watcher.local("granted" if isinstance(outcome, Granted) else "denied")
        return outcome

    async def _allow(self, place: tuple[str, Contract], state: AccountState, plan: Plan, now_us: int) -> None:
        """Find out what was used in every quota window, as well as that can be known without Redis.

        Raises: UsageUnknown.
        """
        while missing := state.lacks(plan, now_us):
            counted: Mapping[Window, int] | None = None
            with suppress(StorageUnavailable):
                counted = await self._ledger(place, now_us)
            for window in missing:
                if state.allowance(window, now_us) is not None:
                    continue
                starts_at_us, ends_at_us = window_bounds(window, now_us)
                known = state.known(window, now_us)
                if counted is not None:
                    known = max(counted.get(window, 0), known or 0)
                elif known is None and 0 < self._shared_until_us <= starts_at_us:
                    known = 0  # the window began after Redis had gone: others have granted at most their part
                if known is None:
                    raise UsageUnknown("neither Redis nor the ledger can be asked")
                state.allowances[window] = Allowance(ends_at_us, known)

    async def _settle(self, place: tuple[str, Contract], state: AccountState) -> None:
        """Add in Redis what was granted without it, once, whoever asks for it.

        Raises: Gone.
        """
        settling = self._settling.get(state.key)
        if settling is None:
            settling = self._settling[state.key] = asyncio.create_task(self._settle_now(place, state))
            settling.add_done_callback(lambda done: _ended(done, self._settling, state.key))
        await asyncio.shield(settling)

    async def _settle_now(self, place: tuple[str, Contract], state: AccountState) -> None:
        self._number += 1
        settlement = state.next_settlement(self._number, self._now_us)
        if settlement is not None:
            deltas = [
                argument
                for (window, start), delta in settlement.deltas.items()
                for argument in (field_of(window, start), start // MICROSECONDS, delta)
            ]
            head = ("s", len(settlement.deltas), settlement.epoch, self._replica, settlement.number)
            answer = await self._batch.ask(state.key, (*head, *deltas), width=1)
            if answer[0] != DONE:
                await self._settle_by_ledger(place, state, lost=answer[0] != OTHER_LIFE)
        state.settled()
        if not state.unsettled:
            self._unsettled.pop(state.key, None)

    async def _settle_by_ledger(self, place: tuple[str, Contract], state: AccountState, *, lost: bool) -> None:
        """Redis has lost the counts meanwhile; what was granted is in the ledger, and is read from there."""
        now_us = self._now_us
        try:
            counted = await self._ledger(place, now_us)
        except StorageUnavailable:
            raise Gone from None
        if not lost:  # another replica has read them already, perhaps before our requests were stored
            await self._batch.ask(state.key, ("r", len(Window), *base_of(counted, now_us)), width=1)
        state.epoch = 0

    async def _sweep(self) -> None:
        try:
            while self._unsettled and self._link.works:
                some = list(self._unsettled.values())[:SETTLED_AT_ONCE]
                outcomes = await asyncio.gather(
                    *(self._settle(place, state) for place, state in some), return_exceptions=True
                )
                if any(isinstance(outcome, BaseException) for outcome in outcomes):
                    await asyncio.sleep(1.0)
        finally:
            self._sweeping = None

    def _give_back(self, place: tuple[str, Contract], state: AccountState, plan: Plan, granted: Counted) -> None:
        fields = [
            field_of(window, window_bounds(window, granted.at_us)[0])
            for window, _ in plan.windows
            if window is not BURST_WINDOW
        ]

        def ended(answer: Sequence[int] | None) -> None:
            if answer is None and granted.epoch == state.epoch:
                self._take_back(place, state, plan, granted)

        if fields:
            self._batch.tell(state.key, ("f", len(fields), granted.epoch, *fields), ended=ended)

    def _take_back(self, place: tuple[str, Contract], state: AccountState, plan: Plan, granted: Counted) -> None:
        state.refund_own(plan, granted)
        self._remember_unsettled(place, state)

    def _remember_unsettled(self, place: tuple[str, Contract], state: AccountState) -> None:
        if state.unsettled:
            self._unsettled[state.key] = (place, state)
            if self._link.works:
                self.settle_soon()

    def _heard(self, state: AccountState, plan: Plan, uses: tuple[WindowUse, ...], epoch: int, now_us: int) -> None:
        state.shown[plan.windows] = uses
        state.epoch = epoch
        if state.allowances and not state.unsettled:
            state.allowances.clear()
        self._shared_until_us = max(self._shared_until_us, now_us)

    def _state(self, account_id: str, catalogue: Contract, now_us: int) -> tuple[tuple[str, Contract], AccountState]:
        place = (account_id, catalogue)
        state = self._states.get(place)
        if state is None:
            if len(self._states) >= MAX_STATES:
                self._forget_idle(now_us)
            state = self._states[place] = AccountState(f"firstline:{{{account_id}}}:{_CATALOGUES[catalogue]}")
        state.touched_us = now_us
        self._now_us = now_us
        return place, state

    def _forget_idle(self, now_us: int) -> None:
        idle = [
            place
            for place, state in self._states.items()
            if now_us - state.touched_us > MAX_IDLE_US and not state.unsettled
        ]
        for place in idle:
            del self._states[place]

    async def _ledger(self, place: tuple[str, Contract], now_us: int) -> Mapping[Window, int]:
        """What the ledger knows; read once, however many wait.

        Raises: StorageUnavailable.
        """
        key = (*place, window_bounds(Window.MINUTE, now_us)[0])  # what was counted in other windows is no answer
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.create_task(self._read(place, now_us))
            reading.add_done_callback(lambda done: _ended(done, self._reading, key))
        return await asyncio.shield(reading)

    async def _read(self, place: tuple[str, Contract], now_us: int) -> Mapping[Window, int]:
        return await self._read_ledger(*place, now_us)


def _ended(done: "asyncio.Task[Any]", tasks: dict[Any, Any], key: object) -> None:
    """Forget a task that others waited for; its failure was theirs to see."""
    tasks.pop(key, None)
    if not done.cancelled():
        done.exception()
