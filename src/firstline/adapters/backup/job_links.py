"""The files of jobs, held in place while a snapshot is taken and read.

Workers remove the rows of a chunk and add its answers at any time. Hard links from before and after the snapshot begins
keep what either needs, cost nothing, and are removed at the end.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from firstline.adapters.backup.snapshot import Snapshot
from firstline.adapters.job_files import FOLDER
from firstline.core.identity import bare
from firstline.ports.jobs import ACTIVE

_PREFIX: Final = ".backup-"
_LOCK: Final = "lock"
_NAMES: Final = re.compile(r"rows-\d{7}|refs-\d{7}|out-\d{7}-[0-9a-f]{32}")
_DONE: Final = "done"


class Needed(NamedTuple):
    """A file that a snapshot refers to; None as its path says that it is not there."""

    job_id: str
    name: str
    path: Path | None


class JobLinks:
    """Links to files of jobs."""

    def __init__(self, jobs: Path, folder: Path) -> None:
        self._jobs = jobs
        self._folder = folder

    def hold(self) -> None:
        """Hold every file that is there now and is not held yet.

        Raises: OSError.
        """
        with suppress(FileNotFoundError):
            for job in self._jobs.iterdir():
                if bare(job.name, prefix="") is not None:
                    with suppress(FileNotFoundError, NotADirectoryError):  # removed meanwhile, or not ours
                        self._hold(job)

    def needed(self, snapshot: Snapshot) -> Iterator[Needed]:
        """The files that a snapshot refers to, job by job."""
        for rows in snapshot.chunks_of_jobs():
            for job_id, job_state, number, state, token in rows:
                if state == _DONE:
                    yield self._found(job_id, f"out-{number:07d}-{token}")
                elif job_state in ACTIVE:
                    yield self._found(job_id, f"rows-{number:07d}")
                refs = self._found(job_id, f"refs-{number:07d}")
                if refs.path is not None:
                    yield refs

    def _hold(self, job: Path) -> None:
        kept = self._folder / job.name
        kept.mkdir(exist_ok=True)
        for file in job.iterdir():
            if _NAMES.fullmatch(file.name):
                with suppress(FileNotFoundError):
                    _link(file, kept / file.name)

    def _found(self, job_id: str, name: str) -> Needed:
        path = self._folder / job_id / name
        return Needed(job_id, name, path if path.exists() else None)


@contextmanager
def job_links(data_dir: Path) -> Iterator[JobLinks]:
    """Links into the data folder's jobs, removed at the end; those that a killed command has left are removed, too.

    Raises: OSError.
    """
    jobs = data_dir / FOLDER
    if not jobs.is_dir():
        yield JobLinks(jobs, jobs / "none")
        return
    for left in jobs.glob(f"{_PREFIX}*"):
        with suppress(OSError), (left / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=jobs))
    try:
        with (folder / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield JobLinks(jobs, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def missing_in(links: JobLinks, snapshot: Snapshot) -> Mapping[str, int]:
    """How many files are missing, by job."""
    found: dict[str, int] = {}
    for one in links.needed(snapshot):
        if one.path is None:
            found[one.job_id] = found.get(one.job_id, 0) + 1
    return found


def _link(file: Path, kept: Path) -> None:
    try:
        os.link(file, kept)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        shutil.copyfile(file, kept)
