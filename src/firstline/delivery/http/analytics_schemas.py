"""Parameters and body of the counts of verdicts."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from firstline.core.rollups import Dimension, Step
from firstline.usecases.analytics import DEFAULT_DAYS, MAX_DAYS, MAX_DIMENSIONS

_Moment = Annotated[str, Field(min_length=1, max_length=40)]
_ONE = f"({'|'.join(Dimension)})"
_BY = f"^({_ONE}(,{_ONE}){{0,{MAX_DIMENSIONS - 1}}})?$"
_MOST = ", ".join(f"{days:,} days by {step}" for step, days in MAX_DAYS.items())


class AnalyticsQuery(BaseModel):
    """What is to be counted."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    since: _Moment | None = Field(
        default=None,
        alias="from",
        description=f"ISO 8601, UTC unless it says; {DEFAULT_DAYS[Step.DAY]} days before `to` where it is left out.",
    )
    until: _Moment | None = Field(default=None, alias="to", description="Until before this moment; now if left out.")
    step: Step = Field(default=Step.DAY, description=f"How time is cut. At most {_MOST}.")
    by: Annotated[str, Field(max_length=100, json_schema_extra={"pattern": _BY})] = Field(
        default="", description=f"What to split by, with commas between; at most {MAX_DIMENSIONS}."
    )
    account: Annotated[str, Field(max_length=50, json_schema_extra={"pattern": "^(all|acc_[0-9a-f]{32})$"})] | None = (
        Field(default=None, description="For operators: an account, or `all`.")
    )


class SourcesBody(BaseModel):
    """Tickets by who decided."""

    rule: int
    local: int
    provider: int
    emergency: int
    person: int


class LatencyBody(BaseModel):
    """From a request's arrival to its verdict, in milliseconds, without the rows of jobs; null where there is none."""

    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None


class FiguresBody(BaseModel):
    """Counts, and what follows from them."""

    tickets: int
    reviews: int = Field(description="Tickets that a person should look at.")
    review_rate: float | None = Field(description="Their part of all; null without tickets.")
    sources: SourcesBody
    latency: LatencyBody
    cost_usd: float | None = Field(description="Of providers; null by hour, and for parts other than accounts.")


class GroupBody(FiguresBody):
    """A step, or a part of it. What it was split by stands beside the figures."""

    starts_at: str
    share: float = Field(description="Of all tickets of the step.")
    category: str | None = None
    priority: str | None = None
    decision: str | None = None
    language: str | None = Field(default=None, description="null where it is not sure.")
    channel: str | None = Field(default=None, description="null where none was given.")
    source: str | None = None
    account: str | None = None


class AnalyticsBody(BaseModel):
    """What was counted; whole steps in UTC."""

    since: str = Field(alias="from")
    until: str = Field(alias="to", description="The first moment that is not counted.")
    step: Step
    by: list[Dimension]
    totals: FiguresBody
    groups: list[GroupBody] = Field(description="By time, then the largest first. A step without tickets has none.")
