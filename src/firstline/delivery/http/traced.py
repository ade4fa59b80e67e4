"""The span of a request, around everything else, where something is traced."""

from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from firstline.core.identity import ACCOUNT
from firstline.ports.tracing import Kind, Tracer

_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_QUIET: Final = frozenset({"/health/live", "/health/ready", "/health", "/api/v1/health", "/metrics"})
"""What asks every few seconds whether all is well is not traced."""


class TracedRequests:
    """ASGI middleware around the edge.

    A span has the route and never the path, which may hold ids; it has nothing of the headers, the query or the body.
    """

    def __init__(self, inner: ASGIApp, *, tracer: Tracer) -> None:
        self._inner = inner
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _QUIET:
            await self._inner(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        attributes = {"http.request.method": method, "url.scheme": scope.get("scheme", "http")}
        with self._tracer.entry(
            method, kind=Kind.SERVER, traceparent=traceparent_of(scope), attributes=attributes
        ) as span:
            if not span.recorded:
                await self._inner(scope, receive, send)
                return
            status = 0

            async def reply(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await self._inner(scope, receive, reply)
            finally:
                route = scope.get("firstline.route", "unmatched")
                caller: Any = scope.get("firstline.caller")
                span.rename(f"{method} {route}")
                span.set(
                    http__route=route,
                    http__response__status_code=status or None,
                    firstline__account=f"{ACCOUNT}{caller.account.id}" if caller else None,
                )
                if status >= 500:
                    span.fail(str(status))


def traceparent_of(scope: Scope) -> str | None:
    """The header, if there is exactly one; several say nothing."""
    found = [value for name, value in scope["headers"] if name == b"traceparent"]
    return found[0].decode("latin-1") if len(found) == 1 else None
