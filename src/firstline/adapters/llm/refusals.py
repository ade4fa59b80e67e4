"""What an error status of a model API says: a kind, and how long to stay away."""

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from firstline.core.completion import FailureKind

MAX_ERROR_BYTES: Final = 64 << 10
MAX_RETRY_AFTER_S: Final = 3600.0

_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s", re.ASCII)
_RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"
_KEY_REASONS: Final = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED"})


def refusal(status: int, headers: Mapping[str, str], body: bytes, *, now_s: float) -> tuple[FailureKind, float | None]:
    """The kind of an error, and the seconds that the upstream asks for, 0 to `MAX_RETRY_AFTER_S`, or None.

    Args:
        status: 400 or above.
        headers: found whatever their case.
        body: of the error, or what of it could be read; may be anything.
        now_s: seconds since 1970.
    """
    details = _details(body)
    kind = _kind(status, details, plain=not body or body.lstrip()[:1] in {b"{", b"["})
    return kind, _retry_after_s(headers, details, now_s=now_s)


def _kind(status: int, details: list[dict[str, Any]], *, plain: bool) -> FailureKind:
    """Args: plain, whether the body may be the model API's own; a firewall before it answers a message with a page."""
    if status in {402, 429}:
        return FailureKind.RATE_LIMITED
    if status == 401 or (status == 403 and plain):
        return FailureKind.UNAUTHORIZED
    if status >= 500 or status == 408:
        return FailureKind.SERVER_ERROR
    if any(detail.get("reason") in _KEY_REASONS for detail in details):
        return FailureKind.UNAUTHORIZED  # Gemini answers 400 to a key that it does not know.
    return FailureKind.REJECTED


def _retry_after_s(headers: Mapping[str, str], details: list[dict[str, Any]], *, now_s: float) -> float | None:
    seconds = _header_s(headers, now_s=now_s)
    if seconds is None:
        for detail in details:
            delay = detail.get("retryDelay", detail.get("retry_delay"))
            if detail.get("@type") == _RETRY_INFO and isinstance(delay, str) and (match := _DURATION.fullmatch(delay)):
                seconds = float(match[1])
    if seconds is None or not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _header_s(headers: Mapping[str, str], *, now_s: float) -> float | None:
    """A number of seconds or a date; a number of milliseconds in the header that OpenAI and Azure send beside it."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if not value or len(value) > 40:
            continue
        try:
            return float(value) * scale
        except ValueError:
            pass
        try:
            return parsedate_to_datetime(value).timestamp() - now_s
        except (ValueError, OverflowError):
            continue
    return None


def _details(body: bytes) -> list[dict[str, Any]]:
    """The details of an error in Google's form."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return []
    if isinstance(data, list) and data:
        data = data[0]
    error = data.get("error") if isinstance(data, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
