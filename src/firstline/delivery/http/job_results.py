"""Results of a job as NDJSON, CSV or Parquet, made chunk by chunk while they are sent."""

import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from firstline.adapters.bulk_text import CsvParts
from firstline.adapters.parquet_files import ParquetParts
from firstline.ports.bulk import Chunk

MEDIA_TYPES: Final = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def encoded(chunks: Iterator[bytes], kind: str, *, columns: Sequence[str], keep: Sequence[str]) -> Iterator[bytes]:
    """Results in a format.

    Args:
        chunks: as JSON lines.
        kind: a name in `MEDIA_TYPES`.
        columns: of the answers, in order.
        keep: columns of the upload that they have too.
    Raises: ParquetUnusable when there is no pyarrow; the iterator whatever `chunks` raises.
    """
    if kind == "ndjson":
        return chunks
    names = (*columns[:-1], *keep, columns[-1])
    if kind == "csv":
        return _csv(chunks, names, keep)
    return _parquet(chunks, ParquetParts(columns, keep=keep), names, keep)


def _csv(chunks: Iterator[bytes], names: Sequence[str], keep: Sequence[str]) -> Iterator[bytes]:
    parts = CsvParts((*[name for name in names[:-1] if name not in keep], names[-1]), keep=keep)
    yield parts.header()
    for data in chunks:
        columns = _columns(data, names)
        for name in keep:
            columns[name] = [_harmless(value) for value in columns[name]]
        yield parts.rows(zip(*(columns[name] for name in names), strict=True))


def _parquet(
    chunks: Iterator[bytes], parts: ParquetParts, names: Sequence[str], keep: Sequence[str]
) -> Iterator[bytes]:
    sink = _Sink()
    with parts.stream(sink) as write:
        for data in chunks:
            columns = _columns(data, names)
            rows = len(columns["row"])
            if rows:
                write(Chunk(0, 1, [], {name: columns[name] for name in keep}), columns)
            yield sink.take()
    yield sink.take()


def _columns(data: bytes, names: Sequence[str]) -> dict[str, list[Any]]:
    rows = [orjson.loads(line) for line in data.splitlines()]
    return {name: [row.get(name) for row in rows] for name in names}


def _harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; the answers' own columns cannot be one."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


class _Sink(io.RawIOBase):
    """A file that is read away while it is written."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        block = bytes(data)
        self._waiting.append(block)
        self._size += len(block)
        return len(block)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        taken, self._waiting = b"".join(self._waiting), []
        return taken
