"""Messages out of a stream of txt, CSV or JSON Lines, row by row in bounded memory.

A row that cannot be read carries the problem and its line; the rows after it are read all the same. A row is yielded
as soon as it is complete, so that a pipe that is still being written can be followed.
"""

import csv
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from firstline.core.message import MAX_HISTORY, MAX_TEXT_LENGTH, Message, trimmed
from firstline.core.taxonomy import Channel, Contract, UserPlan
from firstline.delivery.cli.formats import Format
from firstline.delivery.cli.terminal import Mistake, printable
from firstline.delivery.http.bodies import JsonInvalid, parse_json

MAX_LINE_BYTES: Final = 1 << 20
TEXT_COLUMNS: Final = ("text", "ticket", "message", "body")

_BLOCK_BYTES: Final = 1 << 16
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_MARKS: Final = (_UTF8_MARK, *_UTF16_MARKS)
_NOT_UTF8: Final = re.compile(r"[\udc80-\udcff]")
_DELIMITERS: Final = (",", ";", "\t")
_MAX_NAMED: Final = 12
_Choice = TypeVar("_Choice", UserPlan, Channel)


class RowInvalid(ValueError):
    """A row that no verdict can be given on; the message says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the input.

    Attributes:
        line: where it begins, counted from 1.
        text: the message as it stands there; None when there is none.
        fields: the other columns or members by name; names of CSV columns are in lower case.
        problem: why it cannot be read, or None.
    """

    line: int
    text: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


class Readable(Protocol):
    """A binary stream that answers with what it has."""

    def read1(self, size: int, /) -> bytes:
        """At most `size` bytes, waiting only for the first; empty at the end."""
        ...


class Lines:
    """The lines of a stream with their ends; bytes that are no UTF-8 become lone surrogates.

    Attributes:
        number: of the line given last, from 1.
        bytes_read: so far.
        too_long: whether a line was cut at `MAX_LINE_BYTES` since this was last set to False.
    """

    def __init__(self, stream: Readable) -> None:
        """Raises: Mistake when the stream is UTF-16."""
        self._stream = stream
        self._complete: deque[bytes] = deque()
        self._rest = bytearray()
        self._ended = False
        self.number = 0
        self.bytes_read = 0
        self.too_long = False
        self._fill()

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        while not self._complete:
            if self._ended:
                raise StopIteration
            self._fill()
        self.number += 1
        line = self._complete.popleft()
        if len(line) > MAX_LINE_BYTES:
            self.too_long = True
        return line.decode("utf-8", "surrogateescape")

    @property
    def drained(self) -> bool:
        """Whether the next line would have to be read first."""
        return not self._complete

    def first(self) -> str:
        """The first line, which stays to be given; empty for an empty stream."""
        while not self._complete and not self._ended:
            self._fill()
        return self._complete[0].decode("utf-8", "surrogateescape") if self._complete else ""

    def _fill(self) -> None:
        block = self._stream.read1(_BLOCK_BYTES)
        while not self.bytes_read and block and any(mark[:-1].startswith(block) for mark in _MARKS):
            rest = self._stream.read1(_BLOCK_BYTES)  # a mark may come in pieces
            if not rest:
                break
            block += rest
        if not self.bytes_read and block.startswith(_UTF16_MARKS):
            raise Mistake("The input is UTF-16; convert it first: iconv -f UTF-16 -t UTF-8.")
        start = len(_UTF8_MARK) if not self.bytes_read and block.startswith(_UTF8_MARK) else 0
        self.bytes_read += len(block)
        if not block:
            self._ended = True
            if self._rest:
                self._complete.append(bytes(self._rest))
                self._rest.clear()
            return
        for piece in _pieces(block[start:]):
            # One byte beyond the bound is kept, as the sign that the line was cut.
            self._rest += piece[: max(MAX_LINE_BYTES + 1 - len(self._rest), 0)]
            if piece.endswith(b"\n"):
                self._complete.append(bytes(self._rest))
                self._rest.clear()


def _pieces(block: bytes) -> Iterator[bytes]:
    """The lines of a block with their ends; a carriage return alone ends no line."""
    start = 0
    while (end := block.find(b"\n", start)) >= 0:
        yield block[start : end + 1]
        start = end + 1
    if start < len(block):
        yield block[start:]


