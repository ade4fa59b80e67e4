"""Endpoints of accounts, and the deliveries of events to them.

Events are written by the journal in one transaction with what caused them (`ports.journal.Record.outbox`). From there
they are fanned out, one delivery for each enabled endpoint of the account that asks for their kind, and leave the
outbox in the same transaction. Guarantees of every implementation:

- Every method is one transaction, durable when it returns. An event is never lost between outbox and deliveries, and
  never fanned out twice.
- A claimed delivery is handed to nobody else until its lease ends, also by other processes on the same store.
- A delivery is not claimed while an earlier event about the same subject waits for the same endpoint, claimed or not.
- What a lease's holder reports after somebody else has claimed the delivery changes nothing.
- Accounts see their own endpoints and deliveries only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from firstline.ports.journal import OutboxEvent
from firstline.ports.storage import AuditEntry


class EndpointNotFound(Exception):
    """There is no such endpoint in this account."""


class DeliveryNotFound(Exception):
    """There is no such delivery to this endpoint."""


class TooManyEndpoints(Exception):
    """The account has as many endpoints as it may have."""


class EndpointState(StrEnum):
    """Whether an endpoint gets anything."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class DisabledReason(StrEnum):
    """Who has disabled an endpoint."""

    OWNER = "owner"
    GONE = "gone"
    FAILING = "failing"


class DeliveryState(StrEnum):
    """How far a delivery is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A secret of an endpoint as it is stored.

    Attributes:
        until_us: when it stops signing; None for the newest one.
    """

    sealed: str
    until_us: int | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events of an account are sent.

    Attributes:
        kinds: values of `core.events.EventKind`, in the order of their names.
        secrets: newest first.
        failing_since_us: when the first of the failures in a row happened; None after a success.
    """

    id: str
    account_id: str
    url: str
    description: str
    kinds: tuple[str, ...]
    secrets: tuple[SealedSecret, ...]
    created_at_us: int
    changed_at_us: int
    state: EndpointState = EndpointState.ENABLED
    disabled_reason: DisabledReason | None = None
    failing_since_us: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver.

    Attributes:
        status: of the answer, or None when there was none.
        error: why it failed; None for a success.
    """

    at_us: int
    duration_us: int
    status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to an endpoint.

    Attributes:
        event_id: names the delivery among those to its endpoint; ascends with the time of the event.
        attempts: since it began, or since it was last replayed.
        created_at_us: time of the event.
        next_at_us: when the next attempt is due; of no meaning unless pending.
        log: the newest attempts, oldest first, those before a replay included.
    """

    endpoint_id: str
    event_id: str
    kind: str
    subject: str | None
    state: DeliveryState
    attempts: int
    created_at_us: int
    next_at_us: int
    log: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery to attempt now.

    Attributes:
        payload: of the event, JSON text.
        happened_at_us: time of the event.
        lease_us: names the claim; microseconds since 1970 UTC until which it holds.
    """

    endpoint: Endpoint
    event_id: str
    kind: str
    payload: str
    happened_at_us: int
    attempts: int
    lease_us: int


@dataclass(frozen=True, slots=True)
class Attempted:
    """What came of a claimed delivery.

    Attributes:
        state: PENDING to try again at `next_at_us`.
        disable: why the endpoint is to get nothing any more, or None.
    """

    claimed: Claimed
    attempt: Attempt
    state: DeliveryState
    next_at_us: int = 0
    disable: DisabledReason | None = None
    audit: AuditEntry | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits.

    Attributes:
        oldest_at_us: time of the oldest event that has not reached all its endpoints; None when none waits.
    """

    pending: int
    dead: int
    oldest_at_us: int | None


class Webhooks(Protocol):
    """Stores endpoints and deliveries; see the module's guarantees. Every method raises StorageUnavailable."""

    async def interests(self) -> Mapping[str, frozenset[str]]:
        """The kinds that enabled endpoints ask for, by account."""
        ...

    async def list_endpoints(self, account_id: str) -> Sequence[Endpoint]:
        """All endpoints of an account, oldest first."""
        ...

    async def get_endpoint(self, endpoint_id: str, *, account_id: str) -> Endpoint:
        """Raises: EndpointNotFound."""
        ...

    async def add_endpoint(self, endpoint: Endpoint, *, most: int, audit: AuditEntry) -> None:
        """Store a new endpoint.

        Raises: TooManyEndpoints when the account has `most` of them already.
        """
        ...

    async def change_endpoint(self, endpoint: Endpoint, *, expected_us: int, audit: AuditEntry) -> bool:
        """Replace an endpoint that was last changed at `expected_us`; whether it still was.

        Deliveries that wait for an endpoint that is disabled now become dead ones.

        Raises: EndpointNotFound.
        """
        ...

    async def delete_endpoint(self, endpoint_id: str, *, account_id: str, audit: AuditEntry) -> None:
        """Delete an endpoint with all its deliveries.

        Raises: EndpointNotFound.
        """
        ...

    async def add_delivery(self, event: OutboxEvent, *, endpoint_id: str) -> Delivery:
        """An event for one endpoint alone, due at once.

        Raises: EndpointNotFound.
        """
        ...

    async def list_deliveries(
        self, endpoint_id: str, *, state: DeliveryState | None, before: str | None, limit: int
    ) -> Sequence[Delivery]:
        """Deliveries to an endpoint, newest first.

        Args:
            before: id of an event; only older ones are listed.
        """
        ...

    async def get_delivery(self, event_id: str, *, endpoint_id: str) -> Delivery:
        """Raises: DeliveryNotFound."""
        ...

    async def replay(self, event_id: str, *, endpoint_id: str, now_us: int) -> Delivery:
        """Begin a delivery anew; one that is pending stays as it is.

        Raises: DeliveryNotFound.
        """
        ...

    async def replay_dead(self, endpoint_id: str, *, since_us: int, now_us: int) -> int:
        """Begin all dead deliveries of events since a time anew; how many there were."""
        ...

    async def fan_out(self, *, limit: int, now_us: int) -> int:
        """Move the oldest events of the outbox into deliveries; how many there were, wanted or not."""
        ...

    async def claim(
        self, *, now_us: int, lease_us: int, slots: int, endpoint_slots: int, busy: Mapping[str, int]
    ) -> Sequence[Claimed]:
        """Take deliveries that are due, of enabled endpoints.

        Args:
            lease_us: until when they are taken.
            slots: most deliveries in all.
            endpoint_slots: most of one endpoint; one for an endpoint that is failing.
            busy: deliveries under way here, by endpoint; they count against the endpoint's slots.
        """
        ...

    async def settle(self, attempted: Sequence[Attempted]) -> None:
        """Store what came of claimed deliveries."""
        ...

    async def release(self, claimed: Sequence[Claimed]) -> None:
        """Give back deliveries that were not attempted."""
        ...

    async def release_all(self) -> None:
        """Give back every delivery that is claimed by anybody: for a store that no other process delivers from."""
        ...

    async def backlog(self) -> Backlog:
        """What waits, in all accounts."""
        ...

    async def prune_deliveries(self, *, before_us: int) -> int:
        """Delete deliveries that ended and were created before a time, and events that nothing refers to any more."""
        ...
