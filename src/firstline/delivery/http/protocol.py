"""One HTTP/1.1 connection, held to bounds that uvicorn and httptools leave open.

Guarantees per connection: request line and headers are at most `max_head_bytes` and `max_headers` fields and complete
within `head_s` of their first byte; an idle connection is closed after `idle_s`; a body that is still coming after its
answer is discarded, and the connection closed after `drain_s`; a client that does not read its answer is cut off after
`write_s` without progress; at most `max_pipelined` requests wait in one connection. What is refused is answered with
JSON in the shape of its path's contract and `Connection: close`. One timer a process sweeps over all connections once
a second, so that a request costs no timer of its own; every deadline is therefore late by up to one sweep.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from firstline.core.errors import (
    HEAD_TIMEOUT,
    HEADERS_TOO_LARGE,
    MALFORMED_REQUEST,
    OVERLOADED,
    URL_TOO_LONG,
    VERSION_UNSUPPORTED,
    PublicError,
)
from firstline.delivery.http.replies import ErrorReply, error_reply
from firstline.delivery.http.security_headers import AnswerHeaders

_IDLE, _HEAD, _BODY, _BUSY = range(4)
"""What a connection is doing: nothing, reading headers, reading a body, answering a request that is all here."""

_VERSIONS: Final = frozenset({"1.1", "1.0"})


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection, and all of them together, may take."""

    max_head_bytes: int = 64 << 10
    max_headers: int = 200
    max_url_bytes: int = 8 << 10
    max_pipelined: int = 16
    max_connections: int = 2_000
    head_s: float = 10.0
    idle_s: float = 15.0
    drain_s: float = 10.0
    write_s: float = 30.0
    sweep_s: float = 1.0


