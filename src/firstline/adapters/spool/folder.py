"""The files of a spool: segments that are appended to, and how far they have been stored.

Frames go into `000000000001.spool` and so on. `position.json` says from where on nothing is stored yet, and under which
mark the next part is being stored, if one is. Both are on disk before the step that relies on them. All methods block;
they may be called from several threads.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import orjson

from firstline.adapters.spool.frames import Frame, frames_in

SEGMENT_BYTES: Final = 16 << 20
READ_BYTES: Final = 4 << 20
SUFFIX: Final = ".spool"
POSITION: Final = "position.json"
LOCK: Final = "spool.lock"


class SpoolUnusable(Exception):
    """The spool cannot be used at all; the message says why, for people."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames that follow each other in one segment, from where nothing is stored yet.

    Attributes:
        mark: under which they may have been stored already; None where that was not tried.
    """

    segment: int
    frames: Sequence[Frame]
    mark: str | None

    @property
    def until(self) -> int:
        """Offset of the byte after the last frame."""
        return self.frames[-1].until


@dataclass(slots=True)
class _Position:
    segment: int = 1
    offset: int = 0
    until: int = 0
    mark: str | None = None


class SpoolFolder:
    """A folder that one server keeps frames in."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Open the folder, make it if it is missing, and cut what a dead server has not written wholly.

        Raises: SpoolUnusable.
        """
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._guard = threading.Lock()
        self._sizes: dict[int, int] = {}
        self._file: IO[bytes] | None = None
        self._position = _Position()
        self.records = 0
        """Frames that are not stored yet."""
        self.damaged = 0
        """Bytes that were cut although others follow them; kept beside under `.damaged`."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (folder / LOCK).open("ab")
        except OSError as error:
            raise SpoolUnusable(f"The spool folder {folder} cannot be used: {error.strerror}.") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise SpoolUnusable(
                f"Another firstline server is using the spool {folder}. Give this one a FIRSTLINE_SPOOL_DIR of its own."
            ) from None
        try:
            self._recover()
        except OSError as error:
            self._lock.close()
            raise SpoolUnusable(f"The spool {folder} cannot be read: {error.strerror}.") from None
        except (ValueError, TypeError, KeyError):
            self._lock.close()
            raise SpoolUnusable(f"{folder / POSITION} is damaged; move the spool away to start.") from None

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(self._sizes.values())

    def append(self, frames: Sequence[bytes]) -> None:
        """Make frames durable; all of them or, on an error, none.

        Raises: OSError.
        """
        data = b"".join(frames)
        with self._guard:
            number = max(self._sizes, default=self._position.segment)
            if self._sizes.get(number, 0) >= self._segment_bytes:
                number += 1
                self._close_file()
            before = self._sizes.get(number, 0)
            if self._file is None:
                self._file = self._path(number).open("ab", buffering=0)
                _sync_folder(self._folder)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
            except OSError:
                self._undo(number, before)
                raise
            self._sizes[number] = before + len(data)
            self.records += len(frames)

    def read(self, most: int) -> Batch | None:
        """The next frames to store, at most so many; exactly those of before while it is unknown what came of them.

        None when all are stored; the segments are removed then.

        Raises: OSError.
        """
        with self._guard:
            while True:
                position = self._position
                if position.segment not in self._sizes:
                    return None
                size = self._sizes[position.segment]
                if position.offset >= size:
                    self._next_segment()
                    continue
                with self._path(position.segment).open("rb") as file:
                    file.seek(position.offset)
                    wanted = position.until - position.offset if position.mark else READ_BYTES
                    data = file.read(min(wanted, size - position.offset))
                    frames = list(frames_in(data, at=position.offset))
                    if not frames:  # one that is larger than what was read
                        data += file.read(size - position.offset - len(data))
                        frames = list(frames_in(data, at=position.offset))
                if not frames:
                    raise OSError("a segment was damaged while the server ran")
                return Batch(position.segment, frames if position.mark else frames[:most], position.mark)

    def begin(self, batch: Batch, *, mark: str) -> None:
        """Remember that a batch is about to be stored under a mark.

        Raises: OSError.
        """
        with self._guard:
            self._move(_Position(batch.segment, self._position.offset, batch.until, mark))

    def forget_mark(self) -> None:
        """The batch that was begun was not stored, and never will be under its mark.

        Raises: OSError.
        """
        with self._guard:
            self._move(_Position(self._position.segment, self._position.offset))

    def done(self, batch: Batch) -> None:
        """A batch is stored.

        Raises: OSError.
        """
        with self._guard:
            self._move(_Position(batch.segment, batch.until))
            self.records -= len(batch.frames)

    def set_aside(self, batch: Batch, frames: Sequence[bytes]) -> None:
        """Keep frames that the store refuses for good in a file that nothing reads, instead of storing them.

        Raises: OSError.
        """
        with (self._folder / "refused.frames").open("ab") as file:
            file.write(b"".join(frames))
            file.flush()
            os.fsync(file.fileno())
        self.done(batch)

    def close(self) -> None:
        """Give the folder free."""
        with self._guard:
            self._close_file()
            self._lock.close()

    def _recover(self) -> None:
        path = self._folder / POSITION
        if path.exists():
            found = orjson.loads(path.read_bytes())
            self._position = _Position(found["segment"], found["offset"], found["until"], found["mark"])
        numbers = sorted(int(found.stem) for found in self._folder.glob(f"*{SUFFIX}") if found.stem.isdecimal())
        for number in numbers:
            if number < self._position.segment:
                self._path(number).unlink()
                continue
            start = self._position.offset if number == self._position.segment else 0
            size = self._path(number).stat().st_size
            whole = start
            with self._path(number).open("rb") as file:
                file.seek(start)
                for frame in frames_in(file.read(), at=start):
                    whole = frame.until
                    self.records += 1
            if whole < size:
                self._cut(number, whole, keeps=number != numbers[-1])
            self._sizes[number] = whole
        if self._sizes and self._position.segment not in self._sizes:
            self._position = _Position(min(self._sizes))

    def _cut(self, number: int, whole: int, *, keeps: bool) -> None:
        """Cut a segment after its last whole frame. The end of the last one was never acknowledged."""
        path = self._path(number)
        if keeps:
            with path.open("rb") as file:
                file.seek(whole)
                rest = file.read()
            path.with_suffix(".damaged").write_bytes(rest)
            self.damaged += len(rest)
        with path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())

    def _undo(self, number: int, size: int) -> None:
        """Take back what was not written wholly; where even that fails, what comes goes into another segment."""
        try:
            if self._file is not None:
                self._file.truncate(size)
            self._sizes[number] = size
        except OSError:
            self._sizes[number] = size
            self._sizes[number + 1] = 0
            with contextlib.suppress(OSError):
                self._path(number + 1).touch()
            self._close_file()

    def _next_segment(self) -> None:
        """Go on behind a segment that is stored wholly, and remove it."""
        number = self._position.segment
        if number == max(self._sizes):
            self._close_file()
        self._move(_Position(number + 1))
        del self._sizes[number]
        self._path(number).unlink(missing_ok=True)

    def _move(self, position: _Position) -> None:
        path = self._folder / POSITION
        fresh = self._folder / "position.new"
        with fresh.open("wb") as file:
            file.write(
                orjson.dumps(
                    {
                        "segment": position.segment,
                        "offset": position.offset,
                        "until": position.until,
                        "mark": position.mark,
                    }
                )
            )
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync_folder(self._folder)
        self._position = position

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}{SUFFIX}"

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
