"""Erasing what is known of a ticket, of a customer or to a whole account: what is asked for, who does it, the receipt.

Whatever keeps something of a message is an `Erasable` and is added to the list in `bootstrap`. A receipt says how much
was removed where, and names nobody. An erasure that was begun is gone on with after a crash until it is done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from firstline.ports.history import Position
from firstline.ports.storage import AuditEntry


class ErasureNotFound(Exception):
    """There is no such erasure in this account."""


class Scope(StrEnum):
    """How much is erased."""

    TICKET = "ticket"
    CUSTOMER = "customer_ref"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Erasing:
    """One step of an erasure.

    A step either names tickets, or comes once at the beginning of an erasure by customer or account, for what is kept
    under those names alone.

    Attributes:
        tickets: those to erase; empty in the step at the beginning.
        customer_ref: set in the step at the beginning of an erasure by customer.
        whole: whether everything of the account goes.
        before_us: what came in from then on stays.
    """

    account_id: str
    tickets: Sequence[Position] = ()
    customer_ref: str | None = None
    whole: bool = False
    before_us: int = 0


class Erasable(Protocol):
    """Something that keeps texts, or what was made of them.

    Attributes:
        name: what the receipt counts it as, such as `webhook_bodies`.
    """

    name: str

    async def erase(self, erasing: Erasing) -> int:
        """Remove for good what the step names; how many things that were. Doing it again finds nothing.

        Raises: StorageUnavailable when it must be tried again later.
        """
        ...


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was asked for and how far it is: the receipt.

    Attributes:
        id: 32 hexadecimal digits.
        subject: the ticket's id or the customer's reference; None once it is done.
        counts: things removed, by what they were.
        finished_at_us: None while it is going on.
    """

    id: str
    account_id: str
    scope: Scope
    requested_at_us: int
    subject: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    finished_at_us: int | None = None


class Erasures(Protocol):
    """The store of receipts. All raise StorageUnavailable; each is one transaction."""

    async def add(self, erasure: Erasure, *, audit: AuditEntry) -> None:
        """Begin one."""
        ...

    async def count(self, erasure_id: str, counts: Mapping[str, int]) -> None:
        """Add to what was removed."""
        ...

    async def finish(self, erasure_id: str, *, at_us: int) -> Erasure:
        """End one and forget whom it was about; ending it again changes nothing."""
        ...

    async def get(self, account_id: str, erasure_id: str) -> Erasure:
        """One of an account's.

        Raises: ErasureNotFound.
        """
        ...

    async def list(self, account_id: str, *, limit: int) -> Sequence[Erasure]:
        """The newest of an account."""
        ...

    async def unfinished(self) -> Sequence[Erasure]:
        """Those of all accounts that are going on, oldest first."""
        ...

    async def newest(self) -> str | None:
        """Id of the one begun last by any process."""
        ...
