"""The worker over memory: what it does about processes that die, leases that are lost, and what is stored already."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from firstline.adapters.memory_jobs import MemoryJobs
from firstline.adapters.memory_limiter import MemoryLimiter
from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.plan_files import load_catalogues
from firstline.core.plans import Window
from firstline.core.policy import Policy
from firstline.core.taxonomy import Contract
from firstline.ports.jobs import (
    ChunkAnswer,
    ChunkCounts,
    ChunkTask,
    Job,
    JobFilesLost,
    JobState,
    OwnSettings,
    ProcessDied,
)
from firstline.ports.journal import TicketRow, VerdictRow
from firstline.ports.storage import Account, AuditEntry
from firstline.usecases.accounts import Accounts
from firstline.usecases.in_force import AccountsInForce
from firstline.usecases.job_worker import MAX_DEATHS, JobWorker
from firstline.usecases.records import Keeping

NOW_US: Final = 1_795_000_000_000_000
ACCOUNT: Final = Account("a" * 32, "a@example.com", NOW_US, dict.fromkeys(Contract, "enterprise"))

Answer = Callable[[ChunkTask], ChunkAnswer]


class Clock:
    """Stands still."""

    def now_us(self) -> int:
        return NOW_US


class Numbers:
    """Ids that count."""

    def __init__(self) -> None:
        self._last = 0

    def new_id(self) -> str:
        self._last += 1
        return f"{self._last:032x}"

    def new_secret(self) -> str:
        return "secret"


class Scripted:
    """Deciders that do what a function says, one chunk at a time."""

    count = 1

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.tasks: list[ChunkTask] = []

    async def decide(self, task: ChunkTask, own: OwnSettings) -> ChunkAnswer:
        self.tasks.append(task)
        return self._answer(task)

    async def rest(self) -> None:
        pass

    async def close(self) -> None:
        pass


class NoFiles:
    """Job files that nobody writes."""

    def done_with(self, job_id: str, number: int) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


class Nobody:
    """A trainer that is never asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def stored(*numbers: int) -> tuple[Sequence[TicketRow], Sequence[VerdictRow]]:
    tickets = [
        TicketRow(f"{number:032x}", ACCOUNT.id, NOW_US, "classifier", None, "en", "x", None, None) for number in numbers
    ]
    verdicts = [
        VerdictRow(
            ticket.id, 1, ACCOUNT.id, NOW_US, "Other", "low", "standard_response", 0.5, 0.5, 0.1, 0, "local", "", "[]",
            None, 1,
        )
        for ticket in tickets
    ]  # fmt: skip
    return tickets, verdicts


def answer(rows: int, *parts: tuple[Sequence[TicketRow], Sequence[VerdictRow]], failed: int = 0) -> ChunkAnswer:
    return ChunkAnswer(ChunkCounts(rows, failed, 0), parts)


async def worked(
    deciders: Scripted,
    store: MemoryStore,
    sizes: Sequence[int],
    *,
    during: Callable[[MemoryJobs, Job], Awaitable[None]] | None = None,
) -> Job | None:
    """Work on a job until it has ended; the job."""
    clock, ids = Clock(), Numbers()
    await store.add_account(ACCOUNT, None, AuditEntry("e", NOW_US, "cli", "test", ACCOUNT.id))
    queue = MemoryJobs(store, clock=clock)
    job = Job("b" * 32, ACCOUNT.id, "classifier", NOW_US, sum(sizes), len(sizes))
    await queue.add(job, sizes, most=1)
    catalogues = load_catalogues()
    worker = JobWorker(
        queue=queue,
        files=NoFiles(),
        deciders=deciders,
        journal=store,
        storage=store,
        in_force=AccountsInForce(Accounts(store, clock, ids), Nobody(), model="m", policy=Policy()),
        limiter=MemoryLimiter(lambda account_id, contract, now_us: store.usage(account_id, contract, now_us=now_us)),
        plan_of=lambda plan, contract: catalogues[contract].plans[plan],
        rules_hash=lambda: "r",
        keeping=Keeping(),
        clock=clock,
        identities=ids,
    )
    worker.start()
    try:
        async with asyncio.timeout(20):
            while (found := await queue.find(job.id, account_id=ACCOUNT.id)) and found.finished_at_us is None:
                if during is not None:
                    await during(queue, job)
                await asyncio.sleep(0)
    finally:
        await worker.close()
    return found


def test_a_chunk_that_processes_keep_dying_on_is_given_up_and_the_others_go_on() -> None:
    def decide(task: ChunkTask) -> ChunkAnswer:
        if task.lease.number == 1 and not task.lost:
            raise ProcessDied
        return answer(task.lease.rows, failed=task.lease.rows if task.lost else 0)

    deciders, store = Scripted(decide), MemoryStore()
    job = asyncio.run(worked(deciders, store, [5, 7, 5]))
    assert job is not None
    assert (job.state, job.done, job.failed) == (JobState.FINISHED, 17, 7)
    assert [task.lost for task in deciders.tasks if task.lease.number == 1] == [False] * MAX_DEATHS + [True]
    assert asyncio.run(store.usage(ACCOUNT.id, Contract.CLASSIFIER, now_us=NOW_US)) == {Window.DAY: 10}


def test_what_was_stored_before_a_worker_died_is_not_stored_again() -> None:
    store = MemoryStore()

    def decide(task: ChunkTask) -> ChunkAnswer:
        if task.lease.attempts == 1:  # as if it had stored a part, and died
            store.tickets.update((row.id, row) for row in stored(1, 2)[0])
            raise ProcessDied
        return answer(3, stored(1, 2, 3))

    job = asyncio.run(worked(Scripted(decide), store, [3]))
    assert job is not None
    assert job.state is JobState.FINISHED
    assert sorted(store.tickets) == [f"{number:032x}" for number in (1, 2, 3)]


def test_a_job_that_is_deleted_while_it_is_worked_on_is_no_fault() -> None:
    def decide(task: ChunkTask) -> ChunkAnswer:
        raise JobFilesLost

    async def delete(queue: MemoryJobs, job: Job) -> None:
        await queue.delete(job.id, account_id=ACCOUNT.id)

    store = MemoryStore()
    assert asyncio.run(worked(Scripted(decide), store, [3], during=delete)) is None
    assert not store.outbox


def test_a_job_whose_files_are_gone_ends() -> None:
    def decide(task: ChunkTask) -> ChunkAnswer:
        raise JobFilesLost

    job = asyncio.run(worked(Scripted(decide), MemoryStore(), [3, 3]))
    assert job is not None
    assert job.state is JobState.CANCELLED
