"""What requests and answers about webhooks look like."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from firstline.core.destination import MAX_URL
from firstline.core.events import EventKind
from firstline.delivery.http.schemas import RequestBody
from firstline.usecases.webhooks import DEFAULT_OVERLAP_S, MAX_DESCRIPTION, MAX_OVERLAP_S, MAX_PAGE

_Events = Annotated[list[EventKind], Field(json_schema_extra={"minItems": 1})]
_Url = Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": MAX_URL, "format": "uri"})]
_Description = Annotated[str, Field(json_schema_extra={"maxLength": MAX_DESCRIPTION})]
_Truth = Annotated[bool, Field(strict=True)]


class WebhookRequest(RequestBody):
    """A new endpoint."""

    url: _Url = Field(description="https, and a name that leads to public addresses.")
    events: _Events = Field(description="What to be told of.")
    description: _Description = ""
    enabled: _Truth = True


class WebhookChangeRequest(RequestBody):
    """What is to be different; what is left out or null stays."""

    url: _Url | None = None
    events: _Events | None = None
    description: _Description | None = None
    enabled: _Truth | None = Field(default=None, description="true forgets past failures.")


class RotateRequest(RequestBody):
    """How long the secret so far goes on signing."""

    overlap_seconds: Annotated[int, Field(strict=True)] = Field(
        default=DEFAULT_OVERLAP_S, json_schema_extra={"minimum": 0, "maximum": MAX_OVERLAP_S}
    )


class ReplayRequest(RequestBody):
    """Which dead letters to send again."""

    since: str | None = Field(default=None, description="Only events from this moment on; null for all of them.")


class DeliveriesQuery(BaseModel):
    """Which deliveries are listed."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    state: Literal["pending", "delivered", "dead"] | None = None
    cursor: str | None = Field(
        default=None, pattern="^evt_[0-9a-f]{32}$", description="`next_cursor` of the page before."
    )
    limit: int = Field(default=50, ge=1, le=MAX_PAGE)


class WebhookBody(BaseModel):
    """An endpoint."""

    id: str
    url: str
    events: list[EventKind]
    description: str
    state: Literal["enabled", "disabled"]
    disabled_reason: Literal["owner", "gone", "failing"] | None
    failing_since: str | None = Field(description="When the first of the failures in a row happened.")
    previous_secret_until: str | None = Field(description="Until when the secret before the newest one signs too.")
    created_at: str
    changed_at: str


class WebhookSecretBody(WebhookBody):
    """An endpoint and its secret, which no other answer shows."""

    secret: str


class WebhooksBody(BaseModel):
    """All endpoints of the account, oldest first."""

    webhooks: list[WebhookBody]


class DeletedWebhookBody(BaseModel):
    """What was deleted."""

    id: str
    deleted: bool


class AttemptBody(BaseModel):
    """One try to deliver."""

    at: str
    duration_ms: int
    status: int | None = Field(description="Of your answer; null when there was none.")
    error: str | None = Field(description="Why it failed; null for a success.")


class DeliveryBody(BaseModel):
    """An event on its way to an endpoint."""

    event: str = Field(description="The `webhook-id` of all its attempts.")
    type: str
    subject: str | None = Field(description="The ticket or job that it is about.")
    state: Literal["pending", "delivered", "dead"]
    attempts: int = Field(description="Since it happened, or since it was last replayed.")
    happened_at: str
    next_attempt_at: str | None = Field(description="Of a pending one.")
    log: list[AttemptBody] = Field(description="The newest 20 attempts, oldest first.")


class DeliveriesBody(BaseModel):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryBody]
    next_cursor: str | None = Field(description="null on the last page.")


class ReplayedBody(BaseModel):
    """How many dead letters are sent again."""

    replayed: int
