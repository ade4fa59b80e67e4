"""One POST to one address that has been checked, with the name in SNI and in the Host header."""

import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import httpx2

from firstline.adapters.outbound import TOTAL_S, Unreachable
from firstline.core.destination import Destination
from firstline.ports.outbound import NotSent, SendFailure

CONNECT_S: Final = 3.0
MAX_REPLY_BYTES: Final = 4_096


def usual_authorities() -> ssl.SSLContext:
    """Whom this machine trusts; blocks for some milliseconds."""
    return httpx2.create_ssl_context(trust_env=True)


async def send(
    destination: Destination, address: str, *, headers: Mapping[str, str], body: bytes, context: ssl.SSLContext
) -> tuple[int, str]:
    """Send, and read at most `MAX_REPLY_BYTES` of the answer.

    Returns: its status, and its Retry-After or nothing.
    Raises: Unreachable when there is no connection, NotSent.
    """
    scheme = "https" if destination.https else "http"
    shown = f"[{address}]" if ":" in address else address
    request = httpx2.Request(
        "POST",
        f"{scheme}://{shown}:{destination.port}{destination.target}",
        headers={
            "Host": destination.authority,
            "Accept-Encoding": "identity",
            "Connection": "close",
            **headers,
        },
        content=body,
        extensions={
            "sni_hostname": destination.host,
            "timeout": httpx2.Timeout(TOTAL_S, connect=CONNECT_S).as_dict(),
        },
    )
    # A transport by itself neither follows redirects nor asks the environment for proxies.
    limits = httpx2.Limits(max_connections=1, max_keepalive_connections=0)
    transport = httpx2.AsyncHTTPTransport(verify=context, limits=limits, trust_env=False, http2=False, retries=0)
    try:
        async with transport:
            response = await transport.handle_async_request(request)
            try:
                await _read_some(response)
            finally:
                await response.aclose()
    except httpx2.ConnectTimeout:
        raise Unreachable from None
    except httpx2.ConnectError as error:
        if _is_tls(error):
            raise NotSent(SendFailure.TLS) from None
        raise Unreachable from None
    except httpx2.TimeoutException:
        raise NotSent(SendFailure.TIMEOUT) from None
    except httpx2.HTTPError:
        raise NotSent(SendFailure.BROKEN) from None
    return response.status_code, response.headers.get("retry-after", "")


async def _read_some(response: httpx2.Response) -> None:
    """Read a short answer to its end, so that the other side sees a proper close; leave a long one."""
    size = 0
    with suppress(httpx2.HTTPError):  # the status has said everything
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > MAX_REPLY_BYTES:
                break


def _is_tls(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
