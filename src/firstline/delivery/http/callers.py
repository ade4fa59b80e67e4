"""Who sent a request: address, key, caller, and what it is charged to."""

import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from starlette.requests import Request

from firstline.bootstrap import App
from firstline.core.errors import (
    API_KEY_REQUIRED,
    API_KEY_REVOKED,
    INVALID_API_KEY,
    STORE_UNAVAILABLE,
    TOO_MANY_ATTEMPTS,
    PublicError,
)
from firstline.core.origins import ANY, origins_of
from firstline.core.plans import MICROSECONDS, Denied, Granted, Plan, retry_after_s
from firstline.core.taxonomy import Contract
from firstline.delivery.http.replies import ErrorReply
from firstline.ports.limiter import UsageUnknown
from firstline.ports.storage import StorageUnavailable
from firstline.usecases.access import ANONYMOUS, Caller, Refusal
from firstline.usecases.records import Charge

MAX_ADDRESSES: Final = 50_000
ONE_SITE: Final = 64
"""Bits that the IPv6 addresses of one site share: whoever has one of them has them all."""


_FORWARDING_HEADERS: Final = (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via", b"x-forwarded-host")
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::[0-9]*)?")
_REFUSALS: Final[dict[Refusal, PublicError]] = {
    Refusal.MISSING: API_KEY_REQUIRED,
    Refusal.INVALID: INVALID_API_KEY,
    Refusal.REVOKED: API_KEY_REVOKED,
}


@dataclass(slots=True)
class _Attempts:
    ends_at_us: int
    count: int


class AddressLimiter:
    """Fixed windows per client address, for what has no account: wrong keys and registrations."""

    def __init__(self, *, limit: int, window_s: int) -> None:
        self.limit = limit
        self._window_us = window_s * MICROSECONDS
        self._attempts: OrderedDict[str, _Attempts] = OrderedDict()

    def spend(self, address: str, *, now_us: int) -> int:
        """Count one attempt; all IPv6 addresses of a site count as one.

        Returns: 0 when it fits, else the seconds until the window ends.
        """
        address = _site(address)
        found = self._attempts.get(address)
        if found is None or now_us >= found.ends_at_us or found.ends_at_us - now_us > self._window_us:
            if len(self._attempts) >= MAX_ADDRESSES:
                self._attempts.popitem(last=False)
            found = self._attempts[address] = _Attempts(now_us + self._window_us, 0)
            self._attempts.move_to_end(address)
        found.count += 1
        if found.count <= self.limit:
            return 0
        return retry_after_s(resets_at_us=found.ends_at_us, now_us=now_us)


