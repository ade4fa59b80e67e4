"""Jobs and their worker, put together; used by `bootstrap`."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from firstline.adapters.job_files import JobFolder
from firstline.adapters.job_processes import ProcessDeciders
from firstline.adapters.sql.runners import read_in_threads, write_directly
from firstline.adapters.sql.server_stores import ServerStore
from firstline.adapters.sql.sql_jobs import SqlJobs
from firstline.adapters.telemetry import fault_fields
from firstline.ports.clock import Clock, Identities
from firstline.ports.jobs import ChunkCounts, Lease
from firstline.ports.journal import Journal
from firstline.settings import PREFIX, Settings, known_names
from firstline.usecases.job_worker import JobWorker
from firstline.usecases.jobs import Jobs
from firstline.usecases.records import Keeping
from firstline.usecases.texts import Texts

if TYPE_CHECKING:
    from firstline.bootstrap import App


def build_jobs(settings: Settings, store: ServerStore, *, clock: Clock, identities: Identities) -> Jobs:
    """What accounts do with their jobs; leases go by the database's clock where others share it."""
    write = write_directly(store.database, isolation="READ COMMITTED") if store.shared else store.write
    queue = SqlJobs(read_in_threads(store.database), write, clock=None if store.shared else clock)
    folder = JobFolder(settings.data_dir)
    return Jobs(queue, folder, clock=clock, identities=identities, keep_days=settings.job_keep_days)


def build_worker(app: "App", *, journal: Journal, texts: Texts, processes: int) -> JobWorker:
    """A worker with processes of its own."""
    settings, metrics = app.settings, app.metrics

    def on_fault(error: BaseException) -> None:
        metrics.faults.labels("jobs").inc()
        app.log.error("job_fault", **fault_fields(error))

    def on_chunk(lease: Lease, counts: ChunkCounts) -> None:
        metrics.job_rows.labels(lease.job.contract, "answered").inc(counts.rows - counts.failed)
        metrics.job_rows.labels(lease.job.contract, "failed").inc(counts.failed)

    return JobWorker(
        queue=app.jobs.queue,
        files=app.jobs.files,
        deciders=ProcessDeciders(processes, load=_load(settings), environment=child_environment()),
        journal=app.tracing.journal(journal),
        storage=app.storage,
        in_force=app.categories.in_force,
        limiter=app.limiter,
        plan_of=lambda plan, contract: app.catalogues[contract].plans[plan],
        rules_hash=lambda: app.triage.rules.content_hash,
        keeping=Keeping(settings.history, settings.history_text),
        clock=app.clock,
        identities=app.identities,
        texts=texts,
        on_fault=on_fault,
        on_chunk=on_chunk,
        tracer=app.tracing.tracer,
    )


def processes_of(settings: Settings) -> int:
    """How many processes work on jobs."""
    if settings.job_processes is not None:
        return settings.job_processes
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load(settings: Settings) -> Mapping[str, Any]:
    """What a process that decides has to know; nothing that is secret."""
    names = {"data_dir", "rules_dir", "model_file", "low_confidence_threshold", "review_probability"}
    found: Mapping[str, Any] = settings.model_dump(mode="json", include=names)
    return found


def child_environment() -> Mapping[str, str]:
    """This process's environment without any setting, so that no secret goes where it is not needed."""
    known = known_names()
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in known and not name.upper().startswith(PREFIX)
    }
