"""The tables of jobs, on the same metadata as all others."""

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from firstline.adapters.sql.tables import metadata

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(32), ForeignKey("accounts.id"), nullable=False),
    Column("contract", String(16), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("created_at_us", BigInteger, nullable=False),
    Column("started_at_us", BigInteger),
    Column("finished_at_us", BigInteger, index=True),
    Column("resumes_at_us", BigInteger),
    Column("claimed_at_us", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("reviews", BigInteger, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("chunks_done", Integer, nullable=False),
    Column("options", Text, nullable=False),
    Index(None, "account_id", "id"),
    Index(None, "account_id", "claimed_at_us"),
)

job_chunks: Final = Table(
    "job_chunks",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("first_row", BigInteger, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("token", String(32), index=True),
    Column("lease_until_us", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Index(None, "state", "job_id", "number"),
)
