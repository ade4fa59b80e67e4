"""CPU time of the server per request, in turns, against a bare FastAPI route."""

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table

from bench import servers
from bench.cores import Cores
from bench.load import closed_loop, post
from bench.servers import Server
from bench.texts import tickets

CONCURRENCY: Final = 64
BATCH: Final = 1_000
CHARACTERS: Final = 100
BASELINE: Final = "bare FastAPI"


@dataclass(slots=True)
class _Case:
    name: str
    server: Server
    requests: Callable[[int], list[bytes]]
    each: int = 1
    target: float | None = None
    concurrency: int = CONCURRENCY
    us: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)


def run(console: Console, cores: Cores, quick: bool) -> None:
    """Measure and print the table of costs."""
    rounds, count = (3, 1_000) if quick else (7, 4_000)
    with ExitStack() as stack:
        starlette = stack.enter_context(servers.bare("starlette", cores=cores.serving))
        fastapi = stack.enter_context(servers.bare("fastapi", cores=cores.serving))
        ours = stack.enter_context(servers.firstline(cores=cores.serving))
        workers = stack.enter_context(cores.workers(1))

        def plain(seed: int) -> list[bytes]:
            return [
                post("/", orjson.dumps({"ticket": text, "channel": "email", "plan": "free"}))
                for text in tickets(count * 2, length=CHARACTERS, seed=seed)
            ]

        def classify(seed: int) -> list[bytes]:
            return [
                post("/api/v1/classify", orjson.dumps({"ticket": text}), key=ours.classifier_key)
                for text in tickets(count, length=CHARACTERS, seed=seed)
            ]

        def decide(seed: int) -> list[bytes]:
            keys, plans = ours.decision_keys, ("free", "pro", "enterprise")
            return [
                post(
                    "/v1/decision",
                    orjson.dumps({"message": text, "user_plan": plans[number % 3], "channel": "email"}),
                    key=keys[number % len(keys)],
                )
                for number, text in enumerate(tickets(count, length=CHARACTERS, seed=seed))
            ]

        def batches(seed: int) -> list[bytes]:
            found = tickets(BATCH * max(count // 500, 2), length=CHARACTERS, seed=seed)
            return [
                post(
                    "/api/v1/batch",
                    orjson.dumps({"tickets": found[start : start + BATCH]}),
                    key=ours.batch_key,
                )
                for start in range(0, len(found), BATCH)
            ]

        cases = [
            _Case("bare Starlette", starlette, plain),
            _Case(BASELINE, fastapi, plain),
            _Case("classify", ours.server, classify, target=3.0),
            _Case("decision", ours.server, decide),
            _Case(f"batch of {BATCH}, per ticket", ours.server, batches, each=BATCH, target=1.2, concurrency=1),
        ]
        for number in range(rounds + 1):
            for case in cases:
                _measure(case, number, workers)
    _print(console, cases, rounds)


def _measure(case: _Case, number: int, workers: Executor) -> None:
    """One turn; the first of all warms up and is not counted."""
    requests = case.requests(1_000 + number)
    before = case.server.cpu_seconds()
    outcome = workers.submit(closed_loop, case.server.port, requests, case.concurrency).result()
    used = case.server.cpu_seconds() - before
    for status, times in outcome.refused.items():
        case.refused[status] = case.refused.get(status, 0) + times
    if number:
        case.us.append(used / (len(requests) * case.each) * 1e6)


def _print(console: Console, cases: list[_Case], rounds: int) -> None:
    table = Table(title=f"CPU per request (user + system), {rounds} rounds in turn, {CONCURRENCY} connections")
    for heading in ("", "µs min", "median", "max", "× FastAPI min", "median", "max", "target"):
        table.add_column(heading, justify="right" if heading else "left")
    base = next(case for case in cases if case.name == BASELINE).us
    for case in cases:
        ratios = [ours / theirs for ours, theirs in zip(case.us, base, strict=True)]
        target = ""
        if case.target is not None:
            target = f"≤ {case.target:g}× {'reached' if median(ratios) <= case.target else 'MISSED'}"
        table.add_row(case.name, *_three(case.us, "{:.1f}"), *_three(ratios, "{:.2f}"), target)
        if case.refused:
            console.print(f"{case.name}: answers other than 200: {case.refused}")
    console.print(table)


def _three(values: list[float], shape: str) -> list[str]:
    return [shape.format(value) for value in (min(values), median(values), max(values))]
