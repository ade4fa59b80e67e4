"""Requests to addresses that accounts name: checked, pinned, bounded.

Guarantees of every implementation:

- Nothing is sent to an address that is not public, whatever its name resolves to at that moment; the address that was
  checked is the one that is connected to. Loopback alone may be allowed as well, where that was asked for.
- Redirects are not followed, proxies of the environment not used, certificates always checked.
- A request ends within its time, however slowly the other side answers, and at most a few KiB of the answer are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from firstline.core.destination import DestinationRefused as DestinationRefused


class SendFailure(StrEnum):
    """Why there is no answer."""

    REFUSED = "destination_refused"
    UNRESOLVED = "name_not_resolved"
    UNREACHABLE = "not_connected"
    TLS = "certificate_invalid"
    TIMEOUT = "timeout"
    BROKEN = "connection_lost"


class NotSent(Exception):
    """There is no answer; whether the request arrived is unknown for `TIMEOUT` and `BROKEN`."""

    def __init__(self, failure: SendFailure) -> None:
        super().__init__(failure.value)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Reply:
    """What the other side said; nothing of its body.

    Attributes:
        retry_after_s: how long it asks to be left alone, at least 0, or None.
    """

    status: int
    retry_after_s: float | None = None


class Outbound(Protocol):
    """Checks and sends; see the module's guarantees."""

    async def check(self, url: str) -> None:
        """Whether something could be sent to a URL now.

        Raises: DestinationRefused.
        """
        ...

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send a body.

        Raises: NotSent.
        """
        ...

    async def close(self) -> None:
        """End what is under way."""
        ...
