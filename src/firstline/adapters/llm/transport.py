"""The HTTP client under every provider: bounded, watched, and asking once.

Each SDK is handed a `BoundedClient`. It sends what the SDK has built, but to the configured origin only, with the
headers that are listed and the key that it was given, whatever the SDK has found in its environment. It reads the
whole reply before the SDK sees any of it, so that an SDK only ever meets a JSON object with status 200; everything
else has become an `UpstreamFailed` of a kind by then. A second request in the same call is refused: that is how a
hidden retry of any SDK ends.
"""

import asyncio
import time
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import orjson

from firstline.adapters.llm.refusals import MAX_ERROR_BYTES, refusal
from firstline.core.completion import FailureKind
from firstline.ports.provider import MAX_REPLY_BYTES

CONNECT_TIMEOUT_S: Final = 3.0
MAX_IDLE_CONNECTIONS: Final = 16
IDLE_S: Final = 30.0
ERROR_BODY_S: Final = 0.25
"""How long the body of an error is waited for; its status has said enough by then."""

_PASSED_ON: Final = frozenset({b"anthropic-version", b"anthropic-beta"})
_TIMEOUT: Final = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S)
_TIMEOUTS: Final = _TIMEOUT.as_dict()


class UpstreamFailed(httpx2.TransportError):
    """The reply cannot be used; the kind is in the `Call`."""


@dataclass(slots=True)
class Call:
    """What the transport has seen of one call.

    Attributes:
        kind: why the reply cannot be used, or None.
        retry_after_s: how long the upstream asks to be left alone, or None.
        sent: whether a request went out.
        replied: whether the SDK was handed a reply.
    """

    kind: FailureKind | None = None
    retry_after_s: float | None = None
    sent: bool = False
    replied: bool = False

    def failed(self, kind: FailureKind, *, retry_after_s: float | None = None) -> UpstreamFailed:
        """Note the failure, and say it as an exception that every SDK knows how to pass on."""
        self.kind, self.retry_after_s = kind, retry_after_s
        return UpstreamFailed(kind.value)


_call: ContextVar[Call | None] = ContextVar("firstline_provider_call", default=None)


@contextmanager
def watched_call() -> Iterator[Call]:
    """Watch the requests of the running task."""
    call = Call()
    token = _call.set(call)
    try:
        yield call
    finally:
        _call.reset(token)


class BoundedClient(httpx2.AsyncClient):
    """An `httpx2.AsyncClient` that neither follows, remembers, decodes nor repeats anything.

    Args:
        base_url: where requests may go; another origin is refused.
        auth_header: name and value of the header with the key, or None for an endpoint without one.
        wall: the time of day in seconds since 1970, for a `Retry-After` with a date.
    """

    def __init__(
        self,
        base_url: str,
        *,
        auth_header: tuple[str, str] | None,
        user_agent: str,
        wall: Callable[[], float] = time.time,
    ) -> None:
        url = httpx2.URL(base_url)
        # Of the environment only SSL_CERT_FILE and SSL_CERT_DIR count, for authorities of one's own.
        verify = httpx2.create_ssl_context(trust_env=True) if url.scheme == "https" else False
        self._pool = httpx2.AsyncHTTPTransport(
            verify=verify,
            trust_env=False,
            http1=True,
            http2=False,
            retries=0,
            limits=httpx2.Limits(
                max_connections=None,  # who calls bounds the calls; one that waited here would look like a hanging one
                max_keepalive_connections=MAX_IDLE_CONNECTIONS,
                keepalive_expiry=IDLE_S,
            ),
        )
        super().__init__(transport=self._pool, timeout=_TIMEOUT, trust_env=False, follow_redirects=False)
        self._origin = (url.scheme, url.host, url.port)
        self._wall = wall
        self._fixed = [
            (b"Host", url.netloc),
            (b"Content-Type", b"application/json"),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"User-Agent", user_agent.encode("ascii")),
        ]
        if auth_header is not None:
            self._fixed.append((auth_header[0].encode("ascii"), auth_header[1].encode("ascii")))

    async def send(self, request: httpx2.Request, **_options: Any) -> httpx2.Response:
        """Send a request of an SDK, and read the reply.

        Raises: UpstreamFailed; the kind is in the call that is being watched.
        """
        call = _call.get()
        if call is None:
            raise UpstreamFailed(FailureKind.FAULT.value)
        url = request.url
        if call.sent or (url.scheme, url.host, url.port) != self._origin:
            raise call.failed(call.kind or FailureKind.FAULT, retry_after_s=call.retry_after_s)
        call.sent = True
        body = await request.aread()
        outgoing = httpx2.Request(
            request.method,
            url,
            headers=[
                *self._fixed,
                *((name, value) for name, value in request.headers.raw if name.lower() in _PASSED_ON),
                (b"Content-Length", str(len(body)).encode("ascii")),
            ],
            stream=httpx2.ByteStream(body),
            extensions={"timeout": _TIMEOUTS},
        )
        try:
            reply = await self._pool.handle_async_request(outgoing)
            try:
                content = await self._content(reply, call)
            finally:
                await reply.aclose()
        except UpstreamFailed:
            raise
        except httpx2.ConnectError:
            raise call.failed(FailureKind.REFUSED) from None
        except httpx2.TimeoutException:
            raise call.failed(FailureKind.TIMEOUT) from None
        except (httpx2.TransportError, httpx2.InvalidURL, ValueError):
            raise call.failed(FailureKind.PROTOCOL) from None
        call.replied = True
        return httpx2.Response(200, headers=[(b"content-type", b"application/json")], content=content, request=request)

    async def _content(self, reply: httpx2.Response, call: Call) -> bytes:
        status, headers = reply.status_code, reply.headers
        if status >= 400:
            call.kind = refusal(status, headers, b"", now_s=self._wall())[0]
            body = await _error_body(reply)
            kind, retry_after_s = refusal(status, headers, body, now_s=self._wall())
            raise call.failed(kind, retry_after_s=retry_after_s)
        media = headers.get("content-type", "").partition(";")[0].strip().lower()
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if status != 200 or media != "application/json" or encoding not in {"", "identity"}:
            raise call.failed(FailureKind.PROTOCOL)
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared[:12]) > MAX_REPLY_BYTES:
            raise call.failed(FailureKind.TOO_LARGE)
        content = bytearray()
        async for part in _parts(reply):
            content += part
            if len(content) > MAX_REPLY_BYTES:
                raise call.failed(FailureKind.TOO_LARGE)
        whole = bytes(content)
        try:
            if not isinstance(orjson.loads(whole), dict):
                raise call.failed(FailureKind.PROTOCOL)
        except orjson.JSONDecodeError:
            raise call.failed(FailureKind.PROTOCOL) from None
        return whole


async def _error_body(reply: httpx2.Response) -> bytes:
    """What there is of an error's body, soon; nothing where it is too long, too slow or broken."""
    content = bytearray()
    try:
        async with asyncio.timeout(ERROR_BODY_S):
            async for part in _parts(reply):
                content += part
                if len(content) > MAX_ERROR_BYTES:
                    return b""
    except (TimeoutError, httpx2.TransportError):
        return b""
    return bytes(content)


def _parts(reply: httpx2.Response) -> AsyncIterable[bytes]:
    """The body as it comes in, not decoded."""
    stream = reply.stream
    if not isinstance(stream, AsyncIterable):
        raise TypeError("a stream to await was expected")
    return stream
