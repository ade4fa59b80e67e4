"""Files put together beside their place and then moved there, with what was there moved aside; or none of it."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from firstline.adapters.backup.failures import BackupFailed
from firstline.adapters.bulk_output import sync_folder
from firstline.adapters.spool.folder import LOCK

_PREFIX: Final = ".restore-"


class Moves:
    """Renames that are made together, and undone together when one of them fails."""

    def __init__(self) -> None:
        self._made: list[tuple[Path, Path]] = []

    def move(self, source: Path, target: Path) -> None:
        """Move a file or folder to a name that is free.

        Raises: OSError.
        """
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        source.rename(target)
        self._made.append((source, target))

    def undo(self) -> None:
        """Move everything back."""
        for source, target in reversed(self._made):
            with suppress(OSError):
                target.rename(source)
        self._made.clear()

    def sync(self) -> None:
        """Have the names on disk."""
        for folder in {path.parent for pair in self._made for path in pair if path.parent.is_dir()}:
            sync_folder(folder)


@contextmanager
def moves() -> Iterator[Moves]:
    """Renames that are undone when the block fails or is interrupted."""
    found = Moves()
    try:
        yield found
    except BaseException:
        found.undo()
        raise


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A folder of its own for files that will be moved into this one; removed at the end with what is left in it.

    Whoever calls it holds the folder, so those that are there already are of commands that were killed.

    Raises: OSError.
    """
    for left in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def held_spool(folder: Path | None) -> Iterator[None]:
    """No server uses the spool meanwhile; nothing where there is none.

    Raises: BackupFailed, OSError.
    """
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BackupFailed(f"A firstline server is using the spool {folder}. Stop it first.") from None
        yield


def write_file(path: Path, chunks: Iterable[bytes]) -> None:
    """A file for its user alone, on disk.

    Raises: OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
