"""Counts of verdicts by hour, day and month.

What a record adds to the counts is durable with the record, and shows once it has been folded in. Folding is exact:
whatever fails, and however many servers fold at once, each record counts once. A revision moves a ticket from what its
verdict was to what it is, in the hour in which the ticket was received; the time that the first answer took stays.

Counts hold no words, no references and no ids of tickets. They outlive the tickets that were counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from firstline.core.rollups import Dimension, Span, Step


class TooManyGroups(Exception):
    """An answer would have more groups than were asked for at most."""


@dataclass(frozen=True, slots=True)
class RollupQuery:
    """What to count.

    Attributes:
        account_id: None for all accounts.
        spans: ranges of time that do not overlap.
        by: what to split by, each once.
        limit: most groups of the answer.
    """

    account_id: str | None
    spans: tuple[Span, ...]
    step: Step
    by: tuple[Dimension, ...]
    limit: int


@dataclass(frozen=True, slots=True)
class RollupRow:
    """Counts of a group.

    Attributes:
        starts_at_us: of the step; None where time is not cut.
        values: in the order of the query's `by`; empty texts where something is not known.
        sources: tickets by source.
        processing_us: of the timed ones together.
        latency: tickets by class of the latency histogram, without the untimed.
    """

    starts_at_us: int | None
    values: tuple[str, ...]
    tickets: int
    reviews: int
    sources: Mapping[str, int]
    processing_us: int
    latency: tuple[int, ...]


class AnalyticsStore(Protocol):
    """Reads counts, and folds in what records have added; see the module's guarantees."""

    async def counts(self, query: RollupQuery) -> Sequence[RollupRow]:
        """The groups that have tickets, in no order.

        Raises: TooManyGroups; StorageUnavailable.
        """
        ...

    async def costs(
        self, account_id: str | None, spans: Sequence[Span], *, by_account: bool
    ) -> Mapping[tuple[int, str], int]:
        """What providers cost in each span, in millionths of a US dollar, by the span's start and the account.

        Args:
            account_id: None for all accounts.
            spans: of whole days.
            by_account: else the account in the answer's keys is empty.
        Raises: StorageUnavailable.
        """
        ...

    async def fold(self, *, most: int) -> int:
        """Fold in what at most so many groups of records have added; how many were.

        Raises: StorageUnavailable.
        """
        ...

    async def prune(self, *, before_us: int) -> int:
        """Delete the counts by hour of hours that began before; the number of rows deleted.

        Raises: StorageUnavailable.
        """
        ...
