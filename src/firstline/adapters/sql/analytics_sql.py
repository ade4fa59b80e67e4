"""Counts of verdicts on SQL, for `ports.analytics.AnalyticsStore`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Engine, Select, delete, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from firstline.adapters.sql.analytics_tables import AMOUNTS, EVERY, KEY, SOURCES, WHOLE, rollup_deltas, rollups
from firstline.adapters.sql.runners import Writes, read_in_threads
from firstline.adapters.sql.tables import provider_spend
from firstline.core.plans import Window, window_bounds
from firstline.core.rollups import CLASSES, GRAINS, UNTIMED, Dimension, Span, Step
from firstline.core.verdict import Source
from firstline.ports.analytics import RollupQuery, RollupRow, TooManyGroups
from firstline.ports.journal import RollupDelta

_INSERT: Final[dict[str, Callable[..., Any]]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_COLUMN: Final = {
    dimension: rollups.c["account_id" if dimension is Dimension.ACCOUNT else dimension] for dimension in Dimension
}
_DIMENSIONS: Final = KEY[4:]
_DIMENSIONS_END: Final = 2 + len(_DIMENSIONS)
_CUTS: Final = (
    (WHOLE, frozenset[int]()),
    *((name, frozenset({place})) for place, name in enumerate(_DIMENSIONS)),
    (EVERY, frozenset(range(len(_DIMENSIONS)))),
)
_SOURCE_PLACE: Final = {source.value: AMOUNTS.index(name) for source, name in zip(Source, SOURCES, strict=True)}


class SqlAnalytics:
    """Implements `ports.analytics.AnalyticsStore`."""

    def __init__(self, engine: Engine, write: Writes) -> None:
        self._read = read_in_threads(engine)
        self._write = write

    async def counts(self, query: RollupQuery) -> Sequence[RollupRow]:
        """See the port."""
        key_length = len(query.by) + 1

        def task(connection: Connection) -> dict[tuple[Any, ...], list[int]]:
            # One statement a span: for several in one, SQLite reads all that the account has.
            found: dict[tuple[Any, ...], list[int]] = {}
            for span in query.spans:
                for row in connection.execute(_counts(query, span)):
                    _add(found, tuple(row[:key_length]), [int(amount) for amount in row[key_length:]])
            return found

        found = await self._read(task)
        if len(found) > query.limit:
            raise TooManyGroups
        return [_row(key, amounts) for key, amounts in found.items()]

    async def costs(
        self, account_id: str | None, spans: Sequence[Span], *, by_account: bool
    ) -> Mapping[tuple[int, str], int]:
        """See the port."""

        def task(connection: Connection) -> dict[tuple[int, str], int]:
            found: dict[tuple[int, str], int] = {}
            for span in spans:
                for owner, starts_at_us, cost in connection.execute(_costs(account_id, span, by_account=by_account)):
                    key = (span.from_us if starts_at_us is None else starts_at_us, owner)
                    found[key] = found.get(key, 0) + int(cost)
            return found

        return await self._read(task)

    async def fold(self, *, most: int) -> int:
        """See the port.

        Read and added up before the transaction, which therefore is short; it stores nothing when somebody else has
        folded any of it meanwhile.
        """
        query = select(rollup_deltas.c.id, rollup_deltas.c.deltas).order_by(rollup_deltas.c.id).limit(most)

        def prepare(connection: Connection) -> tuple[list[int], list[dict[str, Any]]]:
            rows = connection.execute(query).all()
            return [row.id for row in rows], _folded([row.deltas for row in rows])

        ids, rows = await self._read(prepare)
        if not ids:
            return 0

        def task(connection: Connection) -> None:
            if connection.execute(delete(rollup_deltas).where(rollup_deltas.c.id.in_(ids))).rowcount != len(ids):
                raise _Taken
            if rows:
                statement = _INSERT[connection.dialect.name](rollups)
                sums = {name: rollups.c[name] + statement.excluded[name] for name in AMOUNTS}
                connection.execute(statement.on_conflict_do_update(index_elements=list(KEY), set_=sums), rows)

        try:
            await self._write(task)
        except _Taken:
            return 0
        return len(ids)

    async def prune(self, *, before_us: int) -> int:
        """See the port."""
        statement = delete(rollups).where(rollups.c.grain == Window.HOUR.value, rollups.c.starts_at_us < before_us)
        return await self._write(lambda connection: connection.execute(statement).rowcount)


class _Taken(Exception):
    """Another server has folded it."""


def _folded(groups: Sequence[str]) -> list[dict[str, Any]]:
    """Rows to add, in the order of their keys, so that servers that lock the same ones do it in the same order."""
    hours: dict[tuple[Any, ...], list[int]] = {}
    for group in groups:
        for row in orjson.loads(group):
            delta = RollupDelta(*row)
            amounts = hours.setdefault(delta[:_DIMENSIONS_END], [0] * len(AMOUNTS))
            amounts[0] += delta.tickets
            amounts[1] += delta.reviews
            amounts[2] += delta.processing_us
            if delta.latency_class != UNTIMED:
                amounts[3 + delta.latency_class] += delta.tickets
            amounts[_SOURCE_PLACE[delta.source]] += delta.tickets
    windows: dict[tuple[Any, ...], list[int]] = {}
    for (account_id, starts_at_us, *values), amounts in hours.items():
        for grain in GRAINS:
            _add(windows, (account_id, grain.value, window_bounds(grain, starts_at_us)[0], *values), amounts)
    sums: dict[tuple[Any, ...], list[int]] = {}
    for (account_id, grain, starts_at_us, *values), amounts in windows.items():
        for cut, kept in _CUTS:
            shown = (value if place in kept else "" for place, value in enumerate(values))
            _add(sums, (account_id, grain, cut, starts_at_us, *shown), amounts)
    return [
        dict(zip((*KEY, *AMOUNTS), (*key, *amounts), strict=True))
        for key, amounts in sorted(sums.items())
        if any(amounts)
    ]


def _add(sums: dict[tuple[Any, ...], list[int]], key: tuple[Any, ...], amounts: Sequence[int]) -> None:
    before = sums.get(key)
    if before is None:
        sums[key] = list(amounts)
        return
    for place, amount in enumerate(amounts):
        before[place] += amount


def _counts(query: RollupQuery, span: Span) -> Select[Any]:
    """Start of the step, values, amounts."""
    table = rollups.c
    groups: list[Any] = [_COLUMN[dimension] for dimension in query.by]
    if query.step is not Step.ALL:
        groups.insert(0, table.starts_at_us)
    first: list[Any] = [literal(None).label("starts_at_us")] if query.step is Step.ALL else []
    statement = (
        select(*first, *groups, *(func.sum(table[name]) for name in AMOUNTS))
        .where(
            table.grain == span.grain.value,
            table.cut == _cut(query.by),
            table.starts_at_us >= span.from_us,
            table.starts_at_us < span.to_us,
        )
        .group_by(*groups)
        .having(func.sum(table.tickets) > 0)
        .limit(query.limit + 1)
    )
    return statement if query.account_id is None else statement.where(table.account_id == query.account_id)


def _cut(by: Sequence[Dimension]) -> str:
    """The cut that holds what is asked for in the fewest rows."""
    names = [one.value for one in by if one is not Dimension.ACCOUNT]
    return EVERY if len(names) > 1 else names[0] if names else WHOLE


def _row(key: Sequence[Any], amounts: Sequence[int]) -> RollupRow:
    return RollupRow(
        starts_at_us=key[0],
        values=tuple(key[1:]),
        tickets=amounts[0],
        reviews=amounts[1],
        processing_us=amounts[2],
        latency=tuple(amounts[3 : 3 + CLASSES]),
        sources={source: amounts[place] for source, place in _SOURCE_PLACE.items()},
    )


def _costs(account_id: str | None, span: Span, *, by_account: bool) -> Select[Any]:
    """Account, day and cost; no day for a span that is not of days, which is one."""
    table = provider_spend.c
    by_day = span.grain is Window.DAY
    statement = (
        select(
            table.account_id if by_account else literal("").label("account_id"),
            table.starts_at_us if by_day else literal(None).label("starts_at_us"),
            func.sum(table.cost_usd_micros),
        )
        .where(table.starts_at_us >= span.from_us, table.starts_at_us < span.to_us)
        .having(func.sum(table.cost_usd_micros) > 0)
    )
    groups = [column for column, wanted in ((table.account_id, by_account), (table.starts_at_us, by_day)) if wanted]
    if groups:
        statement = statement.group_by(*groups)
    return statement if account_id is None else statement.where(table.account_id == account_id)
