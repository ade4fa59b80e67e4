"""Bodies of the resources in which an account sets its own categories and thresholds."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from firstline.core.categories import MAX_CATEGORIES, MAX_DESCRIPTION, MAX_EXAMPLE, MAX_EXAMPLES, MAX_NAME
from firstline.core.taxonomy import LANGUAGES, Priority
from firstline.delivery.http.schemas import RequestBody
from firstline.usecases.thresholds import MAX_THRESHOLDS


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
