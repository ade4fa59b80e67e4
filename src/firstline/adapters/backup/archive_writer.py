"""Writes an archive beside its name, and gives it the name at the end."""

import fcntl
import hashlib
import os
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from firstline.adapters.backup.manifest import NAME, Manifest
from firstline.adapters.bulk_output import sync_folder

PARTIAL: Final = ".firstline-partial"
"""What the names of archives end in that are being written."""

SEAL: Final = b"firstline sha256 "
SEAL_BYTES: Final = len(SEAL) + 64

_LEVEL: Final = 1
_CHUNK: Final = 1 << 20


class Member:
    """A file in the archive that is being written, counted and hashed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> None:
        """Append.

        Raises: OSError.
        """
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._hash.hexdigest()


class ArchiveWriter:
    """An archive under a name of its own; `keep` gives it the right one, `discard` removes it."""

    def __init__(self, path: Path) -> None:
        """Begin; what killed writers have left in the folder is removed.

        Args:
            path: where the archive will be.
        Raises: OSError.
        """
        self.path = path
        _remove_left(path.parent)
        self.partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
        handle = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self.file = os.fdopen(handle, "r+b")
        fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._zip = zipfile.ZipFile(self.file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)

    @contextmanager
    def member(self, name: str) -> Iterator[Member]:
        """A file in the archive; one at a time.

        Raises: OSError.
        """
        info = zipfile.ZipInfo(name, date_time=time.gmtime()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o600 << 16
        with self._zip.open(info, "w", force_zip64=True) as file:
            yield Member(file)

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest and the seal, and have all of it on disk.

        Raises: OSError.
        """
        with self.member(NAME) as member:
            member.write(manifest.model_dump_json(indent=1).encode())
        self._zip.comment = bytes(SEAL_BYTES)
        self._zip.close()
        self.file.seek(0, os.SEEK_END)
        end = self.file.tell() - SEAL_BYTES
        found = hash_of(self.file, until=end)
        self.file.seek(end)
        self.file.write(SEAL + found.encode())
        self.file.flush()
        os.fsync(self.file.fileno())

    def keep(self) -> None:
        """Give the archive its name.

        Raises: OSError; FileExistsError when there is such a file by now.
        """
        try:
            os.link(self.partial, self.path)  # which, unlike a rename, replaces nothing
        except FileExistsError:
            raise
        except OSError:  # not on this file system
            if self.path.exists():
                raise FileExistsError from None
            self.partial.rename(self.path)
        else:
            self.partial.unlink()
        sync_folder(self.path.parent)
        self.file.close()

    def discard(self) -> None:
        """Remove what was written, if it was not kept."""
        with suppress(OSError):
            self.partial.unlink(missing_ok=True)
        # What zipfile would write at its end may fail again, and nobody needs it.
        with suppress(OSError, ValueError):
            self._zip.fp = None
            self.file.close()


def hash_of(file: IO[bytes], *, until: int) -> str:
    """SHA-256 of a file's first bytes, in hexadecimal digits.

    Raises: OSError.
    """
    file.seek(0)
    found, left = hashlib.sha256(), until
    while left > 0 and (chunk := file.read(min(_CHUNK, left))):
        found.update(chunk)
        left -= len(chunk)
    return found.hexdigest()


def _remove_left(folder: Path) -> None:
    for left in folder.glob(f".*{PARTIAL}"):
        with suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
            left.unlink()
