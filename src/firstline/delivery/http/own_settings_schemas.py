"""Bodies of the resources in which an account sets its own categories, thresholds and providers."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from firstline.core.asking import (
    MAX_ALLOWED,
    MAX_ALLOWED_LENGTH,
    MAX_BUDGET_USD,
    MAX_CHOICES,
    MAX_TIMEOUT_S,
    MAX_TOKENS,
    MIN_TIMEOUT_S,
)
from firstline.core.categories import MAX_CATEGORIES, MAX_DESCRIPTION, MAX_EXAMPLE, MAX_EXAMPLES, MAX_NAME
from firstline.core.completion import Mode
from firstline.core.taxonomy import LANGUAGES, Priority
from firstline.delivery.http.schemas import RequestBody
from firstline.usecases.thresholds import MAX_THRESHOLDS

_Number = Annotated[float, Field(strict=True)]
"""A number, and neither a text nor a truth value that could pass for one."""


class CategoryRequest(RequestBody):
    """A category of an account's own."""

    name: str = Field(json_schema_extra={"minLength": 1, "maxLength": MAX_NAME})
    description: str = Field(
        default="", description="What belongs to it.", json_schema_extra={"maxLength": MAX_DESCRIPTION}
    )
    priority: Priority = Field(default=Priority.MEDIUM, description="What a ticket of this category starts at.")
    examples: list[Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": MAX_EXAMPLE})]] = Field(
        default=[], description="Messages that belong to it.", json_schema_extra={"maxItems": MAX_EXAMPLES}
    )


class CategoriesRequest(RequestBody):
    """All categories of an account; an empty list goes back to the default ones."""

    categories: list[CategoryRequest] = Field(json_schema_extra={"maxItems": MAX_CATEGORIES})


class ThresholdRequest(RequestBody):
    """The least probability at which a category is answered."""

    category: str | None = Field(default=None, description="A category in force, or null for every one.")
    language: str | None = Field(default=None, json_schema_extra={"enum": [*LANGUAGES, None]})
    probability: float = Field(json_schema_extra={"minimum": 0, "maximum": 1})


class ThresholdsRequest(RequestBody):
    """All thresholds of an account; an empty list removes them."""

    thresholds: list[ThresholdRequest] = Field(json_schema_extra={"maxItems": MAX_THRESHOLDS})


class ProviderRequest(RequestBody):
    """A provider to ask, and one of its models."""

    provider: str = Field(description="One that this server offers.")
    model: str | None = Field(default=None, description="One that this server offers, or null for the default one.")


class ProvidersRequest(RequestBody):
    """When and how providers are asked; what is left out or null is the server's default."""

    mode: Mode | None = Field(
        default=None, description="Whether providers are asked: never, when the local answer is in doubt, or always."
    )
    threshold: _Number | None = Field(
        default=None,
        description="At this local probability or above nobody is asked in the mode `uncertain`.",
        json_schema_extra={"minimum": 0, "maximum": 1},
    )
    timeout_seconds: _Number | None = Field(
        default=None,
        description="From a request's arrival to its answer; no longer than the server's own.",
        json_schema_extra={"minimum": MIN_TIMEOUT_S, "maximum": MAX_TIMEOUT_S},
    )
    providers: list[ProviderRequest] | None = Field(
        default=None,
        description="In the order in which they are asked; an empty list for the server's order.",
        json_schema_extra={"maxItems": MAX_CHOICES},
    )
    temperature: _Number | None = Field(default=None, json_schema_extra={"minimum": 0, "maximum": 2})
    max_tokens: Annotated[int, Field(strict=True)] | None = Field(
        default=None, description="Of an answer.", json_schema_extra={"minimum": 16, "maximum": MAX_TOKENS}
    )
    daily_budget_usd: _Number | None = Field(
        default=None,
        description="What may be spent in a calendar day, UTC.",
        json_schema_extra={"minimum": 0, "maximum": MAX_BUDGET_USD},
    )
    monthly_budget_usd: _Number | None = Field(
        default=None,
        description="What may be spent in a calendar month, UTC.",
        json_schema_extra={"minimum": 0, "maximum": MAX_BUDGET_USD},
    )
    allowed: list[Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": MAX_ALLOWED_LENGTH})]] | None = (
        Field(
            default=None,
            description="What is not masked before a message leaves: a value, or an e-mail domain as `@example.com`.",
            json_schema_extra={"maxItems": MAX_ALLOWED},
        )
    )


class CategoryBody(BaseModel):
    """A category in force."""

    name: str
    description: str
    priority: Priority
    examples_count: int
    examples: list[str] | None = Field(default=None, description="Not repeated in the answer to a change.")


class AdviceBody(BaseModel):
    """Something that would make the categories work better."""

    code: Literal["few_examples", "overlap", "mislabelled", "unused_threshold"]
    text: str
    categories: list[str]
    example: int | None = Field(description="Place of the example within its category, from 0.")


class CategoriesBody(BaseModel):
    """The categories in force."""

    version: str = Field(description="`default` for the default ones.")
    categories: list[CategoryBody]
    trained_at: str | None
    advice: list[AdviceBody]
    model: str = Field(description="What predicts.")
    pending: bool = Field(description="Whether they are being trained again for a new model.")


class ThresholdBody(BaseModel):
    """A threshold in force."""

    category: str | None
    language: str | None
    probability: float


class ThresholdsBody(BaseModel):
    """The thresholds in force."""

    version: str = Field(description="`default` when there are none.")
    thresholds: list[ThresholdBody]
    changed_at: str | None


class ProviderBody(BaseModel):
    """A provider that is asked."""

    provider: str
    model: str | None = Field(description="null for the provider's default one.")


class OfferBody(BaseModel):
    """A provider that this server offers."""

    provider: str
    models: list[str] = Field(description="The default one first.")
    default: str | None = Field(description="The model that is asked when none is named.")
    state: Literal["available", "unavailable"]


class ModelSpendBody(BaseModel):
    """What a provider's model did this month."""

    provider: str
    model: str
    calls: int = Field(description="Failed ones included.")
    failures: int
    input_tokens: int
    output_tokens: int
    cost_usd: float


class SpentBody(BaseModel):
    """What the account has spent on providers in the current day and month, UTC."""

    today_usd: float
    this_month_usd: float
    by_provider: list[ModelSpendBody] = Field(description="This month.")


class ProvidersBody(BaseModel):
    """When and how providers are asked, what this server offers, and what was spent."""

    version: str = Field(description="`default` for the server's defaults.")
    mode: Mode
    threshold: float
    timeout_seconds: float
    providers: list[ProviderBody] = Field(description="Empty for the server's order, which `offered` stands in.")
    temperature: float
    max_tokens: int
    daily_budget_usd: float | None
    monthly_budget_usd: float | None
    allowed: list[str]
    changed_at: str | None
    offered: list[OfferBody]
    spent: SpentBody
