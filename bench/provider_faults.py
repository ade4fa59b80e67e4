"""A provider's worst day, fault by fault: what callers see of it, beside a plain client."""

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import fault_run, plain_client, servers
from bench.asked import Answer
from bench.cores import Cores
from bench.fake import FALLBACK, LATENCY_S, PRIMARY, fake
from bench.fault_run import DEADLINE_S, GRACE_S, RATE, Seen
from bench.faults import ERROR_MS, FAULTS, FIRST_CALLS, HANG_MS, HEALTHY, OPEN_MS, Fault, Kind

WARM_S: Final = 3.0
SECONDS: Final = 20.0
QUICK_S: Final = 5.0
PLAIN_S: Final = 8.0
RECOVERY_GRACE_S: Final = 0.5
"""The next request must come, be sent as a probe and be answered."""

_LEAST_OPEN: Final = 20
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
        alone = list(threads.map(lambda lane: _alone(lane, workers, seconds), lanes))
        running = [
            threads.submit(_lane, lane, workers, share, base, seconds)
            for lane, share, base in zip(lanes, shares, alone, strict=True)
        ]
        rows = {fault.name: (row, plain) for future in running for fault, row, plain in future.result()}
        again = list(threads.map(lambda lane: _alone(lane, workers, seconds), lanes))
    _print(console, [rows[fault.name][0] for fault in faults], alone, again, seconds)
    _print_plain(console, [(fault, *rows[fault.name]) for fault in faults], min(seconds, PLAIN_S))


class _Row:
    """A fault and what is said of it."""

    def __init__(self, fault: Fault, seen: Seen, alone: Sequence[Answer]) -> None:
        self.fault = fault
        self.seen = seen
        self._base = [_at(alone, share) for share in (0.5, 0.99)]
        self.all = self._added(seen.answers)
        self.later = self._added(seen.after_first(FIRST_CALLS))
        once_open = seen.once_open()
        self.open = self._added(once_open) if len(once_open) >= _LEAST_OPEN else None

    def _added(self, answers: Sequence[Answer]) -> tuple[float, float]:
        """Milliseconds over the fallback alone, at p50 and p99."""
        p50, p99 = (_at(answers, share) - base for share, base in zip((0.5, 0.99), self._base, strict=True))
        return p50, p99

    def missed(self) -> list[str]:
        """The goals that were missed; empty when all were reached."""
        seen, missed = self.seen, []
        if _valid(seen.answers) < 1:
            missed.append("valid")
        if _in_time(seen.answers) < 1:
            missed.append("deadline")
        if self.fault.kind is Kind.ERROR and self.all[1] > ERROR_MS:
            missed.append(f"p99 > {ERROR_MS:g}")
        if self.fault.kind is Kind.HANG and self.later[1] > HANG_MS:
            missed.append(f"p99 > {HANG_MS:g}")
        if self.open is not None and self.open[1] > OPEN_MS:
            missed.append(f"open > {OPEN_MS:g}")
        if self.fault.kind is not Kind.HEALTHY and (
            seen.recovery_s is None or seen.recovery_s > seen.interval_s + RECOVERY_GRACE_S
        ):
            missed.append("recovery")
        return missed


def _alone(lane: Lane, workers: Executor, seconds: float) -> list[Answer]:
    """The healthy fallback as the only provider."""
    serving, loading = lane
    with (
        fake(cores=loading) as upstream,
        servers.firstline(cores=serving, more={**upstream.environment(primary=False), **_ENVIRONMENT}) as ours,
    ):
        keys = ours.decision_keys
        return workers.submit(
            fault_run.measure, ours.server.port, keys, upstream, HEALTHY, WARM_S, seconds, 1
        ).result().answers  # fmt: skip


def _lane(
    lane: Lane, workers: Executor, faults: Sequence[Fault], alone: Sequence[Answer], seconds: float
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
        found.append((fault, _Row(fault, seen, alone), plain))
    return found


def _print(
    console: Console,
    rows: Sequence[_Row],
    alone: Sequence[Sequence[Answer]],
    again: Sequence[Sequence[Answer]],
    seconds: float,
) -> None:
    console.print(
        f"Providers answer in {LATENCY_S * 1_000:g} ms; {RATE:g} requests a second at random moments, {seconds:g} s a "
        f"fault, deadline {DEADLINE_S:g} s; every message different.\nThe fallback asked alone, p50 / p99 ms, before "
        "all faults and again after them, which is how still the machine was: "
        + "; ".join(f"{_shown(first)} and {_shown(last)}" for first, last in zip(alone, again, strict=True))
    )
    table = Table(title="The primary's state, and added ms over the healthy fallback, p50 / p99")
    for heading in (
        "", "valid", f"≤ {DEADLINE_S + GRACE_S:g} s", "by a provider", "all", f"after {FIRST_CALLS}", "once open",
        "max ms", "calls", "open after", "recovered", "of", "goals",
    ):  # fmt: skip
        table.add_column(heading, justify="right" if heading else "left", no_wrap=heading == "goals")
    for row in rows:
        seen, missed = row.seen, row.missed()
        answered = sum(answer.provider in (PRIMARY, FALLBACK) for answer in seen.answers) / len(seen.answers)
        table.add_row(
            row.fault.name,
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
            f"MISSED {', '.join(missed)}" if missed else "REACHED",
        )
    console.print(table)
    console.print(
        f"Goals: all valid and in time; p99 + {ERROR_MS:g} ms under errors, + {HANG_MS:g} ms under hangs after the "
        f"first {FIRST_CALLS}, + {OPEN_MS:g} ms once open; the primary answers again within one probe interval (and "
        f"{RECOVERY_GRACE_S:g} s). Calls reached the primary, or were tried where none can."
    )


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
        if plain:
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


def _shown(answers: Sequence[Answer]) -> str:
    return f"{_at(answers, 0.5):.0f} / {_at(answers, 0.99):.0f}"


def _pair(added: tuple[float, float] | None) -> str:
    return "" if added is None else f"{added[0]:+.0f} / {added[1]:+.0f}"
