"""Counts of an account's verdicts over time, and for operators of all accounts."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from firstline.core.plans import MICROSECONDS, Window, window_bounds
from firstline.core.rollups import (
    CLASSES,
    KEPT_HOURS_DAYS,
    Dimension,
    Span,
    Step,
    quantile_ms,
    rounded,
    spans,
)
from firstline.core.verdict import Source
from firstline.ports.analytics import AnalyticsStore, RollupQuery, RollupRow, TooManyGroups
from firstline.ports.clock import Clock
from firstline.usecases.access import Caller

MAX_DIMENSIONS: Final = 3
MAX_GROUPS: Final = 10_000
MAX_DAYS: Final[Mapping[Step, int]] = {Step.HOUR: 31, Step.DAY: 366, Step.MONTH: 3_660, Step.ALL: 3_660}
DEFAULT_DAYS: Final[Mapping[Step, int]] = {Step.HOUR: 1, Step.DAY: 30, Step.MONTH: 365, Step.ALL: 30}
ALL_ACCOUNTS: Final = "all"
FEW_GROUPS: Final = 40
"""A report of more is put together in a thread: each group takes some 25 µs."""

FOLD_AT_ONCE: Final = 200
"""Groups of records that are folded in by one transaction, so that none is long."""

_DAY_US: Final = 86_400 * MICROSECONDS
_LATEST_US: Final = 253_370_764_800 * MICROSECONDS


class AnalyticsInvalid(ValueError):
    """Something was asked for that cannot be answered.

    Attributes:
        field: the parameter at fault.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class OperatorNeeded(Exception):
    """Only an operator may look at other accounts."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be counted.

    Attributes:
        from_us, to_us: None for the usual range up to now.
        account: 32 digits of an id, `ALL_ACCOUNTS`, or None for the caller's own (all, where split by account).
    """

    from_us: int | None = None
    to_us: int | None = None
    step: Step = Step.DAY
    by: tuple[Dimension, ...] = ()
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts, and what follows from them.

    Attributes:
        sources: tickets by source.
        cost_usd_micros: of providers, in millionths of a US dollar; None where it is not known so finely.
        mean_ms, p50_ms, p95_ms: from a request's arrival to its verdict; None where nobody waited for one.
    """

    tickets: int
    reviews: int
    sources: Mapping[str, int]
    cost_usd_micros: int | None
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """Figures of a step, or of a part of it.

    Attributes:
        starts_at_us: of the step.
        values: in the order of the question's `by`; None for what is not known.
        share: of all tickets of the step, 0–1.
    """

    starts_at_us: int
    values: tuple[str | None, ...]
    share: float
    figures: Figures


@dataclass(frozen=True, slots=True)
class Report:
    """An answer: what was counted from `from_us` until before `to_us`, widened to whole steps."""

    from_us: int
    to_us: int
    totals: Figures
    groups: tuple[Group, ...]


class Analytics:
    """Answers questions on counts, and keeps the counts up to date."""

    def __init__(self, store: AnalyticsStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def report(self, caller: Caller, question: Question) -> Report:
        """What was counted.

        Raises: AnalyticsInvalid, OperatorNeeded, StorageUnavailable.
        """
        account_id = _account(caller, question)
        if len(question.by) > MAX_DIMENSIONS:
            raise AnalyticsInvalid("by", f"at most {MAX_DIMENSIONS} of them; these are {len(question.by)}")
        if len(set(question.by)) < len(question.by):
            raise AnalyticsInvalid("by", "each at most once")
        from_us, to_us = _range(question, now_us=self._clock.now_us())
        parts = spans(from_us, to_us, question.step)
        query = RollupQuery(account_id, parts, question.step, question.by, MAX_GROUPS)
        try:
            rows = await self._store.counts(query)
        except TooManyGroups:
            raise AnalyticsInvalid(
                "by", f"gives more than {MAX_GROUPS:,} groups; split by less, or ask for less time or a longer step"
            ) from None
        costs = None if question.step is Step.HOUR else await self._costs(account_id, parts, question)
        if len(rows) <= FEW_GROUPS:
            return _report(from_us, to_us, question, rows, costs)
        return await asyncio.to_thread(_report, from_us, to_us, question, rows, costs)

    async def fold(self) -> None:
        """Fold in what records have added until now.

        Raises: StorageUnavailable.
        """
        while await self._store.fold(most=FOLD_AT_ONCE) == FOLD_AT_ONCE:
            pass

    async def prune(self) -> int:
        """Delete counts by hour whose time is over.

        Raises: StorageUnavailable.
        """
        return await self._store.prune(before_us=self._clock.now_us() - (KEPT_HOURS_DAYS + 1) * _DAY_US)

    async def _costs(
        self, account_id: str | None, parts: Sequence[Span], question: Question
    ) -> Mapping[tuple[int, str], int]:
        if question.step is Step.MONTH:
            parts = tuple(month for part in parts for month in _months(part))
        found = await self._store.costs(account_id, parts, by_account=question.by == (Dimension.ACCOUNT,))
        if question.step is not Step.ALL:
            return found
        sums: dict[tuple[int, str], int] = {}
        for (_, owner), cost in found.items():
            sums[parts[0].from_us, owner] = sums.get((parts[0].from_us, owner), 0) + cost
        return sums


def _account(caller: Caller, question: Question) -> str | None:
    """Whose verdicts; None for everybody's."""
    if question.account is None and Dimension.ACCOUNT not in question.by:
        return caller.account.id
    if not caller.is_operator:
        raise OperatorNeeded
    return None if question.account in (None, ALL_ACCOUNTS) else question.account


