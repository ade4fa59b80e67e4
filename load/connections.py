"""Connections that are kept, and answers read from them with as little work as will do."""

import asyncio
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from load.mix import Manner, Request

ANSWER_S: Final = 30.0


class NoAnswer(Exception):
    """The server gave none; the message is the kind of failure."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> "Address":
        """Raises: ValueError for anything but http://host[:port] and https://."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
            raise ValueError(f"{url!r} is no address like http://127.0.0.1:8000")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls)


class Connections:
    """Idle connections to one server; as many as are needed are opened."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._tls = ssl.create_default_context() if address.tls else None
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def status(self, request: Request) -> int:
        """Send a request and read its whole answer.

        Returns: the status, or 0 for a client that has left.
        Raises: NoAnswer.
        """
        try:
            return await _within(self._exchange(request))
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            raise NoAnswer(type(error).__name__) from None

    def close(self) -> None:
        """Close those that are idle."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _exchange(self, request: Request) -> int:
        reader, writer = await self._connection()
        stays = False
        try:
            writer.write(request.data)
            await writer.drain()
            if request.manner is not Manner.WAITS:
                return 0
            status, stays = await _read_answer(reader)
            return status
        finally:
            if stays:
                self._idle.append((reader, writer))
            else:
                writer.close()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._address.host, self._address.port, ssl=self._tls, limit=2**18)


async def _within(answer: Awaitable[int]) -> int:
    async with asyncio.timeout(ANSWER_S):
        return await answer


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Status, and whether the connection stays open."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    if b"\r\ntransfer-encoding: chunked" in head:
        while length := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(length + 2)
        await reader.readexactly(2)
    else:
        _, _, after = head.partition(b"\r\ncontent-length:")
        await reader.readexactly(int(after.partition(b"\r\n")[0] or 0))
    return status, b"\r\nconnection: close" not in head
