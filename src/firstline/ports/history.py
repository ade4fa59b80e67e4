"""Tickets with their verdicts, as they were stored: list, read, and let go of.

Guarantees of every history:

- Everything is asked for within one account; tickets of others are as if they were not there.
- A page is a snapshot. Pages that follow each other by position never show a ticket twice nor leave one out, whatever
  is added meanwhile; what is erased between two pages is in neither.
- What a page costs does not grow with the history: it looks at `examine` tickets at most.
- Every removal is one transaction: a ticket goes with all its verdicts, what was said about them, and with the answers
  and events about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from firstline.ports.journal import TicketRow, VerdictRow


class TicketNotFound(Exception):
    """There is no such ticket in this account."""


class Position(NamedTuple):
    """Where a ticket stands in the history of its account, newest first."""

    received_at_us: int
    ticket_id: str


@dataclass(frozen=True, slots=True)
class Filters:
    """Which tickets are wanted; None means any. Those of verdicts hold against the latest revision.

    Attributes:
        since_us, until_us: received at or after the first and before the second.
        words: part of the text, capital letters make no difference.
    """

    since_us: int | None = None
    until_us: int | None = None
    category: str | None = None
    priority: str | None = None
    decision: str | None = None
    source: str | None = None
    needs_review: bool | None = None
    language: str | None = None
    channel: str | None = None
    contract: str | None = None
    customer_ref: str | None = None
    external_id: str | None = None
    words: str | None = None

    @property
    def examining(self) -> bool:
        """Whether tickets must be looked at one by one: no index answers this."""
        return any(
            value is not None
            for value in (
                self.category,
                self.priority,
                self.decision,
                self.source,
                self.needs_review,
                self.language,
                self.channel,
                self.contract,
                self.words,
            )
        )


EVERYTHING = Filters()


class Stored(NamedTuple):
    """A ticket and the latest revision of its verdict."""

    ticket: TicketRow
    verdict: VerdictRow


class Page(NamedTuple):
    """A part of the history, newest first.

    Attributes:
        next: where to go on; None when there is nothing more. A page may be short, even empty, and have one.
    """

    tickets: Sequence[Stored]
    next: Position | None


class History(Protocol):
    """The store of tickets, looked at afterwards; see the module's guarantees. All raise StorageUnavailable."""

    async def list(
        self, account_id: str, filters: Filters, *, after: Position | None, limit: int, examine: int
    ) -> Page:
        """The next tickets that pass the filters.

        Args:
            after: the `next` of the page before, or None for the newest.
            limit: most tickets on the page.
            examine: most tickets to look at, at least `limit`.
        """
        ...

    async def get(self, account_id: str, ticket_id: str) -> tuple[TicketRow, Sequence[VerdictRow]]:
        """A ticket with all revisions of its verdict, the first one first.

        Raises: TicketNotFound.
        """
        ...

    async def oldest(self, account_id: str, *, before_us: int, limit: int) -> Sequence[Position]:
        """The oldest tickets that were received before a moment."""
        ...

    async def of_customer(
        self, account_id: str, customer_ref: str, *, before_us: int, limit: int
    ) -> Sequence[Position]:
        """Tickets of a customer that were received before a moment."""
        ...

    async def erase(self, account_id: str, tickets: Sequence[Position]) -> Mapping[str, int]:
        """Remove tickets, their verdicts, feedback on them, the answers kept for requests that gave them, and events
        not sent yet.

        Returns: rows removed, by what they were.
        """
        ...

    async def erase_settled(self, account_id: str) -> Mapping[str, int]:
        """Remove what is left of an account's data beside its tickets: kept answers, events, and versions of its own
        categories that are no longer in force, whose examples may be messages.

        Returns: rows removed, by what they were.
        """
        ...

    async def retention_days(self, account_id: str) -> int | None:
        """How long tickets of an account are kept; None for good."""
        ...

    async def put_retention(self, account_id: str, days: int | None, *, at_us: int) -> None:
        """Set how long tickets of an account are kept."""
        ...

    async def retentions(self) -> Mapping[str, int]:
        """The days of every account that has set them."""
        ...
