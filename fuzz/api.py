"""The target that sends whole requests: query, headers and body of every kind, to the application as it is served."""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from firstline import bootstrap
from firstline.bootstrap import App
from firstline.core.api_key import KeyKind
from firstline.core.taxonomy import Contract
from firstline.delivery.http.app import create_asgi
from firstline.settings import load_settings
from fuzz.target import Draw, Target

_Result = TypeVar("_Result")

MARK: Final = "zq7fuzzq7z"
ROUTES: Final = (
    "POST /api/v1/classify", "POST /v1/decision", "POST /api/v1/batch", "POST /api/v1/auth/keys",
    "POST /api/v1/auth/register", "GET /api/v1/auth/usage", "GET /v1/tickets", "GET /v1/tickets/export",
    "GET /v1/tickets/tkt_0198", "PUT /v1/retention", "GET /v1/jobs", "POST /v1/jobs", "GET /v1/feedback",
    "GET /v1/feedback/summary", "POST /v1/tickets/tkt_0198/feedback", "GET /v1/analytics", "PUT /v1/thresholds",
    "PUT /v1/providers", "POST /v1/webhooks", "POST /v1/erasures", "GET /docs/errors/x", "GET /",
    "OPTIONS /v1/decision",
)  # fmt: skip
"""Method and path; what trains categories is left out, since it takes seconds."""

HEADERS: Final = (
    b"idempotency-key", b"content-type", b"if-match", b"traceparent", b"accept", b"x-request-id", b"content-length",
    b"authorization", b"x-forwarded-for", b"origin", b"x-api-key", b"access-control-request-method",
)  # fmt: skip
_SPENT: Final = 60
"""Seconds between two requests, so that limits of a minute are rarely met."""


class _Clock:
    """Implements `ports.clock.Clock`; goes on with every request."""

    def __init__(self) -> None:
        self.us = 1_795_000_000_000_000

    def now_us(self) -> int:
        return self.us


def request(data: bytes) -> None:
    """Every request is answered once, never with 500, and no error repeats what was sent."""
    draw = Draw(data)
    method, _, path = ROUTES[draw.number(len(ROUTES))].partition(" ")
    headers = [(b"host", b"127.0.0.1:8000")]
    with_key = draw.number(8) > 0
    headers += [(HEADERS[draw.number(len(HEADERS))], _without_ends(draw.line())) for _ in range(draw.number(4))]
    query, body = draw.line(), draw.rest()
    app, key = _served()
    if with_key:
        headers.append((b"x-api-key", key))
    app.clock.us += _SPENT * 1_000_000  # type: ignore[attr-defined]  # the clock above
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query, "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "state": {},
    }  # fmt: skip
    status, sent_headers, sent = _run(_answered(scope, body))
    assert status != 500, f"{method} {path} is answered with 500"
    assert 200 <= status < 500 or status == 503, f"{method} {path} is answered with {status}"
    assert any(name == b"x-request-id" for name, _ in sent_headers)
    for name, value in sent_headers:
        assert not set(name + value) & set(b"\r\n\0"), "a header with a line feed"
    if status >= 400:
        found = json.loads(sent)
        assert isinstance(found, dict)
        # The name of a parameter that nobody knows is said, cut short.
        assert MARK.encode() in query or MARK not in json.dumps(found), "an error repeats what was sent"


def _without_ends(value: bytes) -> bytes:
    """A header's value as a server lets it through."""
    return value.replace(b"\r", b"").replace(b"\0", b"")


async def _answered(scope: dict[str, Any], body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    starts: list[dict[str, Any]] = []
    parts: list[bytes] = []
    left = [body]

    async def receive() -> dict[str, Any]:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            starts.append(message)
        else:
            assert starts, "a body before the head"
            parts.append(message.get("body", b""))

    await _asgi()(scope, receive, send)
    assert len(starts) == 1, f"{len(starts)} answers to one request"
    return starts[0]["status"], list(starts[0]["headers"]), b"".join(parts)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="firstline-fuzz-", ignore_cleanup_errors=True)


@cache
def _served() -> tuple[App, bytes]:
    """The application on a store of its own, and a key of its highest plan."""
    usual, clock = bootstrap.SystemClock, _Clock()
    bootstrap.SystemClock = lambda: clock  # type: ignore[assignment,misc]
    try:
        app = bootstrap.build(
            load_settings(
                env_file=None, data_dir=Path(_folder().name), access_log=False, log_level="error", job_processes=0
            )
        )
    finally:
        bootstrap.SystemClock = usual  # type: ignore[misc]
    _run(app.start())
    made = _run(
        app.accounts.create_key(
            "fuzz@example.com",
            catalogue=Contract.DECISION,
            plan="enterprise",
            name="fuzz",
            kind=KeyKind.LIVE,
            actor="cli",
        )
    )
    return app, made.secret.encode()


@cache
def _asgi() -> Any:
    return create_asgi(_served()[0])


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _run(work: Awaitable[_Result]) -> _Result:
    return _loop().run_until_complete(work)


def _seeds() -> Iterator[bytes]:
    text = (
        b'{"ticket": "I want a refund", "message": "I will sue you", "tickets": ["a", 2], "name": "'
        + MARK.encode()
        + b'"}'
    )
    queries = {
        "GET /v1/tickets": b"limit=5&from=2026-11-22T00:00:00%2B01:00&cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA&q=refund",
        "GET /v1/tickets/export": b"format=csv&to=2026-11-22",
        "GET /v1/jobs": b"limit=3&before=job_" + b"0" * 32,
        "POST /v1/jobs": b"format=csv&column=a&delimiter=tab&keep=a,b&plan=vip",
        "GET /v1/feedback": b"limit=5&since=0001-01-01T00:00:00%2B14:00&cursor=AAAAAAAAAAA%3D",
        "GET /v1/feedback/summary": b"from=2026-11-01&to=9999-12-31T23:59:59-14:00",
        "GET /v1/analytics": b"from=2026-11-01&by=category,language&bucket=day",
    }
    for number, route in enumerate(ROUTES):
        yield bytes([number, 1, 0]) + queries.get(route, b"") + b"\n" + text
    yield b"\x01\x01\x02\x00key-1\n\x0300-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01\n\n" + text
    yield b"\x0b\x01\x01\x01text/csv\nkeep=id\ntext,id\nhello,1\n"
    yield b"\x06\x00\x01\x07Bearer \xff\n\n"
    yield b"\x01\x01\x01\x06" + b"9" * 5_000 + b"\n\n" + text


TARGETS: Final = (
    Target(
        "request", "every request is answered once, and never with 500",
        (
            "delivery.http.callers", "delivery.http.idempotency", "delivery.http.queries", "delivery.http.batch_v1",
            "delivery.http.decision_v1", "delivery.http.classifier_v1", "delivery.http.feedback_v1",
            "delivery.http.jobs_v1", "delivery.http.tickets_v1", "delivery.http.own_settings_v1",
            "delivery.http.webhooks_v1",
        ),
        request, _seeds,
        (
            "limit=", "from=", "to=", "cursor=", "before=", "since=", "format=", "%00", "%ff", "%2B", "&", "9" * 20,
            "T00:00",
            "keep=", "by=", '"ticket":', '"message":', '"category":', '"days":', '"url":', MARK,
        ),
    ),
)  # fmt: skip
"""Of this module."""
