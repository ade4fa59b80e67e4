"""The server: which connection gets which answer, and the control of it all over HTTP."""

import asyncio
import random
import signal
import struct
import threading
import zlib
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from firstline.delivery.fake_provider import replies
from firstline.delivery.fake_provider.connection import Connection, Manner, Request, Sending
from firstline.delivery.fake_provider.port import NotLoopback, Port, is_loopback
from firstline.delivery.fake_provider.reader import read, shape_of
from firstline.delivery.fake_provider.script import STATUS_FAULTS, Fault, Running, Script, Step, script_of
from firstline.delivery.fake_provider.spoiling import said
from firstline.delivery.fake_provider.victim import obey
from firstline.delivery.fake_provider.wire import (
    Format,
    Json,
    Place,
    RequestInvalid,
    has_key,
    place_of,
    question_of,
)

KEYLESS_PROFILE: Final = "compatible"
"""Servers of one's own often want no key; under this profile none is asked for."""

ELSEWHERE: Final = "elsewhere"
"""Profile that redirects lead to: what arrives under it has left the configured provider."""

_JSON: Final = (("content-type", "application/json"),)
_HTML: Final = (
    b"<!DOCTYPE html><html><head><title>Sign in</title></head>"
    b"<body><h1>Welcome</h1><p>Please sign in to the network.</p></body></html>"
)
_MESSAGES: Final[Mapping[Fault, str]] = {
    Fault.BAD_REQUEST: "The request is invalid.",
    Fault.UNAUTHORIZED: "The key is not valid.",
    Fault.FORBIDDEN: "The key has no access to this model.",
    Fault.NOT_FOUND: "The model does not exist.",
    Fault.RATE_LIMITED: "The rate limit is reached. Please retry later.",
    Fault.OVERLOADED: "Overloaded",
}
_MANNERS: Final[Mapping[Fault, Manner]] = {
    Fault.RESET: Manner.RESET,
    Fault.RESET_BODY: Manner.RESET_BODY,
    Fault.HANG: Manner.HANG,
    Fault.HANG_BODY: Manner.HANG_BODY,
    Fault.DRIBBLE: Manner.DRIBBLE,
    Fault.TRUNCATED: Manner.TRUNCATED,
    Fault.HUGE_BODY: Manner.PADDED,
    Fault.ENDLESS_BODY: Manner.ENDLESS,
}
_HUGE: Final = 1 << 30
_BOMB: Final = 256 << 20
_BLOCK: Final = b" " * (1 << 20)
_GZIP_HEAD: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
_HEADER_KEYS: Final = frozenset({"authorization", "x-api-key", "x-goog-api-key", "api-key"})


@dataclass(frozen=True, slots=True)
class Received:
    """A request that came in.

    Attributes:
        profile: name after `/p/`, or empty.
        path: after the profile, without the query.
        format: of the provider, or None.
        body: parsed; None if it is no JSON.
        fault: that it was given.
    """

    profile: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    format: Format | None
    body: Any
    fault: Fault

    def public(self) -> Json:
        """For the log over HTTP, without keys."""
        headers = {name: "***" if name in _HEADER_KEYS else value for name, value in self.headers.items()}
        query = "key=***" if "key=" in self.query else self.query
        return {
            "profile": self.profile,
            "method": self.method,
            "path": self.path,
            "query": query,
            "headers": headers,
            "format": self.format,
            "body": self.body,
            "fault": self.fault,
        }


