"""Data sets of many Parquet files, read one after the other as if they were one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any, Final

from firstline.adapters.parquet_files import ParquetReader, ParquetUnusable
from firstline.ports.bulk import Chunk

_SUFFIXES: Final = frozenset({".parquet", ".pq"})
_HIDDEN: Final = ("_", ".")


def find_files(name: str) -> list[Path] | None:
    """The files of a data set in the order of their names, or None when the name is that of a single file.

    Args:
        name: of a folder, whose Parquet files are found at every depth, or a pattern such as `2026/**/*.parquet`. Names
            that begin with `_` or `.` are what programs leave beside the data, and are left out of a folder.
    """
    path = Path(name)
    if path.is_dir():
        inside = (found for found in path.rglob("*") if found.suffix.lower() in _SUFFIXES)
        return sorted(
            found
            for found in inside
            if found.is_file() and not any(part.startswith(_HIDDEN) for part in found.relative_to(path).parts)
        )
    if path.exists() or not has_magic(name):
        return None
    return sorted(found for found in map(Path, glob(name, recursive=True)) if found.is_file())  # noqa: PTH207  # takes absolute patterns, which Path.glob refuses


class ParquetSet:
    """Reads files as `ParquetReader` reads one; rows and chunks are counted through all of them."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        column: str | None,
        columns: Sequence[str],
        fields: Sequence[str],
        keep: Sequence[str],
    ) -> None:
        """Look into every file, without reading rows; for the arguments, see `ParquetReader`.

        Args:
            paths: at least one.
        Raises: ParquetUnusable, also when a column that is kept has several types.
        """
        self._paths = list(paths)
        self._arguments: dict[str, Any] = {"column": column, "columns": columns, "fields": fields, "keep": keep}
        self.rows = 0
        self.schema: Any = None
        for path in self._paths:
            reader = self._open(path)
            self.rows += reader.rows
            if self.schema is None:
                self.schema = reader.schema
            for name in keep:
                here, before = reader.schema.field(name).type, self.schema.field(name).type
                if here != before:
                    raise ParquetUnusable(f"{name} is {here} in {path} and {before} in {self._paths[0]}.")

    def chunks(self, *, rows: int, plain: bool) -> Iterator[Chunk]:
        """See `ParquetReader.chunks`; a chunk never has rows of two files.

        Raises: ParquetUnusable.
        """
        number = first = 0
        for path in self._paths:
            for chunk in self._open(path).chunks(rows=rows, plain=plain):
                yield replace(
                    chunk, number=number, first_row=first + 1, share=min((first + len(chunk.items)) / self.rows, 1.0)
                )
                number += 1
                first += len(chunk.items)

    def _open(self, path: Path) -> ParquetReader:
        try:
            return ParquetReader(path, **self._arguments)
        except ParquetUnusable as error:
            words = str(error)
            raise ParquetUnusable(words if words.startswith(str(path)) else f"{path}: {words}") from None
