"""What a server does by itself, again and again, beside answering requests."""

import asyncio
import contextlib
import hashlib
import math
from collections import deque
from typing import TYPE_CHECKING, Final

import orjson

from firstline.core.plans import longest_window
from firstline.ports.journal import Journal, JournalUnavailable, Record
from firstline.ports.storage import StorageUnavailable

if TYPE_CHECKING:
    from firstline.bootstrap import App
    from firstline.bootstrap_history import Kept

RELOAD_S: Final = 1.0
PRUNE_S: Final = 3_600.0
FOLD_S: Final = 2.0
"""How long a verdict may wait to be seen in the analytics."""

SPEND_S: Final = 1.0
"""How long what providers cost may wait to be stored, where no verdict takes it along."""

LAG_S: Final = 1.0
LAG_LOOKS: Final = 30
"""The longest lag of so many looks is shown, so that a scrape every half minute misses none."""

JOBS_S: Final = 15.0
QUOTA_S: Final = 60.0
NEAR: Final = 0.9
"""Share of a plan's longest window from which on an account is near its quota."""


async def keep_versions(app: "App") -> None:
    """Keep what is in force by its content hash, and say in the audit trail when it is not what was."""
    book, policy = app.triage.rules, app.triage.policy
    settings = app.settings.model_dump_json()  # secrets are masked
    versions = {
        "rules": (book.content_hash, orjson.dumps([repr(rule) for rule in book.rules]).decode()),
        "policy": (policy.content_hash, repr(policy)),
        "settings": (hashlib.sha256(settings.encode()).hexdigest(), settings),
    }
    for kind, (content_hash, body) in versions.items():
        audit = app.accounts.entry("system", f"{kind}.change", None, target=content_hash)
        await app.storage.keep_version(kind, content_hash, body, audit=audit)


async def watch_rules(app: "App") -> None:
    """Read the own packs again every second; a bad one is said once and the last good one stays."""
    if app.rules.read_own is None:
        return
    said: str | None = None
    while True:
        await asyncio.sleep(RELOAD_S)
        book = await asyncio.to_thread(app.rules.reload)
        if book is not None:
            app.triage.rules = book
            app.metrics.rule_reloads.labels("ok").inc()
            app.metrics.build.info({"model": app.triage.model, "rules": book.content_hash[:16]})
            app.log.info("rules_reloaded", rules=book.content_hash[:16], count=len(book.rules))
            with contextlib.suppress(StorageUnavailable):
                await keep_versions(app)
        if app.rules.problem != said:
            said = app.rules.problem
            if said:
                app.metrics.rule_reloads.labels("invalid").inc()
                app.log.error("rules_invalid", problem=said)


async def store_spend(app: "App", journal: Journal) -> None:
    """The same again and again."""
    while True:
        await asyncio.sleep(SPEND_S)
        await store_spend_now(app, journal)


async def store_spend_now(app: "App", journal: Journal) -> None:
    """Store what providers have cost and no verdict has taken along: calls that were lost, or came late."""
    spend = app.spending.take_all()
    if not spend:
        return
    try:
        await journal.append(Record(spend=spend))
    except JournalUnavailable:  # until the store is back
        app.spending.give_back(spend)


async def forget_jobs(app: "App") -> None:
    """Forget once an hour jobs that ended long ago."""
    while True:
        with contextlib.suppress(StorageUnavailable, OSError):
            await app.jobs.forget_old()
        await asyncio.sleep(PRUNE_S)


async def prune(app: "App") -> None:
    """Delete once an hour what has outlived its time."""
    while True:
        with contextlib.suppress(StorageUnavailable):
            await app.storage.prune(now_us=app.clock.now_us())
        await asyncio.sleep(PRUNE_S)


async def keep_history(app: "App", kept: "Kept") -> None:
    """Go on with erasures and seal keys anew at the start; remove once an hour what accounts keep no longer."""
    resealed = kept.newest is None
    while True:
        with contextlib.suppress(StorageUnavailable):
            await app.eraser.resume()
            if not resealed and kept.newest is not None:
                count = await kept.texts.reseal(kept.newest)
                resealed = True
                if count:
                    app.log.info("data_keys_resealed", count=count)
            removed = await app.history.expire()
            if removed:
                app.log.info("history_expired", tickets=removed)
        await asyncio.sleep(PRUNE_S)


async def fold_counts(app: "App") -> None:
    """Add what was decided to the counts, again and again, and delete old ones once an hour."""
    loop = asyncio.get_running_loop()
    pruned_s = -PRUNE_S
    while True:
        with contextlib.suppress(StorageUnavailable):
            await app.analytics.fold()
            if loop.time() - pruned_s >= PRUNE_S:
                await app.analytics.prune()
                pruned_s = loop.time()
        await asyncio.sleep(FOLD_S)


async def measure_lag(app: "App") -> None:
    """Measure every second how late the event loop is; every request waits as long."""
    loop = asyncio.get_running_loop()
    lags: deque[float] = deque(maxlen=LAG_LOOKS)
    app.metrics.loop_lag.set_function(lambda: max(lags, default=0.0))
    while True:
        due_s = loop.time() + LAG_S
        await asyncio.sleep(LAG_S)
        lags.append(max(loop.time() - due_s, 0.0))


async def watch_jobs(app: "App") -> None:
    """Look every quarter of a minute at what waits for workers, of all servers on the database."""
    since_us: int | None = None

    def waited_s() -> float:
        return max(app.clock.now_us() - since_us, 0) / 1_000_000 if since_us is not None else 0.0

    app.metrics.jobs_oldest.set_function(waited_s)
    while True:
        with contextlib.suppress(StorageUnavailable):
            backlog = await app.jobs.queue.backlog()
            since_us = backlog.waiting_since_us
            app.metrics.jobs_rows.set(backlog.rows)
        await asyncio.sleep(JOBS_S)


async def watch_quota(app: "App") -> None:
    """Count once a minute the accounts that have nearly used the longest window of their plan."""
    while True:
        for contract, catalogue in app.catalogues.items():
            plans = catalogue.plans
            window = longest_window(next(iter(plans.values())))
            least = {name: math.ceil(NEAR * plan.limits[window]) for name, plan in plans.items()}
            with contextlib.suppress(StorageUnavailable):
                count = await app.storage.count_used(contract, window, least=least, now_us=app.clock.now_us())
                app.metrics.near_quota.labels(contract.value).set(count)
        await asyncio.sleep(QUOTA_S)
