"""Decides on chunks of jobs: a process of its own, at the lowest priority, that serves its standard input.

Every message is a frame: its length in four bytes, then JSON. First comes what to load, then task after task; what an
account has set is asked for where it is not known. Results go to the job's folder, and the rows of tickets and
verdicts to standard output. The process ends with its input, whatever ended the one that it works for.
"""

import asyncio
import base64
import os
import signal
import sys
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from firstline.adapters.bulk_text import JsonLinesParts
from firstline.adapters.job_files import JobFolder
from firstline.adapters.job_processes import read_frame, task_from_data, write_frame
from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.system import SystemClock, SystemIdentities, return_memory
from firstline.adapters.trainer import DirectTrainer
from firstline.bootstrap import Engine, build_engine
from firstline.bootstrap_stores import CannotStart
from firstline.core.categories import CategorySet
from firstline.core.taxonomy import Contract
from firstline.ports.bulk import Chunk
from firstline.ports.jobs import ChunkTask, JobFilesLost, JobRow
from firstline.ports.storage import CategoriesRow, ThresholdsRow
from firstline.ports.trainer import TrainingFailed
from firstline.settings import Settings
from firstline.usecases.accounts import Accounts
from firstline.usecases.in_force import AccountsInForce, InForce
from firstline.usecases.job_chunks import Decided, decide_chunk, result_columns
from firstline.usecases.records import Keeping
from firstline.usecases.tickets import Triage

NICENESS: Final = 19
MAX_KNOWN: Final = 16
"""Accounts whose own settings are kept in memory."""


def main() -> None:
    """Serve standard input until it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever started this process ends it by closing its input
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(OSError):  # when memory runs out, this is what can be done without
        Path("/proc/self/oom_score_adj").write_text("700")
    pipe, answers = sys.stdin.buffer, sys.stdout.buffer
    asked = read_frame(pipe)
    if asked is None:
        return
    settings = Settings.model_construct(**{**asked, **_paths(asked)})
    try:
        engine = build_engine(settings)
    except CannotStart as error:
        write_frame(answers, {"problem": str(error)})
        return
    return_memory()
    write_frame(answers, {"ready": engine.classifier.name})
    decider = _Decider(engine, JobFolder(Path(asked["data_dir"])))
    while (data := read_frame(pipe)) is not None:
        decider.serve(task_from_data(data), pipe, answers)


class _Decider:
    def __init__(self, engine: Engine, folder: JobFolder) -> None:
        self._engine = engine
        self._folder = folder
        self._clock = SystemClock()
        self._known: OrderedDict[tuple[str, tuple[str, str]], InForce] = OrderedDict()
        self._triage = Triage(
            journal=MemoryStore(),
            classifier=engine.classifier,
            rules=engine.book,
            policy=engine.policy,
            clock=self._clock,
            identities=SystemIdentities(),
            keeping=Keeping(history=False, text=False),
        )

    def serve(self, task: ChunkTask, pipe: BinaryIO, answers: BinaryIO) -> None:
        if task.rules != self._triage.rules.content_hash:
            self._triage.rules = self._engine.rules.reload() or self._triage.rules
        lease = task.lease
        try:
            rows = self._folder.read_rows(lease.job.id, lease.number)
            under = self._under(task, pipe, answers)
            decided = decide_chunk(self._triage, rows, task, under, now_us=self._clock.now_us())
            self._write(task, rows, decided)
        except JobFilesLost as error:
            write_frame(answers, {"lost": str(error)})
            return
        except OSError as error:
            write_frame(answers, {"problem": error.strerror or type(error).__name__})
            return
        counts = decided.counts
        write_frame(answers, {"counts": [counts.rows, counts.failed, counts.reviews], "parts": len(decided.parts)})
        for tickets, verdicts in decided.parts:
            write_frame(answers, [[tuple(row) for row in tickets], [tuple(row) for row in verdicts]])

    def _under(self, task: ChunkTask, pipe: BinaryIO, answers: BinaryIO) -> InForce:
        known = (task.lease.account.id, task.versions)
        found = self._known.get(known)
        if found is None:
            write_frame(answers, {"own": True})
            own = read_frame(pipe)
            if own is None:
                sys.exit()
            found = asyncio.run(self._read(task.lease.account.id, own))
            if not found.pending:  # else it may have been trained by the next time
                self._known[known] = found
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(known)
        return found

    async def _read(self, account_id: str, own: dict[str, Any]) -> InForce:
        storage = _Given(own)
        in_force = AccountsInForce(
            Accounts(storage, self._clock, SystemIdentities()),
            _Untrained(self._engine.classifier),
            model=self._engine.classifier.name,
            policy=self._engine.policy,
        )
        found = await in_force.of(account_id)
        await in_force.close()
        return found

    def _write(self, task: ChunkTask, rows: list[JobRow], decided: Decided) -> None:
        lease = task.lease
        keep = lease.job.options.get("keep", [])
        writer = JsonLinesParts(result_columns(Contract(lease.job.contract)), keep=keep)
        kept = {name: [row.kept[place] for row in rows] for place, name in enumerate(keep)}

        def write(path: Path) -> None:
            writer.begin(path)
            writer.add(Chunk(lease.number, lease.first_row, [], kept), decided.columns)
            writer.end()

        self._folder.write_results(lease.job.id, lease.number, lease.token, write)


class _Given(MemoryStore):
    """A storage of what was sent, in which nothing is kept."""

    def __init__(self, own: dict[str, Any]) -> None:
        super().__init__()
        self._own = own

    async def find_categories(self, account_id: str) -> CategoriesRow | None:
        row = self._own["categories"]
        return CategoriesRow(**{**row, "trained": base64.b64decode(row["trained"])}) if row else None

    async def find_thresholds(self, account_id: str) -> ThresholdsRow | None:
        row = self._own["thresholds"]
        return ThresholdsRow(**row) if row else None

    async def find_ask_policy(self, account_id: str) -> None:
        return None


class _Untrained(DirectTrainer):
    """Loads what was trained; training is for the one that this process works for."""

    async def train(self, account_id: str, categories: CategorySet) -> bytes:
        raise TrainingFailed("not here")


def _paths(asked: dict[str, Any]) -> dict[str, Path | None]:
    return {name: Path(asked[name]) if asked[name] else None for name in ("rules_dir", "model_file")}


if __name__ == "__main__":
    main()
