"""A receiver of webhooks that fails at random, and checks each delivery with the public standardwebhooks package."""

import asyncio
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import orjson
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from chaos.services import free_port

_WELL: Final = "204"
_MOODS: Final = {
    _WELL: 76,
    "500": 9,
    "503 with Retry-After": 2,
    "slow": 5,
    "closed before the answer": 6,
    "closed within the answer": 2,
}
"""What happens to a delivery, in percent."""


@dataclass(slots=True)
class Endpoint:
    """What arrived at one address.

    Attributes:
        accepted: events by id, as their first accepted delivery had them.
        attempts: deliveries by event, accepted or not.
        forged: deliveries whose signature was wrong.
        unordered: events of a ticket that came before an earlier one was accepted.
    """

    path: str
    flaky: bool
    secret: str = ""
    accepted: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    moods: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    forged: int = 0
    tried: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def unordered(self) -> int:
        """Events that were first tried after a later one of the same ticket."""
        return sum(ids != sorted(ids) for ids in self.tried.values())


class Receiver:
    """Listens on loopback."""

    def __init__(self, seed: int) -> None:
        self.port = free_port()
        self.endpoints: dict[str, Endpoint] = {}
        self.calm = False
        self._draw = Random(seed)  # noqa: S311
        self._server: asyncio.Server | None = None

    def add(self, path: str, *, flaky: bool) -> Endpoint:
        """A new address."""
        self.endpoints[path] = Endpoint(path, flaky)
        return self.endpoints[path]

    def url(self, endpoint: Endpoint) -> str:
        """Of an address."""
        return f"http://127.0.0.1:{self.port}{endpoint.path}"

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines if one)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            endpoint = self.endpoints[line.split()[1]]
            await self._answer(endpoint, headers, body, writer)
        writer.close()

    async def _answer(
        self, endpoint: Endpoint, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        try:
            Webhook(endpoint.secret).verify(body, headers)
        except WebhookVerificationError:
            endpoint.forged += 1
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
            return
        event_id, message = headers["webhook-id"], orjson.loads(body)
        subject = message["data"].get("ticket")
        if subject is not None and not endpoint.attempts[event_id]:
            endpoint.tried[subject].append(event_id)
        endpoint.attempts[event_id] += 1
        mood = _WELL if self.calm or not endpoint.flaky else self._mood()
        endpoint.moods[mood] += 1
        if mood == "500":
            writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
        elif mood == "503 with Retry-After":
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
        elif mood == "closed within the answer":
            writer.write(b"HTTP/1.1 20")
        elif mood != "closed before the answer":
            if mood == "slow":
                await asyncio.sleep(self._draw.uniform(0.2, 1.5))
            endpoint.repeats += event_id in endpoint.accepted
            endpoint.accepted.setdefault(event_id, message)
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()

    def _mood(self) -> str:
        return self._draw.choices(list(_MOODS), list(_MOODS.values()))[0]
