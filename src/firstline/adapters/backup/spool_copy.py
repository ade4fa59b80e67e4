"""What a spool holds and the database does not, copied while its server runs."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import orjson

from firstline.adapters.spool.folder import POSITION, SUFFIX
from firstline.adapters.spool.frames import frames_in

_PREFIX: Final = ".backup-"


class SpoolChanged(Exception):
    """What the spool held is being stored in the database just now."""


class SpoolCopy:
    """A spool as it was when it was held.

    A snapshot that begins afterwards, and before the position changes, lacks exactly these records; a part that was
    just being stored is settled by its mark, which the snapshot has or has not.
    """

    def __init__(self, spool: Path, folder: Path) -> None:
        self._spool = spool
        self._folder = folder
        self._position: dict[str, Any] = {}
        self._sizes: dict[int, int] = {}
        self.records = 0

    def hold(self) -> None:
        """Hold what is there now, instead of what was held before.

        Raises: SpoolChanged, OSError.
        """
        for old in self._folder.iterdir():
            old.unlink()
        self._position, self._sizes, self.records = self._read_position(), {}, 0
        for path in sorted(self._spool.glob(f"*{SUFFIX}")):
            if path.stem.isdecimal() and int(path.stem) >= self._position["segment"]:
                try:
                    os.link(path, self._folder / path.name)
                    self._sizes[int(path.stem)] = path.stat().st_size
                except FileNotFoundError:
                    raise SpoolChanged from None

    def check(self) -> None:
        """Nothing where no record was stored since it was held.

        Raises: SpoolChanged.
        """
        if self._read_position() != self._position:
            raise SpoolChanged

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The files of a spool that begins with the first record that is not stored.

        Raises: OSError.
        """
        first, begins, mark = self._position["segment"], self._position["offset"], self._position["mark"]
        found = False
        for number, size in sorted(self._sizes.items()):
            begin = begins if number == first else 0
            with (self._folder / f"{number:012d}{SUFFIX}").open("rb") as file:
                file.seek(begin)
                data = file.read(max(size - begin, 0))
            whole = 0
            for frame in frames_in(data, at=0):
                whole = frame.until
                self.records += 1
            if whole:
                found = True
                yield f"{number:012d}{SUFFIX}", data[:whole]
        if found:
            until = self._position["until"] - begins if mark is not None else 0
            yield POSITION, orjson.dumps({"segment": first, "offset": 0, "until": until, "mark": mark})

    def _read_position(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = orjson.loads((self._spool / POSITION).read_bytes())
        except FileNotFoundError:
            return {"segment": 1, "offset": 0, "until": 0, "mark": None}
        return found


@contextmanager
def spool_copy(spool: Path) -> Iterator[SpoolCopy | None]:
    """A copy of a spool that can be held; None where there is no such folder.

    Raises: OSError.
    """
    if not spool.is_dir():
        yield None
        return
    for left in spool.glob(f"{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=spool))
    try:
        yield SpoolCopy(spool, folder)
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)
