"""When and how an account's messages go to providers, and what that cost."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.String(32)
AMOUNTS = ("calls", "failures", "input_tokens", "output_tokens", "cost_usd_micros")


def upgrade() -> None:
    """Add the two tables; nothing that is there changes."""
    op.create_table(
        "account_asking",
        sa.Column("account_id", ID, nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "version", name="pk_account_asking"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_account_asking_account_id_accounts"),
    )
    op.create_table(
        "provider_spend",
        sa.Column("account_id", ID, nullable=False),
        sa.Column("starts_at_us", sa.BigInteger, nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        *(sa.Column(amount, sa.BigInteger, nullable=False) for amount in AMOUNTS),
        sa.PrimaryKeyConstraint("account_id", "starts_at_us", "provider", "model", name="pk_provider_spend"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_provider_spend_account_id_accounts"),
        *(sa.CheckConstraint(f"{amount} >= 0", name=op.f(f"ck_provider_spend_{amount}")) for amount in AMOUNTS),
    )


def downgrade() -> None:
    """Drop the two tables; what accounts set and the record of what they spent are lost."""
    op.drop_table("provider_spend")
    op.drop_table("account_asking")
