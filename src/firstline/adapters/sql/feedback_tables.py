"""The table of what people say about verdicts; see `tables`."""

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Float, ForeignKey, Index, Integer, String, Table

from firstline.adapters.sql.tables import metadata

_ID: Final = String(32)

feedback: Final = Table(
    "feedback",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("account_id", _ID, ForeignKey("accounts.id"), nullable=False),
    Column("ticket_id", _ID, ForeignKey("tickets.id"), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("given_at_us", BigInteger, nullable=False),
    Column("correct", Integer, nullable=False),
    Column("category_correct", Integer, nullable=False),
    Column("source", String(16)),
    Column("author", String(100)),
    Column("judged_category", String(64), nullable=False),
    Column("judged_priority", String(16), nullable=False),
    Column("judged_decision", String(32), nullable=False),
    Column("judged_source", String(16), nullable=False),
    Column("probability", Float, nullable=False),
    Column("band", Integer, nullable=False),
    Column("right_category", String(64)),
    Column("right_priority", String(16)),
    Column("right_decision", String(32)),
    Column("added_revision", Integer),
    Column("newest", Integer, nullable=False),
    CheckConstraint("probability >= 0 AND probability <= 1", name="probability"),
    Index(None, "account_id", "given_at_us", unique=True),
)
"""`band` is `core.feedback.band_of` of the probability, so that both databases group alike."""
