"""Verdicts as JSON Lines, CSV or a table; written as they come, in the order of the rows."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, Protocol

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from firstline.core.taxonomy import Contract, Decision, Priority
from firstline.core.verdict import Source, Verdict
from firstline.delivery.cli.formats import Output
from firstline.delivery.cli.terminal import Mistake, printable

_WIDE: Final = 110
"""Columns of a terminal from which on the table has the language too."""

_SHARED: Final = ("probability", "needs_review", "source", "language", "rules")
_OWN: Final = {
    Contract.CLASSIFIER: ("category", "priority"),
    Contract.DECISION: ("decision", "priority", "churn_risk", "confidence", "recommended_action", "category"),
}
_PRIORITY_STYLE: Final = {
    Priority.LOW: "dim",
    Priority.MEDIUM: "",
    Priority.HIGH: "yellow",
    Priority.CRITICAL: "bold red",
}
_DECISION_STYLE: Final = {
    Decision.IGNORE: "dim",
    Decision.STANDARD_RESPONSE: "",
    Decision.PRIORITY_RESPONSE: "yellow",
    Decision.IMMEDIATE_ESCALATION: "bold red",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one row: a verdict, or a problem.

    Attributes:
        line: where the row begins, from 1.
        text: the message, or what could be read of it.
    """

    line: int
    text: str | None
    verdict: Verdict | None
    problem: str | None = None


class Results(Protocol):
    """Writes outcomes."""

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Write some more; they can be read when this returns."""
        ...


def columns_of(contract: Contract) -> tuple[str, ...]:
    """The members of a row under a contract, in order; a failed row has `line` and `error` alone."""
    return ("line", *_OWN[contract], *_SHARED)


def row_of(outcome: Outcome, *, contract: Contract) -> dict[str, Any]:
    """An outcome as plain data."""
    verdict = outcome.verdict
    if verdict is None:
        return {"line": outcome.line, "error": outcome.problem}
    values = {
        "line": outcome.line,
        "category": verdict.category,
        "decision": verdict.decision.value,
        "priority": verdict.priority.value,
        "churn_risk": verdict.churn_risk,
        "confidence": verdict.confidence,
        "recommended_action": verdict.recommended_action,
        "probability": round(verdict.probability, 4),
        "needs_review": verdict.needs_review,
        "source": verdict.source.value,
        "language": verdict.language,
        "rules": rules_of(verdict),
    }
    return {name: values[name] for name in columns_of(contract)}


def rules_of(verdict: Verdict) -> list[str]:
    """Ids of the rules that matched."""
    return [reason.rule for reason in verdict.reasons if reason.rule is not None]


def open_results(output: Output, *, contract: Contract, stream: BinaryIO, console: Console) -> Results:
    """What writes an output.

    Args:
        stream: takes JSON Lines and CSV.
        console: takes the table.
    """
    match output:
        case Output.JSONL:
            return _JsonLines(contract, stream)
        case Output.CSV:
            return _Csv(contract, stream)
        case Output.TABLE:
            return _Table(contract, console)
        case Output.PARQUET:
            raise Mistake("Parquet is written for a FILE with --out, not for standard input or output.")


@dataclass(slots=True)
class _JsonLines:
    contract: Contract
    stream: BinaryIO

    def write(self, outcomes: Sequence[Outcome]) -> None:
        rows = [orjson.dumps(row_of(outcome, contract=self.contract)) + b"\n" for outcome in outcomes]
        self.stream.write(b"".join(rows))
        self.stream.flush()


@dataclass(slots=True)
class _Csv:
    contract: Contract
    stream: BinaryIO
    has_header: bool = False

    def write(self, outcomes: Sequence[Outcome]) -> None:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, [*columns_of(self.contract), "error"], lineterminator="\n")
        if not self.has_header:  # an input without rows is answered with the header alone
            writer.writeheader()
            self.has_header = True
        for outcome in outcomes:
            row = row_of(outcome, contract=self.contract)
            if "rules" in row:
                row |= {"rules": " ".join(row["rules"]), "needs_review": str(row["needs_review"]).lower()}
            writer.writerow(row)
        self.stream.write(buffer.getvalue().encode())
        self.stream.flush()


@dataclass(slots=True)
class _Table:
    """Columns of fixed width, so that rows can be printed while later ones are still unknown."""

    contract: Contract
    console: Console
    has_header: bool = False

    def write(self, outcomes: Sequence[Outcome]) -> None:
        table = self._new_table(outcomes)
        for outcome in outcomes:
            if outcome.verdict is not None:
                table.add_row(*self._cells(outcome, outcome.verdict))
                continue
            if table.row_count:
                self.console.print(table)
                table = self._new_table(outcomes)
            problem = printable(outcome.problem or "")
            self.console.print(Text.assemble((f"{outcome.line:>4}  ", "dim"), (f"failed: {problem}", "red")))
        if table.row_count:
            self.console.print(table)

    @property
    def _wide(self) -> bool:
        return self.console.width >= _WIDE

    def _new_table(self, outcomes: Sequence[Outcome]) -> Table:
        table = Table(box=None, show_header=not self.has_header, header_style="bold", expand=True)
        table.pad_edge, table.padding = False, (0, 2, 0, 0)
        self.has_header = True
        table.add_column("line", width=max(4, len(str(outcomes[-1].line) if outcomes else "")), justify="right")
        table.add_column("message", ratio=3, no_wrap=True, overflow="ellipsis")
        if self.contract is Contract.CLASSIFIER:
            table.add_column("category", width=15, no_wrap=True)
        else:
            table.add_column("decision", width=20, no_wrap=True)
        table.add_column("priority", width=8, no_wrap=True)
        table.add_column("prob." if self.contract is Contract.CLASSIFIER else "churn", width=5, justify="right")
        if self._wide:
            table.add_column("lang", width=4, no_wrap=True)
        table.add_column("why", ratio=2, no_wrap=True, overflow="ellipsis")
        return table

    def _cells(self, outcome: Outcome, verdict: Verdict) -> list[Text]:
        if self.contract is Contract.CLASSIFIER:
            what, figure = Text(printable(verdict.category)), verdict.probability
        else:
            what, figure = Text(verdict.decision.value, _DECISION_STYLE[verdict.decision]), verdict.churn_risk
        return [
            Text(str(outcome.line), "dim"),
            Text(printable(outcome.text or "")[:200]),
            what,
            Text(verdict.priority.value, _PRIORITY_STYLE[verdict.priority]),
            Text(f"{figure:.2f}"),
            *([Text(verdict.language or "–", "dim")] if self._wide else []),
            _why(verdict),
        ]


def _why(verdict: Verdict) -> Text:
    rules = rules_of(verdict)
    if rules:
        why = Text(", ".join(rules))
    elif any(reason.code == "short" for reason in verdict.reasons):
        why = Text("too short")
    else:
        why = Text("model" if verdict.source is Source.LOCAL else verdict.source.value)
    if verdict.needs_review:
        return Text.assemble(("review ", "magenta"), why)
    return why


@dataclass(slots=True)
class Tally:
    """Counts of what has been written."""

    contract: Contract
    decided: int = 0
    failed: int = 0
    reviews: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Count some more."""
        kind: Callable[[Verdict], str] = (
            (lambda verdict: verdict.category)
            if self.contract is Contract.CLASSIFIER
            else (lambda verdict: verdict.decision.value)
        )
        for outcome in outcomes:
            if outcome.verdict is None:
                self.failed += 1
                continue
            self.decided += 1
            self.reviews += outcome.verdict.needs_review
            self.kinds[kind(outcome.verdict)] += 1
