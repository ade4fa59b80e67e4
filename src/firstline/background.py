"""What a server does by itself, again and again, beside answering requests."""

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING, Final

import orjson

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
