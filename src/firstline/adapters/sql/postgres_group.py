"""A group of records as one SQL statement: one array per column, one statement per set of tables, one transaction.

Which columns there are, and of which type, is read from the tables, so that a new column of a row needs no change here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, Float, Integer, LargeBinary

from firstline.adapters.sql import analytics_tables  # noqa: F401  # tables of a module of their own
from firstline.adapters.sql.merged_rows import added_up, counted, spent, uses
from firstline.adapters.sql.tables import metadata
from firstline.ports.journal import IdempotencyEntry, OutboxEvent, Record, SpendDelta, TicketRow, VerdictRow

Rows = Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Part:
    """What of a group goes into one table.

    Attributes:
        columns: in the order of the rows.
        rows: of a group; those that meet in one row of the table are added up.
        tail: what to do where a row is there already; nothing means that the group fails.
    """

    table: str
    columns: tuple[str, ...]
    rows: Callable[[Sequence[Record]], Rows]
    tail: str = ""


def _adding(table: str, key: Iterable[str], amounts: Iterable[str]) -> str:
    sums = ", ".join(f'{amount} = "{table}".{amount} + excluded.{amount}' for amount in amounts)
    names = ", ".join(f'"{name}"' for name in key)
    return f"ON CONFLICT ({names}) DO UPDATE SET {sums}"  # nosec B608  # constant names; values are bound


PARTS: Final = (
    Part("tickets", TicketRow._fields, lambda records: [row for record in records for row in record.tickets]),
    Part("verdicts", VerdictRow._fields, lambda records: [row for record in records for row in record.verdicts]),
    Part(
        "idempotency",
        IdempotencyEntry._fields,
        lambda records: sorted(record.idempotency for record in records if record.idempotency),
    ),
    Part("outbox", OutboxEvent._fields, lambda records: [row for record in records for row in record.outbox]),
    Part("rollup_deltas", ("deltas",), lambda records: _counted(records)),
    Part(
        "provider_spend",
        SpendDelta._fields,
        lambda records: spent(row for record in records for row in record.spend),
        _adding("provider_spend", SpendDelta._fields[:4], SpendDelta._fields[4:]),
    ),
    Part(
        "key_uses",
        ("key_id", "last_used_at_us", "requests"),
        lambda records: uses(record.key_use for record in records if record.key_use),
        _adding("key_uses", ("key_id",), ("requests",))
        + ", last_used_at_us = greatest(key_uses.last_used_at_us, excluded.last_used_at_us)",
    ),
    Part(
        "usage",
        ("account_id", "catalogue", "window", "starts_at_us", "ends_at_us", "requests"),
        lambda records: added_up(row for record in records for row in record.counters),
        _adding("usage", ("account_id", "catalogue", "window", "starts_at_us"), ("requests",)),
    ),
)
"""Rows that several servers add to come last, so that one waits for the other's commit alone."""


def _counted(records: Sequence[Record]) -> Rows:
    found = counted(delta for record in records for delta in record.rollups)
    return [] if found is None else [(found,)]


@dataclass(frozen=True, slots=True)
class Group:
    """A statement and its arguments, which begin at `$3`: `$1` and `$2` are the group's mark and those to remove."""

    statement: str
    arguments: list[Sequence[Any]]


def group_of(records: Sequence[Record]) -> Group:
    """The statement that stores records, all of them or none."""
    tables: list[int] = []
    arguments: list[Sequence[Any]] = []
    for place, part in enumerate(PARTS):
        rows = part.rows(records)
        if rows:
            tables.append(place)
            arguments += zip(*rows, strict=True)
    return Group(_statement(tuple(tables)), arguments)


def is_refused(record: Record) -> bool:
    """Whether a record holds what adding up would hide from the constraints of the tables."""
    return any(amount < 0 for row in record.spend for amount in row[4:])


@cache
def _statement(places: tuple[int, ...]) -> str:
    # Names of tables and columns are constants of this package; values travel as arguments.
    stores = []
    argument = 2
    for place in places:
        part = PARTS[place]
        columns = ", ".join(f'"{column}"' for column in part.columns)
        arrays = []
        for column in part.columns:
            argument += 1
            arrays.append(f"${argument}::{_array_of(part.table, column)}")
        rows = f"SELECT * FROM unnest({', '.join(arrays)})"  # noqa: S608  # constant names; values are bound
        stores.append(f'stored_{place} AS (INSERT INTO "{part.table}" ({columns}) {rows} {part.tail})')
    stores.append("removed AS (DELETE FROM journal_groups WHERE id = ANY($2::text[]))")
    return f"WITH {', '.join(stores)} INSERT INTO journal_groups (id, fenced, at_us) VALUES ($1, 0, {NOW})"  # noqa: S608  # constant names; values are bound


NOW: Final = "(extract(epoch FROM clock_timestamp()) * 1000000)::int8"


def _array_of(table: str, column: str) -> str:
    kind = metadata.tables[table].c[column].type
    if isinstance(kind, BigInteger):
        return "int8[]"
    if isinstance(kind, Integer):
        return "int4[]"
    if isinstance(kind, Float):
        return "float8[]"
    return "bytea[]" if isinstance(kind, LargeBinary) else "text[]"
