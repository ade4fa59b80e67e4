"""Tables of retention, erasure and the keys of accounts; see `tables`."""

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Integer, String, Table, Text

from firstline.adapters.sql.tables import metadata

ID: Final = String(32)

account_retention: Final = Table(
    "account_retention",
    metadata,
    Column("account_id", ID, ForeignKey("accounts.id"), primary_key=True),
    Column("days", Integer, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
    CheckConstraint("days >= 1", name="days"),
)

account_data_keys: Final = Table(
    "account_data_keys",
    metadata,
    Column("account_id", ID, ForeignKey("accounts.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("sealed", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("destroyed_at_us", BigInteger),
)

erasures: Final = Table(
    "erasures",
    metadata,
    Column("id", ID, primary_key=True),
    Column("account_id", ID, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("scope", String(16), nullable=False),
    Column("subject", String(200)),
    Column("requested_at_us", BigInteger, nullable=False),
    Column("finished_at_us", BigInteger, index=True),
    Column("counts", Text, nullable=False),
)
