"""What tracing costs the server: CPU per request without, with a tenth of the requests traced, and with all."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from bench import servers
from bench.cores import Cores
from bench.load import closed_loop, post
from bench.servers import Firstline
from bench.texts import tickets

CONCURRENCY: Final = 64
CHARACTERS: Final = 100
RATIOS: Final = (0.1, 1.0)
BASELINE: Final = "not traced"
TARGET: Final = 1.1


@dataclass(slots=True)
class _Case:
    name: str
    ours: Firstline
    us: list[float] = field(default_factory=list)


class _Collector(BaseHTTPRequestHandler):
    spans: Final[list[int]] = []

    def do_POST(self) -> None:
        """Take whatever comes."""
        self.spans.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def run(console: Console, cores: Cores, quick: bool) -> None:
    """Measure and print."""
    rounds, count = (3, 1_000) if quick else (7, 4_000)
    with ExitStack() as stack:
        collector = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), _Collector))
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        stack.callback(collector.shutdown)
        url = f"http://127.0.0.1:{collector.server_address[1]}"
        cases = [_Case(BASELINE, stack.enter_context(servers.firstline(cores=cores.serving)))]
        for ratio in RATIOS:
            more = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": url,
                "OTEL_TRACES_SAMPLER": "traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": str(ratio),
            }
            ours = stack.enter_context(servers.firstline(cores=cores.serving, more=more))
            cases.append(_Case(f"{ratio:.0%} traced", ours))
        workers = stack.enter_context(cores.workers(1))
        for number in range(rounds + 1):
            for case in cases:
                _measure(case, number, workers, count)
    if not _Collector.spans:
        console.print("The collector was sent nothing: the figures mean nothing.")
    _print(console, cases, rounds)


def _measure(case: _Case, number: int, workers: Executor, count: int) -> None:
    """One turn; the first of all warms up and is not counted."""
    requests = [
        post("/api/v1/classify", orjson.dumps({"ticket": text}), key=case.ours.classifier_key)
        for text in tickets(count, length=CHARACTERS, seed=2_000 + number)
    ]
    before = case.ours.server.cpu_seconds()
    outcome = workers.submit(closed_loop, case.ours.server.port, requests, CONCURRENCY).result()
    if outcome.refused:
        raise RuntimeError(f"answers other than 200: {outcome.refused}")
    if number:
        case.us.append((case.ours.server.cpu_seconds() - before) / count * 1e6)


def _print(console: Console, cases: list[_Case], rounds: int) -> None:
    table = Table(title=f"CPU per classify (user + system), {rounds} rounds in turn, {CONCURRENCY} connections")
    for heading in ("", "µs min", "median", "max", "× not traced min", "median", "max", "target"):
        table.add_column(heading, justify="right" if heading else "left")
    base = cases[0].us
    for case in cases:
        ratios = [ours / theirs for ours, theirs in zip(case.us, base, strict=True)]
        target = f"≤ {TARGET:g}× {'reached' if median(ratios) <= TARGET else 'MISSED'}" if case is cases[1] else ""
        table.add_row(case.name, *_three(case.us, "{:.1f}".format), *_three(ratios, "{:.3f}".format), target)
    console.print(table)


def _three(values: list[float], shape: Callable[[float], str]) -> list[str]:
    return [shape(value) for value in (min(values), median(values), max(values))]
