"""One connection of a client, and the ways in which an answer can come over it, or not."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, cast

import httptools

_MAX_BODY: Final = 16 << 20
_MAX_WAITING: Final = 16
_CHUNK: Final = b" " * (64 << 10)
_CHUNK_PAUSE_S: Final = 0.001
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_REASONS: Final = {200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests"}


class Manner(StrEnum):
    """How an answer goes out."""

    WHOLE = "whole"
    HANG = "hang"
    HANG_BODY = "hang_body"
    DRIBBLE = "dribble"
    TRUNCATED = "truncated"
    RESET = "reset"
    RESET_BODY = "reset_body"
    PADDED = "padded"
    ENDLESS = "endless"


@dataclass(frozen=True, slots=True)
class Sending:
    """An answer to send.

    Attributes:
        headers: without Content-Length.
        pace_s: seconds between two bytes of DRIBBLE.
        size: bytes of the whole body of PADDED.
    """

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    manner: Manner = Manner.WHOLE
    pace_s: float = 1.0
    size: int = 0

    def head(self) -> bytes:
        """Status line and headers."""
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.manner is Manner.ENDLESS:
            lines.append("transfer-encoding: chunked")
        else:
            lines.append(f"content-length: {max(self.size, len(self.body))}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass(slots=True)
class Request:
    """A request as it came in, before anything is made of it."""

    method: str = ""
    url: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    keep_alive: bool = True


Handler = Callable[["Connection", Request], None]


class Connection(asyncio.Protocol):
    """Reads requests one after the other, and sends what it is told to, as it is told to."""

    def __init__(
        self, handle: Handler, *, opened: Callable[["Connection"], None], lost: Callable[["Connection", bool], None]
    ) -> None:
        """Args:
        handle: called with each complete request; answers by `send`, at once or later.
        opened: called when the connection stands.
        lost: called when it is gone, with whether an answer was still owed.
        """
        self._handle = handle
        self._opened = opened
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._incoming = Request()
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held: Callable[[], None] | None = None
        self._more: Callable[[], None] | None = None
        self._paused = False
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._held = self._more = None
        self._parser = None
        self._waiting.clear()
        self._lost(self, self._current is not None)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._more is not None:
            self._more()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._incoming = Request()

    def on_url(self, url: bytes) -> None:
        self._incoming.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._incoming.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._incoming.body += body
        if len(self._incoming.body) > _MAX_BODY:
            self._transport.abort()

    def on_message_complete(self) -> None:
        self._incoming.method = self._parser.get_method().decode("latin-1")
        self._incoming.keep_alive = self._parser.should_keep_alive()
        self._waiting.append(self._incoming)
        if len(self._waiting) > _MAX_WAITING:
            self._transport.pause_reading()
        if self._current is None:
            self._next()

    # What the server calls.

    def send(self, sending: Sending, *, after_s: float = 0.0) -> None:
        """Send the answer to the current request."""
        if after_s > 0:
            self._timer = self._loop.call_later(after_s, self._send, sending)
        else:
            self._send(sending)

    def release(self) -> None:
        """Go on where a hanging answer stopped."""
        if (held := self._held) is not None:
            self._held = None
            held()

    def reset(self) -> None:
        """End the connection at once, with a reset on the wire."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None and not self._transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()

    def close(self) -> None:
        """End the connection in the usual way, as soon as what was written is gone."""
        self._transport.close()

    def close_when_answered(self) -> None:
        """End the connection after the answer that is owed, at once where none is."""
        if self._current is None:
            self.close()
        else:
            self._current.keep_alive = False

    # How an answer goes out.

    def _send(self, sending: Sending) -> None:
        self._timer = None
        write = self._transport.write
        half = sending.body[: len(sending.body) // 2]
        match sending.manner:
            case Manner.WHOLE:
                self._write_rest(sending.head() + sending.body)
            case Manner.HANG:
                self._held = lambda: self._write_rest(sending.head() + sending.body)
            case Manner.HANG_BODY:
                write(sending.head() + half)
                self._held = lambda: self._write_rest(sending.body[len(half) :])
            case Manner.DRIBBLE:
                write(sending.head())
                self._dribble(sending, 0)
            case Manner.TRUNCATED:
                write(sending.head() + half)
                self._current = None
                self._transport.close()
            case Manner.RESET:
                self._current = None
                self.reset()
            case Manner.RESET_BODY:
                write(sending.head() + half)
                self._current = None
                self._timer = self._loop.call_later(_CHUNK_PAUSE_S, self.reset)
            case Manner.PADDED:
                write(sending.head() + sending.body)
                self._pad(sending.size - len(sending.body), chunked=False)
            case Manner.ENDLESS:
                write(sending.head() + b"%x\r\n%b\r\n" % (len(sending.body), sending.body))
                self._pad(None, chunked=True)

    def _write_rest(self, data: bytes) -> None:
        self._transport.write(data)
        self._finish()

    def _dribble(self, sending: Sending, position: int) -> None:
        self._transport.write(sending.body[position : position + 1])
        if position + 1 >= len(sending.body):
            self._finish()
        else:
            self._timer = self._loop.call_later(sending.pace_s, self._dribble, sending, position + 1)

    def _pad(self, left: int | None, *, chunked: bool) -> None:
        """Send spaces, as many as are left or without end, no faster than they are read."""
        self._more = None
        if left is not None and left <= 0:
            self._finish()
            return
        chunk = _CHUNK if left is None else _CHUNK[:left]
        self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
        rest = None if left is None else left - len(chunk)

        def go_on() -> None:
            self._pad(rest, chunked=chunked)

        if self._paused:
            self._more = go_on
        else:
            self._timer = self._loop.call_later(_CHUNK_PAUSE_S, go_on)

    def _finish(self) -> None:
        done, self._current, self._timer = self._current, None, None
        if done is not None and not done.keep_alive:
            self._transport.close()
        else:
            self._next()

    def _next(self) -> None:
        if self._waiting and not self._transport.is_closing():
            self._current = self._waiting.popleft()
            if len(self._waiting) == _MAX_WAITING:
                self._transport.resume_reading()
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        if self._current is not None and not self._transport.is_closing():
            self._handle(self, self._current)
