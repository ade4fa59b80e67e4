"""The spool that keeps verdicts while the database is away, if one is set."""

from collections.abc import Callable
from typing import Any

from firstline.adapters.sealing import Sealer, secrets_of
from firstline.adapters.spool.erasure import SpooledTexts
from firstline.adapters.spool.folder import SpoolFolder
from firstline.adapters.spool.spooling_journal import SpoolingJournal
from firstline.adapters.sql.server_stores import ServerStore
from firstline.adapters.telemetry import Metrics
from firstline.ports.clock import Clock
from firstline.settings import Settings

__all__ = ["SpooledTexts", "SpoolingJournal", "open_spool", "watch_spool"]

_PURPOSE = "spool"
_MB = 1 << 20


def open_spool(settings: Settings, store: ServerStore, *, clock: Clock) -> SpoolingJournal | None:
    """The journal of a server that spools; None where no folder is set.

    Raises: SpoolUnusable.
    """
    if settings.spool_dir is None:
        return None
    secrets = secrets_of(settings.secret_key.get_secret_value() if settings.secret_key else None)
    return SpoolingJournal(
        store.journal,
        store.marks,
        SpoolFolder(settings.spool_dir),
        max_bytes=settings.spool_mb * _MB,
        clock=clock,
        sealing=Sealer(secrets, purpose=_PURPOSE) if secrets else None,
    )


def watch_spool(
    spool: SpoolingJournal,
    settings: Settings,
    *,
    metrics: Metrics,
    log: Any,
    on_stored: Callable[[], None],
    on_fault: Callable[..., None],
) -> None:
    """Tell metrics and log of what the spool does."""

    def on_change(spooling: bool) -> None:
        if spooling:
            log.warning("spool", state="spooling")
        else:
            log.info("spool", state="empty", taken=spool.taken)

    def on_refused() -> None:
        metrics.spool_refused.inc()
        log.error("spool_refused", file="refused.frames")

    metrics.spool_records.set_function(lambda: spool.records)
    metrics.spool_bytes.set_function(lambda: spool.size)
    metrics.spool_limit.set(settings.spool_mb * _MB)
    metrics.spool_oldest.set_function(lambda: spool.oldest_s)
    spool.on_taken = metrics.spooled.inc
    spool.on_change = on_change
    spool.on_stored = on_stored
    spool.on_refused = on_refused
    spool.on_fault = on_fault
