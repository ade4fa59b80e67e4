"""Feedback on verdicts, and counts of those that a person has given."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ID = sa.String(32)


def upgrade() -> None:
    """Add a table, and a column of the counts, which servers of before leave at 0."""
    ticket_id = sa.String(32, collation="C") if op.get_bind().dialect.name == "postgresql" else ID
    op.create_table(
        "feedback",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("ticket_id", ticket_id, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("given_at_us", sa.BigInteger, nullable=False),
        sa.Column("correct", sa.Integer, nullable=False),
        sa.Column("category_correct", sa.Integer, nullable=False),
        sa.Column("source", sa.String(16)),
        sa.Column("author", sa.String(100)),
        sa.Column("judged_category", sa.String(64), nullable=False),
        sa.Column("judged_priority", sa.String(16), nullable=False),
        sa.Column("judged_decision", sa.String(32), nullable=False),
        sa.Column("judged_source", sa.String(16), nullable=False),
        sa.Column("probability", sa.Float, nullable=False),
        sa.Column("band", sa.Integer, nullable=False),
        sa.Column("right_category", sa.String(64)),
        sa.Column("right_priority", sa.String(16)),
        sa.Column("right_decision", sa.String(32)),
        sa.Column("added_revision", sa.Integer),
        sa.Column("newest", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_feedback_account_id_accounts"),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name="fk_feedback_ticket_id_tickets"),
        sa.CheckConstraint("probability >= 0 AND probability <= 1", name=op.f("ck_feedback_probability")),
    )
    op.create_index("ix_feedback_ticket_id", "feedback", ["ticket_id"])
    op.create_index("ix_feedback_account_id_given_at_us", "feedback", ["account_id", "given_at_us"], unique=True)
    op.add_column("rollups", sa.Column("from_person", sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop both; what people have corrected stays as revisions of verdicts."""
    op.drop_column("rollups", "from_person")
    op.drop_table("feedback")
