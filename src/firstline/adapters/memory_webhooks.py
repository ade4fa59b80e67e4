"""Endpoints and deliveries in memory, for tests; the outbox is that of a `MemoryStore`.

Passes the conformance suite of `ports.webhooks`, except that nothing outlives the process.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from firstline.adapters.memory_store import MemoryStore
from firstline.core.events import subject_of
from firstline.ports.journal import OutboxEvent
from firstline.ports.storage import AuditEntry
from firstline.ports.webhooks import (
    Attempted,
    Backlog,
    Claimed,
    Delivery,
    DeliveryNotFound,
    DeliveryState,
    DisabledReason,
    Endpoint,
    EndpointNotFound,
    EndpointState,
    TooManyEndpoints,
)


@dataclass(slots=True)
class _Row:
    delivery: Delivery
    lease_us: int = 0


class MemoryWebhooks:
    """Implements `ports.webhooks.Webhooks`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._endpoints: dict[str, Endpoint] = {}
        self._events: dict[str, OutboxEvent] = {}
        self._rows: dict[tuple[str, str], _Row] = {}

    async def interests(self) -> Mapping[str, frozenset[str]]:
        """See the port, as for all methods below."""
        found: dict[str, frozenset[str]] = {}
        for endpoint in self._enabled():
            found[endpoint.account_id] = found.get(endpoint.account_id, frozenset()) | frozenset(endpoint.kinds)
        return found

    async def list_endpoints(self, account_id: str) -> Sequence[Endpoint]:
        return [self._endpoints[name] for name in sorted(self._endpoints) if self._is_own(name, account_id)]

    async def get_endpoint(self, endpoint_id: str, *, account_id: str) -> Endpoint:
        if not self._is_own(endpoint_id, account_id):
            raise EndpointNotFound(endpoint_id)
        return self._endpoints[endpoint_id]

    async def add_endpoint(self, endpoint: Endpoint, *, most: int, audit: AuditEntry) -> None:
        if len(await self.list_endpoints(endpoint.account_id)) >= most:
            raise TooManyEndpoints(endpoint.account_id)
        self._endpoints[endpoint.id] = endpoint
        self._store.audit.append(audit)

    async def change_endpoint(self, endpoint: Endpoint, *, expected_us: int, audit: AuditEntry) -> bool:
        before = await self.get_endpoint(endpoint.id, account_id=endpoint.account_id)
        if before.changed_at_us != expected_us:
            return False
        self._endpoints[endpoint.id] = endpoint
        if endpoint.state is EndpointState.DISABLED:
            self._bury(endpoint.id)
        self._store.audit.append(audit)
        return True

    async def delete_endpoint(self, endpoint_id: str, *, account_id: str, audit: AuditEntry) -> None:
        await self.get_endpoint(endpoint_id, account_id=account_id)
        del self._endpoints[endpoint_id]
        for place in [place for place in self._rows if place[0] == endpoint_id]:
            del self._rows[place]
        self._store.audit.append(audit)

    async def add_delivery(self, event: OutboxEvent, *, endpoint_id: str) -> Delivery:
        await self.get_endpoint(endpoint_id, account_id=event.account_id)
        self._events[event.id] = event
        return self._add(endpoint_id, event, event.created_at_us)

    async def list_deliveries(
        self, endpoint_id: str, *, state: DeliveryState | None, before: str | None, limit: int
    ) -> Sequence[Delivery]:
        found = [
            row.delivery
            for row in self._of(endpoint_id)
            if state in (None, row.delivery.state) and (before is None or row.delivery.event_id < before)
        ]
        return sorted(found, key=lambda delivery: delivery.event_id, reverse=True)[:limit]

    async def get_delivery(self, event_id: str, *, endpoint_id: str) -> Delivery:
        row = self._rows.get((endpoint_id, event_id))
        if row is None:
            raise DeliveryNotFound(event_id)
        return row.delivery

    async def replay(self, event_id: str, *, endpoint_id: str, now_us: int) -> Delivery:
        delivery = await self.get_delivery(event_id, endpoint_id=endpoint_id)
        if delivery.state is not DeliveryState.PENDING:
            self._begin(self._rows[endpoint_id, event_id], now_us)
        return self._rows[endpoint_id, event_id].delivery

    async def replay_dead(self, endpoint_id: str, *, since_us: int, now_us: int) -> int:
        dead = [
            row
            for row in self._of(endpoint_id)
            if row.delivery.state is DeliveryState.DEAD and row.delivery.created_at_us >= since_us
        ]
        for row in dead:
            self._begin(row, now_us)
        return len(dead)

    async def fan_out(self, *, limit: int, now_us: int) -> int:
        found = [self._store.outbox[name] for name in sorted(self._store.outbox)[:limit]]
        for event in found:
            for endpoint in self._enabled():
                if endpoint.account_id == event.account_id and event.kind in endpoint.kinds:
                    self._events[event.id] = event
                    self._add(endpoint.id, event, now_us)
            del self._store.outbox[event.id]
        return len(found)

    async def claim(
        self, *, now_us: int, lease_us: int, slots: int, endpoint_slots: int, busy: Mapping[str, int]
    ) -> Sequence[Claimed]:
        claimed: list[Claimed] = []
        for endpoint in self._enabled():
            free = (1 if endpoint.failing_since_us else endpoint_slots) - busy.get(endpoint.id, 0)
            due = [row for row in self._of(endpoint.id) if self._is_due(row, now_us)]
            due.sort(key=lambda row: (row.delivery.next_at_us, row.delivery.event_id))
            for row in due[: max(min(free, slots - len(claimed)), 0)]:
                row.lease_us = lease_us
                event = self._events[row.delivery.event_id]
                claimed.append(
                    Claimed(
                        endpoint=endpoint,
                        event_id=event.id,
                        kind=event.kind,
                        payload=event.payload,
                        happened_at_us=event.created_at_us,
                        attempts=row.delivery.attempts,
                        lease_us=lease_us,
                    )
                )
        return claimed

    async def settle(self, attempted: Sequence[Attempted]) -> None:
        for one in attempted:
            row = self._held(one.claimed)
            if row is None:
                continue
            row.lease_us = 0
            row.delivery = replace(
                row.delivery,
                state=one.state,
                attempts=one.claimed.attempts + 1,
                next_at_us=one.next_at_us,
                log=(*row.delivery.log, one.attempt),
            )
            endpoint = self._endpoints[one.claimed.endpoint.id]
            if one.state is DeliveryState.DELIVERED:
                self._endpoints[endpoint.id] = replace(endpoint, failing_since_us=None)
                continue
            since_us = endpoint.failing_since_us or one.attempt.at_us
            self._endpoints[endpoint.id] = replace(endpoint, failing_since_us=since_us)
            if one.disable is not None and endpoint.state is EndpointState.ENABLED:
                self._disable(endpoint.id, one.disable, one.attempt.at_us)
                if one.audit is not None:
                    self._store.audit.append(one.audit)

    async def release(self, claimed: Sequence[Claimed]) -> None:
        for one in claimed:
            row = self._held(one)
            if row is not None:
                row.lease_us = 0

    async def release_all(self) -> None:
        for row in self._rows.values():
            row.lease_us = 0

    async def backlog(self) -> Backlog:
        of = {state: [row for row in self._rows.values() if row.delivery.state is state] for state in DeliveryState}
        times = [row.delivery.created_at_us for row in of[DeliveryState.PENDING]]
        times += [event.created_at_us for event in self._store.outbox.values()]
        return Backlog(len(of[DeliveryState.PENDING]), len(of[DeliveryState.DEAD]), min(times, default=None))

    async def prune_deliveries(self, *, before_us: int) -> int:
        old = [
            place
            for place, row in self._rows.items()
            if row.delivery.state is not DeliveryState.PENDING and row.delivery.created_at_us < before_us
        ]
        for place in old:
            del self._rows[place]
        referred = {event_id for _, event_id in self._rows}
        self._events = {name: event for name, event in self._events.items() if name in referred}
        return len(old)

    def _is_own(self, endpoint_id: str, account_id: str) -> bool:
        endpoint = self._endpoints.get(endpoint_id)
        return endpoint is not None and endpoint.account_id == account_id

    def _enabled(self) -> list[Endpoint]:
        return [endpoint for endpoint in self._endpoints.values() if endpoint.state is EndpointState.ENABLED]

    def _of(self, endpoint_id: str) -> Iterator[_Row]:
        return (row for (owner, _), row in self._rows.items() if owner == endpoint_id)

    def _held(self, claimed: Claimed) -> _Row | None:
        row = self._rows.get((claimed.endpoint.id, claimed.event_id))
        held = row is not None and row.lease_us == claimed.lease_us and row.delivery.state is DeliveryState.PENDING
        return row if held else None

    def _is_due(self, row: _Row, now_us: int) -> bool:
        delivery = row.delivery
        if delivery.state is not DeliveryState.PENDING or delivery.next_at_us > now_us or row.lease_us > now_us:
            return False
        return not any(
            other.delivery.subject == delivery.subject is not None
            and other.delivery.event_id < delivery.event_id
            and other.delivery.state is DeliveryState.PENDING
            for other in self._of(delivery.endpoint_id)
        )

    def _add(self, endpoint_id: str, event: OutboxEvent, now_us: int) -> Delivery:
        delivery = Delivery(
            endpoint_id,
            event.id,
            event.kind,
            subject_of(orjson.loads(event.payload)),
            DeliveryState.PENDING,
            0,
            event.created_at_us,
            now_us,
        )
        self._rows[endpoint_id, event.id] = _Row(delivery)
        return delivery

    def _begin(self, row: _Row, now_us: int) -> None:
        row.lease_us = 0
        row.delivery = replace(row.delivery, state=DeliveryState.PENDING, attempts=0, next_at_us=now_us)

    def _disable(self, endpoint_id: str, reason: DisabledReason, at_us: int) -> None:
        self._endpoints[endpoint_id] = replace(
            self._endpoints[endpoint_id], state=EndpointState.DISABLED, disabled_reason=reason, changed_at_us=at_us
        )
        self._bury(endpoint_id)

    def _bury(self, endpoint_id: str) -> None:
        for row in self._of(endpoint_id):
            if row.delivery.state is DeliveryState.PENDING:
                row.lease_us = 0
                row.delivery = replace(row.delivery, state=DeliveryState.DEAD)
