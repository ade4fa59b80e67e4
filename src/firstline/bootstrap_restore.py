"""Backups put back into what the settings name: all of one, or nothing."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from firstline.adapters.backup.archive_reader import JOBS, SPOOL, Archive, opened
from firstline.adapters.backup.failures import BackupFailed
from firstline.adapters.backup.loading import check_revision
from firstline.adapters.backup.manifest import Manifest
from firstline.adapters.backup.placing import beside, held_spool, moves, write_file
from firstline.adapters.backup.snapshot import TABLES
from firstline.adapters.backup.sqlite_restore import build_sqlite, release_sqlite
from firstline.adapters.job_files import FOLDER
from firstline.adapters.sealing import KEY_FILE
from firstline.adapters.spool.folder import POSITION, SUFFIX
from firstline.adapters.sql.engine import storage_errors
from firstline.bootstrap_stores import DATABASE_NAME, database_path, hold_folder, saying_where
from firstline.settings import Settings

__all__ = ["BackupFailed", "Options", "Restored", "restore_backup"]

OnRows = Callable[[str, str, int], None]
"""Told what is done (`checks`, `writes`), of which table, and how many of its rows are."""

_KNOWN: Final = frozenset(TABLES)
_OF_SQLITE: Final = (DATABASE_NAME, f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm")


@dataclass(frozen=True, slots=True)
class Options:
    """How to restore.

    Attributes:
        force: whether what is there is moved aside rather than refused.
        webhooks: whether endpoints go on being sent to.
    """

    force: bool = False
    webhooks: bool = True


@dataclass(frozen=True, slots=True)
class Restored:
    """A restore that was done.

    Attributes:
        aside: where what was there lies now: folders, and the name of a schema; nothing where there was nothing.
        changed: texts in which a NUL was replaced.
    """

    manifest: Manifest
    fingerprint: str
    aside: tuple[str, ...]
    changed: int


def restore_backup(settings: Settings, source: Path, options: Options, *, on_rows: OnRows) -> Restored:
    """Check a backup wholly, and put it into the database and folders that the settings name.

    Raises: BackupFailed, CannotStart.
    """
    with opened(source, _KNOWN) as archive:
        check_revision(archive)
        archive.check(lambda table, rows: on_rows("checks", table, rows))
        if archive.manifest.spool is not None and archive.manifest.spool.records and settings.spool_dir is None:
            raise BackupFailed(
                f"The backup holds {archive.manifest.spool.records} records of a spool. Set FIRSTLINE_SPOOL_DIR to a "
                "folder for them; the server stores them at its start."
            )
        with ExitStack() as stack:
            stack.enter_context(saying_where(settings))
            stack.enter_context(storage_errors())
            database_path(settings.data_dir)
            stack.callback(hold_folder(settings.data_dir).close)
            stack.enter_context(_saying_what(settings.data_dir))
            stack.enter_context(held_spool(settings.spool_dir))
            _check_space(settings.data_dir, archive, with_tables=settings.database_url is None)
            return _Restore(settings, archive, options, lambda table, rows: on_rows("writes", table, rows)).run()


class _Restore:
    """One restore; the folders are held."""

    def __init__(
        self, settings: Settings, archive: Archive, options: Options, on_rows: Callable[[str, int], None]
    ) -> None:
        self._settings = settings
        self._archive = archive
        self._options = options
        self._on_rows = on_rows
        self._stamp = f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"

    def run(self) -> Restored:
        """Everything beside its place, then into it."""
        data_dir, spool_dir = self._settings.data_dir, self._settings.spool_dir
        there = self._there()
        if there and not self._options.force:
            raise BackupFailed(
                f"{there[0]} is there already. Name another folder, or give --force, which moves what is there aside."
            )
        with ExitStack() as stack:
            new = stack.enter_context(beside(data_dir))
            for name, chunks in self._archive.files(JOBS, self._archive.manifest.jobs):
                write_file(new / FOLDER / name, chunks)
            secret, place = self._archive.secret_key(), data_dir / KEY_FILE
            if secret is not None and (place in there or not place.exists()):
                write_file(new / KEY_FILE, (secret,))
            new_spool = stack.enter_context(beside(spool_dir)) if spool_dir is not None else None
            if new_spool is not None:
                for name, chunks in self._archive.files(SPOOL, self._archive.manifest.spool):
                    write_file(new_spool / name, chunks)
            with self._database(new) as (changed, schema), moves() as made:
                for path in there:
                    if path.exists():  # SQLite's log is gone once nobody has the file open
                        made.move(path, path.parent / self._stamp / path.name)
                if new_spool is not None and spool_dir is not None:
                    for path in sorted(new_spool.iterdir()):
                        made.move(path, spool_dir / path.name)
                # The database last: where there is none, nothing was restored.
                for path in sorted(new.iterdir(), key=lambda path: path.name == DATABASE_NAME):
                    made.move(path, data_dir / path.name)
                made.sync()
        folders = dict.fromkeys(str(path.parent / self._stamp) for path in there)
        aside = (*folders, *((f"schema {schema}",) if schema else ()))
        return Restored(self._archive.manifest, self._archive.fingerprint, aside, changed)

    def _there(self) -> list[Path]:
        """What would be in the way, or be mixed with what is restored."""
        data_dir, spool_dir = self._settings.data_dir, self._settings.spool_dir
        found = []
        if self._settings.database_url is None:
            found += [data_dir / name for name in _OF_SQLITE if (data_dir / name).exists()]
        jobs = data_dir / FOLDER
        if jobs.exists() and any(jobs.iterdir()):
            found.append(jobs)
        secret = data_dir / KEY_FILE
        if self._archive.manifest.secret_key and secret.exists() and secret.read_bytes() != self._archive.secret_key():
            found.append(secret)
        if spool_dir is not None:
            segments = sorted(path for path in spool_dir.glob(f"*{SUFFIX}") if path.stem.isdecimal())
            if segments:
                found += [*segments, *(path for path in (spool_dir / POSITION,) if path.exists())]
        return found

    @contextmanager
    def _database(self, new: Path) -> Iterator[tuple[int, str | None]]:
        """The database, in place when the block ends without an error; texts changed, and where the old tables are."""
        settings, archive, options = self._settings, self._archive, self._options
        if settings.database_url is None:
            path = settings.data_dir / DATABASE_NAME
            if path.exists():
                release_sqlite(path)
            build_sqlite(archive, new / DATABASE_NAME, webhooks=options.webhooks, on_rows=self._on_rows)
            yield 0, None
            return
        from firstline.adapters.backup.postgres_restore import filled_postgres
        from firstline.adapters.sql.postgres_engine import open_postgres

        schema = self._stamp.replace("-", "_").lower()
        url = settings.database_url.get_secret_value()
        engine = open_postgres(url, timeout_s=settings.database_timeout_seconds)
        try:
            with filled_postgres(
                engine,
                archive,
                aside=schema if options.force else None,
                now_us=time.time_ns() // 1_000,
                webhooks=options.webhooks,
                on_rows=self._on_rows,
            ) as filled:
                yield filled.changed, schema if filled.moved else None
        finally:
            engine.dispose()


def _check_space(folder: Path, archive: Archive, *, with_tables: bool) -> None:
    """Nothing where an archive fits, as far as one can know before.

    Raises: BackupFailed.
    """
    files = archive.manifest.jobs.bytes if archive.manifest.jobs is not None else 0
    needed = archive.manifest.size if with_tables else files
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BackupFailed(
            f"{folder} has {free >> 20} MB free, and what is in the backup takes {needed >> 20} MB at least."
        )


@contextmanager
def _saying_what(folder: Path) -> Iterator[None]:
    """Turn what the system says of files into a sentence.

    Raises: BackupFailed.
    """
    try:
        yield
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else folder
        raise BackupFailed(f"{place} cannot be written: {error.strerror or error}.") from None
