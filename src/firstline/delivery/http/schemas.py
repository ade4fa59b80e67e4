"""What requests and answers look like; pydantic models that validate, and that OpenAPI is made from."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from firstline.core.asking import MAX_TIMEOUT_S, MIN_TIMEOUT_S
from firstline.core.completion import Mode
from firstline.core.feedback import MAX_AUTHOR_LENGTH
from firstline.core.message import MAX_HISTORY, MAX_REFERENCE_LENGTH, MAX_TEXT_LENGTH, trimmed
from firstline.core.taxonomy import Channel, UserPlan

_HIDDEN_CHARACTERS: Final = r"\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
_VISIBLE: Final = (
    rf"[^\s{_HIDDEN_CHARACTERS}\u061c\u115f\u1160\u180e\u2800\u3164\ud800-\udfff\ufdd0-\ufdef\ufe0e\ufe0f\uffa0"
    r"\ufff0-\ufffb\ufffe\uffff]"
)
_HIDDEN: Final = re.compile(f"[{_HIDDEN_CHARACTERS}]")
_NOTHING_HIDDEN: Final = f"^[^{_HIDDEN_CHARACTERS}]*$"


def _bounded(text: str) -> str:
    found = trimmed(text)
    if not found:
        raise ValueError("must hold at least 1 visible character")
    if len(found) > MAX_TEXT_LENGTH:
        raise ValueError(f"may have at most {MAX_TEXT_LENGTH} characters; this has {len(found)}")
    return found


def _printable(text: str) -> str:
    if _HIDDEN.search(text):
        raise ValueError("may not hold control or invisible characters")
    return text


def _none_is_default(default: Any) -> BeforeValidator:
    return BeforeValidator(lambda value: default if value is None else value)


def _or_null(schema: dict[str, Any]) -> WithJsonSchema:
    """What is documented of a field for which null stands for its default."""
    return WithJsonSchema({"anyOf": [schema, {"type": "null"}]})


_SHOWN: Final = Field(json_schema_extra={"pattern": _NOTHING_HIDDEN})
Text = Annotated[
    str,
    AfterValidator(_bounded),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH, "pattern": _VISIBLE}),
]
Reference = Annotated[
    Annotated[str, Field(min_length=1, max_length=MAX_REFERENCE_LENGTH), AfterValidator(_printable), _SHOWN] | None,
    Field(default=None),
]
Author = Annotated[str, Field(min_length=1, max_length=MAX_AUTHOR_LENGTH), AfterValidator(_printable), _SHOWN] | None


class RequestBody(BaseModel):
    """A body that a caller sends: unknown members are ignored, and no error repeats what was sent."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class AskingFields(RequestBody):
    """What a request may say about language-model providers, over what its account has set."""

    ai_mode: Mode | None = Field(default=None, description="When providers are asked; null for what the account sets.")
    ai_timeout_seconds: Annotated[float, Field(ge=MIN_TIMEOUT_S, le=MAX_TIMEOUT_S)] | None = Field(
        default=None, description="Deadline for providers; at most what the account sets."
    )


class ClassifyRequest(AskingFields):
    """One ticket."""

    ticket: Text
    customer_ref: Reference = None
    external_id: Reference = None


class BatchRequest(AskingFields):
    """Several tickets; the most a batch may hold depends on the plan."""

    tickets: Annotated[list[Any], Field(min_length=1)] = Field(
        json_schema_extra={"items": {"description": "A text as in `ticket`; an item that is none fails alone."}}
    )


class RegisterRequest(RequestBody):
    """A new account."""

    email: Annotated[str, Field(min_length=3, max_length=254, json_schema_extra={"format": "email"})]
    tier: Annotated[
        str,
        Field(max_length=32),
        _none_is_default("free"),
        _or_null({"type": "string", "enum": ["free", "starter", "professional", "enterprise"]}),
    ] = "free"


class NewKeyRequest(RequestBody):
    """A further key."""

    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable), _SHOWN]


class DecisionRequest(AskingFields):
    """One message with what is known of its writer."""

    message: Text
    user_plan: Annotated[
        UserPlan,
        _none_is_default(UserPlan.FREE),
        _or_null({"type": "string", "enum": [plan.value for plan in UserPlan]}),
    ] = UserPlan.FREE
    channel: Annotated[
        Channel,
        _none_is_default(Channel.EMAIL),
        _or_null({"type": "string", "enum": [channel.value for channel in Channel]}),
    ] = Channel.EMAIL
    history: Annotated[
        list[Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]],
        Field(max_length=MAX_HISTORY),
        _none_is_default([]),
        _or_null({"type": "array", "items": {"type": "string", "maxLength": MAX_TEXT_LENGTH}, "maxItems": MAX_HISTORY}),
    ] = []
    customer_ref: Reference = None
    external_id: Reference = None


class CreateKeyRequest(RequestBody):
    """A key for an e-mail address, made by an operator."""

    email: Annotated[str, Field(min_length=3, max_length=254, json_schema_extra={"format": "email"})]
    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable), _SHOWN] = "default"
    tier: Literal["free", "starter", "professional", "enterprise"] = "free"
    is_test: bool = False


class ProblemBody(BaseModel):
    """What went wrong, and what to do (RFC 9457)."""

    type: str = Field(description="Where to read on.")
    title: str
    status: int
    detail: str
    code: str
    field: str | None = Field(default=None, description="What is at fault in the body.")


class ReasonBody(BaseModel):
    """One thing that led to a verdict."""

    code: str
    text: str
    rule: str | None = None
    spans: list[tuple[int, int]] | None = Field(
        default=None, description="Half-open ranges of code points of the trimmed text."
    )


