"""Counting requests against plans.

Guarantees: within one process never more than `limit` grants per window, whatever runs concurrently, and among several
never more while they share their counts; counters are rebuilt from the usage ledger before the first grant after a
start; a refund never makes a counter negative and never refunds a window that has ended meanwhile.
"""

from collections.abc import Collection
from typing import Protocol

from firstline.core.plans import Denied, Granted, Plan, Window, WindowUse


class UsageUnknown(Exception):
    """Nobody can say whether the account has quota left: quota fails closed.

    The ledger cannot be read and this process has never known the account's usage, or it has granted what it may
    without the others.
    """


class Limiter(Protocol):
    """Counts an account's requests in the windows of its plan."""

    @property
    def shared(self) -> bool:
        """Whether requests are counted together with other processes at this moment."""
        ...

    async def charge(self, account_id: str, plan: Plan, *, now_us: int) -> Granted | Denied:
        """Count one request if it fits every window, else count nothing.

        Raises: UsageUnknown.
        """
        ...

    def refund(self, account_id: str, plan: Plan, granted: Granted) -> tuple[WindowUse, ...]:
        """Give the quota windows of a request back, keep its burst; the uses after that."""
        ...

    async def add(self, account_id: str, plan: Plan, amount: int, *, windows: Collection[Window], now_us: int) -> None:
        """Take note of requests that are in the ledger already, such as those of jobs; never refuses or raises."""
        ...

    async def uses(self, account_id: str, plan: Plan, *, now_us: int) -> tuple[WindowUse, ...]:
        """How far the windows are used, without counting anything.

        Raises: UsageUnknown.
        """
        ...
