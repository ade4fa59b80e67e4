"""Categories and thresholds of an account's own."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.String(32)


def upgrade() -> None:
    """Add the two tables; nothing that is there changes."""
    op.create_table(
        "account_categories",
        sa.Column("account_id", ID, nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("trained", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "version", name="pk_account_categories"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_account_categories_account_id_accounts"),
    )
    op.create_table(
        "account_thresholds",
        sa.Column("account_id", ID, nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "version", name="pk_account_thresholds"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_account_thresholds_account_id_accounts"),
    )


def downgrade() -> None:
    """Drop the two tables; whatever accounts defined is lost."""
    op.drop_table("account_thresholds")
    op.drop_table("account_categories")
