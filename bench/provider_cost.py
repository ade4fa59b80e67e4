"""CPU of a classify that a provider answers, everything on, beside one that none is asked for and beside LiteLLM."""

import re
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import httpx2
import orjson
from rich.console import Console
from rich.table import Table

from bench import gateway, servers
from bench.cores import Cores
from bench.fake import fake
from bench.load import closed_loop, post
from bench.plain_client import chat_body
from bench.servers import Firstline, Server
from bench.texts import tickets

CONCURRENCY: Final = 32
CHARACTERS: Final = 200
FAKE_LATENCY_S: Final = 0.02
TARGET_MS: Final = 2.5
TARGET_TIMES: Final = 3.0

_GEMINI: Final = "classify, Gemini answers"
_OPENAI: Final = "classify, OpenAI answers"
_LITELLM: Final = "LiteLLM proxy, chat completion"

_QUESTIONS: Final = re.compile(r'^firstline_provider_questions_total{outcome="(\w+)"} (\S+)', re.MULTILINE)
_HEDGES: Final = re.compile(r"^firstline_provider_hedges_total{[^}]*} (\S+)", re.MULTILINE)


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
    rounds, count = (3, 300) if quick else (5, 1_000)
    environment = gateway.environment()
    console.print(f"{gateway.versions(environment)}, one worker, its master key, no database")
    with ExitStack() as stack:
        upstream = stack.enter_context(fake(cores=cores.loading, latency_s=FAKE_LATENCY_S))
        one_core = cores.serving[:1]
        gemini, openai = (
            stack.enter_context(servers.firstline(cores=one_core, more=upstream.environment(primary=primary)))
            for primary in (True, False)
        )
        theirs = stack.enter_context(gateway.proxy(environment, upstream, cores=one_core, key=key))
        workers = stack.enter_context(cores.workers(1))

        def classify(name: str, ours: Firstline, mode: str) -> _Case:
            def requests(texts: list[str]) -> list[bytes]:
                bodies = [orjson.dumps({"ticket": text, "ai_mode": mode}) for text in texts]
                return [post("/api/v1/classify", body, key=ours.classifier_key) for body in bodies]

            return _Case(name, ours.server, requests)

        cases = [
            classify(_GEMINI, gemini, "always"),
            classify(_OPENAI, openai, "always"),
            classify("classify, none is asked", gemini, "never"),
            _Case(
                _LITELLM,
                theirs,
                lambda texts: [post("/v1/chat/completions", orjson.dumps(chat_body(text)), key=key) for text in texts],
            ),
        ]
        for number in range(rounds + 1):
            for place, case in enumerate(cases):
                _measure(case, tickets(count, length=CHARACTERS, seed=10 * number + place), workers, counted=number > 0)
        asked = [_asked(case.server) for case in cases[:2]]
    _print(console, cases, rounds)
    for case, (answered, all_, hedges) in zip(cases, asked, strict=False):
        console.print(f"{case.name}: {answered:,.0f} of {all_:,.0f} that were asked about; {hedges:,.0f} hedges")


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


def _asked(server: Server) -> tuple[float, float, float]:
    """Messages that a provider has answered, all that one was asked about, and hedges so far."""
    metrics = httpx2.get(f"http://127.0.0.1:{server.port}/metrics", trust_env=False).text
    asked = {outcome: float(count) for outcome, count in _QUESTIONS.findall(metrics)}
    return asked.get("answered", 0.0), sum(asked.values()), sum(map(float, _HEDGES.findall(metrics)))


def _print(console: Console, cases: list[_Case], rounds: int) -> None:
    table = Table(
        title=f"CPU per request (user + system), one core, {rounds} rounds in turn, {CONCURRENCY} connections, "
        f"{CHARACTERS} characters, provider answers in {FAKE_LATENCY_S * 1_000:g} ms"
    )
    for heading in ("", "ms min", "median", "max", "requests per core-second", "goal", "times LiteLLM's"):
        table.add_column(heading, justify="right" if heading else "left")
    theirs = median(next(case.ms for case in cases if case.name == _LITELLM))
    for case in cases:
        ms = median(case.ms)
        goals = ("", "")
        if case.name in (_GEMINI, _OPENAI):
            goals = (
                f"≤ {TARGET_MS:g} ms {_said(ms <= TARGET_MS)}",
                f"{theirs / ms:.1f}, ≥ {TARGET_TIMES:g} {_said(theirs / ms >= TARGET_TIMES)}",
            )
        shown = [f"{value:.2f}" for value in (min(case.ms), ms, max(case.ms))]
        table.add_row(case.name, *shown, f"{1_000 / ms:,.0f}", *goals)
        if case.refused:
            console.print(f"{case.name}: answers other than 200: {case.refused}")
    console.print(table)


def _said(reached: bool) -> str:
    return "REACHED" if reached else "MISSED"
