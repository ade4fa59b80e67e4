"""Rows as lines of JSON: an array of values, in the order of the columns, of which every one has a kind."""

import base64
import binascii
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from firstline.adapters.backup.failures import ArchiveDamaged

MAX_LINE: Final = 64 << 20
"""Bytes of a row; no row of firstline comes near it."""

_INT64: Final = 1 << 63
_NOT_FINITE: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

Row = Sequence[Any]


class Kind(StrEnum):
    """What a column holds; any column may be null as far as lines are concerned."""

    INT = "int"
    FLOAT = "float"
    TEXT = "text"
    BYTES = "bytes"


class Column(NamedTuple):
    """A column of a table."""

    name: str
    kind: Kind


def line_of(columns: Sequence[Column]) -> Callable[[Row], bytes]:
    """What makes lines of a table's rows.

    Bytes become base64; floats that JSON does not know become their names.
    """
    special = [place for place, column in enumerate(columns) if column.kind in {Kind.FLOAT, Kind.BYTES}]

    def line(row: Row) -> bytes:
        values = list(row)
        for place in special:
            value = values[place]
            if isinstance(value, bytes | memoryview):
                values[place] = base64.b64encode(value).decode()
            elif isinstance(value, float) and not math.isfinite(value):
                values[place] = str(value)
        return orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE)

    return line


def row_of(columns: Sequence[Column]) -> Callable[[bytes], list[Any]]:
    """What reads the lines of a table; anything but the columns' kinds raises ValueError with what is wrong."""
    readers = [(place, column.name, _READERS[column.kind]) for place, column in enumerate(columns)]
    width = len(columns)

    def row(line: bytes) -> list[Any]:
        values = orjson.loads(line)
        if type(values) is not list or len(values) != width:
            raise ValueError(f"it is no list of {width} values")
        for place, name, read in readers:
            value = values[place]
            if value is not None:
                try:
                    values[place] = read(value)
                except (ValueError, KeyError):
                    raise ValueError(f"{name} is of another kind") from None
        return values

    return row


def lines_in(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Whole lines of a text that comes in pieces, with their ends, many at a time.

    Raises: ArchiveDamaged when a line is longer than `MAX_LINE` or the last one has no end.
    """
    rest = b""
    for chunk in chunks:
        lines = _split(rest + chunk)
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        if len(rest) > MAX_LINE:
            raise ArchiveDamaged(f"A row is longer than {MAX_LINE >> 20} MB.")
        if lines:
            yield lines
    if rest:
        raise ArchiveDamaged("The last row is cut off.")


def _split(data: bytes) -> list[bytes]:
    """At line feeds alone; JSON of ours has no carriage return, but a file of somebody else's may."""
    parts = data.split(b"\n")
    last = parts.pop()
    return [part + b"\n" for part in parts] + ([last] if last else [])


def _int(value: Any) -> int:
    if type(value) is not int or not -_INT64 <= value < _INT64:
        raise ValueError
    return value


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    return _NOT_FINITE[value] if type(value) is str else _refuse()


def _text(value: Any) -> str:
    return value if type(value) is str else _refuse()


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except binascii.Error:
        raise ValueError from None


def _refuse() -> Any:
    raise ValueError


_READERS: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.INT: _int,
    Kind.FLOAT: _float,
    Kind.TEXT: _text,
    Kind.BYTES: _bytes,
}
