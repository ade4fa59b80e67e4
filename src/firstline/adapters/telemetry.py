"""Metrics and logs: bounded labels, no text of a ticket and no key in either.

An exception is logged by its type and the places it passed through, never by its message, which may quote input.
"""

import contextlib
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from firstline.adapters.provider_metrics import ProviderMetrics
from firstline.adapters.redis.metrics import LimitMetrics
from firstline.core.cascade import emergency_verdict
from firstline.core.feedback import BANDS, band_name
from firstline.core.plans import Window
from firstline.core.taxonomy import Contract, Decision, Signal

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_COMMIT_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_PROBABILITY_BUCKETS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Metrics:
    """Every metric that firstline exposes; docs/reference/metrics.md lists them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        registry = self.registry
        self.http_requests = Counter(
            "http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self.http_duration = Histogram(
            "http_request_duration_seconds", "Time to answer.", ["route"], buckets=_BUCKETS, registry=registry
        )
        self.requests_running = Gauge("firstline_requests_running", "Requests under way.", registry=registry)
        self.loop_lag = Gauge(
            "firstline_event_loop_lag_seconds",
            "Longest that the event loop was late in the last half minute.",
            registry=registry,
        )
        self.classifications = Counter(
            "classification_requests",
            "Verdicts given.",
            ["contract", "category", "source"],
            registry=registry,
        )
        self.providers = ProviderMetrics(registry)
        self.limits = LimitMetrics(registry)
        self.decisions = Counter(
            "firstline_decisions", "Verdicts by decision.", ["contract", "decision"], registry=registry
        )
        self.signals = Counter("firstline_signals", "Verdicts in which a signal fired.", ["signal"], registry=registry)
        self.reviews = Counter("firstline_reviews", "Verdicts flagged for review.", ["contract"], registry=registry)
        self.probabilities = Histogram(
            "firstline_verdict_probability",
            "Probability of the category of a verdict.",
            ["contract"],
            buckets=_PROBABILITY_BUCKETS,
            registry=registry,
        )
        self.feedback = Counter(
            "firstline_feedback",
            "Verdicts that somebody has judged, by the probability that they stated.",
            ["probability", "correct"],
            registry=registry,
        )
        self.denials = Counter(
            "firstline_limit_denials", "Requests over a limit.", ["catalogue", "window"], registry=registry
        )
        self.near_quota = Gauge(
            "firstline_accounts_near_quota",
            "Accounts that have used 90 % of the longest window of their plan.",
            ["catalogue"],
            registry=registry,
        )
        self.auth_failures = Counter(
            "firstline_auth_failures", "Requests without a valid key.", ["reason"], registry=registry
        )
        self.store_failures = Counter(
            "firstline_store_failures", "Requests refused because the store failed.", registry=registry
        )
        self.faults = Counter("firstline_faults", "Unexpected errors of our own.", ["route"], registry=registry)
        self.rule_reloads = Counter(
            "firstline_rule_reloads", "Attempts to read changed rule packs.", ["outcome"], registry=registry
        )
        self.job_rows = Counter(
            "firstline_job_rows", "Rows of jobs that are done.", ["contract", "outcome"], registry=registry
        )
        self.jobs_rows = Gauge("firstline_jobs_waiting_rows", "Rows of jobs not answered yet.", registry=registry)
        self.jobs_oldest = Gauge(
            "firstline_jobs_oldest_waiting_seconds", "How long a job has waited for a worker.", registry=registry
        )
        self.queued_writes = Gauge("firstline_queued_writes", "Writes waiting for their group.", registry=registry)
        self.commits = Histogram(
            "firstline_store_commit_seconds",
            "Time to make a group of records durable.",
            buckets=_COMMIT_BUCKETS,
            registry=registry,
        )
        self.data_free = Gauge(
            "firstline_data_free_bytes", "Free bytes on the disk of the data folder.", registry=registry
        )
        self.spooled = Counter(
            "firstline_spooled_records", "Records kept on disk while the store was away.", registry=registry
        )
        self.spool_refused = Counter(
            "firstline_spool_refused_records", "Spooled records that the store refused for good.", registry=registry
        )
        self.spool_records = Gauge("firstline_spool_records", "Records that wait in the spool.", registry=registry)
        self.spool_bytes = Gauge("firstline_spool_bytes", "Size of the spool on disk.", registry=registry)
        self.spool_limit = Gauge("firstline_spool_limit_bytes", "Most bytes of the spool.", registry=registry)
        self.spool_oldest = Gauge(
            "firstline_spool_oldest_record_seconds", "Age of the oldest record in the spool.", registry=registry
        )
        self.webhook_attempts = Counter(
            "firstline_webhook_attempts", "Attempts to deliver an event.", ["outcome"], registry=registry
        )
        self.webhook_pending = Gauge(
            "firstline_webhook_pending_deliveries", "Deliveries that have not arrived yet.", registry=registry
        )
        self.webhook_dead = Gauge(
            "firstline_webhook_dead_letters", "Deliveries that were given up and can be replayed.", registry=registry
        )
        self.webhook_oldest = Gauge(
            "firstline_webhook_oldest_event_seconds", "Age of the oldest event on its way.", registry=registry
        )
        self.spans_dropped = Counter(
            "firstline_spans_dropped", "Spans that no collector will see.", ["reason"], registry=registry
        )
        self.build = Info("firstline_build", "Version, model and rules in force.", registry=registry)
        self._begin_at_zero()
        self._http: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        self._verdicts: dict[tuple[str, str, str, str], tuple[Any, Any, Any]] = {}

    def _begin_at_zero(self) -> None:
        """Show what is rare from the start on: the increase of a series that begins with 1 is 0, so that neither an
        alert nor a dashboard would see the first of its kind."""
        emergency = emergency_verdict()
        for contract in Contract:
            self.reviews.labels(contract.value)
            self.classifications.labels(contract.value, emergency.category, emergency.source.value)
            for decision in Decision:
                self.decisions.labels(contract.value, decision.value)
            for window in Window:
                self.denials.labels(contract.value, window.value)
            for outcome in ("answered", "failed"):
                self.job_rows.labels(contract.value, outcome)
        for band in range(BANDS):
            for correct in ("yes", "no"):
                self.feedback.labels(band_name(band / BANDS), correct)
        for counter, labels in (
            (self.signals, [signal.value for signal in Signal]),
            (self.auth_failures, ["missing", "invalid", "revoked"]),
            (self.faults, ["erasure", "jobs", "train", "triage", "webhooks"]),
            (self.rule_reloads, ["ok", "invalid"]),
            (self.webhook_attempts, ["delivered", "failed", "dead"]),
        ):
            for label in labels:
                counter.labels(label)

    def observe_http(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; label children are kept, which saves most of the cost."""
        children = self._http.get((method, route, status))
        if children is None:
            if method not in _METHODS:
                method = "OTHER"
            for failed in ("500", "503"):  # so that the first failure of a route is an increase, see `_begin_at_zero`
                self.http_requests.labels(method, route, failed)
            children = self._http[method, route, status] = (
                self.http_requests.labels(method, route, str(status)),
                self.http_duration.labels(route),
            )
        children[0].inc()
        children[1].observe(seconds)

    def count_verdict(self, contract: str, category: str, source: str, decision: str, *, probability: float) -> None:
        """Count one verdict; label children are kept here too."""
        children = self._verdicts.get((contract, category, source, decision))
        if children is None:
            children = self._verdicts[contract, category, source, decision] = (
                self.classifications.labels(contract, category, source),
                self.decisions.labels(contract, decision),
                self.probabilities.labels(contract),
            )
        children[0].inc()
        children[1].inc()
        children[2].observe(probability)


_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


def open_log(level: str = "info", *, through: Sequence[Callable[..., Any]] = ()) -> Any:
    """A structured log: one JSON object a line on standard error.

    Args:
        through: processors of structlog that each line goes through before it is written.
    """
    return structlog.wrap_logger(
        _Lines(sys.stderr.buffer),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *through,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
    ).bind()


class _Lines(structlog.BytesLogger):
    """Writes lines; a log that cannot be written (a full disk, a closed pipe) must not fail a request."""

    def msg(self, message: bytes) -> None:
        """One line, or nothing."""
        with contextlib.suppress(OSError, ValueError):
            super().msg(message)

    debug = info = warning = error = msg


def fault_fields(error: BaseException) -> dict[str, object]:
    """What may be logged of an exception: its type and where it went, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return {
        "error": type(error).__name__,
        "at": [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}:{frame.name}" for frame in frames],
    }


def _dumps(value: Any, **_: Any) -> bytes:
    return orjson.dumps(value, default=str)
