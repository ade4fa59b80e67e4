"""What a run is worth: tables for people, and what a soak must hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from load.traffic import Minute
from load.usage import Usage, of_minute

VERDICTS: Final = ("classify", "decision")
WARM: Final = 2
"""Minutes that are not looked at: caches fill, terms are compiled."""

SPAN: Final = 5
"""Minutes at each end whose slowest hundredth are compared; a single minute has too few slow answers."""

MEMORY_GROWTH: Final = 1.03
P99_GROWTH: Final = 1.2


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run; `minutes` has whole ones and perhaps a part."""

    minutes: Sequence[Minute]
    usage: Sequence[Usage]
    seconds: float

    def latencies(self, kinds: Sequence[str], minutes: slice = slice(None)) -> list[float]:
        """Seconds, ascending."""
        return sorted(
            seconds for minute in self.minutes[minutes] for kind in kinds for seconds in minute.latencies.get(kind, ())
        )

    def wrong(self) -> dict[tuple[str, str], int]:
        """Answers that were not right, by kind and what happened."""
        total: dict[tuple[str, str], int] = {}
        for minute in self.minutes:
            for what, count in minute.wrong.items():
                total[what] = total.get(what, 0) + count
        return total


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a soak must hold, and whether it did."""

    name: str
    before: float
    after: float
    bound: str
    holds: bool


def checks(run: Run) -> list[Check]:
    """Compare the third minute with the last; for the slowest hundredth, five minutes at each end.

    Raises: ValueError for a run that is too short or whose metrics could not be read in those minutes.
    """
    last = int(run.seconds // 60) - 1
    if last < WARM + 2 * SPAN - 1:
        raise ValueError(f"a soak takes at least {WARM + 2 * SPAN} minutes")
    first_usage, last_usage = of_minute(run.usage, WARM), of_minute(run.usage, last)
    if not first_usage or not last_usage:
        raise ValueError("the metrics of the server could not be read; give --metrics-token if they want one")
    memory = [median(usage.memory_bytes for usage in part) for part in (first_usage, last_usage)]
    # A client's connection comes and goes; what leaks stays, and shows in the fewest of a minute.
    descriptors = [min(usage.descriptors for usage in part) for part in (first_usage, last_usage)]
    ends = (slice(WARM, WARM + SPAN), slice(last - SPAN + 1, last + 1))
    slowest = [quantile(run.latencies(VERDICTS, minutes), 0.99) * 1_000 for minutes in ends]
    return [
        Check("memory, MB", memory[0] / 1e6, memory[1] / 1e6, "within 3 %", memory[1] <= memory[0] * MEMORY_GROWTH),
        Check("p99 of verdicts, ms", slowest[0], slowest[1], "within 1.2 times", slowest[1] <= slowest[0] * P99_GROWTH),
        Check("descriptors", descriptors[0], descriptors[1], "no more", descriptors[1] <= descriptors[0]),
        Check("answers that are wrong", 0, sum(run.wrong().values()), "none", not run.wrong()),
    ]


def show(run: Run, console: Console) -> None:
    """Print what was sent, how it was answered, and what the server used minute by minute."""
    table = Table("kind", "requests", "p50 ms", "p90 ms", "p99 ms", "max ms", "answers", title="By kind")
    kinds = sorted({kind for minute in run.minutes for kind, _ in [*minute.statuses, *minute.wrong]})
    for kind in kinds:
        statuses = _statuses(run, kind)
        spent = run.latencies((kind,))
        told = ", ".join(f"{status or 'left'}: {count:,}" for status, count in sorted(statuses.items()))
        times = (f"{quantile(spent, share) * 1_000:.1f}" if spent else "" for share in (0.5, 0.9, 0.99, 1))
        table.add_row(kind, f"{sum(statuses.values()):,}", *times, told)
    console.print(table)
    console.print(_by_minute(run))
    late = sorted(seconds for minute in run.minutes for seconds in minute.late)
    console.print(f"Requests left this side at most {quantile(late, 0.99) * 1_000:.1f} ms late in 99 of 100 cases.")
    for (kind, what), count in sorted(run.wrong().items()):
        console.print(f"WRONG  {kind}: {what}, {count:,} times")


def figures(run: Run) -> dict[str, Any]:
    """The same for programs."""
    return {
        "seconds": round(run.seconds, 1),
        "requests": sum(sum(minute.statuses.values()) for minute in run.minutes),
        "wrong": {f"{kind} {what}": count for (kind, what), count in run.wrong().items()},
        "minutes": [
            {
                "requests": sum(minute.statuses.values()),
                "p50_ms": _milliseconds(run, number, 0.5),
                "p99_ms": _milliseconds(run, number, 0.99),
                "memory_mb": _of_usage(run, number, "memory_bytes", 1e-6),
                "descriptors": _of_usage(run, number, "descriptors", 1),
            }
            for number, minute in enumerate(run.minutes)
        ],
    }


def quantile(ascending: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed; nan of none."""
    if not ascending:
        return float("nan")
    return ascending[min(int(share * len(ascending)), len(ascending) - 1)]


def _by_minute(run: Run) -> Table:
    table = Table(
        "minute", "requests", "verdicts p50 ms", "p99 ms", "memory MB", "descriptors", "CPU %", title="By minute"
    )
    for number, minute in enumerate(run.minutes):
        used = of_minute(run.usage, number)
        spent = used[-1].at - used[0].at if used else 0
        cpu = (used[-1].cpu_seconds - used[0].cpu_seconds) / spent if spent else float("nan")
        table.add_row(
            str(number + 1),
            f"{sum(minute.statuses.values()):,}",
            f"{_milliseconds(run, number, 0.5)}",
            f"{_milliseconds(run, number, 0.99)}",
            f"{_of_usage(run, number, 'memory_bytes', 1e-6)}",
            f"{_of_usage(run, number, 'descriptors', 1)}",
            f"{cpu:.0%}",
        )
    return table


def _statuses(run: Run, kind: str) -> dict[int, int]:
    found: dict[int, int] = {}
    for minute in run.minutes:
        for (of_kind, status), count in minute.statuses.items():
            if of_kind == kind:
                found[status] = found.get(status, 0) + count
    return found


def _milliseconds(run: Run, minute: int, share: float) -> float:
    return round(quantile(run.latencies(VERDICTS, slice(minute, minute + 1)), share) * 1_000, 1)


def _of_usage(run: Run, minute: int, name: str, scale: float) -> float:
    found = [getattr(usage, name) for usage in of_minute(run.usage, minute)]
    return round(median(found) * scale, 1) if found else float("nan")
