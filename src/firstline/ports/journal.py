"""What the hot path writes: one record, one transaction, acknowledged once it is durable.

Guarantees of every journal:

- `append` returns only after the record is durable; a process killed at any later moment does not lose it.
- A record is stored wholly or not at all: tickets, verdicts, counters, spend, idempotency entry and events
  together.
- One bad record never fails its neighbours: a failed group is written again record by record.
- Records of one caller that awaits each are stored in order.
- After `close`, everything appended before is durable or has raised.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class JournalUnavailable(Exception):
    """The record could not be made durable; nothing of it was stored, unless it is `OutcomeUnknown`."""


class StoreAway(JournalUnavailable):
    """The store could not be reached, or cannot write: the record itself may be good."""


class OutcomeUnknown(StoreAway):
    """The connection to the store broke while the record was being committed, and the store could not be asked again
    in time: the record is stored wholly or not at all, and nobody knows which."""

    def __init__(self, cause: str, *, mark: str | None = None) -> None:
        """Args:
        mark: by which the store tells later; see `MarkedStore.settle`.
        """
        super().__init__(cause)
        self.mark = mark


class RecordRefused(JournalUnavailable):
    """A record breaks a constraint; no other attempt will store it."""


class TicketRow(NamedTuple):
    """A ticket as it came in.

    Attributes:
        id: 32 hexadecimal digits.
        received_at_us: microseconds since 1970 UTC.
        text: the original, or None when the account does not keep texts.
    """

    id: str
    account_id: str
    received_at_us: int
    contract: str
    channel: str | None
    language: str | None
    text: str | None
    customer_ref: str | None
    external_id: str | None


class VerdictRow(NamedTuple):
    """One immutable revision of a ticket's verdict; the latest answers.

    Attributes:
        revision: 1 for the first.
        reasons, evidence: JSON texts.
        processing_us: time from the request's arrival to this row.
    """

    ticket_id: str
    revision: int
    account_id: str
    decided_at_us: int
    category: str
    priority: str
    decision: str
    probability: float
    confidence: float
    churn_risk: float
    needs_review: int
    source: str
    recommended_action: str
    reasons: str
    evidence: str | None
    processing_us: int


class CounterDelta(NamedTuple):
    """Requests to add to one window of an account's usage."""

    account_id: str
    catalogue: str
    window: str
    starts_at_us: int
    ends_at_us: int
    amount: int


class KeyUse(NamedTuple):
    """A key was used for `amount` requests, last at `at_us`."""

    key_id: str
    at_us: int
    amount: int


class IdempotencyEntry(NamedTuple):
    """The answer to a creating request, to be given again for the same key and body.

    Attributes:
        key_hash: hex SHA-256 of account, route and the caller's key.
        body_hash: hex SHA-256 of the request body.
        response: the sealed answer.
    """

    key_hash: str
    account_id: str
    body_hash: str
    status: int
    response: str
    created_at_us: int
    expires_at_us: int


class OutboxEvent(NamedTuple):
    """Something to tell the world later, written with what caused it.

    Attributes:
        payload: JSON text without words of a message.
    """

    id: str
    account_id: str
    kind: str
    payload: str
    created_at_us: int


class SpendDelta(NamedTuple):
    """Calls of one provider's model to add to a day of an account; nothing in it is negative.

    Attributes:
        starts_at_us: when the day began, UTC.
        calls: all that were made, the failed ones included.
        cost_usd_micros: millionths of a US dollar.
    """

    account_id: str
    starts_at_us: int
    provider: str
    model: str
    calls: int
    failures: int
    input_tokens: int
    output_tokens: int
    cost_usd_micros: int


class RollupDelta(NamedTuple):
    """Tickets to add to the counts of an hour, or to take from them where an amount is negative.

    Attributes:
        starts_at_us: when the hour began in which they were received, UTC.
        language, channel: empty where they are not known.
        latency_class: `core.rollups.class_of`, or `UNTIMED`.
        reviews: those that a person should look at.
        processing_us: of all of them together; 0 for `UNTIMED`.
    """

    account_id: str
    starts_at_us: int
    category: str
    priority: str
    decision: str
    language: str
    channel: str
    source: str
    latency_class: int
    tickets: int
    reviews: int
    processing_us: int


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that one request leaves behind.

    An answer that came too late leaves a further revision of a verdict, whose ticket is there, with its event and
    what it cost.
    """

    tickets: tuple[TicketRow, ...] = ()
    verdicts: tuple[VerdictRow, ...] = ()
    counters: tuple[CounterDelta, ...] = ()
    key_use: KeyUse | None = None
    idempotency: IdempotencyEntry | None = None
    outbox: tuple[OutboxEvent, ...] = ()
    spend: tuple[SpendDelta, ...] = ()
    rollups: tuple[RollupDelta, ...] = ()


class Journal(Protocol):
    """Appends records; see the module's guarantees."""

    async def append(self, record: Record) -> None:
        """Make a record durable.

        Raises: JournalUnavailable when the store is full, locked, unwritable or gone, or when this record breaks a
            constraint (a ticket or idempotency key that is there already, a verdict without its ticket, or spend that
            is negative).
        """
        ...


class MarkedStore(Protocol):
    """Stores records under marks of the caller's choice, so that it can be asked later whether they were stored."""

    async def append_all(self, records: Sequence[Record], *, mark: str) -> None:
        """Make records durable in one transaction, together with a mark that was never used before.

        Args:
            mark: 32 hexadecimal digits.
        Raises: RecordRefused when one of them breaks a constraint; StoreAway, and then only `settle` knows whether
            they were stored.
        """
        ...

    async def settle(self, mark: str) -> bool:
        """Whether the records of a mark were stored; if not, they never will be under it.

        Raises: StoreAway.
        """
        ...

    async def close(self) -> None:
        """Give back what the store holds open for this; it may be used again."""
        ...
