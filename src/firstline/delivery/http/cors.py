"""Calls from web pages of other origins (CORS): closed unless an origin is configured, and never with credentials.

Keys travel in headers that a page must set itself, never in cookies, so no answer ever carries
Access-Control-Allow-Credentials. An origin is compared as a whole and never reflected: what is sent back is the
configured one.
"""

from collections.abc import Iterable
from typing import Final

from firstline.core.origins import ANY

Header = tuple[bytes, bytes]

METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE"
REQUEST_HEADERS: Final = (
    b"Accept, Authorization, Content-Type, Idempotency-Key, If-Match, X-API-Key, X-Request-ID, traceparent, tracestate"
)
EXPOSED: Final = (
    b"Content-Disposition, ETag, Idempotency-Replayed, Location, Retry-After, X-Job-State, X-RateLimit-Limit, "
    b"X-RateLimit-Limit-Day, X-RateLimit-Limit-Minute, X-RateLimit-Remaining, X-RateLimit-Remaining-Day, "
    b"X-RateLimit-Remaining-Minute, X-RateLimit-Reset, X-RateLimit-Tier, X-Request-ID"
)
MAX_AGE_S: Final = 600


class Cors:
    """Decides by the Origin header what a browser may show to the page that asked."""

    def __init__(self, origins: Iterable[str]) -> None:
        """Args:
        origins: as `core.origins.origins_of` gives them.
        """
        self._allowed = {origin.encode(): origin.encode() for origin in origins}
        self._any = self._allowed.get(ANY.encode())
        self._vary: tuple[Header, ...] = () if self._any else ((b"vary", b"Origin"),)

    def headers(self, request: Iterable[Header]) -> tuple[Header, ...]:
        """What every answer to a request carries."""
        origin = self._origin(request)
        if origin is None:
            return self._vary
        return (
            *self._vary,
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED),
        )

    def preflight(self, method: str, request: Iterable[Header]) -> tuple[Header, ...] | None:
        """What a browser is told that asks before it calls; None when it does not ask, or its origin is unknown."""
        if method != "OPTIONS":
            return None
        request = list(request)
        if self._origin(request) is None or not any(name == b"access-control-request-method" for name, _ in request):
            return None
        return (
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", REQUEST_HEADERS),
            (b"access-control-max-age", b"%d" % MAX_AGE_S),
        )

    def _origin(self, request: Iterable[Header]) -> bytes | None:
        """The configured origin that a request comes from."""
        found = [value for name, value in request if name == b"origin"]
        if len(found) != 1:
            return None
        return self._any or self._allowed.get(found[0])
