"""Working on jobs: claim a chunk, have it decided, store the verdicts, take the chunk as done.

Any number of workers share a queue. A worker that dies leaves its leases to end by themselves, `LEASE_S` after their
last extension; the verdicts that it had stored by then are found by their ids and not stored again.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from firstline.core.identity import JOB
from firstline.core.plans import MICROSECONDS, Plan, Window, window_bounds
from firstline.core.taxonomy import Contract
from firstline.ports.clock import Clock, Identities
from firstline.ports.jobs import (
    ChunkAnswer,
    ChunkCounts,
    ChunkTask,
    Deciders,
    DecidersUnavailable,
    Job,
    JobFiles,
    JobFilesLost,
    JobQueue,
    Lease,
    Own,
    ProcessDied,
)
from firstline.ports.journal import CounterDelta, Journal, JournalUnavailable, Record, TicketRow, VerdictRow
from firstline.ports.limiter import Limiter
from firstline.ports.storage import Storage, StorageUnavailable
from firstline.ports.tracing import NO_TRACER, Kind, Tracer, Value
from firstline.usecases.in_force import AccountsInForce
from firstline.usecases.records import Keeping
from firstline.usecases.rollups import counted
from firstline.usecases.texts import Texts

LEASE_S: Final = 10.0
EXTEND_S: Final = 2.5
POLL_S: Final = 1.0
REST_S: Final = 30.0
"""Without work for so long, a worker lets its processes go."""

RETRY_S: Final = 3.0
DRAIN_S: Final = 5.0
MAX_DEATHS: Final = 2
MAX_ATTEMPTS: Final = 20
"""Processes that may end over a chunk, and leases of it, before its rows get an error instead of a verdict."""

CHARGED: Final = (Window.DAY, Window.MONTH)
"""Windows that a row costs one request of; a job spends neither burst nor hour."""


class PlanOf(Protocol):
    """The plan of an account for a contract."""

    def __call__(self, plan: str, contract: Contract) -> Plan:
        """Args:
        plan: its name.
        """
        ...


class JobWorker:
    """Works on the jobs of a queue until it is closed."""

    def __init__(
        self,
        *,
        queue: JobQueue,
        files: JobFiles,
        deciders: Deciders,
        journal: Journal,
        storage: Storage,
        in_force: AccountsInForce,
        limiter: Limiter,
        plan_of: PlanOf,
        rules_hash: Callable[[], str],
        keeping: Keeping,
        clock: Clock,
        identities: Identities,
        texts: Texts | None = None,
        on_fault: Callable[[BaseException], None] = lambda _: None,
        on_chunk: Callable[[Lease, ChunkCounts], None] = lambda lease, counts: None,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Args:
        limiter: told of what jobs cost, for it knows the ledger only as it was.
        texts: seals texts at rest; None where they are stored as they are.
        on_fault: told of what kept a chunk from being done.
        on_chunk: told of every chunk that is done.
        """
        self._queue = queue
        self._files = files
        self._deciders = deciders
        self._journal = journal
        self._storage = storage
        self._in_force = in_force
        self._limiter = limiter
        self._plan_of = plan_of
        self._rules_hash = rules_hash
        self._keeping = keeping
        self._clock = clock
        self._identities = identities
        self._texts = texts
        self._on_fault = on_fault
        self._on_chunk = on_chunk
        self._tracer = tracer
        self._lanes: list[asyncio.Task[None]] = []
        self._extending: asyncio.Task[None] | None = None
        self._held: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._storing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._closing = False

    def start(self) -> None:
        """Begin; one more chunk is under way than is decided on, so that nobody waits while it is stored."""
        self._lanes = [asyncio.create_task(self._lane()) for _ in range(self._deciders.count + 1)]
        self._extending = asyncio.create_task(self._extend())

    def wake(self) -> None:
        """Look for work at once: a job was added."""
        self._wake.set()

    async def close(self) -> None:
        """Finish what is under way if that is quick, and give the rest back."""
        self._closing = True
        self._wake.set()
        if self._held:
            await asyncio.wait(list(self._held.values()), timeout=DRAIN_S)
        tasks = [*self._held.values(), *self._lanes, *([self._extending] if self._extending else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._deciders.close()

    async def _lane(self) -> None:
        while not self._closing:
            lease = await self._next()
            if lease is None:
                return
            work = self._held[lease.token] = asyncio.create_task(self._work_traced(lease))
            try:
                await asyncio.wait([work])
            finally:
                self._held.pop(lease.token, None)

    async def _next(self) -> Lease | None:
        """The next chunk, waited for; one lane at a time asks for one. None once the worker is closing."""
        idle_s = 0.0
        async with self._turn:
            while not self._closing:
                self._wake.clear()
                with suppress(StorageUnavailable):
                    if await self._queue.is_waiting():
                        lease = await self._queue.claim(self._identities.new_id(), lease_s=LEASE_S)
                        if lease is not None:
                            return lease
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), POLL_S)
                idle_s += POLL_S
                if idle_s >= REST_S and not self._held:
                    await self._deciders.rest()
        return None

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(EXTEND_S)
            tokens = list(self._held)
            if not tokens:
                continue
            with suppress(StorageUnavailable):  # the leases may end; `finish` will tell
                held = await self._queue.extend(tokens, lease_s=LEASE_S)
                for token in tokens:
                    work = self._held.get(token)
                    if token not in held and work is not None:
                        work.cancel()

    async def _work_traced(self, lease: Lease) -> None:
        attributes: dict[str, Value] = {
            "firstline.job": f"{JOB}{lease.job.id}",
            "firstline.chunk": lease.number,
            "firstline.rows": lease.rows,
            "firstline.attempt": lease.attempts,
            "firstline.contract": lease.job.contract,
        }
        with self._tracer.entry("job chunk", kind=Kind.CONSUMER, attributes=attributes):
            await self._work(lease)

    async def _work(self, lease: Lease) -> None:
        """Everything about one chunk; whatever goes wrong, the chunk is given back or its lease ends."""
        try:
            await self._decide_and_store(lease)
        except ProcessDied as error:
            self._on_fault(error)
            await self._release(lease, died=True)
        except JobFilesLost as error:
            await self._without_files(lease.job, error)
        except (StorageUnavailable, JournalUnavailable, DecidersUnavailable, OSError) as error:
            self._on_fault(error)
            await self._release(lease)
            await asyncio.sleep(RETRY_S)
        except asyncio.CancelledError:
            await asyncio.shield(self._release(lease))
            raise
        except Exception as error:  # a bug must not end the worker
            self._on_fault(error)
            await self._release(lease)
            await asyncio.sleep(RETRY_S)

    async def _decide_and_store(self, lease: Lease) -> None:
        until_us = await self._full_until_us(lease)
        if until_us is not None:
            await self._queue.pause(lease.token, until_us=until_us)
            return
        under = await self._in_force.of(lease.account.id)
        task = ChunkTask(
            lease,
            history=self._keeping.history,
            text=self._keeping.text,
            versions=(under.categories_version, under.thresholds_version),
            rules=self._rules_hash(),
            lost=lease.deaths >= MAX_DEATHS or lease.attempts > MAX_ATTEMPTS,
        )
        with self._tracer.span("decide"):
            answer = await self._deciders.decide(task, self._own)
        await self._store(lease, answer)
        await self._finish(lease, answer.counts)

    async def _own(self, account_id: str) -> Own:
        categories = await self._storage.find_categories(account_id)
        return Own(categories, await self._storage.find_thresholds(account_id))

    async def _full_until_us(self, lease: Lease) -> int | None:
        """When the chunk may be worked on, if the plan does not allow it now."""
        contract = Contract(lease.job.contract)
        plan = self._plan_of(lease.account.plans[contract], contract)
        now_us = self._clock.now_us()
        used = await self._storage.usage(lease.account.id, contract, now_us=now_us)
        waits = [0]
        for window in CHARGED:
            limit = plan.limits.get(window)
            if limit is None:
                continue
            mine = used.get(window, 0)
            if mine and mine + lease.rows > limit:
                waits.append(window_bounds(window, now_us)[1])
            elif lease.in_flight and mine + lease.in_flight + lease.rows > limit:
                waits.append(now_us + int(POLL_S * MICROSECONDS))
        return max(waits) or None

    async def _store(self, lease: Lease, answer: ChunkAnswer) -> None:
        """Store verdicts part by part, those left out that an earlier lease of the chunk has stored."""
        sealed = self._texts is not None and self._keeping.text and lease.account.keep_text
        for tickets, verdicts in answer.parts:
            if lease.attempts > 1:
                tickets, verdicts = await self._missing(tickets, verdicts)
            seal = await self._texts.seal_of(lease.account.id) if self._texts and sealed else None
            if seal is not None:
                tickets = [seal.ticket(ticket) for ticket in tickets]
                verdicts = [seal.verdict(verdict) for verdict in verdicts]
            if tickets:
                pairs = zip(tickets, verdicts, strict=True)
                counts = tuple(counted(ticket, verdict, timed=False) for ticket, verdict in pairs)
                record = Record(tickets=tuple(tickets), verdicts=tuple(verdicts), rollups=counts)
                async with self._storing:  # one at a time, so that whoever waits for an answer waits for one part
                    await self._journal.append(record)

    async def _missing(
        self, tickets: Sequence[TicketRow], verdicts: Sequence[VerdictRow]
    ) -> tuple[list[TicketRow], list[VerdictRow]]:
        stored = await self._queue.stored([ticket.id for ticket in tickets])
        return (
            [ticket for ticket in tickets if ticket.id not in stored],
            [verdict for verdict in verdicts if verdict.ticket_id not in stored],
        )

    async def _finish(self, lease: Lease, counts: ChunkCounts) -> None:
        contract = Contract(lease.job.contract)
        plan = self._plan_of(lease.account.plans[contract], contract)
        now_us, amount = self._clock.now_us(), counts.rows - counts.failed
        windows = [window for window in CHARGED if window in plan.limits]
        counters = [
            CounterDelta(lease.account.id, contract, window, *window_bounds(window, now_us), amount)
            for window in windows
            if amount
        ]
        job = await self._queue.finish(lease.token, counts, counters=counters, event_id=self._identities.new_id())
        if job is None:
            return
        if amount:
            await self._limiter.add(lease.account.id, plan, amount, windows=windows, now_us=now_us)
        with suppress(OSError):
            await asyncio.to_thread(self._files.done_with, job.id, lease.number)
        self._on_chunk(lease, counts)

    async def _without_files(self, job: Job, error: JobFilesLost) -> None:
        """A deleted job is no fault; one whose files somebody else has removed cannot go on."""
        with suppress(StorageUnavailable):
            if await self._queue.find(job.id, account_id=job.account_id) is not None:
                self._on_fault(error)
                event_id = self._identities.new_id()
                await self._queue.cancel(job.id, account_id=job.account_id, event_id=event_id)

    async def _release(self, lease: Lease, *, died: bool = False) -> None:
        with suppress(StorageUnavailable, JournalUnavailable):
            await self._queue.release(lease.token, died=died)
