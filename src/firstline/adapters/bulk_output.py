"""Output that appears whole or not at all, and is gone on with after a crash.

While a run goes on, its output lies beside the final file in a folder, `NAME.partial`: a file that says what the run
is (`run.json`), a file per part, the notes about each part, and a lock. A part counts once its file has its name, which
it is given after its bytes and its notes are on disk. The final file is put together from the parts, so that it is the
same whether a run was interrupted or not, and gets its name last of all.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, Protocol

import orjson

from firstline.ports.bulk import Chunk, Columns

SUFFIX: Final = ".partial"
_RUN: Final = "run.json"
_LOCK: Final = "lock"
_WHOLE: Final = "whole"


class OutputRefused(ValueError):
    """The output cannot be begun or gone on with; the message is a sentence that says what to do."""


class PartWriter(Protocol):
    """Writes parts of a format, and one file out of parts."""

    @property
    def program(self) -> str:
        """What writes the format, with its version: other versions may write other bytes."""
        ...

    def begin(self, path: Path) -> None:
        """Begin a part."""
        ...

    def add(self, chunk: Chunk, columns: Columns) -> None:
        """Add the answers to a chunk to the part."""
        ...

    def end(self) -> None:
        """End the part; its bytes are on disk."""
        ...

    def abandon(self) -> None:
        """Let go of a part that will not be ended; nothing when there is none."""
        ...

    def join(self, parts: Iterable[Path], whole: Path) -> None:
        """Put parts together in one file, whose bytes are on disk; without parts, a file without rows."""
        ...


class PartFolder:
    """Implements `ports.bulk.Output` in a folder beside the final file."""

    def __init__(
        self, out: Path, *, writer: PartWriter, run: Mapping[str, Any], resume: bool = False, force: bool = False
    ) -> None:
        """Begin a run or go on with one.

        Args:
            run: what the run is, as JSON data: only a run that is the same in every member can be gone on with.
            resume: go on where an unfinished run with this output is complete; begin when there is none.
            force: replace the file, and throw away what an unfinished run has left.
        Raises: OutputRefused; OSError when the folder cannot be written.
        """
        self._out = out
        self._writer = writer
        self._folder = out.with_name(out.name + SUFFIX)
        self._run = {**orjson.loads(orjson.dumps(run)), "program": writer.program}
        self._begun = False
        if out.exists() and not force:
            raise OutputRefused(f"{out} exists; --force replaces it.")
        if self._folder.exists() and not (resume or force):
            raise OutputRefused(
                f"An unfinished run has left {self._folder}; --resume goes on with it, --force begins anew."
            )
        self._folder.mkdir(exist_ok=True)
        self._lock = self._locked()
        if not resume:
            self._clear()
        self.committed: list[Mapping[str, Any]] = self._resumed() if resume else []
        if not (self._folder / _RUN).exists():
            self._write(_RUN, self._run)

    def add(self, chunk: Chunk, columns: Columns) -> None:
        """See `ports.bulk.Output`."""
        if not self._begun:
            self._writer.begin(self._part(len(self.committed)).with_suffix(".open"))
            self._begun = True
        self._writer.add(chunk, columns)

    def commit(self, notes: Mapping[str, Any]) -> None:
        """See `ports.bulk.Output`."""
        self._writer.end()
        self._begun = False
        part = self._part(len(self.committed))
        self._write(part.with_suffix(".json").name, notes)
        part.with_suffix(".open").replace(part)
        sync_folder(self._folder)
        self.committed.append(notes)

    def finish(self) -> None:
        """See `ports.bulk.Output`."""
        whole = self._folder / _WHOLE
        self._writer.join((self._part(number) for number in range(len(self.committed))), whole)
        whole.replace(self._out)
        sync_folder(self._out.parent)
        shutil.rmtree(self._folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let another run have the folder; what has not been committed is lost."""
        self._writer.abandon()
        self._lock.close()

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:07d}"

    def _locked(self) -> IO[bytes]:
        # A lock of the process, not of the file description: the processes that decide must not hold it.
        lock = (self._folder / _LOCK).open("ab")
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise OutputRefused(
                f"Another firstline is writing {self._out}; wait for it or name another file."
            ) from None
        return lock

    def _clear(self) -> None:
        for entry in self._folder.iterdir():
            if entry.name != _LOCK:
                entry.unlink()

    def _resumed(self) -> list[Mapping[str, Any]]:
        """The notes of the parts that are complete, after checking that they are of the same run."""
        try:
            before = orjson.loads((self._folder / _RUN).read_bytes())
        except FileNotFoundError:
            self._clear()
            return []
        except orjson.JSONDecodeError:
            before = {}
        others = [name for name in self._run if before.get(name) != self._run[name]]
        if others:
            self.close()
            raise OutputRefused(
                f"{self._folder} was begun with another {_listed(others)}; resume with the same, or begin anew with "
                "--force."
            )
        found: list[Mapping[str, Any]] = []
        while (part := self._part(len(found))).exists():
            found.append(orjson.loads(part.with_suffix(".json").read_bytes()))
        return found

    def _write(self, name: str, data: Mapping[str, Any]) -> None:
        path = self._folder / f"{name}.open"
        with path.open("wb") as file:
            file.write(orjson.dumps(data))
            sync(file)
        path.replace(self._folder / name)


def sync(file: IO[bytes]) -> None:
    """Have everything that was written to a file on disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the names of the files in a folder on disk."""
    with suppress(OSError):  # some file systems know no such thing
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
