"""Rollups of verdicts by hour, day and month, and what is still to be folded into them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

KEY = (
    ("account_id", sa.String(32)),
    ("grain", sa.String(8)),
    ("cut", sa.String(8)),
    ("starts_at_us", sa.BigInteger),
    ("category", sa.String(64)),
    ("priority", sa.String(16)),
    ("decision", sa.String(32)),
    ("language", sa.String(8)),
    ("channel", sa.String(16)),
    ("source", sa.String(16)),
)
LATENCY = tuple(f"latency_{place}" for place in range(14))
SOURCES = ("from_rule", "from_local", "from_provider", "from_emergency")
AMOUNTS = ("tickets", "reviews", "processing_us", *LATENCY, *SOURCES)


def upgrade() -> None:
    """Add the two tables; verdicts of before are not counted."""
    op.create_table(
        "rollups",
        *(sa.Column(name, kind, nullable=False, autoincrement=False) for name, kind in KEY),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in AMOUNTS),
        sa.PrimaryKeyConstraint(*(name for name, _ in KEY), name="pk_rollups"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_rollups_grain_cut_starts_at_us", "rollups", ["grain", "cut", "starts_at_us"])
    op.create_table(
        "rollup_deltas",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("deltas", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rollup_deltas"),
    )


def downgrade() -> None:
    """Drop the two tables; the counts are lost, the verdicts are not."""
    op.drop_table("rollup_deltas")
    op.drop_table("rollups")
