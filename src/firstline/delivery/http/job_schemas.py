"""What requests and answers about jobs look like."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from firstline.core.taxonomy import Channel, Contract, UserPlan

TYPES: Final = ("application/x-ndjson", "text/csv", "application/vnd.apache.parquet", "text/plain")
"""Media types of an upload besides JSON."""


class JobQuery(BaseModel):
    """How the rows of an upload are read."""

    contract: Contract = Contract.CLASSIFIER
    format: Literal["json", "ndjson", "csv", "parquet", "txt"] | None = Field(
        None, description="What the body is; by its Content-Type otherwise."
    )
    column: str | None = Field(
        None, description="Column or member that holds the text; text, ticket, message or body otherwise."
    )
    delimiter: str | None = Field(None, description="What separates the columns of CSV: one sign, or tab.")
    keep: str | None = Field(None, description="Columns that the results have too, with commas between them.")
    plan: UserPlan = Field(UserPlan.FREE, description="Of rows without user_plan; decision contract.")
    channel: Channel = Field(Channel.EMAIL, description="Of rows without channel; decision contract.")


class JobsQuery(BaseModel):
    """Which jobs are listed."""

    before: Annotated[str, Field(pattern="^job_[0-9a-f]{32}$")] | None = Field(
        None, description="`next` of the page before."
    )
    limit: int = Field(100, ge=1, le=100)


class ResultsQuery(BaseModel):
    """In which form results are sent."""

    format: Literal["ndjson", "csv", "parquet"] = "ndjson"


class JobBody(BaseModel):
    """A job and how far it is."""

    id: str
    state: Literal["queued", "running", "paused", "finished", "cancelled"] = Field(
        description="`paused` until the plan's window opens again; the last two are final."
    )
    contract: Contract
    rows: int
    done: int = Field(description="Rows that are answered, the failed ones included.")
    failed: int = Field(description="Rows that have an error instead of a verdict.")
    needs_review: int
    rows_per_second: float | None = Field(description="Since the job was begun; null before.")
    seconds_left: float | None = Field(description="At that rate; null where nothing can be said.")
    created_at: str
    started_at: str | None
    finished_at: str | None
    resumes_at: str | None = Field(description="When a paused job goes on.")


class JobsBody(BaseModel):
    """Jobs of the account, the newest first."""

    jobs: list[JobBody]
    next: str | None = Field(description="Send it as `before` for the next page; null at the end.")


class JobUpload(BaseModel):
    """Rows: a JSON list, NDJSON, CSV, Parquet or a message per line, by Content-Type."""

    tickets: Annotated[list[str | dict[str, object]], Field(min_length=1, max_length=1_000_000)]
