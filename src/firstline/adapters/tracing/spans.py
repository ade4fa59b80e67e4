"""Everything that makes spans, over one tracer: decorators of ports, and what the log takes part in."""

from collections.abc import MutableMapping
from typing import Any

from firstline.adapters.error_reports import Fault
from firstline.adapters.tracing.calls import TracedOutbound, TracedProvider
from firstline.adapters.tracing.store import Commits, Origins, TracedJournal
from firstline.adapters.tracing.tracer import OtelTracer, Recorded, context_of, current_ids, current_span
from firstline.ports.journal import Journal
from firstline.ports.outbound import Outbound
from firstline.ports.provider import Provider


class Spans:
    """The decorators, and what they share."""

    def __init__(self, tracer: OtelTracer) -> None:
        self._tracer = tracer
        self._origins = Origins()
        self.commits = Commits(tracer)

    def journal(self, journal: Journal) -> Journal:
        """With a span for each record that is waited for."""
        return TracedJournal(journal, commits=self.commits, origins=self._origins)

    def provider(self, provider: Provider) -> Provider:
        """With a span for each call."""
        return TracedProvider(provider, tracer=self._tracer)

    def outbound(self, outbound: Outbound) -> Outbound:
        """With a span for each attempt."""
        return TracedOutbound(outbound, tracer=self._tracer, origins=self._origins)

    def name_lines(self, logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """A processor of structlog: adds the names of the span that a line was written in."""
        ids = current_ids()
        if ids is not None:
            line["trace_id"], line["span_id"] = ids
        return line

    def report(self, fault: Fault) -> None:
        """Add a fault to the span that it happened in; where nothing is traced, a span of its own tells of it."""
        span = current_span()
        if span is not None and span.sdk.is_recording():
            span.add_fault(fault.type, fault.places)
            return
        ids = current_ids()
        parent = context_of(ids) if ids else None
        own = Recorded(self._tracer.start("fault", attributes={"firstline.where": fault.where}, parent=parent))
        own.add_fault(fault.type, fault.places)
        own.sdk.end()
