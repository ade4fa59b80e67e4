"""Latency under an open loop: requests come when they come, and each is timed from when it was due."""

import time
from concurrent.futures import Future
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table

from bench import servers
from bench.cores import Cores
from bench.cost import BATCH, CHARACTERS
from bench.load import Outcome, open_loop, post, repeating
from bench.servers import Firstline
from bench.texts import tickets

RATE: Final = 2_000
GENERATORS: Final = 2
TARGET_MS: Final = 20.0
TARGET_BESIDE_MS: Final = 40.0


def run(console: Console, cores: Cores, quick: bool) -> None:
    """Measure and print the table of latencies."""
    seconds = 4.0 if quick else 20.0
    with servers.slow_fsync() as library:
        if library is None:
            console.print("No C compiler: fsync is as fast as this disk, which flatters the figures.")
        console.print(f"One durable SQLite commit takes {servers.commit_ms(library):.2f} ms here.")
        table = Table(title=f"classify, open loop, {RATE:,} requests a second at random moments")
        for heading in ("", "p50 ms", "p90", "p99", "p99.9", "max", "target p99", "generator late p99", "server CPU"):
            table.add_column(heading, justify="right" if heading else "left")
        with servers.firstline(cores=cores.serving, fsync_library=library) as ours:
            _load(ours, cores, 2.0, beside=False)
            alone, _ = _load(ours, cores, seconds, beside=False)
            both, batches = _load(ours, cores, seconds, beside=True)
    _row(table, "alone", alone, TARGET_MS)
    _row(table, "beside batches", both, TARGET_BESIDE_MS)
    console.print(table)
    if batches is not None and batches.latencies:
        took = sorted(batches.latencies)[len(batches.latencies) // 2]
        console.print(f"Beside it {batches.answered} batches of {BATCH:,} tickets, {took * 1_000:.0f} ms each at p50.")
    for outcome in (alone, both, batches):
        if outcome is not None and outcome.refused:
            console.print(f"Answers other than 200: {outcome.refused}")


def _load(ours: Firstline, cores: Cores, seconds: float, *, beside: bool) -> tuple[Outcome, Outcome | None]:
    """What all generators saw together, and the batches if there were any."""
    with cores.workers(GENERATORS + 1) as workers:
        used, began = ours.server.cpu_seconds(), time.perf_counter()
        batches: Future[Outcome] | None = None
        if beside:
            texts = tickets(4 * BATCH, length=CHARACTERS, seed=9)
            bodies = [orjson.dumps({"tickets": texts[start : start + BATCH]}) for start in range(0, len(texts), BATCH)]
            requests = [post("/api/v1/batch", body, key=ours.batch_key) for body in bodies]
            batches = workers.submit(repeating, ours.server.port, requests, seconds + 1)
            time.sleep(0.5)
        each = []
        for number in range(GENERATORS):
            requests = [
                post("/api/v1/classify", orjson.dumps({"ticket": text}), key=ours.classifier_key)
                for text in tickets(4_000, length=CHARACTERS, seed=100 + number)
            ]
            each.append(workers.submit(open_loop, ours.server.port, requests, RATE / GENERATORS, seconds, number))
        together = Outcome()
        outcomes = [future.result() for future in each]
        together.cpu_seconds = ours.server.cpu_seconds() - used
        together.seconds = time.perf_counter() - began
        for outcome in outcomes:
            together.latencies += outcome.latencies
            together.late += outcome.late
            for status, times in outcome.refused.items():
                together.refused[status] = together.refused.get(status, 0) + times
        return together, batches.result() if batches else None


def _row(table: Table, name: str, outcome: Outcome, target_ms: float) -> None:
    spent = sorted(outcome.latencies)
    late = sorted(outcome.late)
    reached = "reached" if _at(spent, 0.99) <= target_ms else "MISSED"
    table.add_row(
        name,
        *(f"{_at(spent, share):.1f}" for share in (0.5, 0.9, 0.99, 0.999, 1.0)),
        f"≤ {target_ms:g} ms {reached}",
        f"{_at(late, 0.99):.1f} ms",
        f"{outcome.cpu_seconds / outcome.seconds:.0%} of a core",
    )


def _at(ascending: list[float], share: float) -> float:
    """A quantile, in milliseconds."""
    return ascending[min(int(share * len(ascending)), len(ascending) - 1)] * 1_000
