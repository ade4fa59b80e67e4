"""The small server of a worker, for Prometheus and for whoever keeps the worker alive: metrics and a sign of life.

It answers `/metrics` as the server does, with the same token, and `/health/live`, within the same bounds.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from firstline.bootstrap import App
from firstline.core.errors import METHOD_NOT_ALLOWED, NOT_FOUND
from firstline.delivery.http.app import Endpoint
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.edge import Edge
from firstline.delivery.http.pages import Pages
from firstline.delivery.http.protocol import BoundedProtocol, Bounds, Gate
from firstline.delivery.http.replies import ErrorReply, error_reply

MAX_CONNECTIONS: Final = 64
GRACE_S: Final = 2
_METHODS: Final = ("GET", "HEAD")


def create_worker_asgi(app: App) -> ASGIApp:
    """What a worker answers."""
    pages, docs_url = Pages(app), app.settings.docs_url
    handlers = {"/metrics": pages.metrics, "/health/live": pages.live}
    endpoints = {path: Endpoint(handler, path=path, docs_url=docs_url) for path, handler in handlers.items()}

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        found = endpoints.get(scope["path"])
        if found is not None and scope["method"] in _METHODS:
            await found(scope, receive, send)
            return
        if found is None:
            reply = ErrorReply(NOT_FOUND)
        else:
            reply = ErrorReply(METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(_METHODS)})
        await error_reply(reply, path=scope["path"], docs_url=docs_url)(scope, receive, send)

    return Edge(route, app=app, callers=Callers(app))


@asynccontextmanager
async def answering(app: App, *, listener: socket.socket) -> AsyncIterator[None]:
    """Answer on a listening socket meanwhile; the worker's own handling of signals stays as it is."""
    gate = Gate(Bounds(max_connections=MAX_CONNECTIONS), docs_url=app.settings.docs_url)
    config = uvicorn.Config(
        create_worker_asgi(app),
        http=cast(type[asyncio.Protocol], partial(BoundedProtocol, gate=gate)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Beside(config)
    gate.open(server.server_state.connections)
    running = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await running
        gate.close()


class _Beside(uvicorn.Server):
    """uvicorn's server beside other work, which signals belong to."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
