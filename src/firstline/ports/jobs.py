"""Jobs: files of messages that are worked on in the background, chunk by chunk.

Guarantees of every queue of jobs:

- A job that was added survives a crash, with all of its chunks.
- A chunk is leased to one worker at a time. A lease that is not extended ends by itself, and another worker is given
  the chunk, so work is done at least once. `finish` takes effect once: who has lost the lease is told so and changes
  nothing.
- Fair: the next chunk belongs to the account that has waited for its turn the longest, and within it to the job that
  has. However many rows and jobs an account has, another account's turn comes after each of its chunks.
- `finish` is one transaction: the chunk, the counts of the job, what was charged, and with the last chunk the event.
- Times of leases come from one clock for all workers on a store.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

import orjson

from firstline.core.identity import JOB
from firstline.ports.journal import CounterDelta, OutboxEvent, TicketRow, VerdictRow
from firstline.ports.storage import Account, CategoriesRow, ThresholdsRow


class TooManyJobs(Exception):
    """The account has as many unfinished jobs as it may have."""


class JobFilesLost(Exception):
    """What a job was to work on, or to write to, is not there or cannot be used; the message says why."""


class JobState(StrEnum):
    """How far a job is; the last two are final."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"


ACTIVE: Final = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)


@dataclass(frozen=True, slots=True)
class Job:
    """A job and its counts.

    Attributes:
        id: 32 hexadecimal digits, UUIDv7.
        contract: the catalogue that its rows are charged to.
        options: plain data about how its rows were read.
        rows: of the upload.
        done: rows that are answered, the failed ones included.
        failed: rows that have an error instead of a verdict.
        reviews: rows that a person should look at.
        resumes_at_us: when the window of the plan that is full opens again; None unless paused.
    """

    id: str
    account_id: str
    contract: str
    created_at_us: int
    rows: int
    chunks: int
    options: Mapping[str, Any] = field(default_factory=dict)
    state: JobState = JobState.QUEUED
    started_at_us: int | None = None
    finished_at_us: int | None = None
    resumes_at_us: int | None = None
    done: int = 0
    failed: int = 0
    reviews: int = 0
    chunks_done: int = 0


FINISHED: Final = "job.finished"
"""Kind of the event that the end of a job fires."""


def finished_event(event_id: str, job: Job, *, at_us: int) -> OutboxEvent:
    """That a job has finished or was cancelled; holds no word of its messages."""
    payload = {
        "job": f"{JOB}{job.id}",
        "state": job.state.value,
        "rows": job.rows,
        "done": job.done,
        "failed": job.failed,
        "needs_review": job.reviews,
    }
    return OutboxEvent(event_id, job.account_id, FINISHED, orjson.dumps(payload).decode(), at_us)


@dataclass(frozen=True, slots=True)
class Lease:
    """A chunk that a worker has for a while.

    Attributes:
        account: whose job it is, as it is now.
        number: of the chunk, from 0.
        first_row: from 1.
        token: says that it is this lease; also part of the name of what it writes.
        attempts: leases of this chunk so far, this one included.
        deaths: how often a process that decided on it has ended.
        in_flight: rows of other chunks of the account under the same contract that are leased now.
    """

    job: Job
    account: Account
    number: int
    first_row: int
    rows: int
    token: str
    attempts: int
    deaths: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class ChunkCounts:
    """What became of the rows of a chunk."""

    rows: int
    failed: int
    reviews: int


@dataclass(frozen=True, slots=True)
class JobBacklog:
    """What waits for workers, of all accounts.

    Attributes:
        rows: without an answer yet, of jobs that may go on; a paused one waits for its plan, not for a worker.
        waiting_since_us: of the job that has waited the longest for its turn: when its last turn was, or it was added;
            None when no job waits for a worker.
    """

    rows: int
    waiting_since_us: int | None


