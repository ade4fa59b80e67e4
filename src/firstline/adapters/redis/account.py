"""What a replica knows of an account in one catalogue: its last counts, and what it has granted by itself."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

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
from firstline.ports.limiter import UsageUnknown

Windows = tuple[tuple[Window, int], ...]

LETTERS: Final = {Window.MINUTE: "m", Window.HOUR: "h", Window.DAY: "d", Window.MONTH: "M"}


@dataclass(frozen=True, slots=True)
class Counted(Granted):
    """A grant that says where it was counted.

    Attributes:
        epoch: life of the hash in Redis; 0 when the replica knew of none.
    """

    epoch: int = 0


@dataclass(slots=True)
class Allowance:
    """What a replica may grant by itself in one window while Redis is away.

    Attributes:
        base: requests that it knew of when the outage began for the account.
        own: requests that it has granted since.
    """

    ends_at_us: int
    base: int
    own: int = 0


@dataclass(slots=True)
class Settlement:
    """What was granted by the replica itself and is added in Redis once; never changed after it was first sent."""

    number: int
    epoch: int
    deltas: Mapping[tuple[Window, int], int]


@dataclass(slots=True)
class AccountState:
    """One account in one catalogue.

    Attributes:
        epoch: life of its hash in Redis, as last heard.
        shown: latest uses by the windows that were counted.
        own: grants minus refunds of the replica itself since the last settlement, by window and start.
        own_epoch: the life that they were counted beside.
        settlement: what is on its way to Redis.
        checked: the generation of the link in which its counts were held against the ledger.
        unchecked_until: when that is tried again, by generation and seconds in it, after the ledger could not be read.
    """

    key: str
    touched_us: int = 0
    epoch: int = 0
    shown: dict[Windows, tuple[WindowUse, ...]] = field(default_factory=dict)
    allowances: dict[Window, Allowance] = field(default_factory=dict)
    own: dict[tuple[Window, int], int] = field(default_factory=dict)
    own_epoch: int = 0
    settlement: Settlement | None = None
    checked: int = 0
    unchecked_until: tuple[int, float] = (0, 0.0)

    @property
    def unsettled(self) -> bool:
        """Whether Redis does not know yet what the replica has granted."""
        return bool(self.own) or self.settlement is not None

    def add_own(self, deltas: Iterable[tuple[Window, int]], change: int) -> None:
        """Count grants or refunds that Redis will have to be told of."""
        if not self.unsettled:
            self.own_epoch = self.epoch
        for place in deltas:
            self.own[place] = self.own.get(place, 0) + change

    def known(self, window: Window, now_us: int) -> int | None:
        """Requests in a window that this replica has heard of, its own included; None when of none."""
        starts_at_us, ends_at_us = window_bounds(window, now_us)
        heard = [
            use.used for uses in self.shown.values() for use in uses
            if use.window is window and use.resets_at_us == ends_at_us
        ]  # fmt: skip
        if not heard:
            return None
        place = (window, starts_at_us)
        unsettled = self.own.get(place, 0)
        if self.settlement is not None:
            unsettled += self.settlement.deltas.get(place, 0)
        return max(heard) + unsettled

    def allowance(self, window: Window, now_us: int) -> Allowance | None:
        """What may be granted in the window that a moment lies in, if that is known."""
        found = self.allowances.get(window)
        if found is None or found.ends_at_us != window_bounds(window, now_us)[1]:
            return None
        return found

    def lacks(self, plan: Plan, now_us: int) -> list[Window]:
        """Quota windows without an allowance."""
        return [
            window for window, _ in plan.windows
            if window is not BURST_WINDOW and self.allowance(window, now_us) is None
        ]  # fmt: skip

    def decide(self, plan: Plan, *, now_us: int, replicas: int) -> Counted | Denied:
        """Grant or deny one request by what this replica knows; every quota window must have an allowance.

        Raises: UsageUnknown when the replica's part is used up and the account's quota is perhaps not.
        """
        if self.allowance(BURST_WINDOW, now_us) is None:
            ends_at_us = window_bounds(BURST_WINDOW, now_us)[1]
            self.allowances[BURST_WINDOW] = Allowance(ends_at_us, self.known(BURST_WINDOW, now_us) or 0)
        uses = self.local_uses(plan, now_us)
        full = [use for use in uses if use.used >= use.limit]
        if full:
            last = max(full, key=lambda use: use.resets_at_us)
            return Denied(last, retry_after_s(resets_at_us=last.resets_at_us, now_us=now_us), uses)
        for window, limit in plan.windows:
            allowance = self.allowances[window]
            if window is not BURST_WINDOW and allowance.own >= (limit - allowance.base) // replicas:
                raise UsageUnknown("the replica's part is used up")
        for window, _ in plan.windows:
            self.allowances[window].own += 1
        self.add_own(_quota_places(plan, now_us), 1)
        uses = self.local_uses(plan, now_us)
        return Counted(uses, now_us, self.epoch)

    def local_uses(self, plan: Plan, now_us: int) -> tuple[WindowUse, ...]:
        """How far the windows are used, as far as this replica knows."""
        uses = []
        for window, limit in plan.windows:
            allowance = self.allowance(window, now_us)
            used = allowance.base + allowance.own if allowance else self.known(window, now_us) or 0
            ends_at_us = window_bounds(window, now_us)[1]
            uses.append(WindowUse(window, limit, used, ends_at_us, window in plan.limits))
        return tuple(uses)

    def add_requests(self, amount: int, *, windows: Iterable[Window], now_us: int) -> None:
        """Take note of requests that the ledger knows of and Redis does not."""
        for window in windows:
            allowance = self.allowance(window, now_us)
            if allowance is not None:
                allowance.base += amount
        self.add_own([(window, window_bounds(window, now_us)[0]) for window in windows], amount)

    def refund_own(self, plan: Plan, granted: Granted) -> None:
        """Take back a grant that Redis is told of later, or that it could not be told of."""
        for window, allowance in self.allowances.items():
            if window is not BURST_WINDOW and allowance.ends_at_us == window_bounds(window, granted.at_us)[1]:
                allowance.own = max(allowance.own - 1, 0)
        self.add_own(_quota_places(plan, granted.at_us), -1)

    def uses_after_refund(self, plan: Plan, granted: Granted) -> tuple[WindowUse, ...]:
        """The uses after the quota windows of a request were given back, as far as this replica knows."""
        if self.allowances:
            return self.local_uses(plan, granted.at_us)
        return tuple(_refunded(use, granted.at_us) for use in self.shown.get(plan.windows, granted.uses))

    def next_settlement(self, number: int, now_us: int) -> Settlement | None:
        """What Redis has to be told, without windows that have ended; None when there is nothing."""
        if self.settlement is None:
            deltas = {
                (window, start): delta for (window, start), delta in self.own.items()
                if delta and window_bounds(window, start)[1] > now_us
            }  # fmt: skip
            self.own = {}
            if deltas:
                self.settlement = Settlement(number, self.own_epoch, deltas)
        return self.settlement

    def settled(self) -> None:
        """Redis knows of the settlement, or has heard of its requests from the ledger."""
        self.settlement = None
        self.own_epoch = self.epoch
        self.allowances.clear()


def _quota_places(plan: Plan, at_us: int) -> list[tuple[Window, int]]:
    return [
        (window, window_bounds(window, at_us)[0]) for window, _ in plan.windows if window is not BURST_WINDOW
    ]  # fmt: skip


def _refunded(use: WindowUse, at_us: int) -> WindowUse:
    if use.window is BURST_WINDOW or use.used == 0 or window_bounds(use.window, at_us)[1] != use.resets_at_us:
        return use
    return WindowUse(use.window, use.limit, use.used - 1, use.resets_at_us, use.published)


def field_of(window: Window, starts_at_us: int) -> str:
    """Name of a window's count in the hash."""
    return f"{LETTERS[window]}{starts_at_us // MICROSECONDS}"
