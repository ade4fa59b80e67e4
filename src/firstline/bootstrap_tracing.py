"""From settings to traces and reports of faults; nothing of either is imported where none is configured."""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote
from uuid import uuid4

from firstline import __version__
from firstline.adapters.error_reports import DsnUnusable, FaultLines, Report, SentryReports
from firstline.ports.journal import Journal, Record
from firstline.ports.outbound import Outbound
from firstline.ports.provider import Provider
from firstline.ports.tracing import NO_TRACER, Tracer
from firstline.settings import Settings, SettingsInvalid

if TYPE_CHECKING:
    from firstline.adapters.telemetry import Metrics
    from firstline.adapters.tracing.export import QueueProcessor
    from firstline.adapters.tracing.spans import Spans

TRACES_PATH: Final = "/v1/traces"
_TALKATIVE: Final = ("opentelemetry", "sentry_sdk", "urllib3")
"""Loggers of libraries that would write lines of their own about a collector that is away; ours says it once."""

_HEADER: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_INSTALL: Final = 'pip install "firstline[telemetry]"'


class Tracing:
    """What traces and reports, as far as it is configured; without any it does nothing."""

    def __init__(self) -> None:
        self.tracer: Tracer = NO_TRACER
        self.processors: Sequence[Callable[..., Any]] = ()
        """What lines of the log go through before they are written."""
        self._spans: Spans | None = None
        self._queue: QueueProcessor | None = None
        self._sentry: SentryReports | None = None

    @property
    def on(self) -> bool:
        """Whether anything is traced."""
        return self._spans is not None

    def journal(self, journal: Journal) -> Journal:
        """The journal, with a span for each record that is waited for."""
        return self._spans.journal(journal) if self._spans else journal

    def provider(self, provider: Provider) -> Provider:
        """The provider, with a span for each call."""
        return self._spans.provider(provider) if self._spans else provider

    def outbound(self, outbound: Outbound) -> Outbound:
        """The way out, with a span for each attempt to deliver."""
        return self._spans.outbound(outbound) if self._spans else outbound

    def committed(self, records: Sequence[Record], seconds: float) -> None:
        """A group of records has become durable."""
        if self._spans is not None:
            self._spans.commits.committed(records, seconds)

    def watch(self, metrics: "Metrics", log: Any) -> None:
        """Count and say what becomes of the spans."""
        if self._queue is None:
            return

        def on_state(works: bool) -> None:
            (log.info if works else log.warning)("traces", state="sent" if works else "unsent")

        self._queue.on_dropped = lambda reason, spans: metrics.spans_dropped.labels(reason).inc(spans)
        self._queue.on_state = on_state

    async def close(self) -> None:
        """Send what waits to be sent; takes no longer than the slower of both may."""
        closing = [one.close for one in (self._queue, self._sentry) if one is not None]
        await asyncio.gather(*(asyncio.to_thread(close) for close in closing))


def build_tracing(settings: Settings, *, development: bool) -> Tracing:
    """What the settings ask for.

    Args:
        development: how reports name the surroundings; production otherwise.
    Raises: SettingsInvalid when a value is none that can be used, or when the extra is not installed.
    """
    tracing = Tracing()
    reports: list[Report] = []
    processors: list[Callable[..., Any]] = []
    if settings.otlp_endpoint is not None and not settings.otel_sdk_disabled:
        _trace(tracing, settings, settings.otlp_endpoint)
        if tracing._spans is not None:
            processors.append(tracing._spans.name_lines)
            reports.append(tracing._spans.report)
    if settings.sentry_dsn is not None:
        tracing._sentry = _sentry(settings.sentry_dsn.get_secret_value(), development=development)
        reports.append(tracing._sentry)
    if reports:
        processors.append(FaultLines(*reports))
        for name in _TALKATIVE:
            logging.getLogger(name).addHandler(logging.NullHandler())
            logging.getLogger(name).propagate = False
    tracing.processors = tuple(processors)
    return tracing


def _trace(tracing: Tracing, settings: Settings, endpoint: str) -> None:
    resource = {
        "service.name": settings.service_name,
        "service.version": __version__,
        "service.instance.id": str(uuid4()),
        **_pairs("OTEL_RESOURCE_ATTRIBUTES", settings.resource_attributes),
    }
    if "service_name" in settings.model_fields_set:  # the standard has it win over the attribute of that name
        resource["service.name"] = settings.service_name
    headers = _headers(settings.otlp_headers.get_secret_value() if settings.otlp_headers else "")
    try:
        from firstline.adapters.tracing.export import QueueProcessor, open_exporter
        from firstline.adapters.tracing.sampling import sampler_named
        from firstline.adapters.tracing.spans import Spans
        from firstline.adapters.tracing.tracer import OtelTracer
    except ImportError:
        raise SettingsInvalid(f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but traces need an extra: {_INSTALL}.") from None
    queue = QueueProcessor(open_exporter(endpoint.rstrip("/") + TRACES_PATH, headers=headers))
    sampler = sampler_named(
        settings.traces_sampler, ratio=settings.traces_sampler_arg, trusts_caller=settings.trust_traceparent
    )
    tracer = OtelTracer(queue, sampler=sampler, resource=resource, version=__version__)
    tracing.tracer, tracing._queue, tracing._spans = tracer, queue, Spans(tracer)


def _sentry(dsn: str, *, development: bool) -> SentryReports:
    try:
        return SentryReports(dsn, version=__version__, environment="development" if development else "production")
    except ImportError:
        raise SettingsInvalid(f"SENTRY_DSN is set, but reports of errors need an extra: {_INSTALL}.") from None
    except DsnUnusable as error:
        raise SettingsInvalid(f"SENTRY_DSN: {error}.") from None


def _headers(text: str) -> dict[str, str]:
    name = "OTEL_EXPORTER_OTLP_HEADERS"
    found = _pairs(name, text)
    if any(not _HEADER.fullmatch(key) or not (value.isascii() and value.isprintable()) for key, value in found.items()):
        raise SettingsInvalid(f"{name}: a header has letters, digits and hyphens, its value printable ASCII.")
    return found


def _pairs(name: str, text: str) -> dict[str, str]:
    """`key=value,key=value`, with what is no letter written as in URLs."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, sign, value = part.partition("=")
        if not sign or not key.strip():
            raise SettingsInvalid(f"{name}: write key=value, several with commas.")
        found[unquote(key.strip())] = unquote(value.strip())
    return found
