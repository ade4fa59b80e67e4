"""Spans of what is stored: how long a request waited, and the group that its record was committed in."""

from collections import OrderedDict
from collections.abc import Sequence
from time import time_ns
from typing import Final

from opentelemetry.trace import SpanContext

from firstline.adapters.tracing.tracer import OtelTracer, Recorded, current_span
from firstline.ports.journal import Journal, Record

MAX_ORIGINS: Final = 10_000
"""Events whose requests are remembered until they are delivered; the oldest are forgotten first."""


class Origins:
    """Which traced request has caused which event, as far as this process knows."""

    def __init__(self, *, most: int = MAX_ORIGINS) -> None:
        self._most = most
        self._known: OrderedDict[str, SpanContext] = OrderedDict()

    def remember(self, event_id: str, span: SpanContext) -> None:
        """Args:
        event_id: 32 digits.
        """
        self._known[event_id] = span
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def find(self, event_id: str) -> SpanContext | None:
        """The span that an event was stored in."""
        return self._known.get(event_id)


class Commits:
    """Joins the waits of requests with the commit of their group."""

    def __init__(self, tracer: OtelTracer) -> None:
        self.tracer = tracer
        self._waiting: dict[int, Recorded] = {}

    def begin(self, record: Record, span: Recorded) -> None:
        """A record waits to be stored."""
        self._waiting[id(record)] = span

    def end(self, record: Record) -> None:
        """It does not any more."""
        self._waiting.pop(id(record), None)

    def committed(self, records: Sequence[Record], seconds: float) -> None:
        """A group has become durable; call it, from any thread, before those who wait hear of it.

        Args:
            seconds: that the commit took.
        """
        if not self._waiting:
            return
        found = [span for record in records if (span := self._waiting.get(id(record)))]
        if not found:
            return
        ended_ns = time_ns()
        first, *others = (span.sdk for span in found)
        group = self.tracer.start(
            "commit",
            attributes={"firstline.records": len(records)},
            parent=first.get_span_context(),
            began_ns=ended_ns - int(seconds * 1_000_000_000),
        )
        for other in others:
            other.add_link(group.get_span_context())
        group.end(ended_ns)


class TracedJournal:
    """Implements `ports.journal.Journal` over another one."""

    def __init__(self, journal: Journal, *, commits: Commits, origins: Origins) -> None:
        self._journal = journal
        self._commits = commits
        self._origins = origins

    async def append(self, record: Record) -> None:
        """See the port."""
        if current_span() is None:
            await self._journal.append(record)
            return
        attributes = {
            "firstline.tickets": len(record.tickets),
            "firstline.revisions": len(record.verdicts),
            "firstline.events": len(record.outbox),
        }
        with self._commits.tracer.span("store", attributes=attributes) as span:
            if not isinstance(span, Recorded):
                await self._journal.append(record)
                return
            for event in record.outbox:
                self._origins.remember(event.id, span.sdk.get_span_context())
            self._commits.begin(record, span)
            try:
                await self._journal.append(record)
            finally:
                self._commits.end(record)
