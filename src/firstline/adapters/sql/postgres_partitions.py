"""Months of history on PostgreSQL: a table for each, made ahead of time.

Ids are UUIDv7 and so begin with the time: a month is a range of ids. What lies in no month, because a clock was
wrong or nothing made the table in time, is kept in `tickets_rest` and `verdicts_rest`; nothing is lost but some speed.
"""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, text

from firstline.adapters.sql.postgres_schema import LOCK

TABLES: Final = ("tickets", "verdicts")
AHEAD: Final = 3
LOCK_TIMEOUT: Final = "2s"
"""How long making a table may hold up writers that wait behind it."""


def month_of(at_us: int, *, later: int = 0) -> tuple[str, str, str]:
    """A month as `YYYYMM`, with the first id in it and the first one after it.

    Args:
        at_us: a moment in it, microseconds since 1970 UTC.
        later: months to go on from there.
    """
    moment = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    months = moment.year * 12 + moment.month - 1 + later
    first, after = (datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC) for number in (months, months + 1))
    return f"{first:%Y%m}", _first_id(first), _first_id(after)


def _first_id(moment: datetime) -> str:
    return f"{int(moment.timestamp()) * 1_000:012x}{'0' * 20}"


def make_partitions(connection: Connection, *, now_us: int) -> list[str]:
    """Make the tables of this month and the next ones that are missing; their names."""
    wanted = [(table, *month_of(now_us, later=later)) for table in TABLES for later in range(AHEAD + 1)]
    there = set(connection.execute(text("SELECT inhrelid::regclass::text FROM pg_inherits")).scalars())
    missing = [one for one in wanted if f"{one[0]}_{one[1]}" not in there]
    if not missing:
        return []
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    made = []
    for table, month, first, after in missing:
        name = f"{table}_{month}"
        connection.execute(
            text(f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} FOR VALUES FROM ('{first}') TO ('{after}')")
        )
        made.append(name)
    return made