class JobQueue(Protocol):
    """The store of jobs and their chunks; every method raises StorageUnavailable."""

    async def add(self, job: Job, sizes: Sequence[int], *, most: int) -> None:
        """A new job.

        Args:
            sizes: rows of each chunk, in order.
            most: unfinished jobs that the account may have, this one included.
        Raises: TooManyJobs.
        """
        ...

    async def find(self, job_id: str, *, account_id: str) -> Job | None:
        """A job of an account."""
        ...

    async def list(self, account_id: str, *, before: str | None, limit: int) -> Sequence[Job]:
        """Jobs of an account, the newest first; those older than the one with the id `before`."""
        ...

    async def is_waiting(self) -> bool:
        """Whether a chunk may be there to claim; cheap, and changes nothing."""
        ...

    async def backlog(self) -> JobBacklog:
        """How much waits, and for how long."""
        ...

    async def claim(self, token: str, *, lease_s: float) -> Lease | None:
        """Lease the chunk whose turn it is; None when there is none."""
        ...

    async def extend(self, tokens: Collection[str], *, lease_s: float) -> frozenset[str]:
        """Extend leases from now; the tokens of those that are still held."""
        ...

    async def release(self, token: str, *, died: bool = False) -> None:
        """Give a chunk back undone; `died` counts that a process ended over it."""
        ...

    async def pause(self, token: str, *, until_us: int) -> None:
        """Give a chunk back undone and let its job wait."""
        ...

    async def finish(
        self, token: str, counts: ChunkCounts, *, counters: Sequence[CounterDelta], event_id: str
    ) -> Job | None:
        """Take a chunk as done.

        Args:
            counters: what is charged.
            event_id: of the event `job.finished`, if this is the last chunk.
        Returns: the job as it is then; None when the lease was lost, and nothing has changed.
        """
        ...

    async def results(self, job_id: str) -> Sequence[tuple[int, str]]:
        """Number and token of the chunks that are done, in order."""
        ...

    async def stored(self, ticket_ids: Collection[str]) -> frozenset[str]:
        """Those of the tickets that are in the history."""
        ...

    async def cancel(self, job_id: str, *, account_id: str, event_id: str) -> Job | None:
        """End a job; chunks that are leased may still become done. None when there is no such job."""
        ...

    async def delete(self, job_id: str, *, account_id: str) -> bool:
        """Forget a job with its chunks; whether it was there."""
        ...

    async def finished_before(self, at_us: int, *, limit: int) -> Sequence[Job]:
        """Jobs that have ended before a moment, of all accounts."""
        ...

    async def known(self, job_ids: Collection[str]) -> frozenset[str]:
        """Those of the ids that are jobs of any account."""
        ...


class JobRow(NamedTuple):
    """One row of an upload, checked.

    Attributes:
        text: trimmed; None where there is a problem.
        problem: why no verdict can be given, in words for people.
        plan, channel: values of `core.taxonomy`; empty where the contract has none.
        kept: values of the columns that go to the results as they are.
    """

    text: str | None
    problem: str | None = None
    plan: str = ""
    channel: str = ""
    history: Sequence[str] = ()
    customer_ref: str | None = None
    external_id: str | None = None
    kept: Sequence[Any] = ()


class JobFiles(Protocol):
    """The rows and answers of jobs, as files that all workers see; every method blocks.

    Raises: JobFilesLost where something is missing; OSError where the disk fails.
    """

    def begin(self, job_id: str) -> None:
        """Make room for a new job."""
        ...

    def write_rows(self, job_id: str, number: int, rows: Sequence[JobRow]) -> None:
        """Keep a chunk of rows; on disk once this returns."""
        ...

    def results(self, job_id: str, done: Iterable[tuple[int, str]]) -> Iterator[bytes]:
        """The answers of chunks, as JSON lines."""
        ...

    def done_with(self, job_id: str, number: int) -> None:
        """The rows of a chunk are not needed any more."""
        ...

    def remove(self, job_id: str) -> None:
        """Remove everything of a job; nothing when there is nothing."""
        ...

    def orphans(self, *, older_than_us: int) -> Sequence[str]:
        """Ids of folders that were made before a moment."""
        ...

    def erase_customer(self, job_id: str, customer_ref: str) -> int:
        """Remove what was written by a customer from rows and answers; how many rows that were."""
        ...

    def erase_row(self, job_id: str, row: int) -> int:
        """Remove an answer, but for its number; 1 if there was one."""
        ...


@dataclass(frozen=True, slots=True)
class ChunkTask:
    """A chunk for a process that decides.

    Attributes:
        history: whether tickets and verdicts are stored.
        text: whether the texts are, too.
        versions: of the account's categories and thresholds.
        rules: content hash of the rules in force.
        lost: give no verdict any more, for processes have ended over it again and again.
    """

    lease: Lease
    history: bool
    text: bool
    versions: tuple[str, str]
    rules: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class ChunkAnswer:
    """What came of a chunk; its results are on disk.

    Attributes:
        parts: tickets with their verdicts, to be stored part by part.
    """

    counts: ChunkCounts
    parts: Sequence[tuple[Sequence[TicketRow], Sequence[VerdictRow]]]


class ProcessDied(Exception):
    """A process ended while it decided on a chunk."""


class DecidersUnavailable(Exception):
    """No process could be started, or what it works on cannot be used; the message says why."""


class Own(NamedTuple):
    """What an account has set, for a process that does not know it yet.

    Attributes:
        categories, thresholds: None where it never set any.
    """

    categories: CategoriesRow | None
    thresholds: ThresholdsRow | None


class Deciders(Protocol):
    """Decides on chunks, away from whoever waits for them."""

    @property
    def count(self) -> int:
        """Chunks that are decided on at once."""
        ...

    async def decide(self, task: ChunkTask, own: "OwnSettings") -> ChunkAnswer:
        """Decide on a chunk.

        Raises: ProcessDied, DecidersUnavailable, JobFilesLost; StorageUnavailable from `own`.
        """
        ...

    async def rest(self) -> None:
        """Let go of what is not needed for a while."""
        ...

    async def close(self) -> None:
        """End everything."""
        ...


class OwnSettings(Protocol):
    """Gives what an account has set."""

    async def __call__(self, account_id: str) -> Own:
        """Raises: StorageUnavailable."""
        ...
