"""Parquet in and out, a row group at a time; needs pyarrow, which is an extra."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from firstline import __version__
from firstline.adapters.bulk_output import sync
from firstline.ports.bulk import Chunk, Columns, Item

INSTALL: Final = "Parquet needs pyarrow; install it with: pip install 'firstline[parquet]'."
MAGIC: Final = b"PAR1"
MAX_CHUNK_BYTES: Final = 8_000_000
"""A batch of rows that takes more in memory is cut into smaller chunks."""

_BUFFER_BYTES: Final = 1 << 20
_MAX_NAMED: Final = 12
_DICTIONARY: Final = (
    "category", "subcategory", "priority", "decision", "language", "source", "signals.list.element",
    "rules.list.element", "recommended_action", "error",
)  # fmt: skip


class ParquetUnusable(ValueError):
    """A file that cannot be read as asked, or no pyarrow; the message is a sentence."""


class ParquetReader:
    """Reads the columns that are wanted out of a file, a few thousand rows at once."""

    def __init__(
        self, path: Path, *, column: str | None, columns: Sequence[str], fields: Sequence[str], keep: Sequence[str]
    ) -> None:
        """Open a file.

        Args:
            column: the one that holds the text; None for the first of `columns` that is there.
            fields: columns that say more about a message, read where they are there.
            keep: columns that go to the output as they are.
        Raises: ParquetUnusable.
        """
        _, parquet = _pyarrow()
        with _reading(path):
            self._file = parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        self._path = path
        self.schema = self._file.schema_arrow
        self.rows: int = self._file.metadata.num_rows
        there = list(self.schema.names)
        wanted = (column,) if column else columns
        text = next((name for name in wanted if name in there), None)
        if text is None:
            raise ParquetUnusable(f"There is no column {' or '.join(wanted)}; the columns are {_named(there)}.")
        for name in keep:
            if name not in there:
                raise ParquetUnusable(f"There is no column {name} to keep; the columns are {_named(there)}.")
        self._text = text
        self._fields = [name for name in fields if name in there]
        self._keep = list(keep)

    def chunks(self, *, rows: int, plain: bool) -> Iterator[Chunk]:
        """The rows, in chunks.

        Args:
            rows: of a chunk, at most.
            plain: give kept columns as lists of JSON values instead of arrays.
        Raises: ParquetUnusable.
        """
        pyarrow, _ = _pyarrow()
        number = first = 0
        for batch in self._batches(rows):
            pieces = min(-(-batch.nbytes // MAX_CHUNK_BYTES), batch.num_rows) or 1
            size = -(-batch.num_rows // pieces)
            for start in range(0, batch.num_rows, size):
                part = batch.slice(start, size)
                kept = {name: part.column(name) for name in self._keep}
                if plain:
                    kept = {name: _plain(values, pyarrow) for name, values in kept.items()}
                share = (first + part.num_rows) / self.rows
                yield Chunk(number, first + 1, self._items(part), kept, share)
                number += 1
                first += part.num_rows

    def _batches(self, rows: int) -> Iterator[Any]:
        columns = list(dict.fromkeys([self._text, *self._fields, *self._keep]))
        with _reading(self._path):
            for batch in self._file.iter_batches(rows, columns=columns, use_threads=False):
                if batch.num_rows:
                    yield batch

    def _items(self, part: Any) -> list[Item]:
        texts = _values(part.column(self._text))
        if not self._fields:
            return [Item(text) for text in texts]
        fields = zip(*(_values(part.column(name)) for name in self._fields), strict=True)
        return [Item(text, dict(zip(self._fields, own, strict=True))) for text, own in zip(texts, fields, strict=True)]


class ParquetParts:
    """Implements `adapters.bulk_output.PartWriter`: a part is a file of one row group, and so is it in the whole."""

    def __init__(self, names: Sequence[str], *, keep: Sequence[str] = (), kept_schema: Any = None) -> None:
        """Args:
            names: of the columns of the answers, in order; kept columns stand before the last, the error.
            kept_schema: types of kept columns; text where there is none.
        Raises: ParquetUnusable when there is no pyarrow.
        """
        self._pyarrow, self._parquet = _pyarrow()
        self._names = (*names[:-1], *keep, names[-1])
        self._keep = frozenset(keep)
        self._schema = self._pyarrow.schema(
            [
                kept_schema.field(name).remove_metadata()
                if name in self._keep and kept_schema is not None
                else self._pyarrow.field(name, _type_of(name, self._pyarrow))
                for name in self._names
            ]
        )
        self._path = Path()
        self._tables: list[Any] = []

    @property
    def program(self) -> str:
        """See `PartWriter`."""
        return f"firstline {__version__}, pyarrow {self._pyarrow.__version__}"

    def begin(self, path: Path) -> None:
        """See `PartWriter`."""
        self._path = path

    def add(self, chunk: Chunk, columns: Columns) -> None:
        """See `PartWriter`."""
        self._tables.append(self._table(chunk, columns))

    @contextmanager
    def stream(self, sink: Any) -> Iterator[Callable[[Chunk, Columns], None]]:
        """Write one file without parts: what is given writes a chunk, as a row group, to a file that never seeks."""
        with self._writer(sink) as writer:

            def write(chunk: Chunk, columns: Columns) -> None:
                writer.write_table(self._table(chunk, columns))

            yield write

    def _table(self, chunk: Chunk, columns: Columns) -> Any:
        arrays = [
            self._kept(chunk.kept[name])
            if name in self._keep
            else self._pyarrow.array(columns[name], self._schema.field(name).type)
            for name in self._names
        ]
        return self._pyarrow.Table.from_arrays(arrays, schema=self._schema)

    def end(self) -> None:
        """See `PartWriter`."""
        self._write(self._path, [self._pyarrow.concat_tables(self._tables)])
        self._tables = []

    def abandon(self) -> None:
        """See `PartWriter`."""
        self._tables = []

    def join(self, parts: Iterable[Path], whole: Path) -> None:
        """See `PartWriter`."""
        self._write(whole, (self._parquet.read_table(part, use_threads=False) for part in parts))

    def _write(self, path: Path, tables: Iterable[Any]) -> None:
        with path.open("wb") as file:
            with self._writer(file) as writer:
                for table in tables:
                    writer.write_table(table.cast(self._schema), row_group_size=max(table.num_rows, 1))
            sync(file)

    def _writer(self, file: Any) -> Any:
        own = [name for name in _DICTIONARY if name.partition(".")[0] in self._schema.names]
        return self._parquet.ParquetWriter(file, self._schema, compression="zstd", use_dictionary=own)

    def _kept(self, values: Any) -> Any:
        if isinstance(values, self._pyarrow.Array):
            return values
        return self._pyarrow.array([_as_text(value) for value in values], self._pyarrow.string())


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    pyarrow, _ = _pyarrow()
    try:
        yield
    except (OSError, pyarrow.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no valid Parquet file"
        raise ParquetUnusable(f"{path} cannot be read: {reason}.") from None


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ParquetUnusable(INSTALL) from None
    return pyarrow, pyarrow.parquet


def _type_of(name: str, pyarrow: Any) -> Any:
    types: Mapping[str, Callable[[], Any]] = {
        "row": pyarrow.int64,
        "probability": pyarrow.float64,
        "churn_risk": pyarrow.float64,
        "confidence": pyarrow.float64,
        "needs_review": pyarrow.bool_,
        "signals": lambda: pyarrow.list_(pyarrow.string()),
        "rules": lambda: pyarrow.list_(pyarrow.string()),
    }
    return types.get(name, pyarrow.string)()


def _values(array: Any) -> list[Any]:
    try:
        values: list[Any] = array.to_pylist()
    except (ValueError, UnicodeDecodeError):  # what Python has no value for is no text either
        values = [_value(entry) for entry in array]
    return values


def _value(entry: Any) -> Any:
    try:
        return entry.as_py()
    except ValueError:
        return entry


def _plain(array: Any, pyarrow: Any) -> list[Any]:
    """An array as JSON values; dates, times and decimals as text."""
    types = pyarrow.types
    kind = array.type
    if not (types.is_nested(kind) or types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)):
        try:
            array = array.cast(pyarrow.string())
        except pyarrow.ArrowException:
            return [None if value is None else str(value) for value in _values(array)]
    return [orjson.loads(orjson.dumps(value, default=str)) for value in _values(array)]


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:_MAX_NAMED]) or "none"
    return shown if len(names) <= _MAX_NAMED else f"{shown} and {len(names) - _MAX_NAMED} more"
