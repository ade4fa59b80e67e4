"""One catalogue of public errors: code, sentence, and what to do about it.

Every code has a page at docs/errors/<code>.md. Sentences are stable: clients of the published contracts compare them.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class PublicError:
    """An error that a caller may see.

    Attributes:
        code: stable name.
        status: HTTP status.
        title: short sentence.
        advice: what to do.
    """

    code: str
    status: int
    title: str
    advice: str


API_KEY_REQUIRED: Final = PublicError(
    "api_key_required",
    401,
    "API key required",
    "Send your key in the X-API-Key header or as Authorization: Bearer.",
)
INVALID_API_KEY: Final = PublicError(
    "invalid_api_key", 401, "Invalid API key", "Check the key for missing characters, or create a new one."
)
API_KEY_REVOKED: Final = PublicError(
    "api_key_revoked",
    401,
    "API key revoked",
    "This key was revoked for good. Use another key of your account.",
)
OPERATOR_REQUIRED: Final = PublicError(
    "operator_required",
    403,
    "Operator key required",
    "Use a key made with: firstline keys create --operator.",
)
DEMO_ACCOUNT: Final = PublicError(
    "demo_account", 403, "Not available to demo keys", "Register an account of your own first."
)
SUBSCRIPTION_REQUIRED: Final = PublicError(
    "subscription_required",
    402,
    "Subscription required",
    "Subscribe to this tier first, or register for the free tier.",
)
INVALID_REQUEST: Final = PublicError(
    "invalid_request",
    400,
    "Invalid request",
    "Correct the field that the message names and send the request again.",
)
VALIDATION_FAILED: Final = PublicError(
    "validation_failed",
    422,
    "Validation failed",
    "Correct the fields that the detail names and send the request again.",
)
MALFORMED_JSON: Final = PublicError(
    "malformed_json",
    400,
    "Malformed JSON",
    "Send one JSON object, UTF-8, without duplicate keys, NaN or deep nesting.",
)
BODY_TOO_LARGE: Final = PublicError(
    "body_too_large", 413, "Request body too large", "Send a smaller body, or split the batch."
)
BODY_TIMEOUT: Final = PublicError("body_timeout", 408, "Request body too slow", "Send the body without long pauses.")
NOT_FOUND: Final = PublicError("not_found", 404, "Not found", "Check the path against /docs.")
KEY_NOT_FOUND: Final = PublicError(
    "key_not_found", 404, "API key not found", "List the keys of your account for their ids."
)
JOB_NOT_FOUND: Final = PublicError(
    "job_not_found", 404, "Job not found", "List the jobs of your account for their ids."
)
TOO_MANY_JOBS: Final = PublicError(
    "too_many_jobs", 409, "Too many unfinished jobs", "Wait until one has finished, or cancel one."
)
MALFORMED_UPLOAD: Final = PublicError(
    "malformed_upload", 400, "Malformed upload", "Send a file that is what its Content-Type says."
)
UNSUPPORTED_MEDIA_TYPE: Final = PublicError(
    "unsupported_media_type",
    415,
    "Unsupported media type",
    "Say by Content-Type or the parameter format what the body is: json, ndjson, csv, parquet or txt.",
)
TICKET_NOT_FOUND: Final = PublicError(
    "ticket_not_found", 404, "Ticket not found", "List the tickets of your account for their ids."
)
ERASURE_NOT_FOUND: Final = PublicError(
    "erasure_not_found", 404, "Erasure not found", "List the erasures of your account for their ids."
)
SEARCH_UNAVAILABLE: Final = PublicError(
    "search_unavailable",
    409,
    "Texts cannot be searched",
    "The texts of this server are encrypted, so leave out q. All other filters work.",
)
FORMAT_UNAVAILABLE: Final = PublicError(
    "format_unavailable", 501, "Format not available", "Ask for csv, json or ndjson, or have the operator add it."
)
TOO_MUCH_FEEDBACK: Final = PublicError(
    "too_much_feedback",
    409,
    "Too much feedback",
    "A ticket has up to 100 judgements. The newest one counts; erase the ticket if none should.",
)
WEBHOOK_NOT_FOUND: Final = PublicError(
    "webhook_not_found", 404, "Webhook not found", "List the webhooks of your account for their ids."
)
DELIVERY_NOT_FOUND: Final = PublicError(
    "delivery_not_found", 404, "Delivery not found", "List the deliveries of the webhook for their events."
)
TOO_MANY_WEBHOOKS: Final = PublicError(
    "too_many_webhooks", 409, "Too many webhooks", "An account has up to 20 webhooks. Change or delete one of them."
)
WEBHOOK_DISABLED: Final = PublicError(
    "webhook_disabled", 409, "Webhook disabled", "Enable it first: PATCH it with enabled true."
)
WEBHOOKS_UNAVAILABLE: Final = PublicError(
    "webhooks_unavailable",
    503,
    "Webhooks not available",
    "The server has no key to keep secrets under. Its operator must set SECRET_KEY.",
)
METHOD_NOT_ALLOWED: Final = PublicError(
    "method_not_allowed", 405, "Method not allowed", "Use one of the methods in the Allow header."
)
EMAIL_TAKEN: Final = PublicError(
    "email_taken",
    409,
    "Email already registered",
    "Use the key of this account, or ask an operator for a new one.",
)
IDEMPOTENCY_KEY_INVALID: Final = PublicError(
    "idempotency_key_invalid",
    400,
    "Invalid Idempotency-Key",
    "Send one Idempotency-Key of 1 to 255 visible ASCII characters, such as a UUID.",
)
IDEMPOTENCY_KEY_REUSED: Final = PublicError(
    "idempotency_key_reused",
    409,
    "Idempotency-Key used for another request",
    "Send a new key with a new request, and the same body with the same key.",
)
IDEMPOTENCY_KEY_IN_USE: Final = PublicError(
    "idempotency_key_in_use",
    409,
    "Request still under way",
    "A request with this Idempotency-Key is still being worked on. Send it again in a second.",
)
VERSION_CHANGED: Final = PublicError(
    "version_changed",
    412,
    "Another version is in force",
    "Read the version in force, apply your change to it, and send it again with its version.",
)
RATE_LIMITED: Final = PublicError(
    "rate_limited", 429, "Rate limit exceeded", "Wait until the window opens again, or move to a larger plan."
)
TOO_MANY_ATTEMPTS: Final = PublicError(
    "too_many_attempts",
    429,
    "Rate limit exceeded",
    "Too many attempts from this address. Wait as long as Retry-After says.",
)
STORE_UNAVAILABLE: Final = PublicError(
    "store_unavailable",
    503,
    "Service unavailable",
    "The verdict could not be stored, so none was given. Try again soon.",
)
TRAINING_FAILED: Final = PublicError(
    "training_failed",
    503,
    "Training failed",
    "The categories could not be trained, and those that were in force still are. Try again in a minute.",
)
INTERNAL_ERROR: Final = PublicError(
    "internal_error",
    500,
    "Internal error",
    "This is our fault. Send the X-Request-ID of the answer to your operator.",
)
MALFORMED_REQUEST: Final = PublicError(
    "malformed_request", 400, "Malformed HTTP request", "Send HTTP/1.1 with one Content-Length or chunked, never both."
)
HEAD_TIMEOUT: Final = PublicError(
    "head_timeout", 408, "Request headers too slow", "Send the request line and the headers without long pauses."
)
URL_TOO_LONG: Final = PublicError("url_too_long", 414, "URL too long", "Send data in the body, not in the URL.")
HEADERS_TOO_LARGE: Final = PublicError(
    "headers_too_large", 431, "Request headers too large", "Send fewer or shorter headers."
)
OVERLOADED: Final = PublicError(
    "overloaded", 503, "Too many connections", "Use fewer connections, or try again in a moment."
)
VERSION_UNSUPPORTED: Final = PublicError(
    "version_unsupported", 505, "HTTP version not supported", "Use HTTP/1.1 or HTTP/1.0."
)

CATALOGUE: Final = tuple(value for value in list(globals().values()) if isinstance(value, PublicError))
