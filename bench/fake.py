"""The fake of the providers, as a process of its own, and how it is told to fail."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from bench.servers import free_port, running

LATENCY_S: Final = 0.08
"""Of a healthy provider; both have the same."""

PRIMARY: Final = "gemini"
FALLBACK: Final = "openai"


@dataclass(frozen=True, slots=True)
class Fake:
    """A running fake, the primary on a port of its own, so that connecting to it can fail."""

    port: int
    primary_port: int

    @property
    def primary_url(self) -> str:
        """Base URL of Gemini."""
        return f"http://127.0.0.1:{self.primary_port}/p/{PRIMARY}"

    @property
    def fallback_url(self) -> str:
        """Base URL of OpenAI."""
        return f"http://127.0.0.1:{self.port}/p/{FALLBACK}/v1"

    def environment(self, *, primary: bool = True) -> dict[str, str]:
        """Variables with which firstline asks this fake."""
        asked = {"OPENAI_API_KEY": "fake", "OPENAI_BASE_URL": self.fallback_url}
        if primary:
            asked |= {"GEMINI_API_KEY": "fake", "GEMINI_BASE_URL": self.primary_url}
        return asked


@contextmanager
def fake(*, cores: Sequence[int], latency_s: float = LATENCY_S) -> Iterator[Fake]:
    """The fake, healthy."""
    found = Fake(free_port(), free_port())
    command = [
        *(sys.executable, "-m", "firstline.delivery.cli", "dev", "fake-provider", "--latency", f"{latency_s:g}"),
        *("--port", str(found.port), "--own-port", f"{PRIMARY}={found.primary_port}"),
    ]
    with running(command, found.port, cores=cores):
        yield found


class Control:
    """What the fake is told, and what it has counted."""

    def __init__(self, client: httpx2.AsyncClient, fake: Fake) -> None:
        self._client = client
        self._base = f"http://127.0.0.1:{fake.port}/_fake"

    async def play(self, script: Mapping[str, Any]) -> None:
        """Put a script of the primary; without steps it is healthy.

        Raises: RuntimeError if the fake refuses it.
        """
        reply = await self._client.put(
            f"{self._base}/script", json={"latency": LATENCY_S, **script, "profile": PRIMARY}
        )
        if reply.status_code != 200:
            raise RuntimeError(f"the fake refused a script: {reply.text}")

    async def forget(self) -> None:
        """Count from 0 again."""
        await self._client.delete(f"{self._base}/requests")

    async def reached(self) -> int:
        """Requests to the primary so far."""
        reply = await self._client.get(f"{self._base}/requests", params={"profile": "-"})  # counts only, no bodies
        return int(reply.json()["counts"].get(PRIMARY, 0))
