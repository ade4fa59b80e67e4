"""Writes a snapshot, and the files that belong to it, into an archive."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from firstline import __version__
from firstline.adapters.backup.archive_reader import JOBS, SECRET, SPOOL, TABLES, file_head
from firstline.adapters.backup.archive_writer import ArchiveWriter
from firstline.adapters.backup.failures import BackupFailed
from firstline.adapters.backup.job_links import JobLinks
from firstline.adapters.backup.manifest import ColumnPart, FilesPart, JobsPart, Manifest, SpoolPart, TablePart
from firstline.adapters.backup.row_lines import line_of
from firstline.adapters.backup.snapshot import Shape, Snapshot
from firstline.adapters.backup.spool_copy import SpoolCopy

OnRows = Callable[[str, int], None]
"""Told of a table, and of how many of its rows are done."""

_CHUNK: Final = 1 << 20


def save(
    snapshot: Snapshot,
    writer: ArchiveWriter,
    *,
    began_at: datetime,
    jobs: JobLinks | None,
    spool: SpoolCopy | None,
    secret_key: bytes | None,
    on_rows: OnRows,
) -> Manifest:
    """Everything into the archive, the manifest last.

    Raises: BackupFailed, StorageUnavailable, what a driver raises, OSError.
    """
    database: Literal["sqlite", "postgresql"] = "postgresql" if snapshot.kind == "postgresql" else "sqlite"
    manifest = Manifest(
        firstline=__version__,
        schema_revision=snapshot.schema_revision,
        database=database,
        began_at=began_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        tables={shape.name: _save_table(snapshot, writer, shape, on_rows) for shape in snapshot.shapes()},
        jobs=_save_jobs(snapshot, writer, jobs) if jobs is not None else None,
        spool=_save_spool(writer, spool) if spool is not None else None,
        secret_key=secret_key is not None,
    )
    if secret_key is not None:
        with writer.member(SECRET) as member:
            member.write(secret_key)
    writer.finish(manifest)
    return manifest


def _save_table(snapshot: Snapshot, writer: ArchiveWriter, shape: Shape, on_rows: OnRows) -> TablePart:
    line, count = line_of(shape.columns), 0
    with writer.member(f"{TABLES}{shape.name}.jsonl") as member:
        for rows in snapshot.rows(shape):
            member.write(b"".join(map(line, rows)))
            count += len(rows)
            on_rows(shape.name, count)
    there = snapshot.count(shape)
    if there != count:
        raise BackupFailed(f"{shape.name} has {there} rows, of which {count} could be read: the database is damaged.")
    return TablePart(
        columns=tuple(ColumnPart(name=column.name, kind=column.kind) for column in shape.columns),
        rows=count,
        bytes=member.bytes,
        sha256=member.sha256,
    )


class _Files:
    """Files of one folder of the archive, counted and hashed together."""

    def __init__(self, writer: ArchiveWriter) -> None:
        self._writer = writer
        self._hash = hashlib.sha256()
        self._files = self._bytes = 0

    def add(self, name: str, size: int, chunks: Iterator[bytes]) -> None:
        self._hash.update(file_head(name, size))
        with self._writer.member(name) as member:
            for chunk in chunks:
                self._hash.update(chunk)
                member.write(chunk)
        if member.bytes != size:
            raise BackupFailed(f"{name} changed while it was read; run the backup again.")
        self._files += 1
        self._bytes += size

    @property
    def part(self) -> FilesPart:
        return FilesPart(files=self._files, bytes=self._bytes, sha256=self._hash.hexdigest())


def _save_jobs(snapshot: Snapshot, writer: ArchiveWriter, links: JobLinks) -> JobsPart:
    files, missing = _Files(writer), set()
    for job_id, name, path in links.needed(snapshot):
        if path is None:
            missing.add(job_id)
        else:
            files.add(f"{JOBS}{job_id}/{name}", path.stat().st_size, _content(path))
    return JobsPart(**files.part.model_dump(), missing=len(missing))


def _save_spool(writer: ArchiveWriter, spool: SpoolCopy) -> SpoolPart:
    files = _Files(writer)
    for name, data in spool.files():
        files.add(f"{SPOOL}{name}", len(data), iter((data,)))
    return SpoolPart(**files.part.model_dump(), records=spool.records)


def _content(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
