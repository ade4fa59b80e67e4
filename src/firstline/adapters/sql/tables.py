"""The tables, as SQLAlchemy metadata; the migrations are the truth and a test holds both together."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

HEAD_REVISION: Final = "0009"

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ID: Final = String(32)

accounts: Final = Table(
    "accounts",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("email", String(320), nullable=False),
    Column("email_folded", String(320), nullable=False, unique=True),
    Column("created_at_us", BigInteger, nullable=False),
    Column("classifier_plan", String(32), nullable=False),
    Column("decision_plan", String(32), nullable=False),
    Column("keep_text", Integer, nullable=False),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("account_id", _ID, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("hint", String(32), nullable=False),
    Column("name", String(100), nullable=False),
    Column("scope", String(32), nullable=False),
    Column("is_test", Integer, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("revoked_at_us", BigInteger),
)

key_uses: Final = Table(
    "key_uses",
    metadata,
    Column("key_id", _ID, ForeignKey("api_keys.id"), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("last_used_at_us", BigInteger, nullable=False),
)

usage: Final = Table(
    "usage",
    metadata,
    Column("account_id", _ID, ForeignKey("accounts.id"), primary_key=True),
    Column("catalogue", String(16), primary_key=True),
    Column("window", String(8), primary_key=True),
    Column("starts_at_us", BigInteger, primary_key=True),
    Column("ends_at_us", BigInteger, nullable=False, index=True),
    Column("requests", BigInteger, nullable=False),
)

tickets: Final = Table(
    "tickets",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("account_id", _ID, ForeignKey("accounts.id"), nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    Column("contract", String(16), nullable=False),
    Column("channel", String(16)),
    Column("language", String(8)),
    Column("text", Text),
    Column("customer_ref", String(200)),
    Column("external_id", String(200)),
    Index(None, "account_id", "received_at_us", "id"),
    *(
        Index(
            None,
            "account_id",
            name,
            "received_at_us",
            "id",
            sqlite_where=text(f"{name} IS NOT NULL"),
            postgresql_where=text(f"{name} IS NOT NULL"),
        )
        for name in ("customer_ref", "external_id")
    ),
)

verdicts: Final = Table(
    "verdicts",
    metadata,
    Column("ticket_id", _ID, ForeignKey("tickets.id"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("account_id", _ID, nullable=False),
    Column("decided_at_us", BigInteger, nullable=False),
    Column("category", String(64), nullable=False),
    Column("priority", String(16), nullable=False),
    Column("decision", String(32), nullable=False),
    Column("probability", Float, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("churn_risk", Float, nullable=False),
    Column("needs_review", Integer, nullable=False),
    Column("source", String(16), nullable=False),
    Column("recommended_action", String(500), nullable=False),
    Column("reasons", Text, nullable=False),
    Column("evidence", Text),
    Column("processing_us", BigInteger, nullable=False),
    CheckConstraint("revision >= 1", name="revision"),
    CheckConstraint("probability >= 0 AND probability <= 1", name="probability"),
)

idempotency: Final = Table(
    "idempotency",
    metadata,
    Column("key_hash", String(64), primary_key=True),
    Column("account_id", _ID, ForeignKey("accounts.id"), nullable=False),
    Column("body_hash", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("response", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger, nullable=False, index=True),
    Index(None, "account_id", "created_at_us"),
)

outbox: Final = Table(
    "outbox",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("account_id", _ID, ForeignKey("accounts.id"), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("payload", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
)

audit: Final = Table(
    "audit",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("actor", String(100), nullable=False),
    Column("action", String(64), nullable=False),
    Column("account_id", _ID),
    Column("target", String(100)),
    Column("detail", Text, nullable=False),
)

account_categories: Final = Table(
    "account_categories",
    metadata,
    Column("account_id", _ID, ForeignKey("accounts.id"), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("created_at_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("model", String(100), nullable=False),
    Column("trained", LargeBinary, nullable=False),
)

account_thresholds: Final = Table(
    "account_thresholds",
    metadata,
    Column("account_id", _ID, ForeignKey("accounts.id"), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("created_at_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

account_asking: Final = Table(
    "account_asking",
    metadata,
    Column("account_id", _ID, ForeignKey("accounts.id"), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("created_at_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

provider_spend: Final = Table(
    "provider_spend",
    metadata,
    Column("account_id", _ID, ForeignKey("accounts.id"), primary_key=True),
    Column("starts_at_us", BigInteger, primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_usd_micros", BigInteger, nullable=False),
    CheckConstraint("calls >= 0", name="calls"),
    CheckConstraint("failures >= 0", name="failures"),
    CheckConstraint("input_tokens >= 0", name="input_tokens"),
    CheckConstraint("output_tokens >= 0", name="output_tokens"),
    CheckConstraint("cost_usd_micros >= 0", name="cost_usd_micros"),
)

versions: Final = Table(
    "versions",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("content_hash", String(64), primary_key=True),
    Column("body", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
)

journal_groups: Final = Table(
    "journal_groups",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("fenced", Integer, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)
"""Marks of groups of records; see `postgres_journal`. Empty on SQLite."""

changes: Final = Table(
    "changes",
    metadata,
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
)
"""How often accounts, keys and what accounts set were changed; see `postgres_changes`. Empty on SQLite."""
