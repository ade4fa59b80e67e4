"""A server in this process: the real application on its real store, spoken to through ASGI, with a clock to set."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx
import pytest

from firstline import bootstrap
from firstline.adapters.trainer import DirectTrainer
from firstline.bootstrap import App, Engine
from firstline.bootstrap_stores import DATABASE_NAME
from firstline.core.api_key import KeyKind, Scope
from firstline.core.policy import Policy
from firstline.core.taxonomy import Contract
from firstline.delivery.http.app import create_asgi
from firstline.settings import Environment, load_settings

Result = TypeVar("Result")

START_US = 1_795_000_000_500_000
"""Half a second into a minute of November 2026."""


class FakeClock:
    """Implements `ports.clock.Clock`; stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.us = START_US

    def now_us(self) -> int:
        return self.us

    def advance(self, seconds: float) -> None:
        self.us += int(seconds * 1_000_000)


class Server:
    """An application that runs on an event loop of its own thread; closes when its context ends."""

    def __init__(self, data_dir: Path, engine: Engine, **settings: Any) -> None:
        self.clock = FakeClock()
        given = {"data_dir": data_dir, "access_log": False, "log_level": "error", **settings}
        self.settings = load_settings(env_file=None, **given)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bootstrap, "SystemClock", lambda: self.clock)
            patch.setattr(bootstrap, "ProcessTrainer", lambda model, **_: DirectTrainer(model))
            if not (self.settings.rules_dir or self.settings.model_file):
                policy = Policy(self.settings.low_confidence_threshold, self.settings.review_probability)
                same = Engine(engine.classifier, engine.rules, engine.book, policy)
                patch.setattr(bootstrap, "build_engine", lambda _: same)
            self.app: App = bootstrap.build(self.settings)
        self.asgi = create_asgi(self.app)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server", daemon=True)
        self._stop: asyncio.Event | None = None
        self._lifespan: Future[None] | None = None

    def __enter__(self) -> "Server":
        self._thread.start()
        started = threading.Event()
        self._lifespan = asyncio.run_coroutine_threadsafe(self._live(started), self._loop)
        self._lifespan.add_done_callback(lambda _: started.set())
        started.wait()
        if self._lifespan.done():
            self._lifespan.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop as a server does at its end; closing twice is allowed."""
        if self._loop.is_closed():
            return
        if self._stop is not None and self._lifespan is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._lifespan.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _live(self, started: threading.Event) -> None:
        """The server's side of the lifespan protocol."""
        self._stop = asyncio.Event()
        asked = False

        async def receive() -> dict[str, str]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "lifespan.startup"}
            assert self._stop is not None
            await self._stop.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: Mapping[str, Any]) -> None:
            assert not message["type"].endswith("failed"), message
            if message["type"] == "lifespan.startup.complete":
                started.set()

        await self.asgi({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)  # type: ignore[arg-type]

    def run(self, work: Awaitable[Result]) -> Result:
        """Await something on the server's loop."""

        async def waiting() -> Result:
            return await work

        return asyncio.run_coroutine_threadsafe(waiting(), self._loop).result()

    def call(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        body: Any = None,
        content: bytes | str | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        client: str = "127.0.0.1",
    ) -> httpx.Response:
        """One request and its answer.

        Args:
            key: sent as X-API-Key.
            body: sent as JSON, without a Content-Type.
            content: sent as it is.
            client: address that it comes from.
        """
        return self.run(self.send(method, path, key=key, body=body, content=content, headers=headers, client=client))

    async def send(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        body: Any = None,
        content: bytes | str | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        client: str = "127.0.0.1",
    ) -> httpx.Response:
        """The same, on the server's loop."""
        transport = httpx.ASGITransport(self.asgi, client=(client, 40_000))
        sent = httpx.Headers(headers)
        if key is not None:
            sent["X-API-Key"] = key
        if body is not None:
            content = json.dumps(body)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client_:
            return await client_.request(method, path, content=content, headers=sent)

    def get(self, path: str, **given: Any) -> httpx.Response:
        """GET."""
        return self.call("GET", path, **given)

    def post(self, path: str, body: Any = None, **given: Any) -> httpx.Response:
        """POST."""
        return self.call("POST", path, body=body, **given)

    def put(self, path: str, body: Any = None, **given: Any) -> httpx.Response:
        """PUT."""
        return self.call("PUT", path, body=body, **given)

    def key(
        self,
        email: str = "someone@example.com",
        *,
        plan: str = "free",
        catalogue: Contract = Contract.CLASSIFIER,
        kind: KeyKind = KeyKind.CLASSIFIER,
        scope: Scope = Scope.TRIAGE,
    ) -> str:
        """A key that an operator has made."""
        new = self.run(
            self.app.accounts.create_key(
                email, catalogue=catalogue, plan=plan, name="test", kind=kind, actor="cli", scope=scope
            )
        )
        self.app.access.forget()
        return new.secret

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database holds, read by another connection."""
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(self.settings.data_dir / DATABASE_NAME)) as connection:
            return connection.execute(query).fetchall()


Serve = Callable[..., Server]
PRODUCTION = Environment.PRODUCTION
