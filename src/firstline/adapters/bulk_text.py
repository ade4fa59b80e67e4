"""Answers as JSON Lines and as CSV, in parts that are put together by copying."""

import csv
import io
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import orjson

from firstline import __version__
from firstline.adapters.bulk_output import sync
from firstline.ports.bulk import Chunk, Columns

_COPY_BYTES: Final = 1 << 20
_ERROR: Final = "error"


class _TextParts:
    """What both formats share; implements `adapters.bulk_output.PartWriter`."""

    def __init__(self, names: Sequence[str], *, keep: Sequence[str] = ()) -> None:
        """Args:
        names: of the columns of the answers, in order; kept columns stand before the last, the error.
        """
        self.names = (*names[:-1], *keep, names[-1])
        self.keep = tuple(keep)
        self._file: IO[bytes] | None = None

    @property
    def program(self) -> str:
        """See `PartWriter`."""
        return f"firstline {__version__}"

    def begin(self, path: Path) -> None:
        """See `PartWriter`."""
        self._file = path.open("wb")

    def add(self, chunk: Chunk, columns: Columns) -> None:
        """See `PartWriter`."""
        assert self._file is not None
        given = {**columns, **chunk.kept}
        self._file.write(self._encoded(zip(*(given[name] for name in self.names), strict=True)))

    def end(self) -> None:
        """See `PartWriter`."""
        assert self._file is not None
        with self._file as file:
            sync(file)
        self._file = None

    def abandon(self) -> None:
        """See `PartWriter`."""
        if self._file is not None:
            with suppress(OSError):  # a full disk cannot take what is still to be written, which nobody wants now
                self._file.close()
            self._file = None

    def join(self, parts: Iterable[Path], whole: Path) -> None:
        """See `PartWriter`."""
        with whole.open("wb") as file:
            file.write(self._header())
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file, _COPY_BYTES)
            sync(file)

    def _header(self) -> bytes:
        return b""

    def _encoded(self, rows: Iterator[tuple[Any, ...]]) -> bytes:
        raise NotImplementedError


class JsonLinesParts(_TextParts):
    """A JSON object per row; one that failed has its number, the kept columns and `error` alone."""

    def _encoded(self, rows: Iterator[tuple[Any, ...]]) -> bytes:
        names, always = self.names, {"row", _ERROR, *self.keep}
        lines = []
        for row in rows:
            data = dict(zip(names, row, strict=True))
            if data[_ERROR] is None:
                del data[_ERROR]
            else:
                data = {name: value for name, value in data.items() if name in always}
            lines.append(orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE))
        return b"".join(lines)


class CsvParts(_TextParts):
    """A header, then a line per row; lists are separated by spaces, what there is none of is empty."""

    def header(self) -> bytes:
        """The line with the names of the columns."""
        return self._lines([self.names])

    def rows(self, rows: Iterable[tuple[Any, ...]]) -> bytes:
        """Lines of rows, whose values stand in the order of the names."""
        return self._lines([_cell(value) for value in row] for row in rows)

    def _header(self) -> bytes:
        return self.header()

    def _encoded(self, rows: Iterator[tuple[Any, ...]]) -> bytes:
        return self.rows(rows)

    def _lines(self, rows: Iterable[Sequence[Any]]) -> bytes:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        return buffer.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and all(isinstance(entry, str) and " " not in entry for entry in value):
        return " ".join(value)
    return orjson.dumps(value).decode() if isinstance(value, list | dict) else value