class FakeServer:
    """Answers as the providers would; lives in one event loop, its log may be read from any thread."""

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, own_ports: Mapping[str, int] | None = None, keep: int = 10_000
    ) -> None:
        """Args:
            own_ports: profiles that get a port of their own, 0 for a free one; only these can refuse to connect alone.
            keep: so many of the last requests stay in the log.
        Raises: NotLoopback.
        """
        if not is_loopback(host):
            raise NotLoopback("the fake provider listens on loopback only: 127.0.0.1, ::1 or localhost")
        host = "127.0.0.1" if host == "localhost" else host
        self.host = host
        self.ports = {"": Port("", host, port)}
        self.ports |= {name: Port(name, host, number) for name, number in (own_ports or {}).items()}
        self.heard = threading.Condition()
        self.counts: Counter[str] = Counter()
        self.abandoned: Counter[str] = Counter()
        self.log: deque[Received] = deque(maxlen=keep)
        self._running: dict[str, Running] = {"": Running(Script())}
        self._chances: dict[str, random.Random] = {"": random.Random(0)}  # noqa: S311  # latencies, no secrets
        self._owed: dict[Connection, str] = {}
        self._number = 0

    async def open(self) -> None:
        """Listen on every port.

        Raises: OSError if a port is taken.
        """
        try:
            for port in self.ports.values():
                port.keep()
            for port in self.ports.values():
                await self._open(port)
        except OSError:
            self.close()
            raise

    async def _open(self, port: Port) -> None:
        def lost(connection: Connection, owed: bool) -> None:
            port.connections.discard(connection)
            profile = self._owed.pop(connection, "")
            if owed:
                with self.heard:
                    self.abandoned[profile] += 1
                    self.heard.notify_all()

        await port.open(self._handle, lost)

    async def stopped(self) -> None:
        """Wait for SIGINT or SIGTERM."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await stop.wait()

    def close(self) -> None:
        """End all connections and give the ports back."""
        for port in self.ports.values():
            port.give_up()

    def url(self, profile: str = "") -> str:
        """Where a profile is reached, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = self.ports.get(profile) or self.ports[""]
        return f"http://{host}:{port.number}" + (f"/p/{profile}" if profile else "")

    async def play(self, script: Script, *, profile: str = "") -> None:
        """Begin a script; the one that was in force is forgotten.

        Args:
            profile: that it is for; empty is for all profiles without a script of their own.
        Raises: ValueError if the script has a fault of the port, and the profile none of its own.
        """
        if script.port_fault and profile not in self.ports:
            raise ValueError(f"fault {script.port_fault} needs a port that belongs to {profile!r} alone")
        self._running[profile] = Running(script)
        self._chances[profile] = random.Random(script.seed)  # noqa: S311  # latencies, no secrets
        port = self.ports.get(profile)
        if port is None or port.fault is script.port_fault:
            return
        port.fault = script.port_fault
        match port.fault:
            case Fault.REFUSED:
                port.refuse()
            case Fault.HANG_CONNECT:
                port.fill()
            case _:
                port.shut()
                await self._open(port)

    def release(self) -> None:
        """Let all answers go on that hang."""
        for port in self.ports.values():
            for connection in tuple(port.connections):
                connection.release()

    def forget(self) -> None:
        """Empty the log and the counts."""
        with self.heard:
            self.log.clear()
            self.counts.clear()
            self.abandoned.clear()

    # One request.

    def _handle(self, connection: Connection, request: Request) -> None:
        url, _, query = request.url.partition(b"?")
        path = url.decode("latin-1")
        if path.startswith("/_fake/"):
            self._control(connection, request, path.removeprefix("/_fake/"))
            return
        self._number += 1
        place = place_of(path)
        name = place.profile if place.profile in self._running else ""
        step = self._running[name].next(place.path)
        try:
            body = orjson.loads(request.body) if request.body else None
        except orjson.JSONDecodeError:
            body = None
        asked = query.decode("latin-1")
        received = Received(
            place.profile, request.method, place.path, asked, request.headers, place.format, body, step.fault
        )
        self._owed[connection] = place.profile
        with self.heard:
            self.log.append(received)
            self.counts[place.profile] += 1
            self.heard.notify_all()
        script = self._running[name].script
        latency = step.latency if step.latency is not None else script.latency
        try:
            sending = self._sending(place, request, received, step, script)
        except Exception:  # raised again below
            connection.reset()  # nobody is left waiting for a fake that is broken; the loop says why
            raise
        connection.send(sending, after_s=latency.draw(self._chances[name]))

    def _sending(self, place: Place, request: Request, received: Received, step: Step, script: Script) -> Sending:
        fault = step.fault
        if fault in STATUS_FAULTS:
            return _refusal(place.format, step)
        if fault is Fault.REDIRECT:
            host = f"localhost:{self.ports[''].number}"
            location = step.location or f"http://{host}/p/{ELSEWHERE}{place.path}"
            return Sending(b"", 307, (("location", location),))
        if fault is Fault.HTML:
            return Sending(_HTML, headers=(("content-type", "text/html; charset=utf-8"),))
        if fault is Fault.NO_BODY:
            return Sending(b"")
        if place.format is None or request.method != "POST":
            return _error(place.format, 404, f"There is no {request.method} {place.path} here.")
        if place.profile != KEYLESS_PROFILE and not has_key(place.format, request.headers, received.query):
            return _error(place.format, 401, "The request carries no key.")
        try:
            question = question_of(place, received.body)
        except RequestInvalid as invalid:
            return _error(place.format, 400, str(invalid))
        answer = obey(question) if script.behaviour == "obedient" else read(question)
        answer |= step.answer
        spoken = said(fault, answer, shape_of(question), tool=question.tool, size=step.size_bytes)
        body = replies.answer(question, spoken, number=self._number)
        match fault:
            case Fault.INVALID_UTF8:
                middle = len(body) // 2
                return Sending(body[:middle] + b"\xff\xfe\xc3" + body[middle:])
            case Fault.WRONG_CONTENT_TYPE:
                return Sending(body, headers=(("content-type", "application/octet-stream"),))
            case Fault.GZIP_BOMB:
                return Sending(_bomb(step.size_bytes or _BOMB, body), headers=(*_JSON, ("content-encoding", "gzip")))
        manner = _MANNERS.get(fault, Manner.WHOLE)
        size = (step.size_bytes or _HUGE) if manner is Manner.PADDED else 0
        return Sending(body, manner=manner, pace_s=step.pace_s, size=size)

    # Control.

    def _control(self, connection: Connection, request: Request, what: str) -> None:
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        if not is_loopback(host.strip("[]")):
            connection.send(_error(None, 403, "Control is for this machine."))
            return
        match request.method, what:
            case "PUT", "script":
                # The connection waits for its answer; no second request of it is handled meanwhile.
                self._task = asyncio.ensure_future(self._put_script(connection, request))
            case "GET", "requests":
                connection.send(self._requests(request))
            case "DELETE", "requests":
                self.forget()
                connection.send(Sending(b"{}"))
            case "POST", "release":
                self.release()
                connection.send(Sending(b"{}"))
            case _:
                there = "PUT script, GET requests, DELETE requests, POST release"
                connection.send(_error(None, 404, f"Under /_fake/ there are {there}."))

    async def _put_script(self, connection: Connection, request: Request) -> None:
        try:
            body = orjson.loads(request.body)
            if not isinstance(body, dict):
                raise ValueError("script is an object")
            profile = body.pop("profile", "")
            if not isinstance(profile, str):
                raise ValueError("profile is a string")
            await self.play(script_of(body), profile=profile)
        except (ValueError, TypeError) as mistake:
            connection.send(_error(None, 400, str(mistake)))
        else:
            connection.send(Sending(b"{}"))

    def _requests(self, request: Request) -> Sending:
        query = parse_qs(request.url.partition(b"?")[2].decode("latin-1"))
        wanted = query.get("profile")
        with self.heard:
            chosen = [each.public() for each in self.log if not wanted or each.profile in wanted]
            told = {"counts": dict(self.counts), "abandoned": dict(self.abandoned), "requests": chosen}
        return Sending(orjson.dumps(told))


