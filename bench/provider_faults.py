"""A provider's worst day, fault by fault: what callers see of it, beside a plain client."""

import random
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import fault_run, plain_client, servers
from bench.asked import Answer
from bench.cores import Cores
from bench.fake import FALLBACK, LATENCY_S, PRIMARY, fake
from bench.fault_run import CONTROL_RATE, DEADLINE_S, GRACE_S, RATE, Seen
from bench.faults import ERROR_MS, FAULTS, FIRST_CALLS, HANG_MS, OPEN_MS, Fault, Kind

WARM_S: Final = 3.0
SECONDS: Final = 20.0
QUICK_S: Final = 5.0
PLAIN_S: Final = 8.0
RECOVERY_GRACE_S: Final = 0.5
"""The next request must come, be sent as a probe and be answered."""

HUNG_PROBE_S: Final = 1.0
"""A probe that hangs when the fault ends is given up first, half a second later or more."""

_LEAST_OPEN: Final = 20
_DRAWS: Final = 200
_ENVIRONMENT: Final = {"FIRSTLINE_AI_MODE": "always", "AI_TIMEOUT_SECONDS": f"{DEADLINE_S:g}"}

Lane = tuple[tuple[int, ...], tuple[int, ...]]
"""Cores of a server, and cores of its fake and its client."""


def run(console: Console, cores: Cores, quick: bool) -> None:
    """Measure and print the tables."""
    seconds = QUICK_S if quick else SECONDS
    faults = [fault for fault in FAULTS if fault.quick or not quick]
    lanes: list[Lane] = [((core,), cores.loading) for core in cores.serving] or [((), ())]
    with cores.workers(len(lanes)) as workers, ThreadPoolExecutor(len(lanes)) as threads:
        list(workers.map(len, ["start"] * len(lanes)))
        shares = [faults[number :: len(lanes)] for number in range(len(lanes))]
        running = [
            threads.submit(_lane, lane, workers, share, seconds) for lane, share in zip(lanes, shares, strict=True)
        ]
        rows = {fault.name: (row, plain) for future in running for fault, row, plain in future.result()}
    _print(console, [rows[fault.name][0] for fault in faults], seconds)
    _print_plain(console, [(fault, *rows[fault.name]) for fault in faults], min(seconds, PLAIN_S))


@dataclass(frozen=True, slots=True)
class _Added:
    """Milliseconds over the fallback asked at the same time.

    Attributes:
        noise: how far p99 may be off: half of what lies between the 5th and the 95th percentile when both sides are
            drawn again and again. Slow moments come together, so it is rather more.
    """

    p50: float
    p99: float
    noise: float

    @classmethod
    def of(cls, answers: Sequence[Answer], over: Sequence[Answer]) -> "_Added":
        draw = random.Random(1)
        drawn = sorted(
            _at(draw.choices(answers, k=len(answers)), 0.99) - _at(draw.choices(over, k=len(over)), 0.99)
            for _ in range(_DRAWS)
        )
        noise = (drawn[int(0.95 * _DRAWS)] - drawn[int(0.05 * _DRAWS)]) / 2
        return cls(_at(answers, 0.5) - _at(over, 0.5), _at(answers, 0.99) - _at(over, 0.99), noise)

    def missed(self, goal_ms: float, what: str) -> list[str]:
        """The goal, if it is missed."""
        return [f"{what} +{self.p99:.0f} ms, uncertain by {self.noise:.0f}"] if self.p99 > goal_ms else []


class _Row:
    """A fault and what is said of it."""

    def __init__(self, fault: Fault, seen: Seen) -> None:
        self.fault = fault
        self.seen = seen
        self.all = _Added.of(seen.answers, seen.control)
        first = set(seen.first(FIRST_CALLS))
        self.later = _Added.of([one for one in seen.answers if one not in first], seen.control)
        self.open: _Added | None = None
        if seen.opened_s is not None:
            answers, control = seen.since(seen.began_s + seen.opened_s)
            if min(len(answers), len(control)) >= _LEAST_OPEN:
                self.open = _Added.of(answers, control)

    def missed(self) -> list[str]:
        """The goals that were missed; empty when all were reached."""
        seen, missed = self.seen, []
        if _valid(seen.answers) < 1:
            missed.append("not all valid")
        if _in_time(seen.answers) < 1:
            missed.append("not all in time")
        if self.fault.kind is Kind.ERROR:
            missed += self.all.missed(ERROR_MS, "p99")
        if self.fault.kind is Kind.HANG:
            missed += self.later.missed(HANG_MS, f"p99 after the first {FIRST_CALLS}")
        if self.open is not None:
            missed += self.open.missed(OPEN_MS, "p99 once open")
        patience_s = seen.interval_s + RECOVERY_GRACE_S + (HUNG_PROBE_S if self.fault.kind is Kind.HANG else 0.0)
        if self.fault.kind is not Kind.HEALTHY and (seen.recovery_s is None or seen.recovery_s > patience_s):
            missed.append("recovery")
        return missed


