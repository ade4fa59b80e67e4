"""Reads an archive, wholly checked before anything of it is believed."""

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final

from firstline.adapters.backup.archive_writer import SEAL, SEAL_BYTES, hash_of
from firstline.adapters.backup.failures import ArchiveDamaged, BackupFailed
from firstline.adapters.backup.manifest import NAME, FilesPart, Manifest, TablePart, read_manifest
from firstline.adapters.backup.row_lines import lines_in, row_of

JOBS: Final = "jobs/"
SPOOL: Final = "spool/"
TABLES: Final = "tables/"
SECRET: Final = "secret.key"

_MAX_MANIFEST: Final = 1 << 20
_MAX_SECRET: Final = 4_096
_CHUNK: Final = 1 << 20
_FILES: Final = {
    JOBS: re.compile(r"jobs/[0-9a-f]{32}/(rows-\d{7}|refs-\d{7}|out-\d{7}-[0-9a-f]{32})"),
    SPOOL: re.compile(r"spool/(\d{12}\.spool|position\.json)"),
}
_PACKED: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ZIP_FAULTS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


class Archive:
    """A backup, opened for reading.

    Attributes:
        fingerprint: SHA-256 of the file up to the seal.
    """

    def __init__(self, file: IO[bytes], known_tables: frozenset[str]) -> None:
        """Check the seal and read the manifest.

        Args:
            known_tables: what tables there may be.
        Raises: ArchiveDamaged, BackupFailed, OSError.
        """
        size = file.seek(0, os.SEEK_END)
        if size < SEAL_BYTES:
            raise ArchiveDamaged("It is no backup of firstline, or cut off.")
        file.seek(size - SEAL_BYTES)
        seal = file.read(SEAL_BYTES)
        if not seal.startswith(SEAL):
            raise ArchiveDamaged("It is no backup of firstline, or cut off.")
        self.fingerprint = hash_of(file, until=size - SEAL_BYTES)
        if seal != SEAL + self.fingerprint.encode():
            raise ArchiveDamaged("It is damaged: its content is not what its seal says.")
        with _damage():
            self._zip = zipfile.ZipFile(file)
            self._members = {info.filename: info for info in self._zip.infolist()}
            if len(self._members) != len(self._zip.infolist()):
                raise ArchiveDamaged("It has two files of one name.")
            if not _PACKED.issuperset(info.compress_type for info in self._members.values()):
                raise ArchiveDamaged("It has a file that is packed as no backup is.")
        self.manifest: Manifest = read_manifest(self._small(NAME, most=_MAX_MANIFEST))
        self._refuse_strangers(known_tables)

    def check(self, on_table: Callable[[str, int], None] = lambda table, rows: None) -> None:
        """Read everything and compare it with the manifest.

        Args:
            on_table: told of each table, and again and again of the rows of it that were read.
        Raises: ArchiveDamaged.
        """
        for name, table in self.manifest.tables.items():
            rows = 0
            for lines in self.lines(name):
                read = row_of(table.shape)
                for line in lines:
                    rows += 1
                    try:
                        read(line)
                    except ValueError as error:
                        raise ArchiveDamaged(f"Row {rows} of {name} cannot be read: {_said(error)}.") from None
                on_table(name, rows)
        for prefix, part in ((JOBS, self.manifest.jobs), (SPOOL, self.manifest.spool)):
            for _, chunks in self.files(prefix, part):
                for _ in chunks:
                    pass

    def lines(self, table: str) -> Iterator[list[bytes]]:
        """The rows of a table as lines, many at a time.

        Raises: ArchiveDamaged, at the end at the latest, when they are not what the manifest says.
        """
        part = self.manifest.tables[table]
        found = _Sum(part)
        for lines in lines_in(found.over(self._chunks(f"{TABLES}{table}.jsonl", most=part.bytes))):
            found.rows += len(lines)
            yield lines
        if not found.fits(part):
            raise ArchiveDamaged(f"{table} is not what the manifest says.")

    def files(self, prefix: str, part: FilesPart | None) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The files of a folder: the name below the folder, and the content, which has to be read before the next one.

        Raises: ArchiveDamaged, at the end at the latest, when they are not what the manifest says.
        """
        if part is None:
            return
        found, count, size = hashlib.sha256(), 0, 0
        for name, info in self._members.items():
            if not name.startswith(prefix):
                continue
            count, size = count + 1, size + info.file_size
            if size > part.bytes:
                break
            found.update(file_head(name, info.file_size))
            yield name.removeprefix(prefix), self._hashed(name, info.file_size, found)
        if (count, size, found.hexdigest()) != (part.files, part.bytes, part.sha256):
            raise ArchiveDamaged(f"The files of {prefix} are not what the manifest says.")

    def secret_key(self) -> bytes | None:
        """The `secret.key` in it, if there is one.

        Raises: ArchiveDamaged.
        """
        return self._small(SECRET, most=_MAX_SECRET) if self.manifest.secret_key else None

    def _hashed(self, name: str, size: int, found: "hashlib._Hash") -> Iterator[bytes]:
        for chunk in self._chunks(name, most=size):
            found.update(chunk)
            yield chunk

    def _small(self, name: str, *, most: int) -> bytes:
        return b"".join(self._chunks(name, most=most))

    def _chunks(self, name: str, *, most: int) -> Iterator[bytes]:
        with _damage(), self._zip.open(self._members[name]) as file:
            while chunk := file.read(_CHUNK):
                most -= len(chunk)
                if most < 0:
                    raise ArchiveDamaged(f"{name} is larger than the manifest says.")
                yield chunk

    def _refuse_strangers(self, known_tables: frozenset[str]) -> None:
        unknown = self.manifest.tables.keys() - known_tables
        if unknown:
            raise BackupFailed("It has tables that this firstline does not know; upgrade firstline.")
        expected = {NAME, *(f"{TABLES}{table}.jsonl" for table in self.manifest.tables)}
        if self.manifest.secret_key:
            expected.add(SECRET)
        if not expected <= self._members.keys():
            raise ArchiveDamaged("It lacks files that its manifest names.")
        for name in self._members.keys() - expected:
            if not any(pattern.fullmatch(name) for pattern in _FILES.values()):
                raise ArchiveDamaged("It has a file that no backup has.")


class _Sum:
    """Rows, bytes and hash of a table while it is read."""

    def __init__(self, part: TablePart) -> None:
        self.rows = 0
        self._bytes = 0
        self._hash = hashlib.sha256()

    def over(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._bytes += len(chunk)
            self._hash.update(chunk)
            yield chunk

    def fits(self, part: TablePart) -> bool:
        return (self.rows, self._bytes, self._hash.hexdigest()) == (part.rows, part.bytes, part.sha256)


def file_head(name: str, size: int) -> bytes:
    """What stands for a file's name and size in the hash of its folder."""
    return f"{name} {size}\n".encode()


@contextmanager
def opened(path: Path, known_tables: frozenset[str]) -> Iterator[Archive]:
    """An archive in a file, whose seal fits; what is damaged in it later is said with the file's name, too.

    Raises: BackupFailed.
    """
    with ExitStack() as stack:
        try:
            archive = Archive(stack.enter_context(path.open("rb")), known_tables)
        except BackupFailed as error:
            raise type(error)(f"{path}: {error}") from None
        except OSError as error:
            raise BackupFailed(f"{path} cannot be read: {error.strerror}.") from None
        try:
            yield archive
        except ArchiveDamaged as error:
            raise ArchiveDamaged(f"{path}: {error}") from None


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except _ZIP_FAULTS:
        raise ArchiveDamaged("It is damaged: its parts cannot be read.") from None


def _said(error: ValueError) -> str:
    return "it is no JSON" if type(error) is not ValueError else str(error)