def guess_format(lines: Lines, *, column: str | None, delimiter: str | None = None) -> Format:
    """The format of a stream by its first line: an object is JSON Lines, a known column name CSV, else text."""
    first = lines.first().strip()
    if first.startswith(("{", "[{")) or first == "[":
        return Format.JSONL
    names = first.split(delimiter or _delimiter(first))
    wanted = (column.casefold(),) if column else TEXT_COLUMNS
    found = any(name.strip('"').casefold() in wanted for name in names)
    # "Text, please" is a sentence: no header has a space after its separator.
    return Format.CSV if found and all(name == name.strip() for name in names) else Format.TXT


def read_rows(
    lines: Lines,
    *,
    format: Format,  # noqa: A002  # as the flag
    column: str | None,
    delimiter: str | None = None,
    keep: Sequence[str] = (),
) -> Iterator[Row]:
    """The rows of a stream.

    Args:
        column: column or member that holds the text; None for the first of `TEXT_COLUMNS` that is there.
        delimiter: what separates the columns of CSV; None for the sign that is most often in the header.
        keep: columns that CSV must have beside the text.
    Raises: Mistake when the input cannot be read at all, such as CSV without the column.
    """
    match format:
        case Format.TXT:
            return _text_rows(lines)
        case Format.CSV:
            return _csv_rows(lines, column, delimiter=delimiter, keep=keep)
        case Format.JSONL:
            return _jsonl_rows(lines, column)
        case Format.PARQUET:
            raise Mistake(
                "Parquet is no stream of rows; read a file of it, and name another for the answers with --out."
            )


def message_of(row: Row, *, contract: Contract, plan: UserPlan, channel: Channel) -> Message:
    """The message of a row.

    Args:
        plan, channel: where the row has none of its own; used under the decision contract alone.
    Raises: RowInvalid.
    """
    if row.problem is not None or row.text is None:
        raise RowInvalid(row.problem or "there is no text")
    text = trimmed(row.text)
    if not text:
        raise RowInvalid("the message is empty")
    if len(text) > MAX_TEXT_LENGTH:
        raise RowInvalid(f"the message has {len(text):,} characters; at most {MAX_TEXT_LENGTH:,}")
    if contract is Contract.CLASSIFIER:
        return Message(text, contract)
    return Message(
        text,
        contract,
        plan=_choice(row.fields.get("user_plan"), "user_plan", UserPlan, plan),
        channel=_choice(row.fields.get("channel"), "channel", Channel, channel),
        history=_history(row.fields.get("history")),
    )


def _choice(value: Any, name: str, choices: type[_Choice], default: _Choice) -> _Choice:
    if value is None or value == "":
        return default
    try:
        return choices(value.strip().lower() if isinstance(value, str) else value)
    except ValueError:
        raise RowInvalid(f"{name} must be one of {', '.join(choices)}") from None


