"""What many processes cost and gain: PostgreSQL and Redis beside SQLite, a long history beside a short one, a job.

Needs a PostgreSQL server on which databases may be made, as a superuser, and Redis: `TEST_POSTGRES_URL` and
`TEST_REDIS_URL`, or both on this machine. The long history takes some 8 GB while it is there.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from statistics import median
from typing import Final

import httpx2
import orjson
import psycopg
from rich.console import Console
from rich.table import Table

from bench import servers
from bench.cores import Cores
from bench.cost import CHARACTERS, CONCURRENCY
from bench.load import Outcome, closed_loop, open_loop, repeating
from bench.servers import Firstline
from bench.stores import TARGET, TARGET_OF_TWO, classify_requests, database, journal_process, requests_a_second
from bench.texts import tickets

REDIS_URL: Final = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
SHORT: Final = 5_000
LONG: Final = 5_000_000
JOB_ROWS: Final = 100_000
TARGET_P99: Final = 1.2
TARGET_ROWS: Final = 10_000
RATE: Final = 300.0
TURNS: Final = 7

_NO_JOBS: Final = {"FIRSTLINE_REDIS_URL": REDIS_URL, "FIRSTLINE_JOB_PROCESSES": "0"}
_START: Final = "extract(epoch FROM date_trunc('month', now() AT TIME ZONE 'utc'))"
_ID: Final = (
    "lpad(to_hex(at_us / 1000), 12, '0') || '7' || lpad(to_hex(mod(number, 4096)), 3, '0') || '8' || "
    "lpad(to_hex(number), 15, '0')"
)
_ROWS: Final = f"""
    SELECT number, ({_START} * 1e6)::bigint + (extract(epoch FROM now()) - {_START})::bigint * 1000000 / %(count)s
        * number AS at_us
    FROM generate_series(1, %(count)s::bigint) AS number
