"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(32)


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "accounts",
        sa.Column("id", ID, nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("email_folded", sa.String(320), nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("classifier_plan", sa.String(32), nullable=False),
        sa.Column("decision_plan", sa.String(32), nullable=False),
        sa.Column("keep_text", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("email_folded", name="uq_accounts_email_folded"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("hint", sa.String(32), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("scope", sa.String(32), nullable=False),
        sa.Column("is_test", sa.Integer, nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("revoked_at_us", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("hash", name="uq_api_keys_hash"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_api_keys_account_id_accounts"),
    )
    op.create_index("ix_api_keys_account_id", "api_keys", ["account_id"])
    op.create_table(
        "key_uses",
        sa.Column("key_id", ID, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("last_used_at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_key_uses"),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name="fk_key_uses_key_id_api_keys"),
    )
    op.create_table(
        "usage",
        sa.Column("account_id", ID, nullable=False),
        sa.Column("catalogue", sa.String(16), nullable=False),
        sa.Column("window", sa.String(8), nullable=False),
        sa.Column("starts_at_us", sa.BigInteger, nullable=False),
        sa.Column("ends_at_us", sa.BigInteger, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "catalogue", "window", "starts_at_us", name="pk_usage"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_usage_account_id_accounts"),
    )
    op.create_index("ix_usage_ends_at_us", "usage", ["ends_at_us"])
    op.create_table(
        "tickets",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("received_at_us", sa.BigInteger, nullable=False),
        sa.Column("contract", sa.String(16), nullable=False),
        sa.Column("channel", sa.String(16)),
        sa.Column("language", sa.String(8)),
        sa.Column("text", sa.Text),
        sa.Column("customer_ref", sa.String(200)),
        sa.Column("external_id", sa.String(200)),
        sa.PrimaryKeyConstraint("id", name="pk_tickets"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_tickets_account_id_accounts"),
    )
    op.create_index("ix_tickets_account_id_received_at_us", "tickets", ["account_id", "received_at_us"])
    op.create_table(
        "verdicts",
        sa.Column("ticket_id", ID, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("decided_at_us", sa.BigInteger, nullable=False),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("decision", sa.String(32), nullable=False),
        sa.Column("probability", sa.Float, nullable=False),
        sa.Column("confidence", sa.Float, nullable=False),
        sa.Column("churn_risk", sa.Float, nullable=False),
        sa.Column("needs_review", sa.Integer, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("recommended_action", sa.String(500), nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text),
        sa.Column("processing_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("ticket_id", "revision", name="pk_verdicts"),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name="fk_verdicts_ticket_id_tickets"),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_verdicts_revision")),
        sa.CheckConstraint("probability >= 0 AND probability <= 1", name=op.f("ck_verdicts_probability")),
    )
    op.create_table(
        "idempotency",
        sa.Column("key_hash", sa.String(64), nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("body_hash", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("response", sa.Text, nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("expires_at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_hash", name="pk_idempotency"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_idempotency_account_id_accounts"),
    )
    op.create_index("ix_idempotency_expires_at_us", "idempotency", ["expires_at_us"])
    op.create_table(
        "outbox",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_outbox_account_id_accounts"),
    )
    op.create_table(
        "audit",
        sa.Column("id", ID, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("account_id", ID),
        sa.Column("target", sa.String(100)),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_at_us", "audit", ["at_us"])
    op.create_table(
        "versions",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("content_hash", sa.String(64), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", "content_hash", name="pk_versions"),
    )


def downgrade() -> None:
    """Drop every table; children before parents."""
    for table in (
        "versions",
        "audit",
        "outbox",
        "idempotency",
        "verdicts",
        "tickets",
        "usage",
        "key_uses",
        "api_keys",
        "accounts",
    ):
        op.drop_table(table)
