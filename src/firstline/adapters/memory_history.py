"""History, receipts and keys in memory, over the rows of a `MemoryStore`: for tests."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from firstline.adapters.memory_store import MemoryStore
from firstline.core.identity import TICKET
from firstline.ports.data_keys import DataKey
from firstline.ports.erasure import Erasure, ErasureNotFound
from firstline.ports.history import Filters, Page, Position, Stored, TicketNotFound
from firstline.ports.journal import TicketRow, VerdictRow
from firstline.ports.storage import AuditEntry


class MemoryHistory:
    """Implements `ports.history.History`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._retention: dict[str, int] = {}

    async def list(
        self, account_id: str, filters: Filters, *, after: Position | None, limit: int, examine: int
    ) -> Page:
        """See the port, as for all methods below."""
        own = [row for row in self._store.tickets.values() if row.account_id == account_id and _led_to(row, filters)]
        own.sort(key=_position, reverse=True)
        if after is not None:
            own = [row for row in own if _position(row) < after]
        if not filters.examining:
            examine = len(own)
        found = [
            Stored(row, self._revisions(row.id)[-1])
            for row in own[:examine]
            if _passes(row, self._revisions(row.id)[-1], filters)
        ]
        if len(found) > limit:
            return Page(found[:limit], _position(found[limit - 1].ticket))
        return Page(found, _position(own[examine - 1]) if 0 < examine <= len(own) and filters.examining else None)

    async def get(self, account_id: str, ticket_id: str) -> tuple[TicketRow, Sequence[VerdictRow]]:
        row = self._store.tickets.get(ticket_id)
        if row is None or row.account_id != account_id:
            raise TicketNotFound(ticket_id)
        return row, self._revisions(ticket_id)

    async def oldest(self, account_id: str, *, before_us: int, limit: int) -> Sequence[Position]:
        own = [row for row in self._store.tickets.values() if row.account_id == account_id]
        return sorted(_position(row) for row in own if row.received_at_us < before_us)[:limit]

    async def of_customer(
        self, account_id: str, customer_ref: str, *, before_us: int, limit: int
    ) -> Sequence[Position]:
        own = [row for row in self._store.tickets.values() if row.account_id == account_id]
        named = [row for row in own if row.customer_ref == customer_ref and row.received_at_us < before_us]
        return sorted(_position(row) for row in named)[:limit]

    async def erase(self, account_id: str, tickets: Sequence[Position]) -> Mapping[str, int]:
        store, moments = self._store, {one.received_at_us for one in tickets}
        there = [one.ticket_id for one in tickets if one.ticket_id in store.tickets]
        there = [ticket_id for ticket_id in there if store.tickets[ticket_id].account_id == account_id]
        verdicts = [place for place in store.verdicts if place[0] in there]
        answers = [
            key
            for key, entry in store.idempotency.items()
            if entry.account_id == account_id and entry.created_at_us in moments
        ]
        events = [
            event.id
            for event in store.outbox.values()
            if event.account_id == account_id and any(f"{TICKET}{one}" in event.payload for one in there)
        ]
        said = [row.id for row in store.feedback.values() if row.ticket_id in there]
        for feedback_id in said:
            del store.feedback[feedback_id]
        for place in verdicts:
            del store.verdicts[place]
        for ticket_id in there:
            del store.tickets[ticket_id]
        for key in answers:
            del store.idempotency[key]
        for event_id in events:
            del store.outbox[event_id]
        return {
            "feedback": len(said),
            "verdicts": len(verdicts),
            "tickets": len(there),
            "idempotent_answers": len(answers),
            "events": len(events),
        }

    async def erase_settled(self, account_id: str) -> Mapping[str, int]:
        store = self._store
        answers = [key for key, entry in store.idempotency.items() if entry.account_id == account_id]
        events = [event.id for event in store.outbox.values() if event.account_id == account_id]
        own = [row for (owner, _), row in store.account_categories.items() if owner == account_id]
        newest = max((row.created_at_us for row in own), default=0)
        former = [row.version for row in own if row.created_at_us < newest]
        for key in answers:
            del store.idempotency[key]
        for event_id in events:
            del store.outbox[event_id]
        for version in former:
            del store.account_categories[account_id, version]
        return {"idempotent_answers": len(answers), "events": len(events), "former_categories": len(former)}

    async def retention_days(self, account_id: str) -> int | None:
        return self._retention.get(account_id)

    async def put_retention(self, account_id: str, days: int | None, *, at_us: int) -> None:
        if days is None:
            self._retention.pop(account_id, None)
        else:
            self._retention[account_id] = days

    async def retentions(self) -> Mapping[str, int]:
        return dict(self._retention)

    def _revisions(self, ticket_id: str) -> Sequence[VerdictRow]:
        own = [row for (owner, _), row in self._store.verdicts.items() if owner == ticket_id]
        return sorted(own, key=lambda row: row.revision)