class Callers:
    """Authenticates requests and charges them."""

    def __init__(self, app: App) -> None:
        self._app = app
        settings = app.settings
        self._proxies = _networks(settings.trusted_proxies)
        self._origins = origins_of(settings.cors_origins) - {ANY}
        self._failures = AddressLimiter(limit=settings.failed_logins_per_minute, window_s=60)
        self.registrations = AddressLimiter(limit=settings.registrations_per_hour, window_s=3_600)

    def address(self, request: Request) -> str:
        """The client's address; forwarding headers count only when they come through a configured proxy."""
        client = request.scope.get("client")
        address = str(client[0]) if client else "unknown"
        if not self._proxies or not self._is_proxy(address):
            return address
        # A proxy may add a line of its own after those of the client, rather than lengthen the last one.
        lines = request.headers.getlist("x-forwarded-for")
        for hop in reversed(",".join(lines).split(",")):
            parsed = _parsed(hop.strip())
            if parsed is None:
                return address
            address = str(parsed)
            if not self._is_proxy(address):
                break
        return address

    def is_development(self, request: Request) -> bool:
        """Whether this request comes straight from this machine to a development server.

        A browser on this machine lends its address to every page. So a page of another origin, or of a name that its
        owner has pointed at this machine, gets nothing without a key.
        """
        if not self._app.development:
            return False
        scope = request.scope
        client, server = scope.get("client"), scope.get("server")
        if client is None or server is None or not (_loopback(client[0]) and _loopback(server[0])):
            return False
        named = origin = b""
        for name, value in scope["headers"]:
            if name in _FORWARDING_HEADERS:
                return False
            if name == b"host":
                named = value
            elif name == b"origin":
                if origin:
                    return False
                origin = value
        if named and not _loopback(_host(named)):
            return False
        own = (b"http://" + named, b"https://" + named)
        return not origin or origin in own or (origin.decode("latin-1") in self._origins)

    async def identify(self, request: Request, *, keyless: bool = False) -> Caller:
        """The caller of a request.

        Args:
            keyless: whether the route may be called without a key in development.
        Raises: ErrorReply 401, 429 after too many wrong keys from one address, 503 when the store cannot be asked.
        """
        key = key_of(request)
        development = self.is_development(request)
        if not key and keyless and development:
            caller = Caller(ANONYMOUS)
        else:
            try:
                found = await self._app.access.authenticate(key, development=development)
            except StorageUnavailable:
                self._app.metrics.store_failures.inc()
                raise ErrorReply(STORE_UNAVAILABLE) from None
            if isinstance(found, Refusal):
                raise self._refused(request, found)
            caller = found
        request.scope["firstline.caller"] = caller
        return caller

    async def charge(self, caller: Caller, contract: Contract) -> Charge | Denied:
        """Count one request of a caller against its plan for a contract.

        Raises: ErrorReply 503 when the account's usage is unknown.
        """
        plan = self.plan(caller, contract)
        now_us = self._app.clock.now_us()
        try:
            outcome = await self._app.limiter.charge(caller.account.id, plan, now_us=now_us)
        except UsageUnknown:
            self._app.metrics.store_failures.inc()
            raise ErrorReply(STORE_UNAVAILABLE) from None
        if isinstance(outcome, Granted):
            return Charge(plan, outcome)
        self._app.metrics.denials.labels(contract.value, outcome.full.window.value).inc()
        return outcome

    def plan(self, caller: Caller, contract: Contract) -> Plan:
        """The plan that the caller's account has for a contract."""
        return self._app.catalogues[contract].plans[caller.account.plans[contract]]

    def _refused(self, request: Request, refusal: Refusal) -> ErrorReply:
        self._app.metrics.auth_failures.labels(refusal.value).inc()
        wait_s = self._failures.spend(self.address(request), now_us=self._app.clock.now_us())
        if wait_s and refusal is not Refusal.MISSING:
            return too_many_attempts(wait_s, limit=self._failures.limit)
        return ErrorReply(_REFUSALS[refusal])

    def _is_proxy(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._proxies)


def too_many_attempts(wait_s: int, *, limit: int) -> ErrorReply:
    """429 for an address that may try `limit` times in its window."""
    return ErrorReply(
        TOO_MANY_ATTEMPTS,
        headers={"Retry-After": str(wait_s)},
        extra={"rate_limit": {"limit": limit, "remaining": 0, "reset_in": wait_s}, "retry_after": wait_s},
    )


def key_of(request: Request) -> str | None:
    """The key that a request carries in either header; never one in the URL."""
    api_key = authorization = ""
    name: bytes
    value: bytes
    for name, value in request.scope["headers"]:
        if name == b"x-api-key":
            api_key = value.decode("latin-1").strip()
        elif name == b"authorization":
            authorization = value.decode("latin-1").strip()
    if api_key:
        return api_key
    if authorization:
        scheme, _, credentials = authorization.partition(" ")
        return credentials.strip() if scheme.lower() == "bearer" else authorization
    return None


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An address in one of its spellings: IPv4 as such, and no zone, which may be any word."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return found if isinstance(found, IPv4Address) else found.ipv4_mapped or IPv6Address(int(found))


def _site(address: str) -> str:
    """What limits of an address go by."""
    if ":" not in address:
        return address
    parsed = _parsed(address)
    return str(ip_network((parsed, ONE_SITE), strict=False)) if isinstance(parsed, IPv6Address) else str(parsed)


def _host(named: bytes) -> str:
    """The host of a Host header, without its port; empty where it is none."""
    found = _HOST.fullmatch(named.decode("latin-1").strip().lower())
    return (found[1] or found[2]) if found else ""


@lru_cache(maxsize=1_024)
def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