class Gate:
    """What the connections of one server share: the bounds, a coarse clock and the sweep."""

    def __init__(
        self,
        bounds: Bounds,
        *,
        answers: AnswerHeaders | None = None,
        docs_url: str = "/docs",
        on_refused: Callable[[PublicError, str], None] = lambda error, address: None,
    ) -> None:
        """Args:
        answers: completes the headers of what is refused; None for the plain ones.
        docs_url: base of the documentation links in errors.
        on_refused: called with the error and the client's address for each request that no application sees.
        """
        self.bounds = bounds
        self.answers = answers or AnswerHeaders()
        self.docs_url = docs_url
        self.on_refused = on_refused
        self.now = 0.0
        self._connections: set[Any] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, connections: set[Any]) -> None:
        """Begin to sweep over a server's connections; call from its event loop."""
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._sweep()

    def close(self) -> None:
        """Stop sweeping."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        if self._loop is None:
            return
        self.now = self._loop.time()
        self._timer = self._loop.call_later(self.bounds.sweep_s, self._sweep)
        for connection in tuple(self._connections):
            if isinstance(connection, BoundedProtocol):
                connection.sweep()


class _RefusedError(Exception):
    """Leaves the parser in the middle of a request that is refused."""

    def __init__(self, error: PublicError) -> None:
        super().__init__(error.code)
        self.error = error


class _Transport:
    """The transport as uvicorn sees it; closing it is left to the connection, which may have to linger."""

    __slots__ = ("_connection", "_raw", "get_extra_info", "pause_reading", "resume_reading", "write")

    def __init__(self, raw: asyncio.Transport, connection: "BoundedProtocol") -> None:
        self._raw = raw
        self._connection = connection
        self.write = raw.write
        self.get_extra_info = raw.get_extra_info
        self.pause_reading = raw.pause_reading
        self.resume_reading = raw.resume_reading

    def close(self) -> None:
        self._connection.close()

    def is_closing(self) -> bool:
        return self._connection.lingering or self._raw.is_closing()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with bounds."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        gate: Gate,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.lingering = False
        self._gate = gate
        self._max_headers = gate.bounds.max_headers
        self._raw: asyncio.Transport | None = None
        self._phase = _IDLE
        self._since = gate.now  # when the phase began, by the gate's coarse clock
        self._deaf = False  # whatever still comes is thrown away
        self._upgrade = False  # the request asks for an upgrade, which is ignored
        self._coded: bytes | None = None  # Transfer-Encoding of the request
        self._hosts = 0  # Host fields of the request
        self._arrived = 0  # bytes of this head in earlier chunks
        self._chunk = 0  # bytes of the chunk being parsed
        self._silent = 0  # bytes since the body last brought anything
        self._unsent = 0  # bytes that the client had not read at the last sweep
        self.url = b""
        self.headers = []

    # What asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """A client has connected; far beyond the bound it is cut off without an answer."""
        self._raw = transport
        self._since = self._gate.now
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self)))
        if len(self.connections) > 2 * self._gate.bounds.max_connections:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and hold it to the bounds."""
        if self._deaf:
            return
        before, cycle = self._phase, self.cycle
        self._chunk = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.error if isinstance(cause, _RefusedError) else MALFORMED_REQUEST)
            return
        if self._phase == _HEAD:
            # Counted as this head's only if nothing else was in the chunk; what is not counted is one chunk at most.
            if before != _BODY and self.cycle is cycle:
                self._arrived += len(data)
                if self._arrived > self._gate.bounds.max_head_bytes:
                    self._refuse(HEADERS_TOO_LARGE if self.headers else URL_TOO_LONG)
        elif self._phase == _BODY and before == _BODY:
            # Chunk extensions and trailers bring no body; the parser would gather an endless one in memory.
            self._silent += len(data)
            if self._silent > self._gate.bounds.max_head_bytes:
                self._refuse(MALFORMED_REQUEST)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._deaf = True
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        if self._raw is not None:
            self._unsent = self._raw.get_write_buffer_size()
        self._since = self._gate.now
        super().pause_writing()

    # What the parser calls

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._phase = _HEAD
        self._since = self._gate.now
        self._arrived = self._silent = self._hosts = 0
        self._coded = None
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field; trailers are dropped, since nothing here trusts what comes after the body."""
        if self._phase != _HEAD:
            return
        name = name.lower()
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif name == b"transfer-encoding":
            self._coded = value.lower()
        elif name == b"host":
            self._hosts += 1
        headers = self.headers
        headers.append((name, value))
        if len(headers) > self._max_headers:
            raise _RefusedError(HEADERS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """The head is here: refuse it, or start the application."""
        bounds = self._gate.bounds
        if self._arrived + self._chunk > bounds.max_head_bytes and self._head_bytes() > bounds.max_head_bytes:
            raise _RefusedError(HEADERS_TOO_LARGE)
        if len(self.url) > bounds.max_url_bytes:
            raise _RefusedError(URL_TOO_LONG)
        version = self.parser.get_http_version()
        if version not in _VERSIONS:
            raise _RefusedError(VERSION_UNSUPPORTED)
        if self._coded is not None and (self._coded != b"chunked" or version == "1.0"):
            raise _RefusedError(MALFORMED_REQUEST)
        if self._hosts != 1 and (self._hosts or version == "1.1"):
            raise _RefusedError(MALFORMED_REQUEST)
        if self.parser.should_upgrade():
            self._upgrade = True
            return
        if len(self.connections) > bounds.max_connections:
            raise _RefusedError(OVERLOADED)
        if len(self.pipeline) >= bounds.max_pipelined:
            self.cycle.keep_alive = False
            raise _RefusedError(OVERLOADED)
        super().on_headers_complete()
        self._phase = _BODY

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._silent = -self._chunk  # this chunk was not silent
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        if self._upgrade:
            return
        if self.cycle.response_complete:
            self._phase = _IDLE
            self._since = self._gate.now
            return
        self._phase = _BUSY
        super().on_message_complete()

    # What uvicorn calls

    def on_response_complete(self) -> None:
        """An answer is written; the next request may begin. Replaces uvicorn's timer for each request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._phase != _HEAD:
            self._since = self._gate.now
            if self._phase == _BUSY:
                self._phase = _IDLE

    def shutdown(self) -> None:
        """The server stops: finish what is being answered, close the rest."""
        if self._raw is not None and (self.lingering or self._raw.is_closing()):
            self._raw.abort()
        else:
            super().shutdown()

    def close(self) -> None:
        """Close, but read on for a while what the client is still sending.

        Closing a socket with unread bytes resets it, and the client may lose the answer that says why.
        """
        raw = self._raw
        if raw is None or self.lingering or raw.is_closing():
            return
        self._since = self._gate.now
        if self._phase != _BODY and not self._deaf:
            raw.close()
            return
        self.lingering = self._deaf = True
        self._unsent = 0
        self.flow.resume_reading()
        if raw.can_write_eof():
            raw.write_eof()

    # What the gate calls

    def sweep(self) -> None:
        """Close what has waited for too long."""
        raw, bounds = self._raw, self._gate.bounds
        if raw is None:
            return
        waited = self._gate.now - self._since - bounds.sweep_s
        if self.lingering or raw.is_closing():
            if waited > bounds.drain_s:
                raw.abort()
        elif self.flow.write_paused:
            unsent = raw.get_write_buffer_size()
            if unsent < self._unsent:
                self._since = self._gate.now
            elif waited > bounds.write_s:
                raw.abort()
            self._unsent = unsent
        elif self._phase == _HEAD:
            if waited > bounds.head_s:
                self._refuse(HEAD_TIMEOUT)
        elif self._phase == _IDLE:
            if waited > bounds.idle_s:
                raw.close()
        elif self._phase == _BODY and self.cycle.response_complete and waited > bounds.drain_s:
            raw.abort()

    # Within

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the request again without its Upgrade header, as RFC 9110 section 7.8 allows.

        httptools leaves HTTP at such a request and would drop its body, or take it for the next request; Java's
        client and `curl --http2` ask for h2c on every request.
        """
        self._upgrade = False
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(MALFORMED_REQUEST)
            return
        lines = [b"%s %s HTTP/1.1" % (method, self.url)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._phase = _IDLE
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    def _refuse(self, error: PublicError) -> None:
        """Answer with an error and close, unless an earlier request of the connection is still being answered."""
        cycle = self.cycle
        busy = cycle is not None and not cycle.response_complete
        if busy and self._phase == _HEAD:
            # The fault is in the next request: answer the ones before it, then close.
            cycle.keep_alive = False
            self._deaf = True
            return
        own = busy and not self.pipeline and not cycle.response_started
        if (busy and not own) or (not busy and self._phase == _BODY):
            # No answer would be understood as one to this request.
            self.close()
            return
        if busy:
            cycle.disconnected = True
            cycle.message_event.set()
        self._deaf = True
        self.transport.write(self._answer(error))
        self.close()
        self._gate.on_refused(error, self.client[0] if self.client else "unknown")

    def _answer(self, error: PublicError) -> bytes:
        path = self.url.split(b"?", 1)[0].decode("latin-1")
        headers = {"Connection": "close"}
        if error is OVERLOADED:
            headers["Retry-After"] = "1"
        reply = error_reply(ErrorReply(error, headers=headers), path=path, docs_url=self._gate.docs_url)
        answered = [*self.server_state.default_headers, *reply.raw_headers]
        self._gate.answers.complete(answered, request=self.headers)
        lines = [b"%s: %s\r\n" % header for header in answered]
        return b"".join([STATUS_LINE[error.status], *lines, b"\r\n", reply.body])
