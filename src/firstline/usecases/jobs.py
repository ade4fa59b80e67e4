"""Jobs of an account: taken in, looked at, ended, forgotten, erased."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from firstline.core.plans import MICROSECONDS, Plan
from firstline.core.taxonomy import Contract
from firstline.ports.clock import Clock, Identities
from firstline.ports.erasure import Erasing
from firstline.ports.jobs import Job, JobFiles, JobQueue
from firstline.usecases.job_chunks import Intake, chunk_rows, row_of_ticket, ticket_id

MAX_UNFINISHED: Final = 20
"""Jobs of an account that may wait or run at once."""

ORPHAN_US: Final = 86_400 * MICROSECONDS
"""The folder of an upload that was never submitted is removed after a day."""

_FORGET_AT_ONCE: Final = 100


class JobNotFound(Exception):
    """The account has no such job."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A job that is still coming in.

    Attributes:
        intake: takes its rows, in a thread.
    """

    job_id: str
    account_id: str
    contract: Contract
    options: Mapping[str, Any]
    created_at_us: int
    intake: Intake


class Jobs:
    """Everything that an account does with its jobs. Implements `ports.erasure.Erasable`."""

    name = "job_rows"

    def __init__(
        self,
        queue: JobQueue,
        files: JobFiles,
        *,
        clock: Clock,
        identities: Identities,
        keep_days: int,
        on_added: Callable[[], None] = lambda: None,
    ) -> None:
        """Args:
        keep_days: how long a job is kept after it has ended.
        on_added: told of every new job.
        """
        self.queue = queue
        self.files = files
        self._clock = clock
        self._identities = identities
        self._keep_us = keep_days * 86_400 * MICROSECONDS
        self.on_added = on_added

    async def begin(self, account_id: str, *, contract: Contract, plan: Plan, options: Mapping[str, Any]) -> Upload:
        """Make room for an upload.

        Raises: OSError.
        """
        job_id = self._identities.new_id()
        await asyncio.to_thread(self.files.begin, job_id)
        intake = Intake(self.files, job_id, rows=chunk_rows(plan))
        return Upload(job_id, account_id, contract, options, self._clock.now_us(), intake)

    async def submit(self, upload: Upload) -> Job:
        """Make a job of an upload that is complete and has rows.

        Raises: TooManyJobs, StorageUnavailable.
        """
        job = Job(
            id=upload.job_id,
            account_id=upload.account_id,
            contract=upload.contract.value,
            created_at_us=upload.created_at_us,
            rows=upload.intake.rows,
            chunks=len(upload.intake.sizes),
            options=upload.options,
        )
        await self.queue.add(job, upload.intake.sizes, most=MAX_UNFINISHED)
        self.on_added()
        return job

    async def abandon(self, upload: Upload) -> None:
        """Throw away an upload that becomes no job."""
        await asyncio.to_thread(self.files.remove, upload.job_id)

    async def get(self, job_id: str, *, account_id: str) -> Job:
        """A job.

        Raises: JobNotFound, StorageUnavailable.
        """
        job = await self.queue.find(job_id, account_id=account_id)
        if job is None:
            raise JobNotFound(job_id)
        return job

    async def list(self, account_id: str, *, before: str | None, limit: int) -> Sequence[Job]:
        """Jobs of an account, the newest first.

        Raises: StorageUnavailable.
        """
        return await self.queue.list(account_id, before=before, limit=limit)

    async def results(self, job: Job) -> Iterator[bytes]:
        """The answers of all chunks that are done by now, chunk by chunk; iterating blocks.

        Raises: StorageUnavailable; the iterator JobFilesLost and OSError.
        """
        return self.files.results(job.id, await self.queue.results(job.id))

    async def cancel(self, job_id: str, *, account_id: str) -> Job:
        """End a job; what is done stays.

        Raises: JobNotFound, StorageUnavailable.
        """
        job = await self.queue.cancel(job_id, account_id=account_id, event_id=self._identities.new_id())
        if job is None:
            raise JobNotFound(job_id)
        return job

    async def delete(self, job_id: str, *, account_id: str) -> None:
        """End a job and forget it, with its rows and answers; what is in the history stays.

        Raises: JobNotFound, StorageUnavailable.
        """
        await self.cancel(job_id, account_id=account_id)
        await self.queue.delete(job_id, account_id=account_id)
        await asyncio.to_thread(self.files.remove, job_id)

    async def forget_old(self) -> int:
        """Forget jobs that ended long ago, and uploads that never became one; how many.

        Raises: StorageUnavailable.
        """
        now_us = self._clock.now_us()
        old = await self.queue.finished_before(now_us - self._keep_us, limit=_FORGET_AT_ONCE)
        for job in old:
            await self.queue.delete(job.id, account_id=job.account_id)
            await asyncio.to_thread(self.files.remove, job.id)
        there = await asyncio.to_thread(lambda: self.files.orphans(older_than_us=now_us - ORPHAN_US))
        known = await self.queue.known(there) if there else frozenset()
        for job_id in set(there) - known:
            await asyncio.to_thread(self.files.remove, job_id)
        return len(old) + len(set(there) - known)

    async def erase(self, erasing: Erasing) -> int:
        """See `ports.erasure.Erasable`: rows and answers in files; what is in the history is the history's to erase.

        A chunk that is being decided on meanwhile may still store its verdicts.

        Raises: StorageUnavailable, OSError.
        """
        count = 0
        async for job in self._all(erasing.account_id):
            if erasing.before_us and job.created_at_us >= erasing.before_us:
                continue
            if erasing.whole:
                count += job.rows
                await self.delete(job.id, account_id=job.account_id)
            elif erasing.customer_ref is not None:
                count += await asyncio.to_thread(self.files.erase_customer, job.id, erasing.customer_ref)
            else:
                tickets = [place.ticket_id for place in erasing.tickets]
                count += await asyncio.to_thread(self._erase_tickets, job, tickets)
        return count

    def _erase_tickets(self, job: Job, tickets: Sequence[str]) -> int:
        count = 0
        for ticket in tickets:
            row, made_ms = row_of_ticket(ticket)
            same_time = made_ms == job.created_at_us // 1_000
            if same_time and ticket == ticket_id(job.id, row, created_at_us=job.created_at_us):
                count += self.files.erase_row(job.id, row)
        return count

    async def _all(self, account_id: str) -> AsyncIterator[Job]:
        before: str | None = None
        while jobs := await self.queue.list(account_id, before=before, limit=_FORGET_AT_ONCE):
            for job in jobs:
                yield job
            before = jobs[-1].id
