"""Tables of the counts of verdicts; see `tables`."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from firstline.adapters.sql.tables import metadata
from firstline.core.rollups import CLASSES
from firstline.core.verdict import Source

LATENCY: Final = tuple(f"latency_{place}" for place in range(CLASSES))
SOURCES: Final = tuple(f"from_{source}" for source in Source)
WHOLE: Final = "none"
EVERY: Final = "every"
KEY: Final = (
    "account_id",
    "grain",
    "cut",
    "starts_at_us",
    "category",
    "priority",
    "decision",
    "language",
    "channel",
    "source",
)
AMOUNTS: Final = ("tickets", "reviews", "processing_us", *LATENCY, *SOURCES)

rollups: Final = Table(
    "rollups",
    metadata,
    Column("account_id", String(32), primary_key=True),
    Column("grain", String(8), primary_key=True),
    Column("cut", String(8), primary_key=True),
    Column("starts_at_us", BigInteger, primary_key=True),
    Column("category", String(64), primary_key=True),
    Column("priority", String(16), primary_key=True),
    Column("decision", String(32), primary_key=True),
    Column("language", String(8), primary_key=True),
    Column("channel", String(16), primary_key=True),
    Column("source", String(16), primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in AMOUNTS),
    Index(None, "grain", "cut", "starts_at_us"),
    sqlite_with_rowid=False,
)
"""Every ticket is counted by hour, day and month, and in each of them several times, which `cut` tells apart: as one of
all (`WHOLE`), by each dimension alone (the dimension's name), and by all of them together (`EVERY`). So the usual
questions read few rows; what is not cut by is an empty text.

No foreign key: counts must be folded in whatever became of the account."""

rollup_deltas: Final = Table(
    "rollup_deltas",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("deltas", Text, nullable=False),
)
"""What groups of records have added and nobody has folded in yet: a row a group, a JSON list of `RollupDelta`."""
