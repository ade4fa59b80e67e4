"""Spans of calls that leave the process: language models and receivers of webhooks.

Neither is handed the trace context: it would tell strangers which of our requests belong together.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Final

from opentelemetry.trace import SpanContext

from firstline.adapters.tracing.store import Origins
from firstline.adapters.tracing.tracer import OtelTracer, Recorded
from firstline.core.identity import EVENT, bare
from firstline.ports.outbound import NotSent, Outbound
from firstline.ports.outbound import Reply as Sent
from firstline.ports.provider import Provider, ProviderFailed, Question, Reply, Tokens
from firstline.ports.tracing import Kind, Span, Tracer, Value

_SYSTEMS: Final = {"gemini": "gcp.gemini"}
"""Names of providers that OpenTelemetry writes otherwise than we do."""

_EVENT_HEADER: Final = "webhook-id"


class TracedProvider:
    """Implements `ports.provider.Provider` over another one: a span a call, by the conventions for generative AI."""

    def __init__(self, provider: Provider, *, tracer: Tracer) -> None:
        self._provider = provider
        self._tracer = tracer

    @property
    def name(self) -> str:
        """See the port, as for all members here."""
        return self._provider.name

    @property
    def model(self) -> str:
        return self._provider.model

    async def complete(self, question: Question, *, temperature: float, max_tokens: int, timeout_s: float) -> Reply:
        attributes: dict[str, Value] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _SYSTEMS.get(self.name, self.name),
            "gen_ai.request.model": self.model,
            "gen_ai.request.max_tokens": max_tokens,
            "gen_ai.request.temperature": temperature,
        }
        with self._tracer.span(f"chat {self.model}", kind=Kind.CLIENT, attributes=attributes) as span:
            try:
                reply = await self._provider.complete(
                    question, temperature=temperature, max_tokens=max_tokens, timeout_s=timeout_s
                )
            except ProviderFailed as failure:
                span.fail(failure.kind.value)
                _tell(span, failure.tokens)
                raise
            _tell(span, reply.tokens)
            return reply

    async def close(self) -> None:
        await self._provider.close()


def _tell(span: Span, tokens: Tokens | None) -> None:
    if tokens is not None:
        span.set(gen_ai__usage__input_tokens=tokens.input, gen_ai__usage__output_tokens=tokens.output)


class TracedOutbound:
    """Implements `ports.outbound.Outbound` over another one: a span an attempt, without the address.

    An attempt belongs to the trace of the request that has caused its event, where this process has answered that
    request and still remembers it; otherwise it is a trace of its own. The event's id is in both.
    """

    def __init__(self, outbound: Outbound, *, tracer: OtelTracer, origins: Origins) -> None:
        self._outbound = outbound
        self._tracer = tracer
        self._origins = origins

    async def check(self, url: str) -> None:
        """See the port, as for all methods here."""
        await self._outbound.check(url)

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Sent:
        shown = headers.get(_EVENT_HEADER, "")
        event_id = bare(shown, prefix=EVENT)
        attributes: dict[str, Value] = {"http.request.method": "POST"}
        if event_id is not None:
            attributes["firstline.event"] = shown
        origin = self._origins.find(event_id) if event_id is not None else None
        with self._attempt(attributes, origin) as span:
            try:
                sent = await self._outbound.post(url, headers=headers, body=body)
            except NotSent as failure:
                span.fail(failure.failure.value)
                raise
            span.set(http__response__status_code=sent.status)
            if not 200 <= sent.status < 300:
                span.fail(str(sent.status))
            return sent

    async def close(self) -> None:
        await self._outbound.close()

    def _attempt(self, attributes: Mapping[str, Value], origin: SpanContext | None) -> AbstractContextManager[Span]:
        if origin is None:
            return self._tracer.entry("deliver", kind=Kind.CLIENT, attributes=attributes)
        return Recorded(self._tracer.start("deliver", kind=Kind.CLIENT, attributes=attributes, parent=origin))
