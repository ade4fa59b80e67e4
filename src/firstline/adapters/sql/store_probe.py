"""Whether verdicts can be stored now, measured by a write and a read."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy import Connection, delete, insert

from firstline.adapters.sql.sql_storage import SqlStorage
from firstline.adapters.sql.tables import versions
from firstline.ports.journal import JournalUnavailable
from firstline.ports.storage import StorageUnavailable

FRESH_S: Final = 1.0
"""An answer is given again for so long, so that asking often costs nothing."""

_KIND: Final = "probe"
_BODY: Final = "0" * 32_768


class StoreProbe:
    """Writes and reads; a full disk, a locked file or a server that is gone shows within a second of the next question.

    The write has to go the way that verdicts go.
    """

    def __init__(self, write: Callable[[], Awaitable[object]], storage: SqlStorage) -> None:
        self._write = write
        self._storage = storage
        self._asked_at = float("-inf")
        self._answer = False

    async def __call__(self) -> bool:
        """Whether a write and a read worked within the last `FRESH_S` seconds."""
        now = time.monotonic()
        if now - self._asked_at < FRESH_S:
            return self._answer
        self._asked_at = now
        try:
            await self._write()
            self._answer = await self._storage.ping()
        except (JournalUnavailable, StorageUnavailable):
            self._answer = False
        return self._answer


def write_a_page(connection: Connection) -> None:
    """Replace a row of the size of a small group, on a file that may not be able to grow."""
    connection.execute(delete(versions).where(versions.c.kind == _KIND))
    connection.execute(insert(versions).values(kind=_KIND, content_hash=_KIND, body=_BODY, created_at_us=0))
