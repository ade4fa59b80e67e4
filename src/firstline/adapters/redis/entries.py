"""What a request of the limits' script consists of; the same for all requests under a plan within one minute."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from firstline.adapters.redis.account import Windows, field_of
from firstline.adapters.redis.script import SKEW_S
from firstline.core.plans import BURST_WINDOW, MICROSECONDS, Plan, Window, WindowUse, window_bounds

MOST_TEMPLATES: Final = 200

_NEVER_MISSING: Final = "2e18"
_EPOCH_BITS: Final = 48


@dataclass(frozen=True, slots=True)
class Template:
    """The arguments of an entry, and how to read its answer.

    Attributes:
        from_us, until_us: the minute that it is for.
        width: whole numbers of the answer.
        windows: window, limit, end, and whether it is published.
    """

    from_us: int
    until_us: int
    charge: tuple[Any, ...]
    read: tuple[Any, ...]
    width: int
    windows: tuple[tuple[Window, int, int, bool], ...]

    def uses(self, answer: Sequence[int]) -> tuple[WindowUse, ...]:
        """How far the windows are used, by the script's answer."""
        return tuple(
            WindowUse(window, limit, used, ends_at_us, published)
            for (window, limit, ends_at_us, published), used in zip(self.windows, answer[2:], strict=True)
        )


class Templates:
    """Keeps those of the plans that are asked for."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Windows, bool], Template] = {}

    def of(self, plan: Plan, now_us: int) -> Template:
        """The one for a plan's windows at a moment."""
        key = (plan.windows, BURST_WINDOW in plan.limits)
        found = self._kept.get(key)
        if found is None or not found.from_us <= now_us < found.until_us:
            if len(self._kept) >= MOST_TEMPLATES:
                self._kept.clear()
            found = self._kept[key] = _template_of(plan, now_us)
        return found


def _template_of(plan: Plan, now_us: int) -> Template:
    tail: list[Any] = []
    windows = []
    for window, limit in plan.windows:
        starts_at_us, ends_at_us = window_bounds(window, now_us)
        start = _NEVER_MISSING if window is BURST_WINDOW else starts_at_us // MICROSECONDS
        tail += (field_of(window, starts_at_us), start, limit)
        windows.append((window, limit, ends_at_us, window in plan.limits))
    from_us, until_us = window_bounds(Window.MINUTE, now_us)
    head = (len(windows), from_us // MICROSECONDS, 0)
    return Template(from_us, until_us, ("c", *head, *tail), ("u", *head, *tail), len(windows) + 2, tuple(windows))


def with_base(arguments: tuple[Any, ...], counted: Mapping[Window, int], now_us: int) -> tuple[Any, ...]:
    """The same entry with what the ledger knows, which no count may be under."""
    return (*arguments[:3], len(Window), *arguments[4:], *base_of(counted, now_us))


def base_of(counted: Mapping[Window, int], now_us: int) -> list[Any]:
    """What the ledger knows of every window, as arguments, with a name for the life of a hash that it begins."""
    base: list[Any] = [secrets.randbits(_EPOCH_BITS) + 1, now_us // MICROSECONDS + SKEW_S]
    for window in Window:
        starts_at_us = window_bounds(window, now_us)[0]
        base += (field_of(window, starts_at_us), starts_at_us // MICROSECONDS, counted.get(window, 0))
    return base
