"""Erasure, retention and encryption of what is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.String(32)
NAMED = ("customer_ref", "external_id")
WATCHED = ("account_data_keys", "erasures")


def upgrade() -> None:
    """Add three tables and the indexes that lists go by; on PostgreSQL, count changes of keys and erasures."""
    op.create_table(
        "account_retention",
        sa.Column("account_id", ID, nullable=False),
        sa.Column("days", sa.Integer, nullable=False),
        sa.Column("changed_at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account_id", name="pk_account_retention"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_account_retention_account_id_accounts"),
        sa.CheckConstraint("days >= 1", name=op.f("ck_account_retention_days")),
    )
    op.create_table(
        "account_data_keys",
        sa.Column("account_id", ID, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("destroyed_at_us", sa.BigInteger),
        sa.PrimaryKeyConstraint("account_id", "number", name="pk_account_data_keys"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_account_data_keys_account_id_accounts"),
    )
    op.create_table(
        "erasures",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(200)),
        sa.Column("requested_at_us", sa.BigInteger, nullable=False),
        sa.Column("finished_at_us", sa.BigInteger),
        sa.Column("counts", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_erasures"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_erasures_account_id_accounts"),
    )
    op.create_index("ix_erasures_account_id", "erasures", ["account_id"])
    op.create_index("ix_erasures_finished_at_us", "erasures", ["finished_at_us"])
    op.create_index("ix_tickets_account_id_received_at_us_id", "tickets", ["account_id", "received_at_us", "id"])
    op.drop_index("ix_tickets_account_id_received_at_us", "tickets")
    for column in NAMED:
        there = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"ix_tickets_account_id_{column}_received_at_us_id",
            "tickets",
            ["account_id", column, "received_at_us", "id"],
            sqlite_where=there,
            postgresql_where=there,
        )
    op.create_index("ix_idempotency_account_id_created_at_us", "idempotency", ["account_id", "created_at_us"])
    if op.get_bind().dialect.name == "postgresql":
        for table in WATCHED:
            op.execute(
                f"CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION firstline_changed()"
            )


def downgrade() -> None:
    """Drop the tables and the indexes; texts that were sealed cannot be read any more."""
    op.drop_index("ix_idempotency_account_id_created_at_us", "idempotency")
    for column in NAMED:
        op.drop_index(f"ix_tickets_account_id_{column}_received_at_us_id", "tickets")
    op.create_index("ix_tickets_account_id_received_at_us", "tickets", ["account_id", "received_at_us"])
    op.drop_index("ix_tickets_account_id_received_at_us_id", "tickets")
    op.drop_table("erasures")
    op.drop_table("account_data_keys")
    op.drop_table("account_retention")
