"""The fake as tests use it: in a thread of its own, for as long as a `with` block lasts."""

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Literal, Self

from firstline.delivery.fake_provider.script import Behaviour, Fault, Script, Step
from firstline.delivery.fake_provider.server import FakeServer, Received

ProviderName = Literal["gemini", "openai", "anthropic", "compatible"]

BASE_PATHS: Final[Mapping[str, str]] = {"gemini": "", "openai": "/v1", "anthropic": "", "compatible": "/v1"}
"""What a client wants behind the address of a profile, by provider."""


class FakeProvider:
    """A fake of all providers on a free port of loopback; enter it to start it.

    Leaving the block ends every connection, hanging ones too. All methods may be called from any thread.
    """

    def __init__(
        self,
        *,
        own_ports: Sequence[str] = (),
        behaviour: Behaviour = "sensible",
        port: int = 0,
        keep: int = 10_000,
    ) -> None:
        """Args:
        own_ports: profiles with a port of their own, which can refuse or hang at connect while others answer.
        behaviour: of all profiles until a script says otherwise.
        port: 0 takes a free one.
        keep: so many of the last requests stay in `requests`.
        """
        self._server = FakeServer(port=port, own_ports=dict.fromkeys(own_ports, 0), keep=keep)
        self._behaviour = behaviour
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-provider", daemon=True)
        self._thread.start()
        try:
            self._run(self._server.open())
            self.script(behaviour=self._behaviour)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._stop()

    @property
    def base_url(self) -> str:
        """The address of the port of all, without a path."""
        return self._server.url()

    def url(self, provider: ProviderName, *, profile: str | None = None) -> str:
        """The base URL that a client of a provider is given.

        Args:
            profile: whose script is played; the provider's name by default.
        """
        return self._server.url(provider if profile is None else profile) + BASE_PATHS[provider]

    @property
    def requests(self) -> list[Received]:
        """What has come in, oldest first."""
        with self._server.heard:
            return list(self._server.log)

    def received(self, profile: str) -> list[Received]:
        """What has come in for one profile, oldest first."""
        return [each for each in self.requests if each.profile == profile]

    def count(self, profile: str | None = None) -> int:
        """How many requests have come in, for one profile or all; the log's bound does not bound it."""
        with self._server.heard:
            return self._server.counts.total() if profile is None else self._server.counts[profile]

    def abandoned(self, profile: str | None = None) -> int:
        """How many requests lost their client, or their connection, before they were answered."""
        with self._server.heard:
            return self._server.abandoned.total() if profile is None else self._server.abandoned[profile]

    def wait_for(self, count: int, *, profile: str | None = None, timeout_s: float = 10.0) -> bool:
        """Wait until so many requests have come in; False if they have not. Blocks the calling thread."""
        with self._server.heard:
            return self._server.heard.wait_for(lambda: self.count(profile) >= count, timeout_s)

    def wait_abandoned(self, count: int, *, profile: str | None = None, timeout_s: float = 10.0) -> bool:
        """Wait until so many requests have lost their client; False if they have not. Blocks the calling thread."""
        with self._server.heard:
            return self._server.heard.wait_for(lambda: self.abandoned(profile) >= count, timeout_s)

    def script(self, *steps: Step | Fault, profile: str = "", **options: Any) -> None:
        """Begin a script in place of the one in force; without steps the fake is healthy.

        Args:
            steps: in order; a fault alone befalls all requests from then on.
            profile: that it is for; empty is for all that have no script of their own.
            options: of `Script`: latency, behaviour, seed.
        Raises: ValueError.
        """
        options = {"behaviour": self._behaviour, **options}
        script = Script(tuple(Step(step) if isinstance(step, Fault) else step for step in steps), **options)
        self._run(self._server.play(script, profile=profile))

    def release(self) -> None:
        """Let every hanging answer go on; it then ends well, if somebody still listens."""
        self._run(self._release())

    def forget(self) -> None:
        """Empty `requests` and all counts."""
        self._server.forget()

    def _run(self, what: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            what.close()
            raise RuntimeError("the fake provider runs only inside its with block")
        asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=30)

    async def _release(self) -> None:
        self._server.release()

    async def _close(self) -> None:
        self._server.close()
        await asyncio.sleep(0)

    def _stop(self) -> None:
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None


@contextmanager
def refused_url() -> Iterator[str]:
    """An address on loopback where nothing listens, kept free of others inside the block."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{kept.getsockname()[1]}"
