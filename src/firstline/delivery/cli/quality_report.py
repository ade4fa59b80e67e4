"""What `firstline eval` says: tables for people, and the same figures as data."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from firstline.core.taxonomy import Signal
from firstline.delivery.cli.labelled import Labelled
from firstline.delivery.cli.terminal import counted, output, printable
from firstline.learning.evaluation import SURE, Coverage, Evaluation, Quality, Share, SignalQuality

MATRIX_NAMES: Final = 12
"""With more categories, the commonest confusions are listed in place of the matrix."""

_CONFUSIONS: Final = 15
_SHARES: Final = (0.25, 0.5, 0.75, 0.9, 1.0)
_SHOWN_TEXT: Final = 100


@dataclass(frozen=True, slots=True)
class SignalReport:
    """How signals are met: by a rule that names them, and by the decision of the whole verdict."""

    rows: int
    by_rules: Mapping[Signal, SignalQuality]
    by_verdict: Mapping[Signal, SignalQuality]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything about a run.

    Attributes:
        rows: those that could be read; `judged` are those of them with a category, in the evaluation's order.
        skipped: number of rows that could not be.
    """

    model: str
    file: str
    rows: Sequence[Labelled]
    evaluation: Evaluation | None
    judged: Sequence[Labelled]
    signals: SignalReport | None
    skipped: int


def print_report(report: Report, *, show_text: bool) -> None:
    """Print the tables on standard output."""
    console = output()
    skipped = f", {report.skipped:,} skipped" if report.skipped else ""
    console.print(
        f"{report.model} on {printable(report.file)}: {counted(len(report.rows), 'row')}{skipped}", markup=False
    )
    if report.evaluation is not None:
        _print_categories(console, report, report.evaluation, show_text=show_text)
    if report.signals is not None:
        _print_signals(console, report.signals)


def report_data(report: Report, *, show_text: bool) -> dict[str, Any]:
    """The figures as plain data; texts only when asked for. What cannot be computed is null."""
    found = report.evaluation
    data: dict[str, Any] = {"model": report.model, "rows": len(report.rows), "skipped": report.skipped}
    if found is not None:
        data["category"] = {
            "rows": len(report.judged),
            **_quality_data(found.overall),
            "languages": {name: _quality_data(quality) for name, quality in found.languages.items()},
            "confusion": {"names": found.names, "rows_are_labels": found.confusion.tolist()},
            "surest_errors": [
                {"line": report.judged[miss.row].line}
                | {"label": miss.label, "answer": miss.answer, "probability": round(miss.probability, 4)}
                | ({"text": report.judged[miss.row].message.text} if show_text else {})
                for miss in found.misses
            ],
        }
    if report.signals is not None:
        data["signals"] = {
            "rows": report.signals.rows,
            "by_rules": {name.value: _signal_data(found) for name, found in report.signals.by_rules.items()},
            "by_verdict": {name.value: _signal_data(found) for name, found in report.signals.by_verdict.items()},
        }
    return data


def _print_categories(console: Console, report: Report, found: Evaluation, *, show_text: bool) -> None:
    quality = found.overall
    summary = _table("Category, all rows", "", "")
    _add(summary, "right", _interval(quality.accuracy))
    _add(summary, "macro-F1", f"{quality.macro_f1:.3f}")
    _add(summary, "calibration error (ECE)", f"{quality.calibration_error:.3f}")
    _add(summary, "right surer than wrong (AUROC)", _number(quality.right_over_wrong))
    _add(summary, f"answerable with {SURE:.0%} right", _sure(quality.sure, threshold=True))
    _show(console, summary)
    labels = _table("By category", "category", "rows", "precision", "recall", "F1", "AUROC")
    for label in quality.labels:
        _add(
            labels,
            printable(label.name),
            f"{label.recall.n:,}",
            _interval(label.precision),
            _interval(label.recall),
            f"{label.f1:.3f}",
            _number(label.auroc),
        )
    _show(console, labels)
    languages = _table(
        "By language", "language", "rows", "right", "precision", "recall", "F1", "ECE", f"answerable at {SURE:.0%}"
    )
    for name, spoken in found.languages.items():
        _add(
            languages,
            printable(name),
            f"{spoken.accuracy.n:,}",
            _interval(spoken.accuracy),
            f"{spoken.macro_precision:.3f}",
            f"{spoken.macro_recall:.3f}",
            f"{spoken.macro_f1:.3f}",
            f"{spoken.calibration_error:.3f}",
            _sure(spoken.sure, threshold=False),
        )
    _show(console, languages)
    bins = _table("Stated probability and what came of it", "stated", "rows", "mean stated", "right")
    for found_bin in quality.bins:
        _add(
            bins,
            f"{found_bin.low:.0%}–{found_bin.high:.0%}",
            f"{found_bin.accuracy.n:,}",
            f"{found_bin.stated:.1%}",
            _interval(found_bin.accuracy),
        )
    _show(console, bins)
    curve = _table("Answering only the surest", "share of rows", "right", "from probability")
    for share in _SHARES:
        point = next((point for point in quality.curve if point.share >= share - 1e-9), quality.curve[-1])
        _add(curve, f"{point.share:.0%}", f"{point.accuracy:.1%}", f"{point.threshold:.2f}")
    _show(console, curve)
    _show(console, _matrix(found) if len(found.names) <= MATRIX_NAMES else _confusions(found))
    misses = _table("Surest errors", "line", "label", "answer", "probability", *(["text"] if show_text else []))
    for miss in found.misses:
        row = report.judged[miss.row]
        text = [printable(row.message.text)[:_SHOWN_TEXT]] if show_text else []
        _add(misses, f"{row.line:,}", printable(miss.label), printable(miss.answer), f"{miss.probability:.2f}", *text)
    _show(console, misses)


