"""Labelled messages for `firstline eval`: a text with the category, the language or the signals that people gave it."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from firstline.core.message import Message
from firstline.core.taxonomy import Channel, Contract, Signal, UserPlan
from firstline.delivery.cli.formats import Format
from firstline.delivery.cli.rows import Lines, Readable, Row, RowInvalid, guess_format, message_of, read_rows
from firstline.delivery.cli.terminal import Mistake, counted, printable

SIGNALS_COLUMN: Final = "signals"
_MAX_NAMED: Final = 12
_CSV: Final = (".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row has what, and what its labels mean.

    Attributes:
        language: None takes a column `language` or `lang` when there is one.
        mapping: labels of the file, in lower case, to categories.
    """

    text: str = "text"
    label: str = "category"
    language: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A message and what people say about it.

    Attributes:
        line: of the file, from 1.
        label: its category; None when the row has none and only its signals are judged.
        language: as the file says; None when it says nothing.
        signals: that it has; None when the file does not say.
    """

    line: int
    message: Message
    label: str | None
    language: str | None
    signals: frozenset[Signal] | None


def read_labelled(
    file: str,
    columns: Columns,
    known: Sequence[str],
    *,
    format: Format | None,  # noqa: A002  # the flag's name
) -> tuple[list[Labelled], list[str]]:
    """All rows of a file that can be judged, and a sentence about each that cannot.

    Args:
        known: names of the categories.
    Raises: Mistake when the file cannot be read, has no column of labels, or has labels that are no category.
    """
    with ExitStack() as opened:
        lines = Lines(_source(file, opened))
        kind = format or (Format.CSV if Path(file).suffix.lower() in _CSV else guess_format(lines, column=columns.text))
        if kind not in {Format.CSV, Format.JSONL}:
            raise Mistake(f"{printable(file)} must be CSV with a header, or JSON Lines; say which with --format.")
        rows = list(read_rows(lines, format=kind, column=columns.text))
    _check_columns(rows, columns)
    labels = [_label(row, columns) for row in rows]
    _check_labels(labels, columns, known)
    spelled = {name.casefold(): name for name in known}
    found, problems = [], []
    for row, label in zip(rows, labels, strict=True):
        try:
            signals = _signals(_field(row, SIGNALS_COLUMN))
            if row.problem is None and label is None and signals is None:
                raise RowInvalid(f"there is no {columns.label}")
            message = message_of(row, contract=Contract.DECISION, plan=UserPlan.FREE, channel=Channel.EMAIL)
        except RowInvalid as error:
            problems.append(f"{printable(file)}:{row.line}: {error}")
            continue
        category = None if label is None else spelled[label.casefold()]
        found.append(Labelled(row.line, message, category, _language(row, columns), signals))
    if not found:
        raise Mistake(f"{printable(file)} has no row that can be judged.")
    return found, problems


def parse_mapping(pairs: Iterable[str]) -> dict[str, str]:
    """`Bug Report=Other` and the like.

    Raises: Mistake.
    """
    mapping = {}
    for pair in pairs:
        label, equals, category = (part.strip() for part in pair.partition("="))
        if not (label and equals and category):
            raise Mistake(f"--map {printable(pair)!r} must be LABEL=CATEGORY, such as --map 'Bug Report=Other'.")
        mapping[label.casefold()] = category
    return mapping


def _source(file: str, opened: ExitStack) -> Readable:
    if file == "-":
        return cast(Readable, sys.stdin.buffer)
    try:
        return opened.enter_context(Path(file).open("rb"))
    except OSError as error:
        raise Mistake(f"{printable(file)} cannot be read: {error.strerror}.") from None


def _field(row: Row, name: str) -> Any:
    return row.fields.get(name, row.fields.get(name.casefold()))


def _label(row: Row, columns: Columns) -> str | None:
    value = _field(row, columns.label)
    label = str(value).strip() if value is not None else ""
    return columns.mapping.get(label.casefold(), label) or None


def _language(row: Row, columns: Columns) -> str | None:
    for name in (columns.language,) if columns.language else ("language", "lang"):
        value = _field(row, name)
        if isinstance(value, str) and value.strip():
            return value.strip().lower()
    return None


def _signals(value: Any) -> frozenset[Signal] | None:
    """Signals of a row, from a list, or a text with `;` between them; an empty one means that it has none."""
    if value is None:
        return None
    names = [part.strip() for part in value.split(";")] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RowInvalid("signals must be a list, or names with ; between them")
    try:
        return frozenset(Signal(name.lower()) for name in names if name)
    except ValueError:
        raise RowInvalid(f"signals must be among {', '.join(Signal)}") from None


def _check_columns(rows: Sequence[Row], columns: Columns) -> None:
    """Raises: Mistake when no row has the label's column, nor signals."""
    readable = [row for row in rows if row.problem is None]
    if not readable or any(
        _field(row, name) is not None for row in readable for name in (columns.label, SIGNALS_COLUMN)
    ):
        return
    there = ", ".join(printable(name)[:40] for name in list(readable[0].fields)[:_MAX_NAMED])
    raise Mistake(f"There is no column '{columns.label}'; the columns are {there}. Name it with --label-column.")


def _check_labels(labels: Sequence[str | None], columns: Columns, known: Sequence[str]) -> None:
    """Raises: Mistake that names the labels that are no category, and the categories."""
    spelled = {name.casefold() for name in known}
    unknown = Counter(label for label in labels if label is not None and label.casefold() not in spelled)
    if not unknown:
        return
    named = ", ".join(
        f"{printable(label)[:40]} ({counted(count, 'row')})" for label, count in unknown.most_common(_MAX_NAMED)
    )
    more = f" and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
    raise Mistake(
        f"Not among the categories: {named}{more}. The categories are {', '.join(known)}. "
        f"Say what a label means with --map 'LABEL=CATEGORY'."
    )
