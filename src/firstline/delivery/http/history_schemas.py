"""Parameters and bodies of the history, of retention and of erasure."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from firstline.core.taxonomy import Channel, Contract, Decision, Priority
from firstline.core.verdict import Source
from firstline.delivery.http.schemas import ReasonBody, RequestBody
from firstline.ports.erasure import Scope
from firstline.usecases.history import MAX_DAYS
from firstline.usecases.texts import TextState

MAX_PAGE = 200
PAGE = 50
PREVIEW = 200
MAX_WORDS = 200
MAX_NAME = 200

_Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00]+$")]
_Moment = Annotated[str, Field(min_length=1, max_length=40)]


def _whole(value: object) -> object:
    """A whole number, with a fraction of zero or without; no text and no truth value that could pass for one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("not a whole number")
    return value


class TicketFilters(BaseModel):
    """Which tickets are wanted; what is left out means any."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    since: _Moment | None = Field(
        default=None, alias="from", description="Received at this moment or later: ISO 8601, UTC unless it says."
    )
    until: _Moment | None = Field(default=None, alias="to", description="Received before this moment.")
    category: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00]+$")] | None = Field(default=None)
    priority: Priority | None = Field(default=None)
    decision: Decision | None = Field(default=None)
    source: Source | None = Field(default=None, description="Who decided.")
    needs_review: bool | None = Field(default=None)
    language: Annotated[str, Field(pattern="^[a-z]{2}$")] | None = Field(default=None)
    channel: Channel | None = Field(default=None)
    contract: Contract | None = Field(default=None)
    customer_ref: _Name | None = Field(default=None)
    external_id: _Name | None = Field(default=None)
    q: Annotated[str, Field(min_length=1, max_length=MAX_WORDS, pattern=r"^[^\x00]+$")] | None = Field(
        default=None, description="Part of the text; capital letters make no difference."
    )


class TicketsQuery(TicketFilters):
    """A page of them."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = Field(default=PAGE)
    cursor: Annotated[str, Field(pattern="^[A-Za-f][A-Za-z0-9_-]{31}$")] | None = Field(
        default=None, description="`next` of the page before."
    )


class ExportQuery(TicketFilters):
    """All of them as a file."""

    format: Literal["csv", "json", "ndjson", "parquet"] = Field(default="ndjson")


class _TicketBody(BaseModel):
    id: str
    received_at: str
    contract: Contract
    channel: Channel | None
    language: str | None
    customer_ref: str | None
    external_id: str | None
    text_state: TextState = Field(
        description="`kept`; `none` where texts are not kept; `unreadable` where the key of a sealed one is gone."
    )
    revision: int = Field(description="Of the verdict that answers.")
    decided_at: str
    category: str
    priority: Priority
    decision: Decision
    probability: float
    confidence: float = Field(description="The score of the decision contract.")
    churn_risk: float
    needs_review: bool
    source: Source
    recommended_action: str


class TicketEntryBody(_TicketBody):
    """A ticket on a page."""

    preview: str | None = Field(description=f"The first {PREVIEW} characters of the text.")


class TicketsBody(BaseModel):
    """A page of tickets, newest first."""

    tickets: list[TicketEntryBody]
    next: str | None = Field(description="`cursor` of the next page; null when there is nothing more.")


class RevisionBody(BaseModel):
    """One revision of a ticket's verdict."""

    revision: int
    decided_at: str
    category: str
    priority: Priority
    decision: Decision
    probability: float
    confidence: float
    churn_risk: float
    needs_review: bool
    source: Source
    recommended_action: str
    processing_ms: float
    reasons: list[ReasonBody]
    evidence: dict[str, Any] | None = Field(description="Everything that the verdict was derived from.")


class TicketBody(_TicketBody):
    """A ticket with all that is known of it."""

    text: str | None
    revisions: list[RevisionBody] = Field(description="The first one first; the last one answers.")


class RetentionRequest(RequestBody):
    """How long tickets are kept."""

    days: Annotated[int, BeforeValidator(_whole)] | None = Field(
        description="null for good.", json_schema_extra={"minimum": 1, "maximum": MAX_DAYS}
    )


class RetentionBody(BaseModel):
    """How long tickets are kept."""

    days: int | None = Field(description="null for good.")


class ErasureRequest(RequestBody):
    """What to erase: exactly one of the three."""

    ticket: str | None = Field(default=None, description="Id of a ticket.")
    customer_ref: str | None = Field(
        default=None, description="All tickets with it.", json_schema_extra={"minLength": 1, "maxLength": MAX_NAME}
    )
    account: bool | None = Field(default=None, description="true for the whole history of the account.")


class ErasureBody(BaseModel):
    """The receipt of an erasure; names nobody."""

    id: str
    scope: Scope
    requested_at: str
    finished_at: str | None = Field(description="null while it is going on.")
    removed: dict[str, int] = Field(description="How much was removed, by what it was.")


class ErasuresBody(BaseModel):
    """The newest receipts."""

    erasures: list[ErasureBody]
