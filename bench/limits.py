"""What counting limits in Redis costs beside counting them in memory, and PostgreSQL and Redis beside SQLite alone.

Starts a redis-server of its own; needs a PostgreSQL server on which databases may be made, as `bench.stores` does.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Final
from urllib.request import urlopen

import orjson
from rich.console import Console
from rich.table import Table

from bench import servers
from bench.cores import Cores
from bench.cost import CHARACTERS, CONCURRENCY
from bench.load import closed_loop, post
from bench.servers import Firstline, Server, free_port
from bench.stores import database
from bench.texts import tickets

TARGET: Final = 1.6
EMBEDDED: Final = "SQLite, limits in memory"


@dataclass(slots=True)
class _Case:
    name: str
    ours: Firstline
    redis: Server | None = None
    us: list[float] = field(default_factory=list)
    redis_us: list[float] = field(default_factory=list)


def run(console: Console, cores: Cores, quick: bool) -> None:
    """Measure and print the table."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        console.print("limits: no redis-server on PATH; left out")
        return
    rounds, count = (3, 1_000) if quick else (7, 4_000)
    with ExitStack() as stack:
        redis = stack.enter_context(_redis(program, cores.serving))
        url = stack.enter_context(database())
        counted = {"FIRSTLINE_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0"}
        counted_apart = {"FIRSTLINE_REDIS_URL": f"redis://127.0.0.1:{redis.port}/1"}
        cases = [
            _Case(EMBEDDED, stack.enter_context(servers.firstline(cores=cores.serving))),
            _Case(
                "SQLite, limits in Redis",
                stack.enter_context(servers.firstline(cores=cores.serving, more=counted)),
                redis,
            ),
            _Case(
                "PostgreSQL, limits in Redis",
                stack.enter_context(servers.firstline(cores=cores.serving, database_url=url, more=counted_apart)),
                redis,
            ),
        ]
        workers = stack.enter_context(cores.workers(1))
        for number in range(rounds + 1):
            for case in cases:
                _measure(console, case, workers, count, number)
        for case in cases[1:]:
            console.print(f"{case.name}: {_alone(case.ours.server.port):.0f} requests counted without Redis")
    _print(console, cases, rounds)


def _measure(console: Console, case: _Case, workers: Executor, count: int, number: int) -> None:
    """One turn; the first of all warms up and is not counted."""
    requests = [
        post("/api/v1/classify", orjson.dumps({"ticket": text}), key=case.ours.classifier_key)
        for text in tickets(count, length=CHARACTERS, seed=number)
    ]
    before, redis_before = case.ours.server.cpu_seconds(), case.redis.cpu_seconds() if case.redis else 0.0
    outcome = workers.submit(closed_loop, case.ours.server.port, requests, CONCURRENCY).result()
    used = case.ours.server.cpu_seconds() - before
    redis_used = (case.redis.cpu_seconds() if case.redis else 0.0) - redis_before
    if outcome.refused:
        console.print(f"{case.name}: answers other than 200: {outcome.refused}")
    if number:
        case.us.append(used / count * 1e6)
        case.redis_us.append(redis_used / count * 1e6)


def _alone(port: int) -> float:
    """Requests that a server has decided without Redis, because a call took longer than it may."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("firstline_limits_local_total{"))


def _print(console: Console, cases: Sequence[_Case], rounds: int) -> None:
    table = Table(title=f"classify, CPU per request, {rounds} rounds in turn, {CONCURRENCY} connections")
    for heading in ("", "µs min", "median", "max", "× embedded, median", "µs in Redis", "target"):
        table.add_column(heading, justify="right" if heading not in {"", "target"} else "left")
    base = cases[0].us
    for case in cases:
        ratio = median(ours / theirs for ours, theirs in zip(case.us, base, strict=True))
        target = "" if case is cases[0] else f"≤ {TARGET:g}× {'reached' if ratio <= TARGET else 'MISSED'}"
        figures = [f"{value:.1f}" for value in (min(case.us), median(case.us), max(case.us))]
        table.add_row(case.name, *figures, f"{ratio:.2f}", f"{median(case.redis_us):.1f}", target)
    console.print(table)


@contextmanager
def _redis(program: str, cores: Sequence[int]) -> Iterator[Server]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="firstline-bench-") as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with servers.running(command, port, cores=cores) as server:
            yield server
