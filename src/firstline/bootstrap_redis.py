"""From settings to what replicas share through Redis; its library is imported only where it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from firstline.adapters.telemetry import Metrics
from firstline.ports.storage import Storage
from firstline.settings import Settings, SettingsInvalid

if TYPE_CHECKING:
    from firstline.adapters.redis.shared import Shared


def redis_url(settings: Settings) -> str | None:
    """Where Redis is; None where none is set."""
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    host = settings.redis_host
    if host is None:
        return None
    host = f"[{host}]" if ":" in host else quote(host)
    return f"redis://{host}:{settings.redis_port}/{settings.redis_db}"


def open_shared(
    settings: Settings,
    *,
    storage: Storage,
    metrics: Metrics,
    log: Any,
    on_trip: Callable[[str, str, float], None],
) -> Shared | None:
    """Limits and news that are shared through Redis; None where none is set.

    Args:
        on_trip: told of provider, model and seconds when another replica has opened a breaker.
    Raises: SettingsInvalid.
    """
    url = redis_url(settings)
    if url is None:
        return None
    from firstline.adapters.redis.shared import Shared

    def on_change(works: bool) -> None:
        metrics.limits.shared.set(works)
        tell = log.info if works else log.warning
        tell("limits", counted="shared" if works else "local")

    try:
        shared = Shared(
            url,
            lambda account_id, catalogue, now_us: storage.usage(account_id, catalogue, now_us=now_us),
            least_replicas=settings.replicas,
            watcher=metrics.limits,
            on_trip=on_trip,
            on_change=on_change,
            on_news=metrics.limits.news,
        )
    except ValueError as error:
        name = "FIRSTLINE_REDIS_URL" if settings.redis_url is not None else "REDIS_HOST"
        raise SettingsInvalid(f"{name}: {error}.") from None
    metrics.limits.replicas.set_function(lambda: shared.replicas.count)
    return shared
