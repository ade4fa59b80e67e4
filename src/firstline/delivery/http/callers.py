"""Who sent a request: address, key, caller, and what it is charged to."""

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
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

_FORWARDING_HEADERS: Final = (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via", b"x-forwarded-host")
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
        """Count one attempt.

        Returns: 0 when it fits, else the seconds until the window ends.
        """
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
        for hop in reversed(request.headers.get("x-forwarded-for", "").split(",")):
            hop = hop.strip()
            try:
                ip_address(hop)
            except ValueError:
                return address
            address = hop
            if not self._is_proxy(hop):
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
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)


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


def _host(named: bytes) -> str:
    """The host of a Host header, without its port."""
    text = named.decode("latin-1").strip().lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]


@lru_cache(maxsize=1_024)
def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in {"testserver", "testclient", "localhost"}
