"""Files of many messages: where chunks of rows come from, who works on them, and where the answers go.

A chunk is the unit of work, a part the unit that survives: `Output.commit` returns once everything added before it is
on disk, and after a crash the next run goes on behind the last commit. How rows fall into chunks depends on the input
alone, never on the number of processes, so that a run that was interrupted leaves the same bytes as one that was not.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

Columns = dict[str, list[Any]]
"""Answers column by column, each as long as the chunk."""

Work = TypeVar("Work")
Result = TypeVar("Result")


class Item(NamedTuple):
    """One row to decide on.

    Attributes:
        text: whatever stands in the column of the text; a row is only decided when it is a str.
        fields: what else is known of the message, by name; None when nothing is.
        problem: why the row cannot be read, or None.
    """

    text: object
    fields: Mapping[str, Any] | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that are decided together.

    Attributes:
        number: from 0, without gaps.
        first_row: number of its first row in the input, from 1.
        items: in the order of the input, at least one.
        kept: columns that are copied to the output, by name; their values are what `Output` takes from this source.
        share: of the input that has been read at its end, 0–1; None when the size is not known.
    """

    number: int
    first_row: int
    items: Sequence[Item]
    kept: Mapping[str, Any]
    share: float | None = None


class Output(Protocol):
    """Takes answers in order; unfinished output is never seen under the final name."""

    @property
    def committed(self) -> Sequence[Mapping[str, Any]]:
        """The notes of the parts that are complete, those of earlier runs included."""
        ...

    def add(self, chunk: Chunk, columns: Columns) -> None:
        """Add the answers to a chunk.

        Raises: OSError.
        """
        ...

    def commit(self, notes: Mapping[str, Any]) -> None:
        """Make what has been added since the last commit a part that survives a crash, with notes (JSON) about it.

        Raises: OSError.
        """
        ...

    def finish(self) -> None:
        """Put the parts together under the final name.

        Raises: OSError.
        """
        ...


class Workers(Protocol):
    """Does the same work on many things, as many at once as it has hands."""

    def map(
        self, work: Callable[[Work], Result], things: Iterable[Work], *, lost: Callable[[Work], Result]
    ) -> Iterator[tuple[Work, Result]]:
        """The results in the order of the things, which are fetched only a few ahead of the results.

        Args:
            lost: the result for a thing that a worker has died on twice.
        Raises: WorkersLost; whatever `work` or the iteration of `things` raises.
        """
        ...


class WorkersLost(Exception):
    """Workers keep dying; the message says how."""
