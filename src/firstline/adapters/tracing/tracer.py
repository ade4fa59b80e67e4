"""The tracer: spans of OpenTelemetry's SDK where something is traced, nothing where it is not.

The SDK's own context and sampler are not used. A span that is not recorded would cost seven microseconds there, and
here a look into a context variable.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from time import time_ns
from types import TracebackType
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from firstline.adapters.tracing.export import QueueProcessor
from firstline.adapters.tracing.sampling import Sampler, caller_of
from firstline.ports.tracing import NOTHING, Ids, Kind, Span, Value

_KINDS: Final = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.CONSUMER: SpanKind.CONSUMER,
}
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_LIMITS: Final = SpanLimits(
    max_span_attributes=64, max_events=16, max_links=128, max_span_attribute_length=512, max_attribute_length=512
)
_ERROR: Final = Status(StatusCode.ERROR)

_current: ContextVar["Recorded | _Named | None"] = ContextVar("firstline_span", default=None)


class Recorded:
    """A span that is recorded, and the context that it is the current one in."""

    __slots__ = ("_failed", "_token", "sdk")
    recorded: Final = True

    def __init__(self, sdk: SdkSpan) -> None:
        self.sdk = sdk
        self._failed = False
        self._token: Token[Recorded | _Named | None] | None = None

    @property
    def ids(self) -> Ids:
        """Its names."""
        return ids_of(self.sdk.get_span_context())

    def rename(self, name: str) -> None:
        """See the port, as for all methods here."""
        self.sdk.update_name(name)

    def set(self, **attributes: Value | None) -> None:
        self.sdk.set_attributes({_dotted(name): value for name, value in attributes.items() if value is not None})

    def fail(self, kind: str) -> None:
        self._failed = True
        self.sdk.set_attribute("error.type", kind)
        self.sdk.set_status(_ERROR)

    def add_fault(self, kind: str, places: Sequence[str]) -> None:
        """An error of our own, by its type and the places that it went through."""
        self.sdk.add_event("exception", {"exception.type": kind, "exception.stacktrace": "\n".join(places)})
        self.fail(kind)

    def __enter__(self) -> "Recorded":
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
        if kind is not None and not self._failed:
            if issubclass(kind, asyncio.CancelledError):
                self.sdk.set_attribute("firstline.cancelled", True)
            else:
                self.fail(kind.__name__)
        self.sdk.end()


class _Named:
    """A request that is not traced here, though its caller has named a trace for it: the log shall say which."""

    __slots__ = ("_token", "ids")
    recorded: Final = False

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self._token: Token[Recorded | _Named | None] | None = None

    def rename(self, name: str) -> None: ...

    def set(self, **attributes: Value | None) -> None: ...

    def fail(self, kind: str) -> None: ...

    def __enter__(self) -> "_Named":
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)


class OtelTracer:
    """Implements `ports.tracing.Tracer`."""

    def __init__(self, queue: QueueProcessor, *, sampler: Sampler, resource: Mapping[str, str], version: str) -> None:
        """Args:
        resource: attributes of this process.
        version: of firstline.
        """
        provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource(dict(resource)), shutdown_on_exit=False, span_limits=_LIMITS
        )
        provider.add_span_processor(queue)
        self._tracer = provider.get_tracer("firstline", version)
        self._sampler = sampler

    def span(
        self, name: str, *, kind: Kind = Kind.INTERNAL, attributes: Mapping[str, Value] | None = None
    ) -> AbstractContextManager[Span]:
        """See the port."""
        parent = _current.get()
        if not isinstance(parent, Recorded):
            return NOTHING
        return Recorded(self.start(name, kind=kind, attributes=attributes, parent=parent.sdk.get_span_context()))

    def entry(
        self, name: str, *, kind: Kind, traceparent: str | None = None, attributes: Mapping[str, Value] | None = None
    ) -> AbstractContextManager[Span]:
        """See the port."""
        caller = caller_of(traceparent)
        if self._sampler.samples(caller):
            parent = context_of(caller.ids) if caller else None
            return Recorded(self.start(name, kind=kind, attributes=attributes, parent=parent))
        if caller is not None:
            return _Named(Ids(caller.ids.trace, f"{random.getrandbits(64) or 1:016x}"))  # nosec B311  # an id, no secret
        return NOTHING

    def start(
        self,
        name: str,
        *,
        kind: Kind = Kind.INTERNAL,
        attributes: Mapping[str, Value] | None = None,
        parent: SpanContext | None = None,
        began_ns: int | None = None,
    ) -> SdkSpan:
        """A span whose parent is given, recorded in any case, and the current one of no context."""
        context = Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
        span = self._tracer.start_span(
            name, context, kind=_KINDS[kind], attributes=attributes, start_time=began_ns or time_ns()
        )
        assert isinstance(span, SdkSpan)  # the sampler above samples everything
        return span


def current_span() -> Recorded | None:
    """The recorded span of this context."""
    span = _current.get()
    return span if isinstance(span, Recorded) else None


def current_ids() -> Ids | None:
    """What this context is called in traces, here or only with whoever called."""
    span = _current.get()
    return span.ids if span is not None else None


def ids_of(context: SpanContext) -> Ids:
    """The names of a span as they are written."""
    return Ids(f"{context.trace_id:032x}", f"{context.span_id:016x}")


def context_of(ids: Ids) -> SpanContext:
    """A span by its names, for others to belong to."""
    return SpanContext(int(ids.trace, 16), int(ids.span, 16), is_remote=True, trace_flags=_SAMPLED)


def _dotted(name: str) -> str:
    return name.replace("__", ".")
