"""The guarded way out, for `ports.outbound.Outbound`: look up, check, connect to what was checked.

A name is looked up once for each request and all of its addresses must be public. The connection goes to an address,
with the name in SNI and in the Host header, so that nothing looks the name up a second time. A connection serves one
request: a kept one would lead whoever shares its address past the check of the certificate.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Final

from firstline.core.destination import Destination, DestinationRefused, destination_of, is_allowed
from firstline.ports.outbound import NotSent, Reply, SendFailure

TOTAL_S: Final = 10.0
LOOK_UP_S: Final = 3.0
MAX_BODY_BYTES: Final = 256 << 10
MAX_ADDRESSES: Final = 3
"""Tried one after the other while none can be connected to."""

_LOOK_UPS: Final = 16
"""At once; a resolver that hangs holds up others here and nothing else in the process."""


class Unreachable(Exception):
    """No connection to one address; another one may do."""


Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class GuardedOutbound:
    """Implements `ports.outbound.Outbound`."""

    def __init__(
        self,
        *,
        loopback: bool,
        user_agent: str,
        resolve: Resolve | None = None,
        context: ssl.SSLContext | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Args:
        loopback: whether this machine may be addressed too: in development alone.
        resolve: addresses of a name; None for the system's resolver.
        context: who is trusted; None for the usual authorities.
        wall: the time of day in seconds since 1970, for a `Retry-After` with a date.
        """
        self._loopback = loopback
        self._user_agent = user_agent
        self._threads = ThreadPoolExecutor(_LOOK_UPS, thread_name_prefix="look-up")
        self._resolve = resolve or self._look_up
        self._context = context
        self._unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # for http; making one each time takes half a ms
        self._wall = wall

    async def check(self, url: str) -> None:
        """See the port."""
        destination = destination_of(url, loopback=self._loopback)
        try:
            await self._addresses(destination)
        except NotSent:
            raise DestinationRefused("must have a host name that leads somewhere") from None

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Reply:
        """See the port."""
        try:
            async with asyncio.timeout(TOTAL_S):
                return await self._post(url, headers, body)
        except TimeoutError:
            raise NotSent(SendFailure.TIMEOUT) from None

    async def close(self) -> None:
        """See the port."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if len(body) > MAX_BODY_BYTES:
            raise NotSent(SendFailure.REFUSED)
        try:
            destination = destination_of(url, loopback=self._loopback)
            addresses = await self._addresses(destination)
        except DestinationRefused:
            raise NotSent(SendFailure.REFUSED) from None
        for address in addresses[: MAX_ADDRESSES - 1]:
            with suppress(Unreachable):
                return await self._send(destination, address, headers, body)
        try:
            return await self._send(destination, addresses[min(len(addresses), MAX_ADDRESSES) - 1], headers, body)
        except Unreachable:
            raise NotSent(SendFailure.UNREACHABLE) from None

    async def _addresses(self, destination: Destination) -> Sequence[str]:
        """What may be connected to.

        Raises: DestinationRefused when any address is one that must not be, NotSent when there is none.
        """
        if destination.address is not None:
            return [destination.address]
        try:
            async with asyncio.timeout(LOOK_UP_S):
                found = await self._resolve(destination.host, destination.port)
        except (OSError, UnicodeError, TimeoutError):
            raise NotSent(SendFailure.UNRESOLVED) from None
        if not found:
            raise NotSent(SendFailure.UNRESOLVED)
        if not all(is_allowed(address, loopback=destination.loopback) for address in found):
            raise DestinationRefused("must lead to a public address")
        return found

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        def work() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(entry[4][0]) for entry in found))

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _send(self, destination: Destination, address: str, headers: Mapping[str, str], body: bytes) -> Reply:
        from firstline.adapters.pinned_request import send  # its library takes a while to import

        context = await self._trusted() if destination.https else self._unused
        status, retry_after = await send(
            destination, address, headers={"User-Agent": self._user_agent, **headers}, body=body, context=context
        )
        return Reply(status, self._retry_after_s(retry_after))

    async def _trusted(self) -> ssl.SSLContext:
        if self._context is None:
            # Of the environment only SSL_CERT_FILE and SSL_CERT_DIR count, for authorities of one's own.
            from firstline.adapters.pinned_request import usual_authorities

            self._context = await asyncio.to_thread(usual_authorities)
        return self._context

    def _retry_after_s(self, value: str) -> float | None:
        value = value.strip()
        if not value or len(value) > 40:
            return None
        if value.isascii() and value.isdigit():
            return float(value)
        try:
            return max(parsedate_to_datetime(value).timestamp() - self._wall(), 0.0)
        except (ValueError, OverflowError):
            return None
