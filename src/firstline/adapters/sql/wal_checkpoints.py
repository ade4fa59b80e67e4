"""Moves what was written from SQLite's write-ahead log to the file beside the writer, a little at a time.

Otherwise the commit that fills the log moves all of it, and whoever waits for that commit waits for tens of
milliseconds: every second or so while a job is worked on. A passive checkpoint waits for nobody and lets nobody wait.
"""

import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

EVERY_S: Final = 0.1


class WalCheckpoints:
    """A thread with a connection of its own."""

    def __init__(self, path: Path) -> None:
        """Args:
        path: of the database file.
        """
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="sqlite-checkpoints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait until it has; blocks for as long as one checkpoint takes, at most."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        seen = 0
        while not self._stop.wait(EVERY_S):
            with suppress(OSError, sqlite3.Error):  # the writer's own checkpoints are still there
                written = self._log.stat().st_mtime_ns
                if written != seen:
                    with closing(sqlite3.connect(self._path, timeout=0, isolation_level=None)) as connection:
                        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                    seen = written
