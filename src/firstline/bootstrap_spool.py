"""The spool that keeps verdicts while the database is away, if one is set."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from firstline.adapters.sealing import Sealer, secrets_of
from firstline.adapters.spool.erasure import SpooledTexts
from firstline.adapters.spool.folder import SpoolFolder
from firstline.adapters.spool.spooling_journal import SpoolingJournal
from firstline.adapters.sql.server_stores import ServerStore
from firstline.adapters.telemetry import Metrics, fault_fields
from firstline.ports.clock import Clock
from firstline.settings import Settings
from firstline.usecases.at_hand import AtHand
from firstline.usecases.records import Keeping
from firstline.usecases.texts import Texts

if TYPE_CHECKING:
    from firstline.bootstrap import App

__all__ = ["SpooledTexts", "SpoolingJournal", "have_at_hand", "open_spool", "stale_s_of", "watch_spool"]

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


def stale_s_of(settings: Settings) -> int:
    """How long what accounts had set may be used after a change while the database is away: where a spool goes on."""
    return settings.stale_keys_seconds if settings.spool_dir is not None else 0


def have_at_hand(app: "App", texts: Texts) -> AtHand:
    """Reads what the accounts of callers need, so that they are answered while the database is away."""

    def on_fault(error: BaseException) -> None:
        app.metrics.faults.labels("spool").inc()
        app.log.error("fault", route="spool", **fault_fields(error))

    return AtHand(
        limiter=app.limiter,
        in_force=app.categories.in_force,
        texts=texts,
        plan_of=lambda plan, contract: app.catalogues[contract].plans[plan],
        keeping=Keeping(app.settings.history, app.settings.history_text),
        clock=app.clock,
        on_fault=on_fault,
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
