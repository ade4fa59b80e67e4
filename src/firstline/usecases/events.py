"""Events about tickets, quota and providers: which accounts want them, and their contents.

Events leave in the record of what they tell of, so they are there before the answer leaves. Accounts without an
endpoint cost a look into a dictionary.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from firstline.core.events import EventKind, reached_percent
from firstline.core.identity import TICKET
from firstline.core.plans import Window
from firstline.core.taxonomy import Decision
from firstline.core.verdict import Verdict
from firstline.ports.clock import Clock, Identities
from firstline.ports.journal import Journal, OutboxEvent, Record
from firstline.ports.storage import StorageUnavailable
from firstline.ports.webhooks import Webhooks
from firstline.usecases.records import Charge, outline

_ALL: Final = frozenset(kind.value for kind in EventKind)
_NONE: Final[frozenset[str]] = frozenset()
_SHORT: Final = frozenset({Window.MINUTE})
"""Windows that are over before anybody could act."""


class Interests:
    """Which kinds of events each account asks for; read once, and again after any change."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks
        self._known: Mapping[str, frozenset[str]] | None = None
        self._reading: asyncio.Task[Mapping[str, frozenset[str]]] | None = None
        self._changes = 0

    def at_hand(self, account_id: str) -> frozenset[str] | None:
        """The kinds, if it is known."""
        return None if self._known is None else self._known.get(account_id, _NONE)

    async def of(self, account_id: str) -> frozenset[str]:
        """The kinds; all of them where the store cannot be asked, for what nobody wants is dropped later."""
        found = self.at_hand(account_id)
        if found is not None:
            return found
        try:
            return (await self.everybody()).get(account_id, _NONE)
        except StorageUnavailable:
            return _ALL

    async def everybody(self) -> Mapping[str, frozenset[str]]:
        """The kinds by account.

        Raises: StorageUnavailable.
        """
        if self._known is not None:
            return self._known
        if self._reading is None:  # however many wait, it is read once
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)

    def forget(self) -> None:
        """Endpoints have changed, here or in another process."""
        self._changes += 1
        self._known = None
        self._reading = None

    async def _read(self) -> Mapping[str, frozenset[str]]:
        changes = self._changes
        try:
            found = await self._webhooks.interests()
            if changes == self._changes:  # else it may be what was there before
                self._known = found
            return found
        finally:
            if changes == self._changes:
                self._reading = None


class Events:
    """Makes events for those who want them."""

    def __init__(
        self,
        interests: Interests,
        clock: Clock,
        identities: Identities,
        *,
        on_written: Callable[[], None] = lambda: None,
    ) -> None:
        """Args:
        on_written: called after events have become durable.
        """
        self.interests = interests
        self._clock = clock
        self._identities = identities
        self.on_written = on_written

    async def wanted(self, account_id: str) -> frozenset[str]:
        """The kinds that an account asks for."""
        found = self.interests.at_hand(account_id)
        return await self.interests.of(account_id) if found is None else found

    def of_tickets(
        self, kinds: frozenset[str], account_id: str, tickets: Sequence[tuple[str, str | None, Verdict]]
    ) -> list[OutboxEvent]:
        """What is to be told of fresh verdicts.

        Args:
            tickets: id, external id and verdict of each.
        """
        found = []
        for ticket_id, external_id, verdict in tickets:
            kinds_of = [EventKind.CLASSIFIED]
            if verdict.decision is Decision.IMMEDIATE_ESCALATION:
                kinds_of.append(EventKind.ESCALATED)
            if verdict.needs_review:
                kinds_of.append(EventKind.NEEDS_REVIEW)
            for kind in kinds_of:
                if kind.value in kinds:
                    data = _ticket_data(ticket_id, external_id, verdict, revision=1)
                    found.append(self._event(account_id, kind, data))
        return _ascending(found)

    def of_revision(
        self, kinds: frozenset[str], account_id: str, ticket_id: str, before: Verdict, after: Verdict, *, revision: int
    ) -> list[OutboxEvent]:
        """What is to be told of a later verdict beside `ticket.revised`: what it is now and was not before."""
        found = []
        escalated = Decision.IMMEDIATE_ESCALATION
        if after.decision is escalated and before.decision is not escalated:
            found.append(EventKind.ESCALATED)
        if after.needs_review and not before.needs_review:
            found.append(EventKind.NEEDS_REVIEW)
        data = _ticket_data(ticket_id, None, after, revision=revision)
        return [self._event(account_id, kind, data) for kind in found if kind.value in kinds]

    def of_charge(self, kinds: frozenset[str], account_id: str, charge: Charge) -> list[OutboxEvent]:
        """That a window of the plan is nearly or wholly used up, told by the request that made it so."""
        if EventKind.QUOTA_WARNING.value not in kinds:
            return []
        found = []
        for use in charge.granted.uses:
            percent = reached_percent(used=use.used, limit=use.limit)
            if percent is None or not use.published or use.window in _SHORT:
                continue
            data = {
                "catalogue": charge.plan.catalogue.value,
                "plan": charge.plan.name,
                "window": use.window.value,
                "limit": use.limit,
                "used": use.used,
                "percent": percent,
                "resets_at_us": use.resets_at_us,
            }
            found.append(self._event(account_id, EventKind.QUOTA_WARNING, data))
        return found

    async def tell_provider_state(self, journal: Journal, provider: str, model: str, state: str) -> None:
        """Tell every account that asks for it that a provider is to be asked no more, or again.

        Raises: StorageUnavailable, JournalUnavailable.
        """
        data = {"provider": provider, "model": model, "state": state}
        kind = EventKind.PROVIDER_STATE
        everybody = await self.interests.everybody()
        events = [self._event(account, kind, data) for account, kinds in everybody.items() if kind.value in kinds]
        if events:
            await journal.append(Record(outbox=tuple(events)))
            self.on_written()

    def _event(self, account_id: str, kind: EventKind, data: Mapping[str, Any]) -> OutboxEvent:
        payload = orjson.dumps(data).decode()
        return OutboxEvent(self._identities.new_id(), account_id, kind.value, payload, self._clock.now_us())


def _ascending(events: Sequence[OutboxEvent]) -> list[OutboxEvent]:
    """The events with their ids in order: those of one millisecond have none by themselves."""
    ids = sorted(event.id for event in events)
    return [event._replace(id=event_id) for event, event_id in zip(events, ids, strict=True)]


def _ticket_data(ticket_id: str, external_id: str | None, verdict: Verdict, *, revision: int) -> dict[str, Any]:
    data: dict[str, Any] = {"ticket": f"{TICKET}{ticket_id}", "revision": revision}
    if external_id is not None:
        data["external_id"] = external_id
    return {**data, "verdict": {**outline(verdict), "probability": round(verdict.probability, 4)}}