def _error(format_: Format | None, status: int, message: str) -> Sending:
    return Sending(replies.error(format_, status, message), status)


def _refusal(format_: Format | None, step: Step) -> Sending:
    status = STATUS_FAULTS[step.fault]
    headers: tuple[tuple[str, str], ...] = _JSON
    retry_after_s: float | None = None
    if status in {429, 503, 529} and step.retry_after != "none":
        retry_after_s = step.retry_after_s
        said_as = f"{retry_after_s:g}"
        if step.retry_after == "date":
            said_as = format_datetime(datetime.now(UTC) + timedelta(seconds=retry_after_s), usegmt=True)
        headers = (*_JSON, ("retry-after", said_as))
    message = _MESSAGES.get(step.fault, "The service has a problem.")
    return Sending(replies.error(format_, status, message, retry_after_s=retry_after_s), status, headers)


def _bomb(size: int, body: bytes) -> bytes:
    """Gzip that unpacks to so many spaces before a body."""
    packed, checksum = _packed_spaces(size)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    checksum = zlib.crc32(body, checksum)
    length = (size + len(body)) & 0xFFFFFFFF
    return _GZIP_HEAD + packed + packer.compress(body) + packer.flush() + struct.pack("<II", checksum, length)


@lru_cache(maxsize=4)
def _packed_spaces(size: int) -> tuple[bytes, int]:
    """So many spaces, packed but not ended, and their checksum.

    Each block is packed with nothing remembered of the one before, so that one packed block can be repeated.
    """
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(_BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    blocks, rest = divmod(size, len(_BLOCK))
    last = packer.compress(_BLOCK[:rest]) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(blocks):
        checksum = zlib.crc32(_BLOCK, checksum)
    return packed * blocks + last, zlib.crc32(_BLOCK[:rest], checksum)
