"""Backups of what the settings name, and restores into it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from firstline.adapters.backup.archive_reader import Archive, opened
from firstline.adapters.backup.archive_writer import ArchiveWriter
from firstline.adapters.backup.failures import ArchiveDamaged, BackupFailed
from firstline.adapters.backup.job_links import JobLinks, job_links, missing_in
from firstline.adapters.backup.manifest import Manifest
from firstline.adapters.backup.saving import save
from firstline.adapters.backup.snapshot import TABLES, Snapshot, check_file, snapshot
from firstline.adapters.backup.spool_copy import SpoolChanged, SpoolCopy, spool_copy
from firstline.adapters.sealing import KEY_FILE
from firstline.adapters.sql.engine import Database, open_engine, storage_errors
from firstline.bootstrap_stores import DATABASE_NAME, place_of_database, saying_where
from firstline.settings import Settings

__all__ = ["ArchiveDamaged", "BackupFailed", "Made", "Wishes", "make_backup", "verified"]

KNOWN: Final = frozenset(TABLES)
OnRows = Callable[[str, str, int], None]
"""Told what is done (`reads`, `checks`, `writes`), of which table, and how many of its rows are."""

_ATTEMPTS: Final = 40
_MISSING_ATTEMPTS: Final = 3
_PAUSE_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a backup is to hold besides the database."""

    jobs: bool = True
    secret_key: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made or checked.

    Attributes:
        size: bytes of the file.
    """

    path: Path
    manifest: Manifest
    fingerprint: str
    size: int


def make_backup(settings: Settings, target: str, wishes: Wishes, *, on_rows: OnRows) -> Made:
    """Save everything, check what was saved, and only then give it its name.

    Args:
        target: a file that there is not yet, or a folder, also a new one with a slash at its end, which takes one that
            is called by the time.
    Raises: BackupFailed, CannotStart.
    """
    began_at = datetime.now(UTC)
    path = _file_for(target, began_at)
    secret_key = _secret_key(settings) if wishes.secret_key else None
    database = _open(settings)
    try:
        with ExitStack() as stack:
            stack.enter_context(saying_where(settings))
            stack.enter_context(storage_errors())
            stack.enter_context(_saying_what(path))
            links = stack.enter_context(job_links(settings.data_dir)) if wishes.jobs else None
            spool = stack.enter_context(spool_copy(settings.spool_dir)) if settings.spool_dir else None
            writer = ArchiveWriter(path)
            stack.callback(writer.discard)
            with _moment(database, links, spool) as found:
                manifest = save(
                    found,
                    writer,
                    began_at=began_at,
                    jobs=links,
                    spool=spool,
                    secret_key=secret_key,
                    on_rows=lambda table, rows: on_rows("reads", table, rows),
                )
            if settings.database_url is None:
                with database.connect() as connection:
                    check_file(connection)
            archive = Archive(writer.file, KNOWN)
            if archive.manifest != manifest:
                raise ArchiveDamaged(f"{path}: what was written cannot be read again.")
            archive.check(lambda table, rows: on_rows("checks", table, rows))
            size = writer.partial.stat().st_size
            writer.keep()
            return Made(path, manifest, archive.fingerprint, size)
    finally:
        database.dispose()


def verified(path: Path, *, on_rows: OnRows) -> Made:
    """Read a backup from its first to its last byte.

    Raises: BackupFailed; ArchiveDamaged when it is not what it was.
    """
    with opened(path, KNOWN) as archive:
        archive.check(lambda table, rows: on_rows("checks", table, rows))
        return Made(path, archive.manifest, archive.fingerprint, path.stat().st_size)


def _file_for(target: str, began_at: datetime) -> Path:
    """The file to make; folders are made where they are missing.

    Raises: BackupFailed.
    """
    path = Path(target)
    if target.endswith(os.sep) or path.is_dir():
        path /= f"firstline-{began_at:%Y%m%dT%H%M%SZ}.zip"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackupFailed(f"The folder {path.parent} cannot be made: {error.strerror}.") from None
    if path.exists() or path.is_symlink():
        raise BackupFailed(f"{path} is there already; give another name.")
    return path


def _open(settings: Settings) -> Database:
    """The database as it is, with whatever schema it has.

    Raises: BackupFailed, CannotStart.
    """
    if settings.database_url is not None:
        from firstline.adapters.sql.postgres_engine import open_postgres

        place_of_database(settings)
        return open_postgres(settings.database_url.get_secret_value(), timeout_s=settings.database_timeout_seconds)
    path = settings.data_dir / DATABASE_NAME
    if not path.exists():
        raise BackupFailed(f"There is no database at {path}; --data-dir says where it is.")
    return open_engine(path)


def _secret_key(settings: Settings) -> bytes:
    path = settings.data_dir / KEY_FILE
    try:
        return path.read_bytes()
    except OSError as error:
        raise BackupFailed(f"{path} cannot be read: {error.strerror}.") from None


@contextmanager
def _moment(database: Database, links: JobLinks | None, spool: SpoolCopy | None) -> Iterator[Snapshot]:
    """A snapshot that fits the files: again, where files changed just while it began.

    Raises: BackupFailed, StorageUnavailable, OSError.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_S)
        try:
            with ExitStack() as stack:
                if spool is not None:
                    spool.hold()
                if links is not None:
                    links.hold()
                found = stack.enter_context(snapshot(database))
                if spool is not None:
                    spool.check()
                if links is not None:
                    links.hold()
                    if attempt < _MISSING_ATTEMPTS and missing_in(links, found):
                        continue
                kept = stack.pop_all()
        except SpoolChanged:
            continue
        with kept:
            yield found
        return
    raise BackupFailed("The spool is being stored in the database just now. Run the backup again in a moment.")


@contextmanager
def _saying_what(path: Path) -> Iterator[None]:
    """Turn what the system says of files into a sentence.

    Raises: BackupFailed.
    """
    try:
        yield
    except FileExistsError:
        raise BackupFailed(f"{path} is there already; give another name.") from None
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else path
        raise BackupFailed(f"{place} cannot be written: {error.strerror or error}.") from None