class _VerdictBody(BaseModel):
    id: str = Field(description="The ticket, for history and feedback.")
    subcategory: str | None = Field(description="A finer kind inside the category; null where none is known.")
    probability: float = Field(ge=0, le=1, description="Calibrated chance that the category is right.")
    needs_review: bool
    source: Literal["rule", "local", "provider", "emergency"]
    provider: str = Field(
        description="`local`, the name of the provider that answered, or `timeout` or `failed` where one was needed."
    )
    language: str | None
    reasons: list[ReasonBody]


class ClassifyBody(_VerdictBody):
    """A category and a priority."""

    category: str
    confidence: float = Field(ge=0, le=1, description="The calibrated probability.")
    priority: Literal["low", "medium", "high", "critical"]
    processing_time: float = Field(ge=0, description="Seconds.")


class BatchItem(BaseModel):
    """One ticket's answer: a category, or why there is none."""

    category: str | None = None
    confidence: float | None = None
    priority: str | None = None
    error: str | None = None
    id: str | None = None
    subcategory: str | None = None
    probability: float | None = None
    needs_review: bool | None = None
    source: str | None = None
    provider: str | None = None
    language: str | None = None
    reasons: list[ReasonBody] | None = None


class BatchBody(BaseModel):
    """The answers, in the order sent."""

    total: int
    successful: int
    failed: int
    processing_time: float
    results: list[BatchItem]


class DecisionBody(_VerdictBody):
    """A decision and what to do."""

    decision: Literal["ignore", "standard_response", "priority_response", "immediate_escalation"]
    priority: Literal["low", "medium", "high", "critical"]
    churn_risk: float = Field(ge=0, le=1)
    confidence: float = Field(ge=0, le=1, description="The published score of signals; `probability` is calibrated.")
    recommended_action: str = Field(min_length=1, max_length=500)
    category: str


class LimitsBody(BaseModel):
    """Published limits of a classifier plan."""

    hourly: int
    daily: int


class RegisterBody(BaseModel):
    """The new key; shown this once."""

    api_key: str
    tier: str
    rate_limits: LimitsBody


class UsageLimitsBody(BaseModel):
    """Limits and what is left of them."""

    hourly_limit: int
    hourly_remaining: int
    daily_limit: int
    daily_remaining: int


class ProvidersSpentBody(BaseModel):
    """What language models have cost the account, in the calendar day and month, UTC."""

    spent_today_usd: float
    spent_this_month_usd: float


class ClassifierUsageBody(BaseModel):
    """Usage under the classifier contract."""

    tier: str
    rate_limits: UsageLimitsBody
    providers: ProvidersSpentBody | None = Field(default=None, description="Only where the server has providers.")


class KeyBody(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    tier: str
    is_active: bool
    created_at: str
    last_used: str | None
    requests_count: int


class KeysBody(BaseModel):
    """The keys of an account."""

    keys: list[KeyBody]
    total: int


class NewKeyBody(BaseModel):
    """The new key; shown this once."""

    key: str
    key_id: str
    tier: str
    created_at: str
    message: str


class MessageBody(BaseModel):
    """A sentence."""

    message: str


class ClassifierHealthBody(BaseModel):
    """Whether verdicts can be given and stored."""

    status: Literal["healthy", "degraded"]
    version: str
    timestamp: str
    provider_status: dict[str, Literal["available", "unavailable", "disabled"]]


class HealthBody(BaseModel):
    """The parts, measured."""

    status: Literal["healthy", "degraded"]
    api: str
    rules_engine: str
    storage: Literal["ok", "spooling", "unavailable"]
    ai_layer: str
    limits: Literal["shared", "local"]


class ProbeBody(BaseModel):
    """A probe's answer."""

    status: Literal["ok", "unavailable"]


class RootBody(BaseModel):
    """What answers here."""

    status: str
    service: str
    version: str
    documentation: str


class PlanLimitsBody(BaseModel):
    """Published limits of a decision plan."""

    requests_per_minute: int
    requests_per_day: int
    requests_per_month: int


class TierBody(BaseModel):
    """A plan and its price."""

    tier: str
    price_usd_per_month: int | None
    limits: PlanLimitsBody


class PricingBody(BaseModel):
    """The plans of the decision contract."""

    currency: Literal["USD"]
    tiers: list[TierBody]
    notes: list[str]


class DecisionUsageBody(BaseModel):
    """Usage under the decision contract."""

    class Usage(BaseModel):
        """Counted so far."""

        requests_today: int
        requests_this_month: int
        last_request_at: str | None

    class Limits(BaseModel):
        """The plan's."""

        requests_per_day: int
        requests_per_month: int

    class Remaining(BaseModel):
        """What is left."""

        today: int
        this_month: int

    class Cost(BaseModel):
        """Of this month."""

        included_requests: int
        overage_requests: int
        overage_cost_usd: float
        total_cost_usd: float

    tier: str
    usage: Usage
    limits: Limits
    remaining: Remaining
    estimated_cost_this_month: Cost
    providers: ProvidersSpentBody | None = Field(default=None, description="Only where the server has providers.")


class CreateKeyBody(BaseModel):
    """The new key; shown this once."""

    api_key: str
    tier: str
    limits: PlanLimitsBody
    warning: str


class ClassifierErrorBody(BaseModel):
    """What went wrong, and what to do."""

    error: str
    message: str


class DecisionErrorBody(BaseModel):
    """What went wrong, what to do, and where to read on."""

    error: str
    message: str
    docs: str


class ValidationBody(BaseModel):
    """Where a body is at fault."""

    class Fault(BaseModel):
        """One fault."""

        type: str
        loc: list[str | int]
        msg: str

    detail: list[Fault]