def _lane(
    lane: Lane, workers: Executor, faults: Sequence[Fault], seconds: float
) -> list[tuple[Fault, _Row, list[Answer] | None]]:
    """Fault after fault, each with a firstline of its own."""
    serving, loading = lane
    found = []
    for number, fault in enumerate(faults):
        with fake(cores=loading) as upstream:
            with servers.firstline(cores=serving, more={**upstream.environment(), **_ENVIRONMENT}) as ours:
                seen = workers.submit(
                    fault_run.measure, ours.server.port, ours.decision_keys, upstream, fault, WARM_S, seconds, number
                ).result()
            plain = None
            if fault.plain:
                plain = workers.submit(plain_client.measure, upstream, fault, min(seconds, PLAIN_S), number).result()
        found.append((fault, _Row(fault, seen), plain))
    return found


def _print(
    console: Console,
    rows: Sequence[_Row],
    seconds: float,
) -> None:
    console.print(
        f"Providers answer in {LATENCY_S * 1_000:g} ms; {RATE:g} requests a second at random moments, {seconds:g} s a "
        f"fault, deadline {DEADLINE_S:g} s; every message different. At the same time {CONTROL_RATE:g} requests a "
        "second of accounts that ask the healthy fallback alone: what is added is over those."
    )
    table = Table(title="The primary's state, and added ms at p50/p99", padding=(0, 0), collapse_padding=True)
    for heading in (
        "", "fallback", "valid", "in time", "by one", "all", f"after {FIRST_CALLS}", "once open", "max",
        "calls", "open after", "recovered", "of", "goals",
    ):  # fmt: skip
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in rows:
        seen, missed = row.seen, row.missed()
        answered = sum(answer.provider in (PRIMARY, FALLBACK) for answer in seen.answers) / len(seen.answers)
        table.add_row(
            row.fault.name,
            f"{_at(seen.control, 0.5):.0f}/{_at(seen.control, 0.99):.0f}",
            _percent(_valid(seen.answers)),
            _percent(_in_time(seen.answers)),
            _percent(answered),
            _pair(row.all),
            _pair(row.later),
            _pair(row.open),
            f"{max(answer.took_s for answer in seen.answers) * 1_000:.0f}",
            f"{seen.reached or seen.failures}",
            "" if seen.opened_s is None else f"{seen.opened_s:.1f} s",
            "" if seen.recovery_s is None else f"{seen.recovery_s:.1f} s",
            "" if row.fault.kind is Kind.HEALTHY else f"{seen.interval_s:g} s",
            "MISSED" if missed else "REACHED",
        )
    console.print(table)
    console.print(
        f"Goals: all valid, and in time, within {DEADLINE_S + GRACE_S:g} s; p99 +{ERROR_MS:g} ms under errors, "
        f"+{HANG_MS:g} ms under hangs after the first {FIRST_CALLS}, +{OPEN_MS:g} ms once open; the primary answers "
        f"again within one probe interval (and {RECOVERY_GRACE_S:g} s, after hangs {HUNG_PROBE_S:g} s more).\n"
        "by one: answered by a provider; calls: that "
        "reached the primary, or were tried where none can."
    )
    for row in rows:
        if missed := row.missed():
            console.print(f"{row.fault.name} MISSED: {', '.join(missed)}")


def _print_plain(
    console: Console,
    rows: Sequence[tuple[Fault, _Row, list[Answer] | None]],
    seconds: float,
) -> None:
    table = Table(
        title=f"Beside a plain client: primary with {DEADLINE_S:g} s timeout, then the fallback, {seconds:g} s"
    )
    for heading in ("", f"≤ {DEADLINE_S + GRACE_S:g} s", "p50 ms", "p99", "max", "firstline p50", "p99", "max"):
        table.add_column(heading, justify="right" if heading else "left")
    for fault, row, plain in rows:
        if plain is not None:
            table.add_row(
                fault.name,
                _percent(_in_time(plain)),
                *(f"{_at(plain, share):.0f}" for share in (0.5, 0.99, 1.0)),
                *(f"{_at(row.seen.answers, share):.0f}" for share in (0.5, 0.99, 1.0)),
            )
    console.print(table)


def _at(answers: Sequence[Answer], share: float) -> float:
    """A quantile, in milliseconds."""
    took = sorted(answer.took_s for answer in answers)
    return took[min(int(share * len(took)), len(took) - 1)] * 1_000 if took else float("inf")


def _valid(answers: Sequence[Answer]) -> float:
    return sum(answer.valid for answer in answers) / max(len(answers), 1)


def _in_time(answers: Sequence[Answer]) -> float:
    return sum(answer.valid and answer.took_s <= DEADLINE_S + GRACE_S for answer in answers) / max(len(answers), 1)


def _percent(share: float) -> str:
    return f"{int(share * 1_000) / 10:g} %"  # never rounded up to 100


def _pair(added: _Added | None) -> str:
    return "" if added is None else f"{added.p50:+.0f}/{added.p99:+.0f}"
