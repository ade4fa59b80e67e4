"""The server process: one socket, one event loop, uvicorn with bounds on every connection."""

import asyncio
import errno
import importlib.util
import logging
import math
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, Final, cast

import uvicorn

from firstline.adapters.telemetry import fault_fields
from firstline.bootstrap import App
from firstline.bootstrap_stores import CannotStart
from firstline.core.errors import PublicError
from firstline.delivery.http.app import create_asgi
from firstline.delivery.http.protocol import BoundedProtocol, Bounds, Gate
from firstline.delivery.http.security_headers import AnswerHeaders
from firstline.delivery.http.tls import CLOSE_S, HANDSHAKE_S, Certificate, certificate_of
from firstline.ports.storage import StorageUnavailable
from firstline.settings import Settings

BACKLOG: Final = 2_048
GRACE_S: Final = 20
LOOK_S: Final = 10.0
"""How often the files of the certificate are looked at."""
_SPARE_FILES: Final = 200


def run(
    settings: Settings,
    *,
    app: App,
    on_ready: Callable[[str], None] = lambda base_url: None,
    bounds: Bounds | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, which let running requests finish for up to `GRACE_S` seconds.

    Before that, `drain_seconds` long, the server is not ready any more but goes on serving; a second signal ends that.

    Args:
        on_ready: called with the base URL once the server listens and can answer.
        bounds: of connections; None for the usual ones.
    Raises: CannotStart when the address cannot be listened on, the certificate cannot be used or the store does not
    answer.
    """
    certificate = certificate_of(settings.tls_cert, settings.tls_key)
    listener = listen(settings.host, settings.port)
    bounds = bounds or Bounds()
    _allow_files(2 * bounds.max_connections + _SPARE_FILES)
    faults = _keep_start_faults(app)
    _log_through(app, faults)
    answers = AnswerHeaders.of(settings, development=app.development)
    gate = Gate(bounds, answers=answers, docs_url=settings.docs_url, on_refused=partial(_count_refused, app))
    config = uvicorn.Config(
        create_asgi(app),
        http=cast(type[asyncio.Protocol], partial(BoundedProtocol, gate=gate)),
        ws="none",
        loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
    )
    if certificate is not None:
        config.ssl_context_factory = lambda config, usual: certificate.context
    scheme = "https" if certificate else "http"
    server = _Server(
        config,
        app=app,
        gate=gate,
        certificate=certificate,
        on_listening=lambda: on_ready(base_url(listener, settings.host, scheme=scheme)),
    )
    try:
        server.run([listener])
    except SystemExit:
        if faults:
            raise CannotStart(f"The store cannot be used: {faults[0]}.") from None
        raise
    finally:
        listener.close()


def listen(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """A listening socket.

    Args:
        option: of the command line, that chooses the port.
    Raises: CannotStart with what is wrong with the address.
    """
    where = f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise CannotStart(f"{host} is no address of this machine. Give --host an address such as 127.0.0.1.") from None
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotStart(f"{where} cannot be listened on: {_cause(error, option)}") from None
    listener.setblocking(False)
    return listener


def base_url(listener: socket.socket, host: str, *, scheme: str = "http") -> str:
    """Where a listener can be reached, for people."""
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{scheme}://{shown}:{listener.getsockname()[1]}"


def _cause(error: OSError, option: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"another program uses the port. Stop it, or choose another with {option}."
    if error.errno == errno.EACCES:
        return f"ports under 1024 need privileges. Choose another with {option}."
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address. Choose another with --host."
    return f"{os.strerror(error.errno or 0)}."


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it listens and returns normally when a signal stops it."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        app: App,
        gate: Gate,
        certificate: Certificate | None,
        on_listening: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._app = app
        self._certificate = certificate
        self._looked_s = time.monotonic()
        self._drained_s = math.inf
        self._gate = gate
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._gate.open(self.server_state.connections)
        await super().startup([])
        if not self.started:
            return
        for listener in sockets or []:
            self.servers.append(await self._listen(listener))
        if self._certificate is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, partial(self._renew, anyway=True))
        self._on_listening()

    async def _listen(self, listener: socket.socket) -> asyncio.Server:
        """Accept connections; done here, since uvicorn bounds no handshake."""

        def connection() -> asyncio.Protocol:
            protocol = cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class)
            return protocol(self.config, self.server_state, self.lifespan.state)

        tls = self.config.ssl is not None
        return await asyncio.get_running_loop().create_server(
            connection,
            sock=listener,
            ssl=self.config.ssl,
            backlog=self.config.backlog,
            ssl_handshake_timeout=HANDSHAKE_S if tls else None,
            ssl_shutdown_timeout=CLOSE_S if tls else None,
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self._gate.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        if self._app.draining or not self._app.settings.drain_seconds:
            self.should_exit = True
        else:
            self._drained_s = time.monotonic() + self._app.settings.drain_seconds
        self._app.draining = True

    async def on_tick(self, counter: int) -> bool:
        if time.monotonic() >= self._drained_s:
            self.should_exit = True
        if self._certificate is not None and time.monotonic() - self._looked_s > LOOK_S:
            self._renew()
        return await super().on_tick(counter)

    def _renew(self, *, anyway: bool = False) -> None:
        """Serve new connections with a certificate that was renewed."""
        if self._certificate is None:
            return
        self._looked_s = time.monotonic()
        try:
            renewed = self._certificate.renew(anyway=anyway)
        except CannotStart as error:
            self._app.log.error("certificate", outcome="refused", why=str(error))
            return
        if renewed:
            expires_at = self._certificate.expires_at.isoformat(timespec="seconds")
            self._app.log.info("certificate", outcome="renewed", expires_at=expires_at)


def _allow_files(wanted: int) -> None:
    """Raise the soft limit of open files: at the usual 1,024 a flood would meet it before our own bound."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _keep_start_faults(app: App) -> list[StorageUnavailable]:
    """Remember why the start failed; uvicorn turns every failure into the same exit."""
    faults: list[StorageUnavailable] = []
    start = app.start

    async def kept() -> None:
        try:
            await start()
        except StorageUnavailable as error:
            faults.append(error)
            raise

    app.start = kept
    return faults


def _count_refused(app: App, error: PublicError, address: str) -> None:
    app.metrics.observe_http("OTHER", "refused", error.status, 0.0)
    if app.settings.access_log:
        with suppress(OSError):  # a log on a full disk
            app.log.info("refused", address=address, status=error.status, code=error.code)


def _log_through(app: App, faults: list[StorageUnavailable]) -> None:
    """Send what uvicorn and asyncio have to say into our log, without tracebacks, which may quote input."""
    handler = _Bridge(app.log, faults)
    for name in ("uvicorn", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.WARNING)
        logger.propagate = False


class _Bridge(logging.Handler):
    def __init__(self, log: Any, faults: list[StorageUnavailable]) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        if self._faults:
            return
        said = str(record.msg).strip().split("\n", 1)[0]
        error = record.exc_info[1] if record.exc_info else None
        fields = fault_fields(error) if error else {}
        with suppress(OSError):
            self._log.error("server", logger=record.name, said=said[:200], **fields)