class MemoryErasures:
    """Implements `ports.erasure.Erasures`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._erasures: dict[str, Erasure] = {}

    async def add(self, erasure: Erasure, *, audit: AuditEntry) -> None:
        """See the port, as for all methods below."""
        self._erasures[erasure.id] = erasure
        self._store.audit.append(audit)

    async def count(self, erasure_id: str, counts: Mapping[str, int]) -> None:
        if erasure_id in self._erasures:
            found = self._erasures[erasure_id]
            sums = {name: found.counts.get(name, 0) + counts.get(name, 0) for name in {*found.counts, *counts}}
            self._erasures[erasure_id] = replace(found, counts=sums)

    async def finish(self, erasure_id: str, *, at_us: int) -> Erasure:
        found = self._erasures.get(erasure_id)
        if found is None:
            raise ErasureNotFound(erasure_id)
        if found.finished_at_us is None:
            found = self._erasures[erasure_id] = replace(found, finished_at_us=at_us, subject=None)
        return found

    async def get(self, account_id: str, erasure_id: str) -> Erasure:
        found = self._erasures.get(erasure_id)
        if found is None or found.account_id != account_id:
            raise ErasureNotFound(erasure_id)
        return found

    async def list(self, account_id: str, *, limit: int) -> Sequence[Erasure]:
        own = [one for one in self._erasures.values() if one.account_id == account_id]
        return sorted(own, key=lambda one: one.id, reverse=True)[:limit]

    async def unfinished(self) -> Sequence[Erasure]:
        return sorted((one for one in self._erasures.values() if one.finished_at_us is None), key=lambda one: one.id)

    async def newest(self) -> str | None:
        return max(self._erasures, default=None)


class MemoryDataKeys:
    """Implements `ports.data_keys.DataKeys`."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, int], DataKey | None] = {}

    async def find(self, account_id: str) -> Sequence[DataKey]:
        """See the port, as for all methods below."""
        own = [key for (owner, _), key in self._keys.items() if owner == account_id and key is not None]
        return sorted(own, key=lambda key: -key.number)

    async def add(self, account_id: str, sealed: str, *, at_us: int) -> Sequence[DataKey]:
        found = await self.find(account_id)
        if found:
            return found
        number = 1 + max((number for owner, number in self._keys if owner == account_id), default=0)
        key = self._keys[account_id, number] = DataKey(account_id, number, sealed, at_us)
        return [key]

    async def destroy(self, account_id: str, *, at_us: int) -> int:
        own = [place for place, key in self._keys.items() if place[0] == account_id and key is not None]
        self._keys.update((place, None) for place in own)
        return len(own)

    async def all(self) -> Sequence[DataKey]:
        return [key for place, key in sorted(self._keys.items(), key=lambda one: one[0]) if key is not None]

    async def reseal(self, key: DataKey, sealed: str) -> None:
        if self._keys.get((key.account_id, key.number)) == key:
            self._keys[key.account_id, key.number] = key._replace(sealed=sealed)


def _position(row: TicketRow) -> Position:
    return Position(row.received_at_us, row.id)


def _led_to(row: TicketRow, filters: Filters) -> bool:
    return (
        (filters.since_us is None or row.received_at_us >= filters.since_us)
        and (filters.until_us is None or row.received_at_us < filters.until_us)
        and filters.customer_ref in (None, row.customer_ref)
        and filters.external_id in (None, row.external_id)
    )


def _passes(row: TicketRow, verdict: VerdictRow, filters: Filters) -> bool:
    return (
        filters.category in (None, verdict.category)
        and filters.priority in (None, verdict.priority)
        and filters.decision in (None, verdict.decision)
        and filters.source in (None, verdict.source)
        and filters.needs_review in (None, bool(verdict.needs_review))
        and filters.language in (None, row.language)
        and filters.channel in (None, row.channel)
        and filters.contract in (None, row.contract)
        and (filters.words is None or filters.words.casefold() in (row.text or "").casefold())
    )
