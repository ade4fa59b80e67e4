"""Bulk: a file of messages in, a file of verdicts out, in order, chunk by chunk, and resumable part by part."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from firstline.core.message import Message
from firstline.core.taxonomy import Contract
from firstline.core.verdict import Verdict
from firstline.ports.bulk import Chunk, Columns, Item, Output, Workers
from firstline.usecases.tickets import Triage

CHUNK_ROWS: Final = 2_048
CHUNK_CHARACTERS: Final = 2_000_000
"""A chunk ends after so many rows or characters, whichever is first."""

PART_CHUNKS: Final = 16
"""Chunks of a part; what is decided after the last whole part is decided again by a resumed run."""

NO_MESSAGE_PROBLEM: Final = "firstline failed on this message; please report it as a bug"
LOST_PROBLEM: Final = "the process that decided on this row and those beside it ended twice; try it by itself"

_COLUMNS: Final = (
    "row", "category", "subcategory", "probability", "priority", "decision", "churn_risk", "confidence", "language",
    "needs_review", "source", "signals", "rules",
)  # fmt: skip


def columns_of(contract: Contract) -> tuple[str, ...]:
    """Names of the columns of the answers, in order."""
    own = ("recommended_action",) if contract is Contract.DECISION else ()
    return (*_COLUMNS, *own, "error")


@dataclass(slots=True)
class Tally:
    """Counts of the rows that have been answered.

    Attributes:
        rows: all of them.
        failed: those that have an error.
        reviews: those that a person should look at.
        kinds: by category, or by decision under the decision contract.
    """

    rows: int = 0
    failed: int = 0
    reviews: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, columns: Columns, *, contract: Contract) -> None:
        """Count the answers to a chunk."""
        kinds = columns["decision" if contract is Contract.DECISION else "category"]
        self.rows += len(kinds)
        self.failed += kinds.count(None)
        self.reviews += columns["needs_review"].count(True)
        self.kinds.update(kind for kind in kinds if kind is not None)

    def add_notes(self, notes: Mapping[str, Any]) -> None:
        """Count a part that an earlier run has completed."""
        self.rows += notes["rows"]
        self.failed += notes["failed"]
        self.reviews += notes["reviews"]
        self.kinds.update(notes["kinds"])

    def to_notes(self) -> dict[str, Any]:
        """The counts as plain data, as `add_notes` reads them."""
        return {"rows": self.rows, "failed": self.failed, "reviews": self.reviews, "kinds": dict(self.kinds)}


class ChunkDecider:
    """Decides on the items of a chunk: the function that every engine of bulk work maps over chunks."""

    def __init__(self, triage: Triage, *, contract: Contract, message_of: Callable[[Item], Message | str]) -> None:
        """Args:
        message_of: the message of an item, or why it has none, in words for people.
        """
        self._triage = triage
        self._contract = contract
        self._message_of = message_of

    def __call__(self, items: Sequence[Item]) -> Columns:
        """The answers to the items, in order; an item that cannot be decided has an `error` and nothing else."""
        found = [self._message_of(item) for item in items]
        verdicts = iter(self._triage.decide_each([message for message in found if isinstance(message, Message)]))
        outcomes = [message if isinstance(message, str) else next(verdicts) or NO_MESSAGE_PROBLEM for message in found]
        return answers(outcomes, contract=self._contract)


def answers(outcomes: Sequence[Verdict | str], *, contract: Contract) -> Columns:
    """Verdicts, or why there is none, column by column; `row` is left to whoever knows it."""
    rows = [_failed(contract, one) if isinstance(one, str) else _answer(contract, one) for one in outcomes]
    return _by_column(contract, rows)


def lost_chunk(items: Sequence[Item], *, contract: Contract) -> Columns:
    """The answers to a chunk that a process died on twice."""
    return _by_column(contract, [_failed(contract, LOST_PROBLEM)] * len(items))


def decide_file(
    source: Iterator[Chunk],
    *,
    output: Output,
    workers: Workers,
    decide: Callable[[Sequence[Item]], Columns],
    contract: Contract,
    told: Callable[[Chunk, Columns, Tally], None],
) -> Tally:
    """Decide on every row of a source, going on where the output is complete.

    Args:
        source: all chunks of the input, from the first.
        decide: the function that is mapped over the chunks' items.
        told: called for every chunk of this run, with its answers and the counts so far.
    Returns: counts over the whole file.
    Raises: OSError when the output cannot be written; WorkersLost; whatever the source raises.
    """
    whole, part = Tally(), Tally()
    for notes in output.committed:
        whole.add_notes(notes)
    given: deque[Chunk] = deque()

    def items() -> Iterator[Sequence[Item]]:
        for chunk in islice(source, len(output.committed) * PART_CHUNKS, None):
            given.append(chunk)
            yield chunk.items

    for _, columns in workers.map(decide, items(), lost=lambda rows: lost_chunk(rows, contract=contract)):
        chunk = given.popleft()
        columns["row"] = list(range(chunk.first_row, chunk.first_row + len(chunk.items)))
        output.add(chunk, columns)
        part.add(columns, contract=contract)
        whole.add(columns, contract=contract)
        told(chunk, columns, whole)
        if (chunk.number + 1) % PART_CHUNKS == 0:
            output.commit(part.to_notes())
            part = Tally()
    if part.rows:
        output.commit(part.to_notes())
    output.finish()
    return whole


def _answer(contract: Contract, verdict: Verdict) -> tuple[Any, ...]:
    matches = verdict.evidence.matches if verdict.evidence else ()
    answer = (
        None,  # the number of the row, which only the one who writes it knows
        verdict.category,
        verdict.subcategory,
        round(verdict.probability, 4),
        verdict.priority.value,
        verdict.decision.value,
        verdict.churn_risk,
        verdict.confidence,
        verdict.language,
        verdict.needs_review,
        verdict.source.value,
        list(dict.fromkeys(match.signal.value for match in matches if match.signal is not None)),
        [match.rule for match in matches],
    )
    own = (verdict.recommended_action,) if contract is Contract.DECISION else ()
    return (*answer, *own, None)


def _failed(contract: Contract, problem: str) -> tuple[Any, ...]:
    return (*[None] * (len(columns_of(contract)) - 1), problem)


def _by_column(contract: Contract, rows: Sequence[tuple[Any, ...]]) -> Columns:
    return {name: list(values) for name, values in zip(columns_of(contract), zip(*rows, strict=True), strict=True)}
