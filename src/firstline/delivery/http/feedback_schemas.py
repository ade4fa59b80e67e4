"""Parameters and bodies of feedback on verdicts."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool

from firstline.core.feedback import FeedbackSource
from firstline.core.message import trimmed
from firstline.core.taxonomy import Decision, Priority
from firstline.core.verdict import Source
from firstline.delivery.http.schemas import Author, RequestBody
from firstline.usecases.feedback import DEFAULT_DAYS, MAX_CATEGORIES, MAX_DAYS

MAX_PAGE = 1_000
PAGE = 100
MAX_REVISION = 1_000_000

_Moment = Annotated[str, Field(min_length=1, max_length=40)]


def _visible(text: str | None) -> str | None:
    if text is not None and not trimmed(text):
        raise ValueError("must hold at least 1 visible character")
    return text


class FeedbackRequest(RequestBody):
    """Whether a verdict was right, or what would have been."""

    correct: StrictBool | None = Field(
        default=None, description="Whether everything was right; left out where the right ones are named."
    )
    category: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="The right one. What is not named was right."
    )
    priority: Priority | None = Field(default=None)
    decision: Decision | None = Field(default=None)
    revision: Annotated[int, Field(strict=True, ge=1, le=MAX_REVISION)] | None = Field(
        default=None, description="The one that was seen; the latest if it is left out."
    )
    source: FeedbackSource | None = Field(default=None, description="Who says so.")
    author: Annotated[Author, AfterValidator(_visible)] = Field(
        default=None, description="Your own id of whoever says so; no name and no address."
    )


class FeedbackQuery(BaseModel):
    """A page of feedback."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    since: _Moment | None = Field(
        default=None, description="Given at this moment or later: ISO 8601, UTC unless it says."
    )
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = Field(default=PAGE)
    cursor: Annotated[str, Field(pattern="^[A-Za-f][A-Za-z0-9_-]{9}[AEIMQUYcgkosw048]=$")] | None = Field(
        default=None, description="`next` of the page before."
    )


class SummaryQuery(BaseModel):
    """Of which feedback."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    since: _Moment | None = Field(
        default=None,
        alias="from",
        description=f"Given at this moment or later; {DEFAULT_DAYS} days before `to` if left out, at most {MAX_DAYS}.",
    )
    until: _Moment | None = Field(default=None, alias="to", description="Given before this moment; now if left out.")


class AnswerBody(BaseModel):
    """What is right."""

    category: str
    priority: Priority
    decision: Decision


class JudgedBody(AnswerBody):
    """What firstline said."""

    probability: float
    source: Source


class FeedbackBody(BaseModel):
    """What somebody said about a verdict."""

    id: str
    ticket: str
    revision: int = Field(description="Of the verdict that was judged: the last that firstline gave by itself.")
    given_at: str
    correct: bool = Field(description="Whether everything in it was right.")
    category_correct: bool
    source: FeedbackSource | None
    author: str | None
    verdict: JudgedBody
    right: AnswerBody | None = Field(description="null where nobody has said.")
    added_revision: int | None = Field(description="The one that corrects or confirms it; null where none was needed.")
    newest: bool = Field(description="Whether it is the one that counts for its ticket.")


class TicketFeedbackBody(BaseModel):
    """What was said about a ticket."""

    feedback: list[FeedbackBody] = Field(description="The newest first.")


class FeedbackPageBody(BaseModel):
    """A page of feedback, oldest first."""

    feedback: list[FeedbackBody]
    next: str | None = Field(description="`cursor` of the next page; null when there is nothing more.")


class TallyBody(BaseModel):
    """Judged verdicts, added up."""

    tickets: int
    right: int = Field(description="Those with the right category.")
    share: float | None = Field(description="Their part; null without tickets.")
    interval: list[float] | None = Field(description="Where the true share lies with 95 % confidence.")
    mean_probability: float | None = Field(description="What the verdicts promised.")


class ErrorTallyBody(TallyBody):
    """The same, with the gap between share and promise."""

    calibration_error: float | None = Field(description="Expected calibration error; null without tickets.")


class BandBody(TallyBody):
    """Verdicts whose probability lay in a tenth."""

    from_: float = Field(alias="from")
    to: float


class CategoryBody(ErrorTallyBody):
    """Verdicts of a category."""

    category: str


class SummaryBody(BaseModel):
    """Whether probabilities keep their promise."""

    since: str = Field(alias="from")
    until: str = Field(alias="to")
    totals: ErrorTallyBody
    bands: list[BandBody] = Field(description="By stated probability, the lowest first.")
    categories: list[CategoryBody] = Field(
        description=f"The one with the most tickets first; at most {MAX_CATEGORIES}."
    )
