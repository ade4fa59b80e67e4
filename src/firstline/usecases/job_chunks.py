"""Chunks of jobs: cut from an upload, and decided on in a process of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Final

from firstline.core.identity import TICKET, uuid7_hex
from firstline.core.message import Message
from firstline.core.plans import Plan, Window
from firstline.core.taxonomy import Channel, Contract, UserPlan
from firstline.core.verdict import Verdict
from firstline.ports.bulk import Columns
from firstline.ports.jobs import ChunkCounts, ChunkTask, JobFiles, JobRow
from firstline.ports.journal import TicketRow, VerdictRow
from firstline.usecases.access import Caller
from firstline.usecases.bulk import LOST_PROBLEM, NO_MESSAGE_PROBLEM, answers, columns_of
from firstline.usecases.in_force import InForce
from firstline.usecases.records import ticket_row, verdict_row
from firstline.usecases.tickets import Triage

MAX_ROWS: Final = 1_000_000
CHUNK_ROWS: Final = 1_000
CHUNK_CHARACTERS: Final = 1_000_000
"""A chunk ends after so many rows or characters, whichever is first: a fraction of a second of work, mostly."""

DAY_SHARE: Final = 10
"""A chunk is at most this part of what a plan allows in a day, since a quota may be overrun by a chunk."""

PART_ROWS: Final = 32
PART_CHARACTERS: Final = 100_000
"""The verdicts of a chunk are stored in parts, so that nobody's commit waits for all of them."""

_SLICE_ROWS: Final = 128


class TooManyRows(Exception):
    """An upload has more than `MAX_ROWS` rows."""


