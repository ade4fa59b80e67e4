"""CPU of a classify that a provider answers, everything on, beside one that none is asked for and beside LiteLLM."""

import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table

from bench import gateway, servers
from bench.cores import Cores
from bench.fake import fake
from bench.load import closed_loop, post
from bench.plain_client import chat_body
from bench.servers import Server
from bench.texts import tickets

CONCURRENCY: Final = 32
CHARACTERS: Final = 200
FAKE_LATENCY_S: Final = 0.02
TARGET_MS: Final = 2.5
TARGET_TIMES: Final = 3.0

_ANSWERED: Final = "classify, a provider answers"
_LITELLM: Final = "LiteLLM proxy, chat completion"


@dataclass(slots=True)
class _Case:
    name: str
    server: Server
    requests: Callable[[list[str]], list[bytes]]
    ms: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)


def run(console: Console, cores: Cores, quick: bool) -> None:
    """Measure and print the table."""
    key = f"sk-{secrets.token_hex(32)}"
    rounds, count = (3, 300) if quick else (5, 1_500)
    environment = gateway.environment()
    console.print(f"{gateway.versions(environment)}, one worker, its master key, no database")
    with ExitStack() as stack:
        upstream = stack.enter_context(fake(cores=cores.loading, latency_s=FAKE_LATENCY_S))
        more = {**upstream.environment(primary=False), "FIRSTLINE_AI_MODE": "always"}
        one_core = cores.serving[:1]
        ours = stack.enter_context(servers.firstline(cores=one_core, more=more))
        theirs = stack.enter_context(gateway.proxy(environment, upstream, cores=one_core, key=key))
        workers = stack.enter_context(cores.workers(1))

        def classify(texts: list[str], mode: str) -> list[bytes]:
            return [
                post("/api/v1/classify", orjson.dumps({"ticket": text, "ai_mode": mode}), key=ours.classifier_key)
                for text in texts
            ]

        cases = [
            _Case(_ANSWERED, ours.server, lambda texts: classify(texts, "always")),
            _Case("classify, none is asked", ours.server, lambda texts: classify(texts, "never")),
            _Case(
                _LITELLM,
                theirs,
                lambda texts: [post("/v1/chat/completions", orjson.dumps(chat_body(text)), key=key) for text in texts],
            ),
        ]
        for number in range(rounds + 1):
            for place, case in enumerate(cases):
                _measure(case, tickets(count, length=CHARACTERS, seed=10 * number + place), workers, counted=number > 0)
    _print(console, cases, rounds)


def _measure(case: _Case, texts: list[str], workers: Executor, *, counted: bool) -> None:
    """One turn; the first of all warms up."""
    requests = case.requests(texts)
    before = case.server.cpu_seconds()
    outcome = workers.submit(closed_loop, case.server.port, requests, CONCURRENCY).result()
    used = case.server.cpu_seconds() - before
    for status, times in outcome.refused.items():
        case.refused[status] = case.refused.get(status, 0) + times
    if counted:
        case.ms.append(used / len(requests) * 1e3)


def _print(console: Console, cases: list[_Case], rounds: int) -> None:
    table = Table(
        title=f"CPU per request (user + system), one core, {rounds} rounds in turn, {CONCURRENCY} connections, "
        f"{CHARACTERS} characters, provider answers in {FAKE_LATENCY_S * 1_000:g} ms"
    )
    for heading in ("", "ms min", "median", "max", "requests per core-second", "goal"):
        table.add_column(heading, justify="right" if heading else "left")
    by_name = {case.name: median(case.ms) for case in cases}
    times = by_name[_LITELLM] / by_name[_ANSWERED]
    for case in cases:
        goal = ""
        if case.name == _ANSWERED:
            goal = f"≤ {TARGET_MS:g} ms {'REACHED' if by_name[_ANSWERED] <= TARGET_MS else 'MISSED'}"
        if case.name == _LITELLM:
            goal = f"{times:.1f} times as much; ≥ {TARGET_TIMES:g} {'REACHED' if times >= TARGET_TIMES else 'MISSED'}"
        shown = [f"{value:.2f}" for value in (min(case.ms), median(case.ms), max(case.ms))]
        table.add_row(case.name, *shown, f"{1_000 / median(case.ms):,.0f}", goal)
        if case.refused:
            console.print(f"{case.name}: answers other than 200: {case.refused}")
    console.print(table)
