"""Jobs in memory, for tests; passes the same conformance suite as the durable queue."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from firstline.adapters.memory_store import MemoryStore
from firstline.core.plans import MICROSECONDS
from firstline.ports.clock import Clock
from firstline.ports.jobs import ACTIVE, ChunkCounts, Job, JobBacklog, JobState, Lease, TooManyJobs, finished_event
from firstline.ports.journal import CounterDelta, Record


@dataclass(slots=True)
class _Chunk:
    first_row: int
    rows: int
    token: str | None = None
    until_us: int = 0
    done: bool = False
    attempts: int = 0
    deaths: int = 0


class MemoryJobs:
    """Implements `ports.jobs.JobQueue`."""

    def __init__(self, store: MemoryStore, *, clock: Clock) -> None:
        """Args:
        store: where counters and events go.
        """
        self._store = store
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._chunks: dict[str, list[_Chunk]] = {}
        self._turns: dict[str, int] = {}
        self._turned_at_us: dict[str, int] = {}
        self._turn = 0

    async def add(self, job: Job, sizes: Sequence[int], *, most: int) -> None:
        """See the port, as for all methods."""
        active = [one for one in self._jobs.values() if one.account_id == job.account_id and one.state in ACTIVE]
        if len(active) >= most:
            raise TooManyJobs(job.account_id)
        self._jobs[job.id] = job
        self._turns[job.id] = 0
        self._chunks[job.id] = [_Chunk(1 + sum(sizes[:place]), size) for place, size in enumerate(sizes)]

    async def find(self, job_id: str, *, account_id: str) -> Job | None:
        job = self._jobs.get(job_id)
        return job if job is not None and job.account_id == account_id else None

    async def list(self, account_id: str, *, before: str | None, limit: int) -> Sequence[Job]:
        own = [job for job in self._jobs.values() if job.account_id == account_id]
        own = [job for job in own if before is None or job.id < before]
        return sorted(own, key=lambda job: job.id, reverse=True)[:limit]

    async def is_waiting(self) -> bool:
        return bool(self._claimable())

    async def backlog(self) -> JobBacklog:
        since = (
            job.resumes_at_us or max(self._turned_at_us.get(job.id, 0), job.created_at_us) for job in self._claimable()
        )
        rows = sum(job.rows - job.done for job in self._jobs.values() if self._may_go_on(job))
        return JobBacklog(rows=rows, waiting_since_us=min(since, default=None))

    async def claim(self, token: str, *, lease_s: float) -> Lease | None:
        waiting = self._claimable()
        if not waiting:
            return None
        now_us = self._clock.now_us()
        job = min(waiting, key=lambda one: (self._account_turn(one.account_id), self._turns[one.id], one.id))
        number, chunk = next((place, one) for place, one in enumerate(self._chunks[job.id]) if self._free(one))
        chunk.token, chunk.until_us, chunk.attempts = token, now_us + int(lease_s * MICROSECONDS), chunk.attempts + 1
        self._turn += 1
        self._turns[job.id] = self._turn
        self._turned_at_us[job.id] = now_us
        started_at_us = job.started_at_us or now_us
        job = replace(job, state=JobState.RUNNING, resumes_at_us=None, started_at_us=started_at_us)
        self._jobs[job.id] = job
        in_flight = sum(
            one.rows
            for other in self._jobs.values()
            if (other.account_id, other.contract) == (job.account_id, job.contract)
            for one in self._chunks[other.id]
            if one is not chunk and not one.done and one.token and one.until_us >= now_us
        )
        account = self._store.account(job.account_id)
        return Lease(job, account, number, chunk.first_row, chunk.rows, token, chunk.attempts, chunk.deaths, in_flight)

    async def extend(self, tokens: Collection[str], *, lease_s: float) -> frozenset[str]:
        held = [found for token in tokens if (found := self._held(token))]
        for _, chunk in held:
            chunk.until_us = self._clock.now_us() + int(lease_s * MICROSECONDS)
        return frozenset(str(chunk.token) for _, chunk in held)

    async def release(self, token: str, *, died: bool = False) -> None:
        found = self._held(token)
        if found:
            found[1].token = None
            found[1].deaths += int(died)

    async def pause(self, token: str, *, until_us: int) -> None:
        found = self._held(token)
        if found:
            job, chunk = found
            chunk.token, chunk.attempts = None, chunk.attempts - 1
            if job.state in ACTIVE:
                self._jobs[job.id] = replace(job, state=JobState.PAUSED, resumes_at_us=until_us)

    async def finish(
        self, token: str, counts: ChunkCounts, *, counters: Sequence[CounterDelta], event_id: str
    ) -> Job | None:
        found = self._held(token)
        if found is None:
            return None
        job, chunk = found
        chunk.done = True
        now_us = self._clock.now_us()
        last = job.chunks_done + 1 == job.chunks and job.state in ACTIVE
        changes: dict[str, Any] = {"state": JobState.FINISHED, "finished_at_us": now_us} if last else {}
        job = self._jobs[job.id] = replace(
            job,
            done=job.done + counts.rows,
            failed=job.failed + counts.failed,
            reviews=job.reviews + counts.reviews,
            chunks_done=job.chunks_done + 1,
            **changes,
        )
        events = (finished_event(event_id, job, at_us=now_us),) if last else ()
        await self._store.append(Record(counters=tuple(counters), outbox=events))
        return job

    async def results(self, job_id: str) -> Sequence[tuple[int, str]]:
        chunks = self._chunks.get(job_id, [])
        return [(number, str(chunk.token)) for number, chunk in enumerate(chunks) if chunk.done]

    async def stored(self, ticket_ids: Collection[str]) -> frozenset[str]:
        return frozenset(ticket_ids) & self._store.tickets.keys()

    async def cancel(self, job_id: str, *, account_id: str, event_id: str) -> Job | None:
        job = await self.find(job_id, account_id=account_id)
        if job is not None and job.state in ACTIVE:
            now_us = self._clock.now_us()
            job = replace(job, state=JobState.CANCELLED, finished_at_us=now_us, resumes_at_us=None)
            self._jobs[job_id] = job
            await self._store.append(Record(outbox=(finished_event(event_id, job, at_us=now_us),)))
        return job

    async def delete(self, job_id: str, *, account_id: str) -> bool:
        if await self.find(job_id, account_id=account_id) is None:
            return False
        del self._jobs[job_id], self._chunks[job_id]
        return True

    async def finished_before(self, at_us: int, *, limit: int) -> Sequence[Job]:
        ended = [job for job in self._jobs.values() if job.finished_at_us is not None and job.finished_at_us < at_us]
        return sorted(ended, key=lambda job: job.finished_at_us or 0)[:limit]

    async def known(self, job_ids: Collection[str]) -> frozenset[str]:
        return frozenset(job_ids) & self._jobs.keys()

    def _claimable(self) -> Sequence[Job]:
        going = [job for job in self._jobs.values() if self._may_go_on(job)]
        return [job for job in going if any(self._free(chunk) for chunk in self._chunks[job.id])]

    def _may_go_on(self, job: Job) -> bool:
        if job.state is JobState.PAUSED:
            return (job.resumes_at_us or 0) <= self._clock.now_us()
        return job.state in ACTIVE

    def _account_turn(self, account_id: str) -> int:
        return max(self._turns[job.id] for job in self._jobs.values() if job.account_id == account_id)

    def _free(self, chunk: _Chunk) -> bool:
        return not chunk.done and (chunk.token is None or chunk.until_us < self._clock.now_us())

    def _held(self, token: str) -> tuple[Job, _Chunk] | None:
        for job_id, chunks in self._chunks.items():
            for chunk in chunks:
                if chunk.token == token and not chunk.done:
                    return self._jobs[job_id], chunk
        return None