def _range(question: Question, *, now_us: int) -> tuple[int, int]:
    step = question.step
    to_us = question.to_us
    if to_us is None:  # up to the end of the current step
        to_us = rounded(now_us, now_us + 1, step)[1]
    from_us = to_us - DEFAULT_DAYS[step] * _DAY_US if question.from_us is None else question.from_us
    if not 0 < to_us <= _LATEST_US:
        raise AnalyticsInvalid("to", "a moment after 1970 and before 9999")
    if from_us < 0:
        raise AnalyticsInvalid("from", "not before 1970")
    if from_us >= to_us:
        raise AnalyticsInvalid("from", "must be before `to`")
    if to_us - from_us > MAX_DAYS[step] * _DAY_US:
        raise AnalyticsInvalid("from", f"at most {MAX_DAYS[step]:,} days before `to` with the step {step.value}")
    if step is Step.HOUR and from_us < now_us - KEPT_HOURS_DAYS * _DAY_US:
        raise AnalyticsInvalid("from", f"counts by hour are kept for {KEPT_HOURS_DAYS} days; ask by day")
    return rounded(from_us, to_us, step)


def _months(span: Span) -> Iterator[Span]:
    start = span.from_us
    while start < span.to_us:
        end = window_bounds(Window.MONTH, start)[1]
        yield Span(Window.MONTH, start, end)
        start = end


def _report(
    from_us: int,
    to_us: int,
    question: Question,
    rows: Sequence[RollupRow],
    costs: Mapping[tuple[int, str], int] | None,
) -> Report:
    tickets: dict[int, int] = {}
    for row in rows:
        starts_at_us = from_us if row.starts_at_us is None else row.starts_at_us
        tickets[starts_at_us] = tickets.get(starts_at_us, 0) + row.tickets
    groups = []
    for row in rows:
        starts_at_us = from_us if row.starts_at_us is None else row.starts_at_us
        cost = None
        if costs is not None and set(question.by) <= {Dimension.ACCOUNT}:
            cost = costs.get((starts_at_us, row.values[0] if row.values else ""), 0)
        values = tuple(value or None for value in row.values)
        groups.append(Group(starts_at_us, values, row.tickets / tickets[starts_at_us], _figures([row], cost)))
    groups.sort(key=lambda group: (group.starts_at_us, -group.figures.tickets, [one or "" for one in group.values]))
    total = None if costs is None else sum(costs.values())
    return Report(from_us, to_us, _figures(rows, total), tuple(groups))


def _figures(rows: Sequence[RollupRow], cost: int | None) -> Figures:
    latency = [sum(row.latency[place] for row in rows) for place in range(CLASSES)]
    timed = sum(latency)
    return Figures(
        tickets=sum(row.tickets for row in rows),
        reviews=sum(row.reviews for row in rows),
        sources={source.value: sum(row.sources[source.value] for row in rows) for source in Source},
        cost_usd_micros=cost,
        mean_ms=sum(row.processing_us for row in rows) / timed / 1_000 if timed else None,
        p50_ms=quantile_ms(latency, 0.5),
        p95_ms=quantile_ms(latency, 0.95),
    )
