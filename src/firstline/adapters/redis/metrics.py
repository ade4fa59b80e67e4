"""What limits and news do, as metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class LimitMetrics:
    """Implements `adapters.redis.limiter.LimitWatcher`; there without Redis too, so that dashboards need not ask."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.shared = Gauge("firstline_limits_shared", "1 while replicas count limits together.", registry=registry)
        self._local = Counter(
            "firstline_limits_local",
            "Requests decided by this replica alone while Redis was away.",
            ["outcome"],
            registry=registry,
        )
        self._news = Counter(
            "firstline_redis_news", "Messages between replicas about breakers.", ["outcome"], registry=registry
        )
        for outcome in ("granted", "denied", "unknown"):
            self._local.labels(outcome)
        for outcome in ("sent", "unsent", "taken", "own", "malformed"):
            self._news.labels(outcome)
        self.replicas = Gauge("firstline_replicas", "Replicas that share the limits, as last known.", registry=registry)
        self.replicas.set(1)

    def local(self, outcome: str) -> None:
        """See the protocol."""
        self._local.labels(outcome).inc()

    def news(self, outcome: str) -> None:
        """Count one message: `sent`, `unsent`, `taken`, `own` or `malformed`."""
        self._news.labels(outcome).inc()
