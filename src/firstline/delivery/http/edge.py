"""The outermost layer: request ids, the access log, metrics, and an answer whatever happens inside.

A browser's question whether it may call is answered here: it carries no key and spends no limit.
"""

from time import perf_counter
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from firstline.adapters.telemetry import fault_fields
from firstline.bootstrap import App
from firstline.core.errors import INTERNAL_ERROR
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.replies import ErrorReply, error_reply
from firstline.delivery.http.security_headers import AnswerHeaders

CLIENT_CLOSED: Final = 499
MAX_REQUEST_ID: Final = 64
PREFLIGHT: Final = "preflight"
SCRAPED: Final = "/metrics"
"""What looks at the requests under way does not count itself."""

_ID_CHARACTERS: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


class Edge:
    """ASGI middleware around everything else."""

    def __init__(self, inner: ASGIApp, *, app: App, callers: Callers) -> None:
        self._inner = inner
        self._app = app
        self._callers = callers
        self._answers = AnswerHeaders.of(app.settings, development=app.development)
        self._running = 0
        app.metrics.requests_running.set_function(lambda: self._running)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        began = perf_counter()
        request_id = _request_id(scope) or self._app.identities.new_id()
        status = CLIENT_CLOSED
        counted = scope["path"] != SCRAPED
        self._running += counted

        async def reply(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                if self._app.draining:  # the next request of this client should reach another server
                    headers.append((b"connection", b"close"))
                self._answers.complete(headers, request=scope["headers"])
            await send(message)

        cors = self._answers.cors
        asked = cors.preflight(scope["method"], scope["headers"]) if cors else None
        try:
            if asked is not None:
                scope["firstline.route"] = PREFLIGHT
                await reply({"type": "http.response.start", "status": 204, "headers": list(asked)})
                await reply({"type": "http.response.body", "body": b""})
                return
            await self._inner(scope, receive, reply)
        except ClientDisconnect:
            pass
        except Exception as error:  # the last line of defence: log the place, answer without it
            route = scope.get("firstline.route", "unmatched")
            self._app.metrics.faults.labels(route).inc()
            self._app.log.error("fault", request_id=request_id, route=route, **fault_fields(error))
            if status == CLIENT_CLOSED:
                response = error_reply(
                    ErrorReply(INTERNAL_ERROR), path=scope["path"], docs_url=self._app.settings.docs_url
                )
                await response(scope, receive, reply)
        finally:
            self._running -= counted
            self._finish(scope, request_id, status, perf_counter() - began)

    def _finish(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = scope.get("firstline.route", "unmatched")
        self._app.metrics.observe_http(scope["method"], route, status, seconds)
        if self._app.settings.access_log:
            caller: Any = scope.get("firstline.caller")
            self._app.log.info(
                "request",
                who=caller.actor if caller else None,
                address=self._callers.address(Request(scope)),
                method=scope["method"],
                route=route,
                status=status,
                ms=round(seconds * 1_000, 3),
                request_id=request_id,
            )


def _request_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and 0 < len(value) <= MAX_REQUEST_ID and _ID_CHARACTERS.issuperset(value):
            return str(value, "ascii")
    return None
