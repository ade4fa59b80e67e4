"""The ASGI application: the route table on FastAPI, errors in each contract's shape, the edge around it."""

import asyncio
import gc
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from firstline import __version__
from firstline.bootstrap import App
from firstline.core.errors import INTERNAL_ERROR, METHOD_NOT_ALLOWED, NOT_FOUND
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.edge import Edge
from firstline.delivery.http.idempotency import IdempotencyKeys
from firstline.delivery.http.openapi import openapi_document
from firstline.delivery.http.replies import ErrorReply, error_reply, json_reply
from firstline.delivery.http.routes import Handler, RouteSpec, route_table
from firstline.delivery.http.traced import TracedRequests

GC_THRESHOLDS: Final = (20_000, 20, 20)
"""A request makes objects that die with it, so collecting every 700 of them finds nothing and costs 4 % of the CPU."""

_NO_TELEMETRY: Final = TelemetryConfig(
    tracing=False, metrics=False, logs=False, operation_spans=False, auto_configure=False
)
"""FastAPI's own spans have paths in them, and its records the messages of exceptions; ours have neither."""

_HOT: Final = frozenset({"/api/v1/classify", "/api/v1/batch", "/v1/decision"})


class Endpoint:
    """A handler as an ASGI endpoint; an `ErrorReply` becomes its answer."""

    def __init__(self, handler: Handler, *, path: str, docs_url: str) -> None:
        self._handler = handler
        self._path = path
        self._docs_url = docs_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["firstline.route"] = self._path
        try:
            response = await self._handler(Request(scope, receive))
        except ErrorReply as reply:
            response = error_reply(reply, path=self._path, docs_url=self._docs_url)
        await response(scope, receive, send)


def create_asgi(app: App) -> ASGIApp:
    """The server for an assembled `App`."""
    callers = Callers(app)
    keys = IdempotencyKeys(app, callers)
    table = [_once(spec, keys) for spec in route_table(app, callers)]
    docs_url = app.settings.docs_url

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await app.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        try:
            yield
        finally:
            await app.close()

    async def on_http_exception(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        public = {404: NOT_FOUND, 405: METHOD_NOT_ALLOWED}.get(status, INTERNAL_ERROR)
        headers = {}
        if status == 405:
            headers["Allow"] = ", ".join(_allowed(table, request.scope["path"]))
        return error_reply(ErrorReply(public, headers=headers), path=request.scope["path"], docs_url=docs_url)

    fastapi = FastAPI(
        title="firstline",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
        exception_handlers={HTTPException: on_http_exception, Exception: on_http_exception},
    )
    document: dict[str, Any] = {}

    async def openapi(_: Request) -> Response:
        if not document:  # takes a third of a second, which the event loop must not feel
            document.update(await asyncio.to_thread(openapi_document, table))
        return json_reply(document)

    table.append(RouteSpec("GET", "/openapi.json", openapi, "Service", listed=False))
    hot: dict[tuple[str, str], ASGIApp] = {}
    for path, methods in _by_path(table).items():
        endpoint = _Methods(methods, docs_url=docs_url, path=path)
        fastapi.router.routes.append(Route(path, endpoint, methods=[*methods, *_head(methods)]))
        if path in _HOT:
            hot.update({(method, path): endpoint for method in methods})
    edge = Edge(_Shortcut(fastapi, hot), app=app, callers=callers)
    return TracedRequests(edge, tracer=app.tracing.tracer) if app.tracing.on else edge


def _once(spec: RouteSpec, keys: IdempotencyKeys) -> RouteSpec:
    """A route that honours Idempotency-Key where it is to."""
    if not spec.takes_idempotency_key:
        return spec
    handler = keys.around(
        spec.handler,
        route=f"{spec.method} {spec.path}",
        secured=spec.secured,
        keyless=spec.keyless,
        max_body=spec.max_body,
    )
    return replace(spec, handler=handler)


class _Shortcut:
    """Leads the routes that carry the load straight to their endpoints, past FastAPI's middleware and routing.

    Both ways answer alike: errors have their shape from `Endpoint`, faults from `Edge`.
    """

    def __init__(self, inner: ASGIApp, hot: Mapping[tuple[str, str], ASGIApp]) -> None:
        self._inner = inner
        self._hot = hot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = self._inner
        if scope["type"] == "http":
            target = self._hot.get((scope["method"], scope["path"]), target)
        await target(scope, receive, send)


class _Methods:
    """The endpoints of one path by method."""

    def __init__(self, handlers: dict[str, Handler], *, path: str, docs_url: str) -> None:
        self._endpoints = {
            method: Endpoint(handler, path=path, docs_url=docs_url) for method, handler in handlers.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        await self._endpoints[method](scope, receive, send)


def _by_path(table: list[RouteSpec]) -> dict[str, dict[str, Handler]]:
    paths: dict[str, dict[str, Handler]] = {}
    for spec in table:
        paths.setdefault(spec.path, {})[spec.method] = spec.handler
    return paths


def _head(methods: dict[str, Handler]) -> list[str]:
    return ["HEAD"] if "GET" in methods else []


def _allowed(table: list[RouteSpec], path: str) -> list[str]:
    allowed = set()
    parts = path.split("/")
    for spec in table:
        known = spec.path.split("/")
        if len(known) == len(parts) and all(
            name == part or name.startswith("{") for name, part in zip(known, parts, strict=True)
        ):
            allowed.add(spec.method)
            if spec.method == "GET":
                allowed.add("HEAD")
    return sorted(allowed)
