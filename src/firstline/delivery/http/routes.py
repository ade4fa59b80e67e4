"""The route table: one line per route, from which routing and OpenAPI are both made."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from firstline.adapters.job_files import JobFolder
from firstline.bootstrap import App
from firstline.delivery.http import analytics_schemas, feedback_schemas, history_schemas, job_schemas, schemas
from firstline.delivery.http import own_settings_schemas as own_schemas
from firstline.delivery.http import webhook_schemas as hook_schemas
from firstline.delivery.http.analytics_v1 import AnalyticsV1
from firstline.delivery.http.batch_v1 import MAX_BATCH_BYTES, BatchV1
from firstline.delivery.http.bodies import MAX_BODY_BYTES
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.classifier_v1 import ClassifierV1
from firstline.delivery.http.decision_v1 import DecisionV1
from firstline.delivery.http.erasures_v1 import ErasuresV1
from firstline.delivery.http.feedback_v1 import FeedbackV1
from firstline.delivery.http.jobs_v1 import MAX_KEYED_UPLOAD_BYTES, JobsV1
from firstline.delivery.http.own_settings_v1 import OwnSettingsV1
from firstline.delivery.http.pages import Pages
from firstline.delivery.http.providers_v1 import ProvidersV1
from firstline.delivery.http.ticket_export import MEDIA_TYPES
from firstline.delivery.http.tickets_v1 import TicketsV1
from firstline.delivery.http.webhooks_v1 import WebhooksV1

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One route.

    Attributes:
        takes: model of the JSON body, if it has one.
        gives: model of the successful answer; None for one that is no JSON.
        status: of the successful answer.
        errors: error statuses and the model of their body.
        secured: whether a key is asked for.
        listed: whether OpenAPI shows it.
        media_type: of a successful answer that is no JSON; several with a comma and a space.
        keyless: whether a key may be missing in development.
        idempotent: of a POST, whether `Idempotency-Key` is honoured.
        max_body: most bytes of a body that comes with one.
        query: model of the parameters behind the path.
        types: media types of the body besides JSON.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    takes: type[BaseModel] | None = None
    gives: type[BaseModel] | None = None
    status: int = 200
    errors: Mapping[int, type[BaseModel]] = field(default_factory=dict)
    secured: bool = False
    listed: bool = True
    media_type: str = "application/json"
    keyless: bool = False
    idempotent: bool = True
    max_body: int = MAX_BODY_BYTES
    query: type[BaseModel] | None = None
    types: tuple[str, ...] = ()

    @property
    def takes_idempotency_key(self) -> bool:
        """Whether the route is a POST that may be sent again with the same key."""
        return self.method == "POST" and self.idempotent


_CLASSIFIER: Final = "Ticket classifier"
_DECISION: Final = "Decision"
_OWN: Final = "Your account"
_JOBS: Final = "Jobs"
_HISTORY: Final = "History"
_FEEDBACK: Final = "Feedback"
_WEBHOOKS: Final = "Webhooks"
_SERVICE: Final = "Service"


def _errors(model: type[BaseModel], *statuses: int) -> dict[int, type[BaseModel]]:
    return dict.fromkeys(statuses, model)


def route_table(app: App, callers: Callers) -> list[RouteSpec]:
    """Every route of the server; the hot ones first."""
    classifier, decision, pages = ClassifierV1(app, callers), DecisionV1(app, callers), Pages(app)
    own = OwnSettingsV1(app, callers)
    asked = ProvidersV1(app, callers, offers=app.asking)
    hooks = WebhooksV1(app, callers)
    jobs = JobsV1(app, callers, folder=JobFolder(app.settings.data_dir))
    tickets, erasures = TicketsV1(app, callers), ErasuresV1(app, callers)
    said = FeedbackV1(app, callers)
    a, b, c = schemas.ClassifierErrorBody, schemas.DecisionErrorBody, schemas.ProblemBody
    faults = {422: schemas.ValidationBody}
    return [
        RouteSpec(
            "POST", "/api/v1/classify", classifier.classify, _CLASSIFIER, schemas.ClassifyRequest, schemas.ClassifyBody,
            errors=_errors(a, 400, 401, 408, 409, 413, 429, 503), secured=True,
        ),
        RouteSpec(
            "POST", "/v1/decision", decision.decide, _DECISION, schemas.DecisionRequest, schemas.DecisionBody,
            errors={**_errors(b, 400, 401, 408, 409, 413, 429, 503), **faults}, secured=True, keyless=True,
        ),
        RouteSpec(
            "POST", "/api/v1/batch", BatchV1(app, callers).batch, _CLASSIFIER, schemas.BatchRequest, schemas.BatchBody,
            errors=_errors(a, 400, 401, 408, 409, 413, 429, 503), secured=True, max_body=MAX_BATCH_BYTES,
        ),
        RouteSpec(
            "GET", "/api/v1/health", classifier.health, _CLASSIFIER, None, schemas.ClassifierHealthBody,
            errors={503: schemas.ClassifierHealthBody},
        ),
        RouteSpec(
            "POST", "/api/v1/auth/register", classifier.register, _CLASSIFIER, schemas.RegisterRequest,
            schemas.RegisterBody, 201, _errors(a, 400, 402, 408, 409, 413, 429, 503),
        ),
        RouteSpec(
            "GET", "/api/v1/auth/usage", classifier.usage, _CLASSIFIER, None, schemas.ClassifierUsageBody,
            errors=_errors(a, 401, 429, 503), secured=True,
        ),
        RouteSpec(
            "GET", "/api/v1/auth/keys", classifier.list_keys, _CLASSIFIER, None, schemas.KeysBody,
            errors=_errors(a, 401, 429, 503), secured=True,
        ),
        RouteSpec(
            "POST", "/api/v1/auth/keys", classifier.add_key, _CLASSIFIER, schemas.NewKeyRequest, schemas.NewKeyBody,
            201, _errors(a, 400, 401, 403, 408, 409, 413, 429, 503), secured=True,
        ),
        RouteSpec(
            "DELETE", "/api/v1/auth/keys/{key_id}", classifier.revoke_key, _CLASSIFIER, None, schemas.MessageBody,
            errors=_errors(a, 401, 404, 429, 503), secured=True,
        ),
        RouteSpec(
            "GET", "/v1/usage", decision.usage, _DECISION, None, schemas.DecisionUsageBody,
            errors=_errors(b, 401, 429, 503), secured=True,
        ),
        RouteSpec("GET", "/v1/pricing", decision.pricing, _DECISION, None, schemas.PricingBody),
        RouteSpec(
            "POST", "/v1/keys/create", decision.create_key, _DECISION, schemas.CreateKeyRequest, schemas.CreateKeyBody,
            201, {**_errors(b, 400, 401, 403, 408, 409, 413, 429, 503), **faults}, secured=True,
        ),
        RouteSpec(
            "GET", "/v1/categories", own.categories, _OWN, None, own_schemas.CategoriesBody,
            errors=_errors(c, 401, 429, 503), secured=True,
        ),
        RouteSpec(
            "PUT", "/v1/categories", own.put_categories, _OWN, own_schemas.CategoriesRequest,
            own_schemas.CategoriesBody,
            errors=_errors(c, 400, 401, 408, 412, 413, 422, 429, 503), secured=True,
        ),
        RouteSpec(
            "GET", "/v1/thresholds", own.thresholds, _OWN, None, own_schemas.ThresholdsBody,
            errors=_errors(c, 401, 429, 503), secured=True,
        ),
        RouteSpec(
            "PUT", "/v1/thresholds", own.put_thresholds, _OWN, own_schemas.ThresholdsRequest,
            own_schemas.ThresholdsBody,
            errors=_errors(c, 400, 401, 408, 412, 413, 422, 429, 503), secured=True,
        ),
        RouteSpec(
            "GET", "/v1/providers", asked.providers, _OWN, None, own_schemas.ProvidersBody,
            errors=_errors(c, 401, 429, 503), secured=True,
        ),
        RouteSpec(
            "PUT", "/v1/providers", asked.put_providers, _OWN, own_schemas.ProvidersRequest,
            own_schemas.ProvidersBody,
            errors=_errors(c, 400, 401, 408, 412, 413, 422, 429, 503), secured=True,
        ),
        RouteSpec(
            "POST", "/v1/jobs", jobs.create, _JOBS, job_schemas.JobUpload, job_schemas.JobBody, 202,
            _errors(c, 400, 401, 408, 409, 413, 415, 422, 429, 503), secured=True, max_body=MAX_KEYED_UPLOAD_BYTES,
            query=job_schemas.JobQuery, types=job_schemas.TYPES,
        ),
        RouteSpec(
            "GET", "/v1/jobs", jobs.list_jobs, _JOBS, None, job_schemas.JobsBody,
            errors=_errors(c, 401, 422, 429, 503), secured=True, query=job_schemas.JobsQuery,
        ),
        RouteSpec(
            "GET", "/v1/jobs/{job_id}", jobs.job, _JOBS, None, job_schemas.JobBody,
            errors=_errors(c, 401, 404, 429, 503), secured=True,
        ),
        RouteSpec(
            "DELETE", "/v1/jobs/{job_id}", jobs.delete, _JOBS, status=204,
            errors=_errors(c, 401, 404, 429, 503), secured=True,
        ),
        RouteSpec(
            "GET", "/v1/jobs/{job_id}/results", jobs.results, _JOBS, media_type="application/x-ndjson",
            errors=_errors(c, 401, 404, 422, 429, 503), secured=True, query=job_schemas.ResultsQuery,
        ),
        RouteSpec(
            "POST", "/v1/jobs/{job_id}/cancel", jobs.cancel, _JOBS, None, job_schemas.JobBody,
            errors=_errors(c, 401, 404, 429, 503), secured=True, idempotent=False,
        ),
        RouteSpec(
            "GET", "/v1/tickets", tickets.tickets, _HISTORY, None, history_schemas.TicketsBody,
            errors=_errors(c, 401, 409, 422, 429, 503), secured=True, query=history_schemas.TicketsQuery,
        ),
        RouteSpec(
            "GET", "/v1/tickets/export", tickets.export, _HISTORY, media_type=", ".join(MEDIA_TYPES.values()),
            errors=_errors(c, 401, 409, 422, 429, 501, 503), secured=True, query=history_schemas.ExportQuery,
        ),
        RouteSpec(
            "GET", "/v1/tickets/{ticket_id}", tickets.ticket, _HISTORY, None, history_schemas.TicketBody,
            errors=_errors(c, 401, 404, 429, 503), secured=True,
        ),
        RouteSpec(
            "POST", "/v1/tickets/{ticket_id}/feedback", said.give_feedback, _FEEDBACK,
            feedback_schemas.FeedbackRequest, feedback_schemas.FeedbackBody, 201,
            _errors(c, 400, 401, 404, 408, 409, 413, 422, 429, 503), secured=True,
        ),
        RouteSpec(
            "GET", "/v1/tickets/{ticket_id}/feedback", said.ticket_feedback, _FEEDBACK, None,
            feedback_schemas.TicketFeedbackBody, errors=_errors(c, 401, 404, 429, 503), secured=True,
        ),
        RouteSpec(
            "GET", "/v1/feedback", said.feedback, _FEEDBACK, None, feedback_schemas.FeedbackPageBody,
            errors=_errors(c, 401, 422, 429, 503), secured=True, query=feedback_schemas.FeedbackQuery,
        ),
        RouteSpec(
            "GET", "/v1/feedback/summary", said.feedback_summary, _FEEDBACK, None, feedback_schemas.SummaryBody,
            errors=_errors(c, 401, 422, 429, 503), secured=True, query=feedback_schemas.SummaryQuery,
        ),
        RouteSpec(
            "GET", "/v1/analytics", AnalyticsV1(app, callers).analytics, _HISTORY, None,
            analytics_schemas.AnalyticsBody, errors=_errors(c, 401, 403, 422, 429, 503), secured=True,
            query=analytics_schemas.AnalyticsQuery,
        ),
        RouteSpec(
            "GET", "/v1/retention", tickets.retention, _HISTORY, None, history_schemas.RetentionBody,
            errors=_errors(c, 401, 429, 503), secured=True,
        ),
        RouteSpec(
            "PUT", "/v1/retention", tickets.put_retention, _HISTORY, history_schemas.RetentionRequest,
            history_schemas.RetentionBody, errors=_errors(c, 400, 401, 408, 413, 422, 429, 503), secured=True,
        ),
        RouteSpec(
            "GET", "/v1/erasures", erasures.erasures, _HISTORY, None, history_schemas.ErasuresBody,
            errors=_errors(c, 401, 429, 503), secured=True,
        ),
        RouteSpec(
            "POST", "/v1/erasures", erasures.erase, _HISTORY, history_schemas.ErasureRequest,
            history_schemas.ErasureBody, 201, _errors(c, 400, 401, 408, 409, 413, 422, 429, 503), secured=True,
        ),
        RouteSpec(
            "GET", "/v1/erasures/{erasure_id}", erasures.erasure, _HISTORY, None, history_schemas.ErasureBody,
            errors=_errors(c, 401, 404, 429, 503), secured=True,
        ),
        RouteSpec(
            "GET", "/v1/webhooks", hooks.webhooks, _WEBHOOKS, None, hook_schemas.WebhooksBody,
            errors=_errors(c, 401, 429, 503), secured=True,
        ),
        RouteSpec(
            "POST", "/v1/webhooks", hooks.create_webhook, _WEBHOOKS, hook_schemas.WebhookRequest,
            hook_schemas.WebhookSecretBody, 201, _errors(c, 400, 401, 403, 408, 409, 413, 422, 429, 503), secured=True,
        ),
        RouteSpec(
            "GET", "/v1/webhooks/{webhook_id}", hooks.webhook, _WEBHOOKS, None, hook_schemas.WebhookBody,
            errors=_errors(c, 401, 404, 429, 503), secured=True,
        ),
        RouteSpec(
            "PATCH", "/v1/webhooks/{webhook_id}", hooks.change_webhook, _WEBHOOKS, hook_schemas.WebhookChangeRequest,
            hook_schemas.WebhookBody, errors=_errors(c, 400, 401, 404, 408, 413, 422, 429, 503), secured=True,
        ),
        RouteSpec(
            "DELETE", "/v1/webhooks/{webhook_id}", hooks.delete_webhook, _WEBHOOKS, None,
            hook_schemas.DeletedWebhookBody, errors=_errors(c, 401, 404, 429, 503), secured=True,
        ),
        RouteSpec(
            "POST", "/v1/webhooks/{webhook_id}/secret", hooks.rotate_webhook_secret, _WEBHOOKS,
            hook_schemas.RotateRequest, hook_schemas.WebhookSecretBody,
            errors=_errors(c, 400, 401, 404, 408, 409, 413, 422, 429, 503), secured=True,
        ),
        RouteSpec(
            "POST", "/v1/webhooks/{webhook_id}/test", hooks.test_webhook, _WEBHOOKS, None, hook_schemas.DeliveryBody,
            202, _errors(c, 400, 401, 404, 409, 429, 503), secured=True,
        ),
        RouteSpec(
            "POST", "/v1/webhooks/{webhook_id}/replay", hooks.replay_dead_letters, _WEBHOOKS,
            hook_schemas.ReplayRequest, hook_schemas.ReplayedBody, 202,
            _errors(c, 400, 401, 404, 408, 409, 413, 422, 429, 503), secured=True,
        ),
        RouteSpec(
            "GET", "/v1/webhooks/{webhook_id}/deliveries", hooks.deliveries, _WEBHOOKS, None,
            hook_schemas.DeliveriesBody, errors=_errors(c, 401, 404, 422, 429, 503), secured=True,
            query=hook_schemas.DeliveriesQuery,
        ),
        RouteSpec(
            "GET", "/v1/webhooks/{webhook_id}/deliveries/{event_id}", hooks.delivery, _WEBHOOKS, None,
            hook_schemas.DeliveryBody, errors=_errors(c, 401, 404, 429, 503), secured=True,
        ),
        RouteSpec(
            "POST", "/v1/webhooks/{webhook_id}/deliveries/{event_id}/replay", hooks.replay_delivery, _WEBHOOKS, None,
            hook_schemas.DeliveryBody, 202, _errors(c, 400, 401, 404, 409, 429, 503), secured=True,
        ),
        RouteSpec("GET", "/", pages.root, _SERVICE, None, schemas.RootBody),
        RouteSpec(
            "GET", "/health", pages.health, _SERVICE, None, schemas.HealthBody, errors={503: schemas.HealthBody}
        ),
        RouteSpec("GET", "/health/live", pages.live, _SERVICE, None, schemas.ProbeBody),
        RouteSpec(
            "GET", "/health/ready", pages.ready, _SERVICE, None, schemas.ProbeBody, errors={503: schemas.ProbeBody}
        ),
        RouteSpec("GET", "/metrics", pages.metrics, _SERVICE, media_type="text/plain", errors=_errors(a, 401)),
        RouteSpec("GET", "/docs", pages.docs, _SERVICE, listed=False),
        RouteSpec("GET", "/redoc", pages.redoc, _SERVICE, listed=False),
        RouteSpec("GET", "/docs/errors", pages.errors, _SERVICE, listed=False),
        RouteSpec("GET", "/docs/errors/{code}", pages.error, _SERVICE, listed=False),
        RouteSpec("GET", "/docs/assets/{name}", pages.asset, _SERVICE, listed=False),
    ]  # fmt: skip
