"""Answers and errors, in the shape of the contract that a path belongs to."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import orjson
from starlette.responses import Response

from firstline.core.errors import PublicError


class Shape(StrEnum):
    """How a path's errors look."""

    CLASSIFIER = "classifier"
    DECISION = "decision"
    PROBLEM = "problem"


class ErrorReply(Exception):
    """Ends a request with a public error."""

    def __init__(
        self,
        error: PublicError,
        message: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> None:
        """Args:
        message: what to do, in place of the catalogue's advice.
        headers: added to the answer.
        extra: further members of the body.
        body: the whole body, where a contract has a shape of its own for it.
        """
        super().__init__(error.code)
        self.error = error
        self.message = message or error.advice
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})
        self.body = body


def shape_of(path: str) -> Shape:
    """Which shape errors of a path have."""
    if path.startswith("/api/") or path == "/metrics":
        return Shape.CLASSIFIER
    if path in {"/v1/decision", "/v1/usage", "/v1/pricing", "/v1/keys/create"} or not path.startswith("/v1/"):
        return Shape.DECISION
    return Shape.PROBLEM


def json_reply(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(data), status, headers, "application/json")


def error_reply(reply: ErrorReply, *, path: str, docs_url: str) -> Response:
    """A public error as an answer."""
    error, shape = reply.error, shape_of(path)
    headers = dict(reply.headers)
    if error.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    if error.status in {408, 413}:
        headers.setdefault("Connection", "close")
    if reply.body is not None:
        return json_reply(reply.body, status=error.status, headers=headers)
    docs = f"{docs_url.rstrip('/')}/{error.code}"
    if shape is Shape.CLASSIFIER:
        return json_reply(
            {"error": error.title, "message": reply.message, **reply.extra},
            status=error.status,
            headers=headers,
        )
    if shape is Shape.DECISION:
        code = {401: "authentication_failed", 429: "rate_limit_exceeded"}.get(error.status, error.code)
        body = {"error": code, "message": f"{error.title}. {reply.message}", **reply.extra, "docs": docs}
        return json_reply(body, status=error.status, headers=headers)
    problem = {
        "type": docs,
        "title": error.title,
        "status": error.status,
        "detail": reply.message,
        "code": error.code,
    }
    return Response(orjson.dumps({**problem, **reply.extra}), error.status, headers, "application/problem+json")
