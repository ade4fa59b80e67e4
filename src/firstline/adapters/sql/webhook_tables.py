"""The tables of endpoints and deliveries, on the same metadata as all others."""

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from firstline.adapters.sql.tables import metadata

webhook_endpoints: Final = Table(
    "webhook_endpoints",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(32), ForeignKey("accounts.id"), nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("description", String(200), nullable=False),
    Column("kinds", Text, nullable=False),
    Column("secrets", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("disabled_reason", String(16)),
    Column("failing_since_us", BigInteger),
)

webhook_events: Final = Table(
    "webhook_events",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(32), ForeignKey("accounts.id"), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("subject", String(64)),
    Column("payload", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Index(None, "account_id", "subject"),
)
"""Events that some delivery refers to; they come from the outbox."""

webhook_deliveries: Final = Table(
    "webhook_deliveries",
    metadata,
    Column("endpoint_id", String(32), ForeignKey("webhook_endpoints.id"), primary_key=True),
    Column("event_id", String(32), ForeignKey("webhook_events.id"), primary_key=True, index=True),
    Column("subject", String(64)),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("next_at_us", BigInteger, nullable=False),
    Column("lease_us", BigInteger, nullable=False),
    Column("log", Text, nullable=False),
    Index(None, "endpoint_id", "state", "next_at_us"),
    Index(None, "endpoint_id", "subject", "event_id"),
    Index(None, "state", "created_at_us"),
)
