"""A port of loopback: open, refusing, or so full that connecting hangs."""

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from firstline.delivery.fake_provider.connection import Connection
from firstline.delivery.fake_provider.script import Fault


class NotLoopback(ValueError):
    """The fake was told to listen where others could reach it."""


@dataclass
class Port:
    """A port, kept for the fake's whole life even while nothing listens on it.

    Attributes:
        profile: that it belongs to; empty for the port of all.
    """

    profile: str
    host: str
    number: int
    connections: set[Connection] = field(default_factory=set)
    fault: Fault | None = None
    _kept: socket.socket | None = None
    _server: asyncio.Server | None = None
    _full: list[socket.socket] = field(default_factory=list)

    def keep(self) -> None:
        """Take the port; a number of 0 becomes that of a free one."""
        self._kept = self._bound()
        self.number = self._kept.getsockname()[1]

    async def open(self, handle: Any, lost: Any) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        sock = self._bound()
        sock.setblocking(False)

        def connect() -> Connection:
            return Connection(handle, opened=self.connections.add, lost=lost)

        self._server = await loop.create_server(connect, sock=sock, backlog=1_024)

    def refuse(self) -> None:
        """Stop listening, and reset the connections there are."""
        self.shut()
        for connection in tuple(self.connections):
            connection.reset()

    def fill(self) -> None:
        """Listen without ever accepting, the queue full, so that connecting hangs. Answers owed are the last."""
        self.shut()
        for connection in tuple(self.connections):
            connection.close_when_answered()
        sock = self._bound()
        sock.listen(0)
        self._full.append(sock)
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect((self.host, self.number))
            self._full.append(filler)

    def shut(self) -> None:
        """Stop listening; the port stays taken, connections stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for sock in self._full:
            sock.close()
        self._full.clear()

    def give_up(self) -> None:
        """Stop listening and give the port back."""
        self.refuse()
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _bound(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.host, self.number))
        except OSError:
            sock.close()
            raise
        return sock


def is_loopback(host: str) -> bool:
    """Does a name or address mean this machine alone?"""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