def _history(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                value = parse_json(value.encode())
            except (JsonInvalid, UnicodeEncodeError):
                raise RowInvalid("history is no valid JSON list") from None
        else:
            value = [line for line in value.splitlines() if line.strip()]
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise RowInvalid("history must be a list of texts")
    if len(value) > MAX_HISTORY:
        raise RowInvalid(f"history has {len(value)} messages; at most {MAX_HISTORY}")
    if any(len(entry) > MAX_TEXT_LENGTH for entry in value):
        raise RowInvalid(f"a message of history has more than {MAX_TEXT_LENGTH:,} characters")
    return tuple(value)


def _unreadable(lines: Lines, text: str) -> str | None:
    """Why a line cannot be read, or None."""
    if lines.too_long:
        lines.too_long = False
        return f"the line is longer than {MAX_LINE_BYTES:,} bytes"
    if _NOT_UTF8.search(text):
        return "the line is not UTF-8"
    return None


def _text_rows(lines: Lines) -> Iterator[Row]:
    for line in lines:
        problem = _unreadable(lines, line)
        if problem is None and not line.strip():
            problem = "the line is empty"
        yield Row(lines.number, line, problem=problem)


def _jsonl_rows(lines: Lines, column: str | None) -> Iterator[Row]:
    for line in lines:
        problem = _unreadable(lines, line)
        if problem is None and not line.strip():
            problem = "the line is empty"
        if problem is not None:
            yield Row(lines.number, problem=problem)
            continue
        if lines.number == 1 and line.lstrip().startswith("["):
            raise Mistake("The input is one JSON list; write one object per line: jq -c '.[]' FILE.")
        yield _jsonl_row(line, lines.number, column)


def _jsonl_row(line: str, number: int, column: str | None) -> Row:
    try:
        data = parse_json(line.encode())
    except JsonInvalid as error:
        place = f" at character {error.position + 1}" if error.position else ""
        return Row(number, problem=str(error).replace("the body", "the line") + place)
    return row_of(data, number=number, column=column, whole="line")


def row_of(data: Any, *, number: int, column: str | None, whole: str) -> Row:
    """The row that a JSON value is.

    Args:
        column: as for `read_rows`.
        whole: what the value is called in problems.
    """
    if isinstance(data, str):
        return Row(number, data)
    if not isinstance(data, dict):
        return Row(number, problem=f"the {whole} is no JSON object")
    name = column if column else next((name for name in TEXT_COLUMNS if data.get(name) is not None), None)
    if name is None:
        name = next((name for name in TEXT_COLUMNS if name in data), None)
    if name is None or name not in data:
        wanted = f"field '{column}'" if column else f"field {_alternatives()}"
        return Row(number, fields=data, problem=f"there is no {wanted}; the object has {_named(list(data))}")
    if data[name] is None:
        return Row(number, fields=data, problem=f"field '{name}' is null")
    if not isinstance(data[name], str):
        return Row(number, fields=data, problem=f"field '{name}' must be a text")
    return Row(number, data[name], data)


def _csv_rows(lines: Lines, column: str | None, *, delimiter: str | None, keep: Sequence[str]) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)
    first = lines.first()
    reader = csv.reader(lines, delimiter=delimiter or _delimiter(first), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise Mistake(f"Line 1, the CSV header, cannot be read: {error}.") from None
    if not header and not first:
        return
    problem = _unreadable(lines, "".join(header))
    if problem is not None:
        raise Mistake(f"Line 1, the CSV header: {problem}.")
    place = _place(header, column)
    names = [name.casefold() for name in header]
    for name in keep:
        if name.casefold() not in names:
            raise Mistake(f"There is no column '{name}' to keep; the columns are {_named(header)}.")
    while True:
        number = lines.number + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            lines.too_long = False
            yield Row(number, problem=f"no valid CSV: {error}")
            continue
        if cells is None:
            return
        problem = _unreadable(lines, "".join(cells))
        if problem is None and not any(cells):
            problem = "the line is empty"
        if problem is None and len(cells) <= place:
            problem = f"the row has {len(cells)} of the header's {len(header)} columns, and no '{header[place]}'"
        if problem is not None:
            yield Row(number, problem=problem)
        else:
            yield Row(number, cells[place], dict(zip(names, cells, strict=False)))


def _place(header: list[str], column: str | None) -> int:
    folded = [name.casefold() for name in header]
    for name in (column,) if column else TEXT_COLUMNS:
        if name in header:
            return header.index(name)
        if name.casefold() in folded:
            return folded.index(name.casefold())
    wanted = f"'{column}'" if column else _alternatives()
    hint = "" if column else " Name the one that holds the text with --column."
    raise Mistake(f"There is no column {wanted}; the columns are {_named(header)}.{hint}")


def _delimiter(header: str) -> str:
    """What separates the columns: the sign that is most often in the header."""
    return max(_DELIMITERS, key=header.count)


def _alternatives() -> str:
    *others, last = TEXT_COLUMNS
    return f"{', '.join(others)} or {last}"


def _named(names: list[str]) -> str:
    if not names:
        return "none"
    shown = ", ".join(printable(name)[:40] or "''" for name in names[:_MAX_NAMED])
    return shown if len(names) <= _MAX_NAMED else f"{shown} and {len(names) - _MAX_NAMED} more"
