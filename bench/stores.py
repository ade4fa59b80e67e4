"""What storing on PostgreSQL costs beside SQLite, and what a second server on the same database adds.

Needs a PostgreSQL server on which databases may be made: `TEST_POSTGRES_URL`, or postgres on this machine.
"""

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack, closing, contextmanager
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import orjson
import psycopg
from rich.console import Console
from rich.table import Table

from bench import servers
from bench.cores import Cores
from bench.cost import CHARACTERS, CONCURRENCY
from bench.load import Outcome, closed_loop, post
from bench.servers import Firstline, Server
from bench.texts import tickets
from firstline.adapters.sql.postgres_engine import open_postgres
from firstline.adapters.sql.postgres_schema import upgrade

URL: Final = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
TARGET: Final = 1.6
TARGET_OF_TWO: Final = 1.8
TURNS: Final = 5


def run(console: Console, cores: Cores, quick: bool) -> None:
    """Measure and print both tables."""
    rounds, count = (3, 1_000) if quick else (7, 4_000)
    with ExitStack() as stack:
        url = stack.enter_context(database())
        embedded = stack.enter_context(servers.firstline(cores=cores.serving))
        shared = stack.enter_context(servers.firstline(cores=cores.serving, database_url=url))
        workers = stack.enter_context(cores.workers(1))
        rows: dict[str, list[tuple[float, float]]] = {"SQLite": [], "PostgreSQL": []}
        for number in range(rounds + 1):
            for name, ours in (("SQLite", embedded), ("PostgreSQL", shared)):
                requests = classify_requests(ours, count, seed=number)
                of_the_database = journal_process(url) if ours is shared else None
                before, theirs = ours.server.cpu_seconds(), of_the_database.cpu_seconds() if of_the_database else 0.0
                outcome = workers.submit(closed_loop, ours.server.port, requests, CONCURRENCY).result()
                used = ours.server.cpu_seconds() - before
                used_there = (of_the_database.cpu_seconds() - theirs) if of_the_database else 0.0
                if outcome.refused:
                    console.print(f"{name}: answers other than 200: {outcome.refused}")
                if number:
                    rows[name].append((used / count * 1e6, used_there / count * 1e6))
    _print_costs(console, rows, rounds)
    _two_servers(console, cores, count)


def _two_servers(console: Console, cores: Cores, count: int) -> None:
    """Requests a second of one server, then of two on the same database, each on a core of its own."""
    table = Table(title=f"classify, closed loop, {CONCURRENCY} connections to each server, a core each, best turn")
    for heading in ("servers on PostgreSQL", "requests/s", "× one", "target"):
        table.add_column(heading, justify="right" if heading != "target" else "left")
    rates = []
    for number in (1, 2):
        with ExitStack() as stack:
            url = stack.enter_context(database())
            found = [stack.enter_context(servers.firstline(cores=[core], database_url=url)) for core in range(number)]
            workers = stack.enter_context(cores.workers(number))
            turns = [requests_a_second(workers, found, count * 2, seed=100 + turn) for turn in range(TURNS)]
            rates.append(max(turns[1:]))  # the first one warms up; others on this machine only slow it down
    ratio = rates[1] / rates[0]
    table.add_row("1", f"{rates[0]:,.0f}", "", "")
    reached = "reached" if ratio >= TARGET_OF_TWO else "MISSED"
    table.add_row("2", f"{rates[1]:,.0f}", f"{ratio:.2f}", f"≥ {TARGET_OF_TWO:g}× {reached}")
    console.print(table)


def requests_a_second(workers: Executor, found: Sequence[Firstline], count: int, *, seed: int) -> float:
    """Requests a second of all servers together."""
    lots = [classify_requests(ours, count, seed=seed) for ours in found]
    began = time.perf_counter()
    under_way: list[Future[Outcome]] = [
        workers.submit(closed_loop, ours.server.port, lot, CONCURRENCY) for ours, lot in zip(found, lots, strict=True)
    ]
    for one in under_way:
        one.result()
    return sum(map(len, lots)) / (time.perf_counter() - began)


def classify_requests(ours: Firstline, count: int, *, seed: int) -> list[bytes]:
    """Different tickets to classify."""
    return [
        post("/api/v1/classify", orjson.dumps({"ticket": text}), key=ours.classifier_key)
        for text in tickets(count, length=CHARACTERS, seed=seed)
    ]


@contextmanager
def database() -> Iterator[str]:
    """URL of a database with its tables, which is dropped at the end."""
    name = f"firstline_bench_{uuid.uuid4().hex}"
    _ask(URL, f'CREATE DATABASE "{name}"')
    url = urlunsplit(urlsplit(URL)._replace(path=f"/{name}"))
    engine = open_postgres(url)
    try:
        upgrade(engine)
        engine.dispose()
        yield url
    finally:
        _ask(URL, f'DROP DATABASE "{name}" WITH (FORCE)')


def _ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def journal_process(url: str) -> Server | None:
    """The process of PostgreSQL that serves the journal, where it runs on this machine."""
    found = _ask(
        url,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '% journal'",
    )
    return Server(0, found[0][0]) if found and os.path.exists(f"/proc/{found[0][0]}") else None  # noqa: PTH110


def _print_costs(console: Console, rows: dict[str, list[tuple[float, float]]], rounds: int) -> None:
    table = Table(title=f"classify, CPU per request, {rounds} rounds in turn, {CONCURRENCY} connections")
    for heading in ("", "µs min", "median", "max", "× SQLite median", "µs of PostgreSQL's process", "target"):
        table.add_column(heading, justify="right" if heading else "left")
    base = [ours for ours, _ in rows["SQLite"]]
    for name, found in rows.items():
        ours = [used for used, _ in found]
        ratio = median(one / other for one, other in zip(ours, base, strict=True))
        there = median(used for _, used in found)
        target = f"≤ {TARGET:g}× {'reached' if ratio <= TARGET else 'MISSED'}" if name == "PostgreSQL" else ""
        table.add_row(name, *_three(ours), f"{ratio:.2f}", f"{there:.1f}" if there else "", target)
    console.print(table)


def _three(values: Sequence[float]) -> list[str]:
    return [f"{value:.1f}" for value in (min(values), median(values), max(values))]
