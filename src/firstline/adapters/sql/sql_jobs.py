"""Jobs on SQL, for `ports.jobs.JobQueue`: a lease table, the same on SQLite and PostgreSQL."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import (
    Connection,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from firstline.adapters.sql.job_tables import job_chunks, jobs
from firstline.adapters.sql.runners import Reads, Writes
from firstline.adapters.sql.sql_storage import account_of
from firstline.adapters.sql.tables import accounts, outbox, tickets, usage
from firstline.core.plans import MICROSECONDS
from firstline.ports.clock import Clock
from firstline.ports.jobs import ACTIVE, ChunkCounts, Job, JobBacklog, JobState, Lease, TooManyJobs, finished_event
from firstline.ports.journal import CounterDelta
from firstline.ports.storage import Account

_READY: Final = "ready"
_LEASED: Final = "leased"
_DONE: Final = "done"
_JOB: Final = ("id", "account_id", "contract", "created_at_us", "rows", "chunks", "state", "started_at_us",
               "finished_at_us", "resumes_at_us", "done", "failed", "reviews", "chunks_done")  # fmt: skip
_DATABASE_NOW: Final = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)")
_ALONE: Final = text("SELECT pg_advisory_xact_lock(hashtext(:name))")
_FREE: Final[Mapping[str, Any]] = {"state": _READY, "token": None, "lease_until_us": None}


class SqlJobs:
    """Implements `ports.jobs.JobQueue`.

    Its writes lock what they rely on, chunks before jobs, and hold on PostgreSQL at READ COMMITTED too: serializable
    ones of several workers that all look for the next turn would only be in each other's way.
    """

    def __init__(self, read: Reads, write: Writes, *, clock: Clock | None) -> None:
        """Args:
        clock: for leases; None for the database's own (PostgreSQL), which all workers share.
        """
        self._read = read
        self._write = write
        self._clock = clock

    async def add(self, job: Job, sizes: Sequence[int], *, most: int) -> None:
        """See the port."""

        def task(connection: Connection) -> None:
            _alone(connection, f"jobs.add {job.account_id}")
            active = select(func.count()).select_from(jobs)
            active = active.where(jobs.c.account_id == job.account_id, jobs.c.state.in_(ACTIVE))
            if connection.execute(active).scalar_one() >= most:
                raise TooManyJobs(job.account_id)
            row = {name: getattr(job, name) for name in _JOB}
            row |= {"options": orjson.dumps(job.options).decode(), "claimed_at_us": 0}
            connection.execute(insert(jobs).values(row))
            first, chunks = 1, []
            for number, size in enumerate(sizes):
                chunks.append(
                    {
                        "job_id": job.id,
                        "number": number,
                        "first_row": first,
                        "rows": size,
                        "attempts": 0,
                        "deaths": 0,
                        **_FREE,
                    }
                )
                first += size
            connection.execute(insert(job_chunks), chunks)

        await self._write(task)

    async def find(self, job_id: str, *, account_id: str) -> Job | None:
        """See the port."""
        return await self._read(lambda connection: _find(connection, _own(job_id, account_id)))

    async def list(self, account_id: str, *, before: str | None, limit: int) -> Sequence[Job]:
        """See the port."""
        query = select(jobs).where(jobs.c.account_id == account_id)
        if before is not None:
            query = query.where(jobs.c.id < before)
        query = query.order_by(jobs.c.id.desc()).limit(limit)
        return await self._read(lambda c: [_job(row) for row in c.execute(query).mappings()])

    async def is_waiting(self) -> bool:
        """See the port."""

        def task(connection: Connection) -> bool:
            return connection.execute(_claimable(self._now_us(connection)).limit(1)).first() is not None

        return await self._read(task)

    async def backlog(self) -> JobBacklog:
        """See the port."""
        rows = select(func.coalesce(func.sum(jobs.c.rows - jobs.c.done), 0))

        def task(connection: Connection) -> JobBacklog:
            now_us = self._now_us(connection)
            waiting = _claimable(now_us).with_only_columns(func.min(_waiting_since()), maintain_column_froms=True)
            return JobBacklog(
                rows=int(connection.execute(rows.where(_may_go_on(now_us))).scalar_one()),
                waiting_since_us=connection.execute(waiting).scalar_one(),
            )

        return await self._read(task)

    async def claim(self, token: str, *, lease_s: float) -> Lease | None:
        """See the port."""

        def task(connection: Connection) -> Lease | None:
            _alone(connection, "jobs.claim")
            now_us = self._now_us(connection)
            turns = jobs.alias()
            turn = select(func.max(turns.c.claimed_at_us)).where(turns.c.account_id == jobs.c.account_id)
            query = _claimable(now_us).order_by(turn.scalar_subquery(), jobs.c.claimed_at_us, jobs.c.id).limit(1)
            job = connection.execute(query).mappings().first()
            if job is None:
                return None
            chunk = _next_chunk(connection, job["id"], now_us)
            if chunk is None:  # another worker was faster
                return None
            changed = update(job_chunks).where(*_chunk(chunk))
            connection.execute(
                changed.values(
                    state=_LEASED,
                    token=token,
                    lease_until_us=now_us + int(lease_s * MICROSECONDS),
                    attempts=chunk["attempts"] + 1,
                )
            )
            # Later than every other turn, even within one microsecond or after a step of the clock.
            latest = connection.execute(select(func.max(jobs.c.claimed_at_us))).scalar_one()
            started = {
                "state": JobState.RUNNING,
                "resumes_at_us": None,
                "started_at_us": job["started_at_us"] or now_us,
            }
            connection.execute(
                update(jobs).where(jobs.c.id == job["id"]).values(claimed_at_us=max(now_us, latest + 1), **started)
            )
            return Lease(
                job=_job({**job, **started}),
                account=_account(connection, job["account_id"]),
                number=chunk["number"],
                first_row=chunk["first_row"],
                rows=chunk["rows"],
                token=token,
                attempts=chunk["attempts"] + 1,
                deaths=chunk["deaths"],
                in_flight=_in_flight(connection, job, token=token, now_us=now_us),
            )

        return await self._write(task)

    async def extend(self, tokens: Collection[str], *, lease_s: float) -> frozenset[str]:
        """See the port."""

        def task(connection: Connection) -> frozenset[str]:
            until_us = self._now_us(connection) + int(lease_s * MICROSECONDS)
            changed = update(job_chunks).where(job_chunks.c.token.in_(tokens), job_chunks.c.state == _LEASED)
            found = connection.execute(changed.values(lease_until_us=until_us).returning(job_chunks.c.token))
            return frozenset(found.scalars())

        return await self._write(task)

    async def release(self, token: str, *, died: bool = False) -> None:
        """See the port."""

        def task(connection: Connection) -> None:
            changed = update(job_chunks).where(job_chunks.c.token == token, job_chunks.c.state == _LEASED)
            connection.execute(changed.values(deaths=job_chunks.c.deaths + int(died), **_FREE))

        await self._write(task)

    async def pause(self, token: str, *, until_us: int) -> None:
        """See the port."""

        def task(connection: Connection) -> None:
            changed = update(job_chunks).where(job_chunks.c.token == token, job_chunks.c.state == _LEASED)
            job_id = connection.execute(
                changed.values(attempts=job_chunks.c.attempts - 1, **_FREE).returning(job_chunks.c.job_id)
            ).scalar()
            waiting = update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(ACTIVE))
            connection.execute(waiting.values(state=JobState.PAUSED, resumes_at_us=until_us))

        await self._write(task)

    async def finish(
        self, token: str, counts: ChunkCounts, *, counters: Sequence[CounterDelta], event_id: str
    ) -> Job | None:
        """See the port."""

        def task(connection: Connection) -> Job | None:
            changed = update(job_chunks).where(job_chunks.c.token == token, job_chunks.c.state == _LEASED)
            job_id = connection.execute(
                changed.values(state=_DONE, lease_until_us=None).returning(job_chunks.c.job_id)
            ).scalar()
            if job_id is None:
                return None
            now_us = self._now_us(connection)
            last = and_(jobs.c.chunks_done + 1 == jobs.c.chunks, jobs.c.state.in_(ACTIVE))
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id)
                .values(
                    done=jobs.c.done + counts.rows,
                    failed=jobs.c.failed + counts.failed,
                    reviews=jobs.c.reviews + counts.reviews,
                    chunks_done=jobs.c.chunks_done + 1,
                    state=case((last, JobState.FINISHED.value), else_=jobs.c.state),
                    finished_at_us=case((last, now_us), else_=jobs.c.finished_at_us),
                )
            )
            for delta in counters:
                connection.execute(_counted(connection, delta))
            job = _find(connection, (jobs.c.id == job_id,))
            if job is not None and job.state is JobState.FINISHED:
                connection.execute(insert(outbox).values(finished_event(event_id, job, at_us=now_us)._asdict()))
            return job

        return await self._write(task)

    async def results(self, job_id: str) -> Sequence[tuple[int, str]]:
        """See the port."""
        query = select(job_chunks.c.number, job_chunks.c.token)
        query = query.where(job_chunks.c.job_id == job_id, job_chunks.c.state == _DONE).order_by(job_chunks.c.number)
        return await self._read(lambda c: [(number, token) for number, token in c.execute(query)])

    async def stored(self, ticket_ids: Collection[str]) -> frozenset[str]:
        """See the port."""
        query = select(tickets.c.id).where(tickets.c.id.in_(ticket_ids))
        return await self._read(lambda c: frozenset(c.execute(query).scalars()))

    async def cancel(self, job_id: str, *, account_id: str, event_id: str) -> Job | None:
        """See the port."""

        def task(connection: Connection) -> Job | None:
            now_us = self._now_us(connection)
            active = update(jobs).where(*_own(job_id, account_id), jobs.c.state.in_(ACTIVE))
            ended = {"state": JobState.CANCELLED, "finished_at_us": now_us, "resumes_at_us": None}
            changed = connection.execute(active.values(ended)).rowcount
            job = _find(connection, _own(job_id, account_id))
            if changed and job is not None:
                connection.execute(insert(outbox).values(finished_event(event_id, job, at_us=now_us)._asdict()))
            return job

        return await self._write(task)

    async def delete(self, job_id: str, *, account_id: str) -> bool:
        """See the port."""

        def task(connection: Connection) -> bool:
            own = select(jobs.c.id).where(*_own(job_id, account_id))
            connection.execute(delete(job_chunks).where(job_chunks.c.job_id.in_(own)))
            return connection.execute(delete(jobs).where(*_own(job_id, account_id))).rowcount > 0

        return await self._write(task)

    async def finished_before(self, at_us: int, *, limit: int) -> Sequence[Job]:
        """See the port."""
        query = select(jobs).where(jobs.c.finished_at_us < at_us).order_by(jobs.c.finished_at_us).limit(limit)
        return await self._read(lambda c: [_job(row) for row in c.execute(query).mappings()])

    async def known(self, job_ids: Collection[str]) -> frozenset[str]:
        """See the port."""
        query = select(jobs.c.id).where(jobs.c.id.in_(job_ids))
        return await self._read(lambda c: frozenset(c.execute(query).scalars()))

    def _now_us(self, connection: Connection) -> int:
        if self._clock is not None:
            return self._clock.now_us()
        return int(connection.execute(_DATABASE_NOW).scalar_one())


def _alone(connection: Connection, name: str) -> None:
    """Wait until no other transaction under the name is under way; on SQLite none ever is."""
    if connection.dialect.name == "postgresql":
        connection.execute(_ALONE, {"name": name})


def _free(now_us: int) -> tuple[Any, Any]:
    """Chunks that can be leased: those whose lease has ended, and those that are ready. Apart, each has an index."""
    lost = and_(job_chunks.c.state == _LEASED, job_chunks.c.lease_until_us < now_us)
    return lost, job_chunks.c.state == _READY


def _may_go_on(now_us: int) -> Any:
    """Jobs that have not ended and do not wait for their plan."""
    going = jobs.c.state.in_((JobState.QUEUED, JobState.RUNNING))
    return or_(going, and_(jobs.c.state == JobState.PAUSED, jobs.c.resumes_at_us <= now_us))


def _waiting_since() -> Any:
    """When a job last had a turn, was added, or could go on after a pause; whatever was last."""
    turn = case((jobs.c.claimed_at_us > jobs.c.created_at_us, jobs.c.claimed_at_us), else_=jobs.c.created_at_us)
    return func.coalesce(jobs.c.resumes_at_us, turn)


def _claimable(now_us: int) -> Select[Any]:
    """Jobs that may go on and have a chunk that can be leased."""
    some = [
        select(literal(1)).where(job_chunks.c.job_id == jobs.c.id, free).correlate(jobs).limit(1).exists()
        for free in _free(now_us)
    ]
    return select(jobs).where(_may_go_on(now_us), or_(*some))


def _next_chunk(connection: Connection, job_id: str, now_us: int) -> Mapping[Any, Any] | None:
    for free in _free(now_us):
        query = select(job_chunks).where(job_chunks.c.job_id == job_id, free).order_by(job_chunks.c.number).limit(1)
        found = connection.execute(query.with_for_update(skip_locked=True)).mappings().first()
        if found is not None:
            return found
    return None


def _in_flight(connection: Connection, job: Mapping[Any, Any], *, token: str, now_us: int) -> int:
    leased = (job_chunks.c.state == _LEASED, job_chunks.c.lease_until_us >= now_us, job_chunks.c.token != token)
    query = select(func.coalesce(func.sum(job_chunks.c.rows), 0)).join(jobs, jobs.c.id == job_chunks.c.job_id)
    query = query.where(jobs.c.account_id == job["account_id"], jobs.c.contract == job["contract"], *leased)
    return int(connection.execute(query).scalar_one())


def _counted(connection: Connection, delta: CounterDelta) -> Any:
    """Adds to a counter of the usage ledger, which may not be there yet."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = delta._asdict()
    row["requests"] = row.pop("amount")
    statement = dialect.insert(usage).values(row)
    return statement.on_conflict_do_update(
        index_elements=["account_id", "catalogue", "window", "starts_at_us"],
        set_={"requests": usage.c.requests + statement.excluded.requests},
    )


def _own(job_id: str, account_id: str) -> tuple[Any, Any]:
    return jobs.c.id == job_id, jobs.c.account_id == account_id


def _chunk(chunk: Mapping[Any, Any]) -> tuple[Any, Any]:
    return job_chunks.c.job_id == chunk["job_id"], job_chunks.c.number == chunk["number"]


def _account(connection: Connection, account_id: str) -> Account:
    row = connection.execute(select(accounts).where(accounts.c.id == account_id)).mappings().one()
    return account_of(row)


def _find(connection: Connection, where: tuple[Any, ...]) -> Job | None:
    row = connection.execute(select(jobs).where(*where)).mappings().first()
    return _job(row) if row else None


def _job(row: Mapping[Any, Any]) -> Job:
    known = {name: row[name] for name in _JOB}
    return Job(**{**known, "state": JobState(row["state"])}, options=orjson.loads(row["options"]))