def chunk_rows(plan: Plan) -> int:
    """Rows of a chunk under a plan."""
    day = plan.limits.get(Window.DAY, CHUNK_ROWS * DAY_SHARE)
    return max(1, min(CHUNK_ROWS, day // DAY_SHARE))


class Intake:
    """Cuts an upload into chunks while it comes in; blocks."""

    def __init__(self, files: JobFiles, job_id: str, *, rows: int) -> None:
        """Args:
        rows: of a chunk, at most.
        """
        self._files = files
        self._job_id = job_id
        self._most = rows
        self._waiting: list[JobRow] = []
        self._characters = 0
        self.rows = 0
        self.sizes: list[int] = []

    def add(self, row: JobRow) -> None:
        """The next row.

        Raises: TooManyRows; OSError when it cannot be written.
        """
        if self.rows >= MAX_ROWS:
            raise TooManyRows
        self.rows += 1
        self._waiting.append(row)
        self._characters += len(row.text or "") + sum(len(entry) for entry in row.history)
        if len(self._waiting) >= self._most or self._characters >= CHUNK_CHARACTERS:
            self._end_chunk()

    def end(self) -> None:
        """No row comes any more.

        Raises: OSError.
        """
        if self._waiting:
            self._end_chunk()

    def _end_chunk(self) -> None:
        self._files.write_rows(self._job_id, len(self.sizes), self._waiting)
        self.sizes.append(len(self._waiting))
        self._waiting, self._characters = [], 0


def ticket_id(job_id: str, row: int, *, created_at_us: int) -> str:
    """The id of the ticket that a row becomes: always the same, so that a row is stored once.

    A UUIDv7 of the time when the job was made; the tickets of a job ascend with their rows.

    Args:
        row: from 1, at most 24 bits.
    """
    digest = int.from_bytes(sha256(f"{job_id}:{row}".encode()).digest()[:7], "big") & ((1 << 50) - 1)
    tail = (row >> 12) << 68 | (row & 0xFFF) << 50 | digest
    return uuid7_hex(milliseconds=created_at_us // 1_000, random=tail.to_bytes(10, "big"))


def row_of_ticket(ticket: str) -> tuple[int, int]:
    """The row that a ticket would be of, if it is one of a job, and when that job was made, in milliseconds."""
    number = int(ticket, 16)
    return ((number >> 64) & 0xFFF) << 12 | (number >> 50) & 0xFFF, number >> 80


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of a chunk, in its process.

    Attributes:
        columns: of the answers.
        parts: tickets with their verdicts; none where no history is kept.
    """

    columns: Columns
    counts: ChunkCounts
    parts: Sequence[tuple[Sequence[TicketRow], Sequence[VerdictRow]]]


def result_columns(contract: Contract) -> tuple[str, ...]:
    """Names of the columns of results, in order, those that are kept left out."""
    row, *others = columns_of(contract)
    return (row, "ticket", *others)


def decide_chunk(triage: Triage, rows: Sequence[JobRow], task: ChunkTask, under: InForce, *, now_us: int) -> Decided:
    """Decide on a chunk; a row that cannot be decided has an error and nothing else.

    Args:
        now_us: when the verdicts are decided.
    """
    lease = task.lease
    contract = Contract(lease.job.contract)
    messages = [_message(row, contract, lost=task.lost) for row in rows]
    outcomes = list(_outcomes(triage, messages, under))
    created_at_us = lease.job.created_at_us
    ids = [
        ticket_id(lease.job.id, number, created_at_us=created_at_us)
        for number in range(lease.first_row, lease.first_row + len(rows))
    ]
    columns = answers(outcomes, contract=contract)
    columns["row"] = list(range(lease.first_row, lease.first_row + len(rows)))
    columns["ticket"] = [f"{TICKET}{one}" if task.history else None for one in ids]
    counts = ChunkCounts(len(rows), columns["error"].count(None), columns["needs_review"].count(True))
    counts = ChunkCounts(counts.rows, counts.rows - counts.failed, counts.reviews)
    caller = Caller(lease.account)
    tickets: list[TicketRow] = []
    verdicts: list[VerdictRow] = []
    for one, message, verdict in zip(ids, messages, outcomes, strict=True):
        if isinstance(message, str) or isinstance(verdict, str):
            continue
        keeps = task.text and lease.account.keep_text
        tickets.append(ticket_row(one, message, verdict, caller, received_at_us=created_at_us, keeps_text=keeps))
        verdicts.append(
            verdict_row(one, verdict, caller, revision=1, decided_at_us=now_us, received_at_us=created_at_us)
        )
    return Decided(columns, counts, list(_parts(tickets, verdicts)) if task.history else [])


def _message(row: JobRow, contract: Contract, *, lost: bool) -> Message | str:
    if row.text is None:
        return row.problem or NO_MESSAGE_PROBLEM
    if lost:
        return LOST_PROBLEM
    return Message(
        row.text,
        contract,
        plan=UserPlan(row.plan) if row.plan else UserPlan.FREE,
        channel=Channel(row.channel) if row.channel else None,
        history=tuple(row.history),
        customer_ref=row.customer_ref,
        external_id=row.external_id,
    )


def _outcomes(triage: Triage, messages: Sequence[Message | str], under: InForce) -> Iterator[Verdict | str]:
    for start in range(0, len(messages), _SLICE_ROWS):
        part = messages[start : start + _SLICE_ROWS]
        found = iter(triage.decide_each([message for message in part if not isinstance(message, str)], under))
        for message in part:
            yield message if isinstance(message, str) else next(found) or NO_MESSAGE_PROBLEM


def _parts(
    tickets: Sequence[TicketRow], verdicts: Sequence[VerdictRow]
) -> Iterator[tuple[Sequence[TicketRow], Sequence[VerdictRow]]]:
    pairs = iter(zip(tickets, verdicts, strict=True))
    while part := list(_sized(pairs)):
        yield [ticket for ticket, _ in part], [verdict for _, verdict in part]


def _sized(pairs: Iterator[tuple[TicketRow, VerdictRow]]) -> Iterator[tuple[TicketRow, VerdictRow]]:
    characters = 0
    for pair in islice(pairs, PART_ROWS):
        yield pair
        characters += len(pair[0].text or "")
        if characters >= PART_CHARACTERS:
            return
