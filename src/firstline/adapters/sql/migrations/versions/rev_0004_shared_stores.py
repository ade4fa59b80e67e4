"""What several replicas on PostgreSQL need: marks of groups, a count of changes, history by month."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.String(32)
WATCHED = ("accounts", "api_keys", "account_categories", "account_thresholds", "account_asking")

TICKETS = """
CREATE TABLE tickets (
    id varchar(32) {collate} NOT NULL,
    account_id varchar(32) NOT NULL,
    received_at_us bigint NOT NULL,
    contract varchar(16) NOT NULL,
    channel varchar(16),
    language varchar(8),
    text text,
    customer_ref varchar(200),
    external_id varchar(200),
    CONSTRAINT pk_tickets PRIMARY KEY (id),
    CONSTRAINT fk_tickets_account_id_accounts FOREIGN KEY (account_id) REFERENCES accounts (id)
) {tickets}
"""
VERDICTS = """
CREATE TABLE verdicts (
    ticket_id varchar(32) {collate} NOT NULL,
    revision integer NOT NULL,
    account_id varchar(32) NOT NULL,
    decided_at_us bigint NOT NULL,
    category varchar(64) NOT NULL,
    priority varchar(16) NOT NULL,
    decision varchar(32) NOT NULL,
    probability double precision NOT NULL,
    confidence double precision NOT NULL,
    churn_risk double precision NOT NULL,
    needs_review integer NOT NULL,
    source varchar(16) NOT NULL,
    recommended_action varchar(500) NOT NULL,
    reasons text NOT NULL,
    evidence text,
    processing_us bigint NOT NULL,
    CONSTRAINT pk_verdicts PRIMARY KEY (ticket_id, revision),
    CONSTRAINT fk_verdicts_ticket_id_tickets FOREIGN KEY (ticket_id) REFERENCES tickets (id),
    CONSTRAINT ck_verdicts_revision CHECK (revision >= 1),
    CONSTRAINT ck_verdicts_probability CHECK (probability >= 0 AND probability <= 1)
) {verdicts}
"""


def upgrade() -> None:
    """Add two tables; on PostgreSQL, part tickets and verdicts by month and count changes by triggers."""
    op.create_table(
        "journal_groups",
        sa.Column("id", ID, nullable=False),
        sa.Column("fenced", sa.Integer, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_journal_groups"),
    )
    op.create_table(
        "changes",
        sa.Column("slot", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("slot", name="pk_changes"),
    )
    if op.get_bind().dialect.name != "postgresql":
        return
    _rebuild(
        collate='COLLATE "C"', tickets="PARTITION BY RANGE (id)", verdicts="PARTITION BY RANGE (ticket_id)", parted=True
    )
    # Several rows, so that writers that have nothing to do with each other seldom meet in one.
    op.execute(
        "CREATE FUNCTION firstline_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO changes (slot, number) VALUES (pg_backend_pid() % 16, 1) "
        "ON CONFLICT (slot) DO UPDATE SET number = changes.number + 1; RETURN NULL; END $$"
    )
    for table in WATCHED:
        op.execute(
            f"CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION firstline_changed()"
        )


def downgrade() -> None:
    """Drop the two tables; history becomes plain tables again, with every row."""
    if op.get_bind().dialect.name == "postgresql":
        for table in WATCHED:
            op.execute(f"DROP TRIGGER changed ON {table}")
        op.execute("DROP FUNCTION firstline_changed()")
        _rebuild(collate="", tickets="", verdicts="", parted=False)
    op.drop_table("changes")
    op.drop_table("journal_groups")


def _rebuild(*, collate: str, tickets: str, verdicts: str, parted: bool) -> None:
    """Make both tables anew and move the rows; names of constraints and indexes belong to the new ones."""
    op.execute("ALTER TABLE verdicts DROP CONSTRAINT fk_verdicts_ticket_id_tickets")
    op.execute("DROP INDEX ix_tickets_account_id_received_at_us")
    for table in ("tickets", "verdicts"):
        op.execute(f"ALTER TABLE {table} RENAME TO {table}_before")
        op.execute(f"ALTER TABLE {table}_before DROP CONSTRAINT pk_{table}")
    op.execute(TICKETS.format(collate=collate, tickets=tickets))
    op.execute(VERDICTS.format(collate=collate, verdicts=verdicts))
    op.execute("CREATE INDEX ix_tickets_account_id_received_at_us ON tickets (account_id, received_at_us)")
    for table in ("tickets", "verdicts"):
        if parted:
            op.execute(f"CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT")
        op.execute(f"INSERT INTO {table} SELECT * FROM {table}_before")  # noqa: S608  # two constant names
    for table in ("verdicts", "tickets"):
        op.execute(f"DROP TABLE {table}_before")
