"""Targets that read connections: HTTP/1.1 as it comes in, in any pieces."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.server import ServerState

from firstline.delivery.http.protocol import BoundedProtocol, Bounds, Gate
from fuzz.target import Draw, Target

_BOUNDS: Final = Bounds(max_head_bytes=2_048, max_headers=20, max_url_bytes=512, max_pipelined=4)
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_KNOWN: Final = frozenset({100, 200, 400, 408, 414, 431, 503, 505})
_TURNS: Final = 4

Seen = tuple[str, bytes, tuple[tuple[bytes, bytes], ...], bytes]
"""Method, path, headers and body of a request that came whole."""


class _Wire(asyncio.Transport):
    """A connection to a client that reads everything at once."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.sent = bytearray()
        self.closed = self.aborted = False

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """The client would see the end."""

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nothing is read here."""

    def get_write_buffer_size(self) -> int:
        return 0


def connect(data: bytes) -> None:
    """Requests are within the bounds, the same in any pieces, and what is refused is answered and closed."""
    draw = Draw(data)
    size = 1 + draw.number(64)
    body = draw.rest()
    whole, sent, closed = _spoken([body])
    pieces = [body[place : place + size] for place in range(0, len(body), size)]
    broken, sent_broken, closed_broken = _spoken(pieces)
    for seen in (whole, broken):
        for _, path, headers, _ in seen:
            assert len(path) <= _BOUNDS.max_url_bytes
            assert len(headers) <= _BOUNDS.max_headers
            assert sum(len(name) + len(value) for name, value in headers) <= _BOUNDS.max_head_bytes
            assert sum(name == b"host" for name, _ in headers) <= 1
            for name, value in headers:
                assert not set(name + value) & set(b"\r\n\0"), "a header with a line feed"
    for answer, is_closed in ((sent, closed), (sent_broken, closed_broken)):
        statuses = [int(found) for found in _STATUS.findall(answer)]
        assert set(statuses) <= _KNOWN, f"answered with {statuses}"
        assert not answer or answer.startswith(b"HTTP/1.1 ")
        refused = [status for status in statuses if status > 200]
        assert len(refused) <= 1
        assert not refused or is_closed, "refused and not closed"
    shorter, longer = sorted((whole, broken), key=len)
    assert longer[: len(shorter)] == shorter, "requests depend on the pieces that they come in"


def _spoken(pieces: Sequence[bytes]) -> tuple[list[Seen], bytes, bool]:
    """The requests that came whole, what was answered, and whether the connection was closed for it."""
    return _loop().run_until_complete(_speak(pieces))


async def _speak(pieces: Sequence[bytes]) -> tuple[list[Seen], bytes, bool]:
    seen: list[Seen] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        assert len(body) <= sum(map(len, pieces)), "a body larger than what came"
        seen.append((scope["method"], scope["raw_path"], tuple(scope["headers"]), body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = _config()
    config.loaded_app = app
    state, wire = ServerState(), _Wire()
    protocol = BoundedProtocol(config, state, {}, asyncio.get_running_loop(), gate=Gate(_BOUNDS))
    protocol.connection_made(wire)
    for piece in pieces:
        if wire.closed:
            break
        protocol.data_received(piece)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        protocol.sweep()
    while state.tasks and not wire.closed:
        before = len(wire.sent)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if len(wire.sent) == before:
            break
    closed = wire.closed or protocol.lingering
    protocol.connection_lost(None)
    for task in tuple(state.tasks):
        await task
    return seen, bytes(wire.sent), closed


@cache
def _config() -> Config:
    async def nothing(_scope: Any, _receive: Any, _send: Any) -> None:
        """Replaced for each connection."""

    config = Config(nothing, lifespan="off", ws="none", log_config=None, access_log=False, proxy_headers=False)
    config.load()
    return config


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _seeds() -> Iterator[bytes]:
    get = b"GET /health?a=1 HTTP/1.1\r\nHost: a\r\nX-Api-Key: b\r\n\r\n"
    post = b"POST /v1/decision HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n"
    upgrade = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi"
    yield b"\x00" + get
    yield b"\x06" + get * 3
    yield b"\x09" + post + get
    yield b"\x03" + chunked + post
    yield b"\x05" + upgrade + get
    yield b"\x05" + post.replace(b"Content-Length: 5", b"Content-Length: 5\r\nTransfer-Encoding: chunked")
    yield b"\x05" + post.replace(b"Content-Length: 5", b"Content-Length: +5")
    yield b"\x05" + post.replace(b"Host: a", b"Expect: 100-continue\r\nHost: a\r\nConnection: close")
    yield b"\x05" + get.replace(b"HTTP/1.1", b"HTTP/1.0")
    yield b"\x05" + get.replace(b"HTTP/1.1", b"HTTP/2.0")
    yield b"\x20" + get.replace(b"/health", b"/" + b"a" * 600)
    yield b"\x20" + get.replace(b"X-Api-Key: b\r\n", b"A: b\r\n" * 25)
    yield b"\x05CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"


TARGETS: Final = (
    Target(
        "connection", "requests within bounds, the same in any pieces", ("delivery.http.protocol",), connect, _seeds,
        (
            "GET / HTTP/1.1\r\n", "Host: a\r\n", "Content-Length: ", "Transfer-Encoding: chunked\r\n", "\r\n\r\n",
            "Connection: close\r\n", "Upgrade: h2c\r\n", "Expect: 100-continue\r\n", "HTTP/1.0", "0\r\n\r\n",
        ),
    ),
)  # fmt: skip
"""Of this module."""
