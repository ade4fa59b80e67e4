"""Whether any process has changed accounts, keys or what accounts set for themselves.

Triggers count such changes in the table `changes`, in the transaction that makes them, whoever makes it. Each server
looks at the count every 250 ms. That needs one connection and no more, works through a pooler, and finds out by itself
that the connection is dead, which waiting for a notification does not.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import asyncpg  # type: ignore[import-untyped]  # asyncpg has no types

from firstline.adapters.sql.postgres_engine import APPLICATION

POLL_S: Final = 0.25
TIMEOUT_S: Final = 2.0
RECONNECT_S: Final = 1.0
_COUNT: Final = "SELECT coalesce(sum(number), 0)::int8 FROM changes"


class PostgresChanges:
    """Looks at the count of changes until closed."""

    def __init__(self, url: str, *, on_change: Callable[[], None]) -> None:
        """Args:
        on_change: called in the event loop after a change; where the database was gone, once it is back.
        """
        self._url = url
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look; call from the event loop."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        seen: int | None = None
        while True:
            connection = None
            try:
                connection = await asyncpg.connect(
                    self._url,
                    timeout=TIMEOUT_S,
                    command_timeout=TIMEOUT_S,
                    statement_cache_size=0,
                    server_settings={"application_name": f"{APPLICATION} changes"},
                )
                while True:
                    count = await connection.fetchval(_COUNT)
                    if seen is not None and count != seen:
                        self._on_change()
                    seen = count
                    await asyncio.sleep(POLL_S)
            except Exception:  # whatever a connection dies of, revoked keys must be heard of again
                await asyncio.sleep(RECONNECT_S)
            finally:
                if connection is not None:
                    connection.terminate()
