"""What an error of a model API means, from its status, its headers and whatever its body is."""

import json
from typing import Any

import pytest

from firstline.adapters.llm.refusals import MAX_RETRY_AFTER_S, refusal
from firstline.core.completion import FailureKind

NOW_S = 1_795_003_200.0
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


def error(*details: Any) -> bytes:
    return json.dumps({"error": {"code": 429, "details": list(details)}}).encode()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.REJECTED),
        (401, FailureKind.UNAUTHORIZED),
        (402, FailureKind.RATE_LIMITED),
        (403, FailureKind.UNAUTHORIZED),
        (404, FailureKind.REJECTED),
        (408, FailureKind.SERVER_ERROR),
        (413, FailureKind.REJECTED),
        (422, FailureKind.REJECTED),
        (429, FailureKind.RATE_LIMITED),
        (500, FailureKind.SERVER_ERROR),
        (503, FailureKind.SERVER_ERROR),
        (529, FailureKind.SERVER_ERROR),
        (599, FailureKind.SERVER_ERROR),
    ],
)
def test_a_status_is_a_kind(status: int, kind: FailureKind) -> None:
    assert refusal(status, {}, b"", now_s=NOW_S) == (kind, None)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", FailureKind.UNAUTHORIZED),
        (error({"reason": "SERVICE_DISABLED"}), FailureKind.UNAUTHORIZED),
        (b"\n[{}]", FailureKind.UNAUTHORIZED),
        (b"<!DOCTYPE html><title>Blocked</title>", FailureKind.REJECTED),
        (b"error code: 1020", FailureKind.REJECTED),
    ],
)
def test_a_page_of_a_firewall_about_one_message_is_not_taken_for_a_refused_key(body: bytes, kind: FailureKind) -> None:
    assert refusal(403, {}, body, now_s=NOW_S)[0] is kind


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "1e300"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 60}, None),
        ({"retry-after": "Wed, 18 Nov 2026 08:02:00 GMT"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "Wed, 18 Nov 1926 08:02:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 99 Nov 2026 08:02:00 GMT"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "odd", "retry-after": "7"}, 7.0),
    ],
)
def test_the_header_is_read_in_every_form_and_bounded(headers: dict[str, str], expected: float | None) -> None:
    now_s = 1_795_000_000.0 - 100_000
    assert refusal(429, headers, b"", now_s=now_s)[1] == expected


def test_a_date_counts_from_now() -> None:
    headers = {"retry-after": "Wed, 18 Nov 2026 12:02:00 GMT"}
    assert refusal(503, headers, b"", now_s=NOW_S)[1] == 1_795_003_320.0 - NOW_S


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (error({"@type": RETRY_INFO, "retryDelay": "17.5s"}), 17.5),
        (error({"@type": RETRY_INFO, "retry_delay": "17s"}), 17.0),
        (b"[" + error({"@type": RETRY_INFO, "retryDelay": "3s"}) + b"]", 3.0),
        (error({"@type": RETRY_INFO, "retryDelay": "999999s"}), MAX_RETRY_AFTER_S),
        (error({"@type": RETRY_INFO, "retryDelay": "-1s"}), None),
        (error({"@type": RETRY_INFO, "retryDelay": 5}), None),
        (error({"@type": "something.else", "retryDelay": "5s"}), None),
        (error("text", None, 7), None),
        (b'{"error": "text"}', None),
        (b'{"error": {"details": "text"}}', None),
        (b"[]", None),
        (b"7", None),
        (b"\xff\xfe", None),
        (b"[" * 60_000, None),
        (b"<html>", None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_the_body_of_google_is_read_and_any_other_does_no_harm(body: bytes, expected: float | None) -> None:
    assert refusal(429, {}, body, now_s=NOW_S) == (FailureKind.RATE_LIMITED, expected)


def test_the_header_goes_before_the_body() -> None:
    body = error({"@type": RETRY_INFO, "retryDelay": "17s"})
    assert refusal(429, {"retry-after": "4"}, body, now_s=NOW_S)[1] == 4.0


def test_an_invalid_key_is_unauthorized_whatever_the_status_says() -> None:
    body = error({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"})
    assert refusal(400, {}, body, now_s=NOW_S)[0] is FailureKind.UNAUTHORIZED