def _print_signals(console: Console, signals: SignalReport) -> None:
    table = _table(
        f"Signals: {counted(signals.rows, 'row')} that say which they have",
        "signal",
        "rows",
        "rules: caught",
        "rules: left alone",
        "verdict: caught",
        "verdict: left alone",
    )
    for signal, rules in signals.by_rules.items():
        verdict = signals.by_verdict[signal]
        _add(
            table,
            signal.value,
            f"{rules.caught.n:,}",
            *(_interval(share) for share in (rules.caught, rules.left_alone, verdict.caught, verdict.left_alone)),
        )
    _show(console, table)
    console.print(
        "Rules: one that names the signal matched. Verdict: rules and the model's second line together raised"
    )
    console.print("the decision (for spam: ignored it); left alone is counted over rows without any signal.")


def _matrix(found: Evaluation) -> Table:
    table = _table("Labels (rows) and answers (columns)", "", *(printable(name) for name in found.names))
    for name, counts in zip(found.names, found.confusion.tolist(), strict=True):
        if sum(counts):
            _add(table, printable(name), *(f"{count:,}" if count else "·" for count in counts))
    return table


def _confusions(found: Evaluation) -> Table:
    table = _table("Commonest confusions", "label", "answer", "rows")
    pairs = [
        (count, label, answer)
        for label, counts in enumerate(found.confusion.tolist())
        for answer, count in enumerate(counts)
        if count and label != answer
    ]
    for count, label, answer in sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[:_CONFUSIONS]:
        _add(table, printable(found.names[label]), printable(found.names[answer]), f"{count:,}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(
        show_header=any(columns), title=title, title_justify="left", title_style="bold", box=box.SIMPLE, pad_edge=False
    )
    for number, column in enumerate(columns):
        named = column in {"category", "language", "signal", "label", "answer", "text"} or number == 0
        table.add_column(Text(column), justify="left" if named else "right", overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    """A row of plain text: a label may hold what would be markup."""
    table.add_row(*(Text(cell) for cell in cells))


def _show(console: Console, table: Table) -> None:
    if table.row_count:
        console.print(table)


def _interval(share: Share) -> str:
    return f"{share.value:.1%} ({100 * share.low:.0f}–{100 * share.high:.0f})" if share.n else "–"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _sure(sure: Coverage | None, *, threshold: bool) -> str:
    if sure is None:
        return "none"
    return f"{sure.share:.1%}" + (f", from probability {sure.threshold:.2f}" if threshold else "")


def _share_data(share: Share) -> dict[str, Any]:
    value = None if not share.n else round(share.value, 4)
    return {"share": value, "hits": share.hits, "n": share.n, "low": round(share.low, 4), "high": round(share.high, 4)}


def _signal_data(found: SignalQuality) -> dict[str, Any]:
    return {"caught": _share_data(found.caught), "left_alone": _share_data(found.left_alone)}


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _coverage_data(points: Sequence[Coverage]) -> Iterator[dict[str, float]]:
    for point in points:
        yield {
            "threshold": round(point.threshold, 4),
            "share": round(point.share, 4),
            "accuracy": round(point.accuracy, 4),
        }


def _quality_data(quality: Quality) -> dict[str, Any]:
    return {
        "accuracy": _share_data(quality.accuracy),
        "macro_precision": round(quality.macro_precision, 4),
        "macro_recall": round(quality.macro_recall, 4),
        "macro_f1": round(quality.macro_f1, 4),
        "expected_calibration_error": round(quality.calibration_error, 4),
        "auroc_right_over_wrong": _rounded(quality.right_over_wrong),
        "categories": {
            label.name: {
                "precision": _share_data(label.precision),
                "recall": _share_data(label.recall),
                "f1": round(label.f1, 4),
                "auroc": _rounded(label.auroc),
            }
            for label in quality.labels
        },
        "reliability": [
            {
                "low": found.low,
                "high": found.high,
                "stated": round(found.stated, 4),
                "accuracy": _share_data(found.accuracy),
            }
            for found in quality.bins
        ],
        "risk_coverage": list(_coverage_data(quality.curve)),
        f"coverage_at_{SURE}": next(_coverage_data([quality.sure]), None) if quality.sure else None,
    }