"""
_FILL: Final = (
    f"""
    INSERT INTO tickets
    SELECT {_ID}, t.account_id, at_us, t.contract, t.channel, t.language, t.text || number, t.customer_ref,
        t.external_id
    FROM (SELECT * FROM tickets LIMIT 1) AS t, ({_ROWS}) AS rows ORDER BY number
    """,
    f"""
    INSERT INTO verdicts
    SELECT {_ID}, v.revision, v.account_id, at_us, v.category, v.priority, v.decision, v.probability, v.confidence,
        v.churn_risk, v.needs_review, v.source, v.recommended_action, v.reasons, v.evidence, v.processing_us
    FROM (SELECT * FROM verdicts LIMIT 1) AS v, ({_ROWS}) AS rows ORDER BY number
    """,
)


def run(console: Console, cores: Cores, quick: bool) -> None:
    """Measure and print all tables."""
    _costs(console, cores, quick)
    _two_servers(console, cores, quick)
    _histories(console, cores, quick)
    _job(console, cores, quick)


def _costs(console: Console, cores: Cores, quick: bool) -> None:
    rounds, count = (3, 1_000) if quick else (7, 4_000)
    with ExitStack() as stack:
        url = stack.enter_context(database())
        embedded = stack.enter_context(servers.firstline(cores=cores.serving, more={"FIRSTLINE_JOB_PROCESSES": "0"}))
        shared = stack.enter_context(servers.firstline(cores=cores.serving, more=_NO_JOBS, database_url=url))
        workers = stack.enter_context(cores.workers(1))
        found: dict[str, list[float]] = {"SQLite": [], "PostgreSQL and Redis": []}
        there: list[float] = []
        for number in range(rounds + 1):
            for name, ours in zip(found, (embedded, shared), strict=True):
                journal = journal_process(url) if ours is shared else None
                before, theirs = ours.server.cpu_seconds(), journal.cpu_seconds() if journal else 0.0
                requests = classify_requests(ours, count, seed=number)
                outcome = workers.submit(closed_loop, ours.server.port, requests, CONCURRENCY).result()
                _say_refused(console, name, outcome)
                if number:
                    found[name].append((ours.server.cpu_seconds() - before) / count * 1e6)
                    if journal:
                        there.append((journal.cpu_seconds() - theirs) / count * 1e6)
    table = Table(title=f"classify, CPU of the server per request, {rounds} rounds in turn, {CONCURRENCY} connections")
    for heading in ("", "µs min", "median", "max", "× SQLite median", "target"):
        table.add_column(heading, justify="right" if heading not in {"", "target"} else "left")
    for name, values in found.items():
        ratio = median(one / other for one, other in zip(values, found["SQLite"], strict=True))
        target = "" if name == "SQLite" else f"≤ {TARGET:g}× {'reached' if ratio <= TARGET else 'MISSED'}"
        shown = [f"{value:.0f}" for value in (min(values), median(values), max(values))]
        table.add_row(name, *shown, f"{ratio:.2f}", target)
    console.print(table)
    if there:
        console.print(f"PostgreSQL's process for verdicts takes {median(there):.0f} µs of its own.")


def _two_servers(console: Console, cores: Cores, quick: bool) -> None:
    """Requests a second of one server, then of two on the same database and Redis, each on a core of its own."""
    count = 1_000 if quick else 8_000
    table = Table(title=f"classify, closed loop, {CONCURRENCY} connections to each server, a core each, best turn")
    for heading in ("servers on PostgreSQL and Redis", "requests/s", "× one", "target"):
        table.add_column(heading, justify="right" if heading != "target" else "left")
    rates = []
    for number in (1, 2):
        with ExitStack() as stack:
            url = stack.enter_context(database())
            found = [
                stack.enter_context(servers.firstline(cores=[core], more=_NO_JOBS, database_url=url))
                for core in range(number)
            ]
            workers = stack.enter_context(cores.workers(number))
            turns = [requests_a_second(workers, found, count, seed=100 + turn) for turn in range(TURNS)]
            rates.append(max(turns[1:]))  # the first one warms up; others on this machine only slow it down
    ratio = rates[1] / rates[0]
    table.add_row("1", f"{rates[0]:,.0f}", "", "")
    reached = "reached" if ratio >= TARGET_OF_TWO else "MISSED"
    table.add_row("2", f"{rates[1]:,.0f}", f"{ratio:.2f}", f"≥ {TARGET_OF_TWO:g}× {reached}")
    console.print(table)


def _histories(console: Console, cores: Cores, quick: bool) -> None:
    """p99 of classify and of the newest page of the history, of an account with a short and a long history."""
    long, seconds = (200_000, 3.0) if quick else (LONG, 8.0)
    with ExitStack() as stack:
        workers = stack.enter_context(cores.workers(1))
        ours = []
        for rows in (SHORT, long):
            url = stack.enter_context(database())
            one = stack.enter_context(servers.firstline(cores=cores.serving, more=_NO_JOBS, database_url=url))
            workers.submit(closed_loop, one.server.port, classify_requests(one, 10, seed=5), 1).result()
            began = time.monotonic()
            _fill(url, rows)
            console.print(f"{rows:,} tickets with verdicts loaded in {time.monotonic() - began:.0f} s.")
            ours.append(one)
        ways: dict[str, Callable[[Firstline, int], Outcome]] = {
            f"classify, {RATE:g} a second": lambda one, turn: _classify(workers, one, seconds, turn),
            "the newest 50 of the history": lambda one, _: _list(workers, one, seconds, ""),
            "50 from the middle of the month": lambda one, _: _list(workers, one, seconds, f"&to={_middle()}"),
        }
        table = Table(title=f"latency with {SHORT:,} and with {long:,} tickets of the account, {TURNS} turns each")
        for heading in ("", "p50 ms short", "long", "p99 ms short", "long", "× short", "target"):
            table.add_column(heading, justify="right" if heading not in {"", "target"} else "left")
        for name, way in ways.items():
            seen: list[list[list[float]]] = [[], []]
            for turn in range(TURNS + 1):
                for place, one in enumerate(ours):
                    outcome = way(one, turn)
                    _say_refused(console, name, outcome)
                    if turn:  # the first one warms up
                        seen[place].append(outcome.latencies)
            p50 = [median(_at(turn, 0.5) for turn in turns) for turns in seen]
            p99 = [median(_at(turn, 0.99) for turn in turns) for turns in seen]
            ratio = p99[1] / p99[0]
            target = f"≤ {TARGET_P99:g}× {'reached' if ratio <= TARGET_P99 else 'MISSED'}"
            table.add_row(name, *(f"{value * 1_000:.1f}" for value in (*p50, *p99)), f"{ratio:.2f}", target)
    console.print(table)


def _classify(workers: ProcessPoolExecutor, ours: Firstline, seconds: float, turn: int) -> Outcome:
    requests = classify_requests(ours, int(RATE * seconds), seed=turn)
    return workers.submit(open_loop, ours.server.port, requests, RATE, seconds, turn).result()


def _list(workers: ProcessPoolExecutor, ours: Firstline, seconds: float, more: str) -> Outcome:
    head = f"GET /v1/tickets?limit=50{more} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {ours.classifier_key}\r\n\r\n"
    return workers.submit(repeating, ours.server.port, [head.encode()], seconds / 2).result()


def _middle() -> str:
    """A moment halfway between the beginning of the month and now."""
    now = datetime.now(UTC)
    began = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return f"{began + (now - began) / 2:%Y-%m-%dT%H:%M:%SZ}"


def _fill(url: str, rows: int) -> None:
    """Rows like one that is there, spread over this month; foreign keys are not looked at meanwhile."""
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET synchronous_commit = off")
        for statement in _FILL:
            connection.execute(statement.encode(), {"count": rows})
        connection.execute("ANALYZE tickets")
        connection.execute("ANALYZE verdicts")


def _job(console: Console, cores: Cores, quick: bool) -> None:
    rows = JOB_ROWS // 10 if quick else JOB_ROWS
    texts = tickets(20_000, length=CHARACTERS, seed=3)
    body = b"\n".join(orjson.dumps({"text": f"{texts[number % 20_000]} {number}"}) for number in range(rows))
    more = {"FIRSTLINE_REDIS_URL": REDIS_URL, "FIRSTLINE_JOB_PROCESSES": "2"}
    with ExitStack() as stack:
        url = stack.enter_context(database())
        ours = stack.enter_context(servers.firstline(cores=cores.serving, more=more, database_url=url))
        base = f"http://127.0.0.1:{ours.server.port}/v1/jobs"
        with httpx2.Client(trust_env=False, timeout=60.0, headers={"X-API-Key": ours.batch_key}) as client:
            began = time.monotonic()
            made = client.post(base, content=body, headers={"Content-Type": "application/x-ndjson"})
            if made.status_code != 202:
                raise RuntimeError(f"the job was refused with status {made.status_code}")
            taken = time.monotonic() - began
            job = made.json()
            while job["finished_at"] is None:
                time.sleep(0.2)
                job = client.get(f"{base}/{job['id']}").json()
            took = time.monotonic() - began - taken
    reached = "reached" if rows / took >= TARGET_ROWS else "MISSED"
    console.print(
        f"A job of {rows:,} rows of {CHARACTERS} characters on two cores, stored on PostgreSQL: taken in in "
        f"{taken:.1f} s, done after another {took:.1f} s: {rows / took:,.0f} rows/s "
        f"(goal ≥ {TARGET_ROWS:,}: {reached}); {job['failed']} failed."
    )


def _say_refused(console: Console, name: str, outcome: Outcome) -> None:
    if outcome.refused:
        console.print(f"{name}: answers other than 200: {outcome.refused}")


def _at(latencies: list[float], share: float) -> float:
    ascending = sorted(latencies)
    return ascending[min(int(share * len(ascending)), len(ascending) - 1)]
