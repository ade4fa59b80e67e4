"""The rows and answers of jobs, in a folder per job that all workers see.

`rows-N` holds the rows of a chunk and is removed once the chunk is done; `refs-N` says which of them were written by
whom, so that they can be erased for as long as the answers are kept; `out-N-TOKEN` holds the answers, and its name the
lease that they were given under: what a worker writes that has lost its lease is never read.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import orjson

from firstline.adapters.bulk_output import sync, sync_folder
from firstline.core.identity import bare
from firstline.ports.jobs import JobFilesLost, JobRow

FOLDER: Final = "jobs"
UPLOAD: Final = "upload"
ERASED: Final = "erased at the request of the one who wrote it"


class JobFolder:
    """Implements `ports.jobs.JobFiles`."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER

    def path(self, job_id: str) -> Path:
        """Where a job's files lie."""
        return self._folder / job_id

    def upload(self, job_id: str) -> Path:
        """Where an upload lies that can only be read as a whole."""
        return self.path(job_id) / UPLOAD

    def begin(self, job_id: str) -> None:
        """See the port, as for all methods."""
        self.path(job_id).mkdir(parents=True)

    def write_rows(self, job_id: str, number: int, rows: Sequence[JobRow]) -> None:
        folder = self.path(job_id)
        refs = {row.customer_ref: None for row in rows if row.customer_ref is not None}
        if refs:
            places = [row.customer_ref for row in rows]
            _write(folder / f"refs-{number:07d}", [orjson.dumps(places)])
        _write(
            folder / f"rows-{number:07d}", (orjson.dumps(tuple(row), option=orjson.OPT_APPEND_NEWLINE) for row in rows)
        )

    def read_rows(self, job_id: str, number: int) -> list[JobRow]:
        """The rows of a chunk."""
        try:
            lines = (self.path(job_id) / f"rows-{number:07d}").read_bytes().splitlines()
        except FileNotFoundError:
            raise JobFilesLost(f"the rows of chunk {number} are gone") from None
        return [JobRow(*orjson.loads(line)) for line in lines]

    def write_results(self, job_id: str, number: int, token: str, write: Callable[[Path], None]) -> None:
        """Keep the answers of a chunk; on disk once this returns.

        Args:
            write: makes the file under the name that it is given.
        """
        path = self.path(job_id) / f"out-{number:07d}-{token}"
        new = path.with_suffix(".new")
        try:
            write(new)
            new.replace(path)
        except FileNotFoundError:
            raise JobFilesLost("the job's folder is gone") from None
        sync_folder(path.parent)

    def results(self, job_id: str, done: Iterable[tuple[int, str]]) -> Iterator[bytes]:
        for number, token in done:
            try:
                yield (self.path(job_id) / f"out-{number:07d}-{token}").read_bytes()
            except FileNotFoundError:
                raise JobFilesLost(f"the answers of chunk {number} are gone") from None

    def done_with(self, job_id: str, number: int) -> None:
        (self.path(job_id) / f"rows-{number:07d}").unlink(missing_ok=True)

    def remove(self, job_id: str) -> None:
        shutil.rmtree(self.path(job_id), ignore_errors=True)

    def orphans(self, *, older_than_us: int) -> Sequence[str]:
        if not self._folder.is_dir():
            return []
        entries = [entry for entry in self._folder.iterdir() if bare(entry.name, prefix="")]
        return [entry.name for entry in entries if entry.stat().st_mtime_ns // 1_000 < older_than_us]

    def erase_customer(self, job_id: str, customer_ref: str) -> int:
        folder, count = self.path(job_id), 0
        for refs in sorted(folder.glob("refs-*")):
            number = refs.name.removeprefix("refs-")
            places: list[str | None] = orjson.loads(refs.read_bytes())
            own = {place for place, ref in enumerate(places) if ref == customer_ref}
            if not own:
                continue
            count += len(own)
            _rewrite(folder / f"rows-{number}", own, _erased_row)
            for answers in folder.glob(f"out-{number}-*"):
                _rewrite(answers, own, _erased_answer)
            # Last of all, so that what was interrupted is done again.
            _write(refs, [orjson.dumps([None if place in own else ref for place, ref in enumerate(places)])])
        return count

    def erase_row(self, job_id: str, row: int) -> int:
        for answers in sorted(self.path(job_id).glob("out-*"), reverse=True):
            with answers.open("rb") as file:
                first = file.readline()
            place = row - orjson.loads(first)["row"] if first else -1
            if place < 0:
                continue
            lines = answers.read_bytes().splitlines()
            if place >= len(lines) or orjson.loads(lines[place]).get("error") == ERASED:
                return 0
            _rewrite(answers, [place], _erased_answer)
            return 1
        return 0


def _erased_row(line: bytes) -> bytes:
    row = JobRow(*orjson.loads(line))
    return orjson.dumps(tuple(JobRow(None, ERASED, kept=[None] * len(row.kept))))


def _erased_answer(line: bytes) -> bytes:
    answer = orjson.loads(line)
    return orjson.dumps(
        {name: answer[name] if name in {"row", "ticket"} else None for name in answer} | {"error": ERASED}
    )


def _rewrite(path: Path, places: Iterable[int], change: Any) -> None:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for place in places:
        lines[place] = change(lines[place])
    _write(path, (line + b"\n" for line in lines))


def _write(path: Path, parts: Iterable[bytes]) -> None:
    """A file that appears whole or not at all, and stays."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    file: IO[bytes]
    with new.open("wb") as file:
        for part in parts:
            file.write(part)
        sync(file)
    new.replace(path)
    sync_folder(path.parent)
