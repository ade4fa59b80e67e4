"""Counts of verdicts in memory, for tests; passes the conformance suite of `ports.analytics`."""

from collections.abc import Mapping, Sequence

from firstline.adapters.memory_store import MemoryStore
from firstline.core.plans import Window, window_bounds
from firstline.core.rollups import CLASSES, UNTIMED, Dimension, Span, Step
from firstline.core.verdict import Source
from firstline.ports.analytics import RollupQuery, RollupRow, TooManyGroups
from firstline.ports.journal import RollupDelta


class MemoryAnalytics:
    """Implements `ports.analytics.AnalyticsStore` over what a `MemoryStore` was told to add."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._folded = 0
        self._hours_from_us = 0

    async def counts(self, query: RollupQuery) -> Sequence[RollupRow]:
        """See the port."""
        groups: dict[tuple[int | None, tuple[str, ...]], list[RollupDelta]] = {}
        for delta in self._store.rollups[: self._folded]:
            if query.account_id not in (None, delta.account_id):
                continue
            starts_at_us = next(
                (found for span in query.spans if (found := self._start(delta, span)) is not None), None
            )
            if starts_at_us is not None:
                key = (None if query.step is Step.ALL else starts_at_us, _values(delta, query.by))
                groups.setdefault(key, []).append(delta)
        rows = [_row(*key, deltas) for key, deltas in groups.items() if sum(delta.tickets for delta in deltas) > 0]
        if len(rows) > query.limit:
            raise TooManyGroups
        return rows

    async def costs(
        self, account_id: str | None, spans: Sequence[Span], *, by_account: bool
    ) -> Mapping[tuple[int, str], int]:
        """See the port."""
        found: dict[tuple[int, str], int] = {}
        for spent in self._store.spend.values():
            for span in spans:
                if not span.from_us <= spent.starts_at_us < span.to_us or account_id not in (None, spent.account_id):
                    continue
                starts_at_us = spent.starts_at_us if span.grain is Window.DAY else span.from_us
                key = (starts_at_us, spent.account_id if by_account else "")
                found[key] = found.get(key, 0) + spent.cost_usd_micros
        return {key: cost for key, cost in found.items() if cost}

    async def fold(self, *, most: int) -> int:
        """See the port."""
        before, self._folded = self._folded, min(self._folded + most, len(self._store.rollups))
        return self._folded - before

    async def prune(self, *, before_us: int) -> int:
        """See the port; counts what it hides, in place of rows."""
        old = [one for one in self._store.rollups if self._hours_from_us <= one.starts_at_us < before_us]
        self._hours_from_us = max(self._hours_from_us, before_us)
        return len(old)

    def _start(self, delta: RollupDelta, span: Span) -> int | None:
        """When the window began in which a delta counts, if it is in a span."""
        if not span.from_us <= delta.starts_at_us < span.to_us:
            return None
        if span.grain is Window.HOUR and delta.starts_at_us < self._hours_from_us:
            return None
        return window_bounds(span.grain, delta.starts_at_us)[0]


def _values(delta: RollupDelta, by: Sequence[Dimension]) -> tuple[str, ...]:
    return tuple(getattr(delta, "account_id" if one is Dimension.ACCOUNT else one.value) for one in by)


def _row(starts_at_us: int | None, values: tuple[str, ...], deltas: Sequence[RollupDelta]) -> RollupRow:
    latency = [0] * CLASSES
    sources = {source.value: 0 for source in Source}
    for delta in deltas:
        sources[delta.source] += delta.tickets
        if delta.latency_class != UNTIMED:
            latency[delta.latency_class] += delta.tickets
    return RollupRow(
        starts_at_us,
        values,
        sum(delta.tickets for delta in deltas),
        sum(delta.reviews for delta in deltas),
        sources,
        sum(delta.processing_us for delta in deltas),
        tuple(latency),
    )
