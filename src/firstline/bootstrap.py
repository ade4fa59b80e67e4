"""The one place where adapters meet use cases: `build(settings)` for the server, `build_engine` for the rest."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from firstline.adapters.local_model import LocalModel, load_local_model
from firstline.adapters.memory_limiter import MemoryLimiter
from firstline.adapters.plan_files import Catalogues, load_catalogues
from firstline.adapters.rule_files import read_rules
from firstline.adapters.sealed_answers import SealedAnswers
from firstline.adapters.shipped_rules import shipped_rules
from firstline.adapters.spool.folder import SpoolUnusable
from firstline.adapters.sql.analytics_sql import SqlAnalytics
from firstline.adapters.sql.webhook_erasure import WebhookBodies
from firstline.adapters.system import SystemClock, SystemIdentities, free_bytes, return_memory, share_one_heap
from firstline.adapters.telemetry import Metrics, fault_fields, open_log
from firstline.adapters.trainer import ProcessTrainer
from firstline.background import (
    fold_counts,
    forget_jobs,
    keep_history,
    keep_versions,
    measure_lag,
    prune,
    store_spend,
    store_spend_now,
    watch_jobs,
    watch_quota,
    watch_rules,
)
from firstline.bootstrap_asking import ask_policy_of, build_asking
from firstline.bootstrap_history import Kept, SecretMissing, build_kept
from firstline.bootstrap_jobs import build_jobs, build_worker, child_environment, processes_of
from firstline.bootstrap_redis import open_shared
from firstline.bootstrap_spool import SpooledTexts, SpoolingJournal, have_at_hand, open_spool, stale_s_of, watch_spool
from firstline.bootstrap_stores import CannotStart, open_server_store
from firstline.bootstrap_tracing import Tracing, build_tracing
from firstline.bootstrap_webhooks import Hooks, build_webhooks
from firstline.core.breaker import Phase
from firstline.core.policy import Policy
from firstline.core.rules import RuleBook
from firstline.ports.clock import Clock, Identities
from firstline.ports.journal import Journal, Record
from firstline.ports.limiter import Limiter
from firstline.ports.storage import EmailTaken, Storage, StorageUnavailable
from firstline.ports.trainer import Trainer
from firstline.settings import Environment, Settings, SettingsInvalid
from firstline.usecases.access import ANONYMOUS, DEMO_ACCOUNTS, Access
from firstline.usecases.accounts import Accounts
from firstline.usecases.analytics import Analytics
from firstline.usecases.asking import Asking
from firstline.usecases.categories import Categories
from firstline.usecases.erasure import Eraser
from firstline.usecases.feedback import Feedback
from firstline.usecases.history import TicketHistory
from firstline.usecases.idempotency import Idempotency
from firstline.usecases.in_force import AccountsInForce
from firstline.usecases.jobs import Jobs
from firstline.usecases.keys import Keys
from firstline.usecases.records import Keeping
from firstline.usecases.rules import RulesInForce
from firstline.usecases.spending import Spending
from firstline.usecases.tickets import Triage

if TYPE_CHECKING:
    from firstline.adapters.redis.shared import Shared

LATE_AT_STOP_S: Final = 3.0
"""How long the end waits for answers of providers that come after the deadline."""


@dataclass(slots=True)
class App:
    """Everything a delivery layer needs; nothing else is global."""

    settings: Settings
    clock: Clock
    identities: Identities
    storage: Storage
    limiter: Limiter
    catalogues: Catalogues
    access: Access
    accounts: Accounts
    keys: Keys
    idempotency: Idempotency
    categories: Categories
    asking: Asking
    spending: Spending
    triage: Triage
    jobs: Jobs
    history: TicketHistory
    feedback: Feedback
    eraser: Eraser
    rules: RulesInForce
    metrics: Metrics
    log: Any
    development: bool
    probe: Callable[[], Awaitable[bool]]
    start: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    tracing: Tracing
    queued: Callable[[], int] = field(default=lambda: 0)
    shared: "Shared | None" = None
    spool: SpoolingJournal | None = None
    is_spooling: Callable[[], bool] = field(default=lambda: False)
    draining: bool = False
    """Whether the server is about to stop, so that traffic should go elsewhere."""
    hooks: Hooks = field(init=False)
    analytics: Analytics = field(init=False)


@dataclass(frozen=True, slots=True)
class Engine:
    """What decides, without anything that stores."""

    classifier: LocalModel
    rules: RulesInForce
    book: RuleBook
    policy: Policy


def build_engine(settings: Settings) -> Engine:
    """Model, rules and policy.

    Raises: CannotStart when the model file or the own rules cannot be used.
    """
    try:
        classifier = load_local_model(settings.model_file)
        folder = settings.rules_dir
        rules = RulesInForce(shipped_rules(), (lambda: read_rules(folder)) if folder else None)
        book = rules.load()
    except ValueError as error:
        raise CannotStart(f"{error}.") from None
    policy = Policy(low_confidence=settings.low_confidence_threshold, review_probability=settings.review_probability)
    return Engine(classifier, rules, book, policy)


def is_development(settings: Settings) -> bool:
    """Whether demo keys and keyless calls are allowed at all.

    Raises: CannotStart when development is asked for on an address that others can reach.
    """
    loopback = _is_loopback(settings.host)
    if settings.environment is Environment.DEVELOPMENT and not loopback:
        raise CannotStart(
            f"The environment is set to development, which accepts public demo keys and calls without a key, but "
            f"{settings.host} can be reached by others. Listen on 127.0.0.1, or set FIRSTLINE_ENVIRONMENT=production."
        )
    return loopback and settings.environment is not Environment.PRODUCTION


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def build(settings: Settings, *, serves: bool = True) -> App:
    """The whole server, on SQLite or PostgreSQL.

    Args:
        serves: whether it is the server of its data folder; otherwise it works on jobs beside one.
    Raises: CannotStart.
    """
    share_one_heap()
    development = serves and is_development(settings)
    try:
        tracing = build_tracing(settings, development=development)
    except SettingsInvalid as error:
        raise CannotStart(str(error)) from None
    store = open_server_store(settings, on_foreign_change=lambda: forget(), alone=serves)
    try:
        engine = build_engine(settings)
    except CannotStart:
        store.abandon()
        raise
    clock, identities = SystemClock(), SystemIdentities()
    try:
        kept = build_kept(settings, store, clock=clock, stale_s=stale_s_of(settings))
    except (SecretMissing, StorageUnavailable) as error:
        store.abandon()
        raise CannotStart(str(error)) from None
    try:
        spool = open_spool(settings, store, clock=clock) if serves else None
    except SpoolUnusable as error:
        store.abandon()
        raise CannotStart(str(error)) from None
    log = open_log(settings.log_level, through=tracing.processors)
    access = Access(store.storage, clock=clock, stale_s=settings.stale_keys_seconds)
    background: list[asyncio.Task[None]] = []

    def forget() -> None:
        access.forget()
        access.read_again()
        app.categories.in_force.forget()
        kept.texts.forget()
        app.hooks.forget()
        app.eraser.notice()

    async def start() -> None:
        await store.start()
        if spool is not None:
            await spool.start()
        if app.shared is not None:
            await app.shared.start(grants=serves)
        if development:
            await _ensure_demo_accounts(app.accounts)
        await keep_versions(app)
        await asyncio.to_thread(app.asking.warm)
        background.append(asyncio.create_task(watch_rules(app)))
        background.append(asyncio.create_task(prune(app)))
        background.append(asyncio.create_task(fold_counts(app)))
        background.append(asyncio.create_task(forget_jobs(app)))
        background.append(asyncio.create_task(keep_history(app, kept)))
        background.append(asyncio.create_task(store_spend(app, store.journal)))
        background.append(asyncio.create_task(measure_lag(app)))
        background.append(asyncio.create_task(watch_jobs(app)))
        background.append(asyncio.create_task(watch_quota(app)))
        if worker is not None:
            worker.start()
        if serves:  # a worker cannot know which destinations its servers may address
            app.hooks.start()
        return_memory()

    async def close() -> None:
        if worker is not None:
            await worker.close()
        for task in background:
            task.cancel()
        for task in background:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await access.close()
        if at_hand is not None:
            await at_hand.close()
        await app.eraser.close()
        await app.hooks.close()
        await app.triage.wait_for_late(at_most_s=LATE_AT_STOP_S)
        await app.asking.close()
        await app.triage.close()
        await app.categories.in_force.close()
        await store_spend_now(app, store.journal)
        if app.shared is not None:
            await app.shared.close()
        if spool is not None:
            await spool.close()
        await store.close()
        await tracing.close()

    store_works = True

    async def probe() -> bool:
        nonlocal store_works
        if spool is not None and spool.spooling:
            return spool.usable
        store_works = await store.probe()
        return store_works or (spool is not None and spool.usable)

    def is_spooling() -> bool:
        return spool is not None and (spool.spooling or not store_works)

    def on_commit(records: Sequence[Record], seconds: float) -> None:
        app.metrics.commits.observe(seconds)
        tracing.committed(records, seconds)

    try:
        app = assemble(
            settings,
            engine,
            journal=tracing.journal(spool or store.journal),
            storage=store.storage,
            access=access,
            trainer=ProcessTrainer(engine.classifier, model_file=settings.model_file, environment=child_environment()),
            kept=kept,
            jobs=build_jobs(settings, store, clock=clock, identities=identities),
            clock=clock,
            identities=identities,
            log=log,
            development=development,
            probe=probe,
            start=start,
            close=close,
            tracing=tracing,
        )
        app.hooks = build_webhooks(app, store)
        app.analytics = Analytics(SqlAnalytics(store.database, store.write), clock)
    except SettingsInvalid as error:
        store.abandon()
        raise CannotStart(str(error)) from None
    app.queued = store.queued
    store.tell_commits(on_commit)
    app.metrics.data_free.set_function(lambda: free_bytes(settings.data_dir))
    app.spool, app.is_spooling = spool, is_spooling
    app.feedback.events, app.feedback.is_spooling = app.hooks.events, is_spooling
    if spool is not None:
        app.eraser.erasables.append(SpooledTexts(spool))
        watch_spool(
            spool,
            settings,
            metrics=app.metrics,
            log=log,
            on_stored=app.hooks.dispatcher.wake,
            on_fault=lambda error: log.error("fault", route="spool", **fault_fields(error)),
        )
    at_hand = None
    if spool is not None:
        at_hand = have_at_hand(app, kept.texts)
        access.on_read = at_hand.fetch
    app.eraser.erasables += [app.jobs, WebhookBodies(store.write)]
    processes = processes_of(settings)
    worker = None
    if processes:
        worker = build_worker(app, journal=store.journal, texts=kept.texts, processes=processes)
        app.jobs.on_added = worker.wake
    return app


def assemble(
    settings: Settings,
    engine: Engine,
    *,
    journal: Journal,
    storage: Storage,
    access: Access,
    trainer: Trainer,
    kept: Kept,
    jobs: Jobs,
    clock: Clock,
    identities: Identities,
    log: Any,
    development: bool,
    probe: Callable[[], Awaitable[bool]],
    start: Callable[[], Awaitable[None]],
    close: Callable[[], Awaitable[None]],
    tracing: Tracing,
) -> App:
    """Use cases over given adapters; `build` calls it for the server, tests call it with memory adapters.

    Raises: SettingsInvalid when a provider cannot be opened as the settings have it.
    """
    accounts = Accounts(storage, clock, identities)
    metrics = Metrics()
    tracing.watch(metrics, log)

    def on_fault(route: str) -> Callable[[BaseException], None]:
        def tell(error: BaseException) -> None:
            metrics.faults.labels(route).inc()
            log.error("fault", route=route, **fault_fields(error))

        return tell

    in_force = AccountsInForce(
        accounts,
        trainer,
        model=engine.classifier.name,
        policy=engine.policy,
        asking=ask_policy_of(settings),
        stale_s=stale_s_of(settings),
        on_fault=on_fault("train"),
    )
    watcher = metrics.providers

    def tell_state(provider: str, model: str, phase: Phase) -> None:
        level = log.warning if phase is Phase.OPEN else log.info
        level("provider_state", provider=provider, model=model, state=phase.value)

    watcher.on_state = tell_state
    shared = open_shared(
        settings,
        storage=storage,
        metrics=metrics,
        log=log,
        on_trip=lambda provider, model, seconds: asking.open_for(provider, model, seconds),
    )
    asking, spending = build_asking(
        settings,
        storage=storage,
        clock=clock,
        watcher=watcher,
        on_unpriced=lambda provider, model: log.warning("provider_without_price", provider=provider, model=model),
        on_trip=shared.news.publish_trip if shared else lambda provider, model, seconds: None,
        traced=tracing.provider,
    )
    watcher.flying.set_function(lambda: asking.flying)

    triage = Triage(
        journal=journal,
        classifier=engine.classifier,
        rules=engine.book,
        policy=engine.policy,
        clock=clock,
        identities=identities,
        keeping=Keeping(settings.history, settings.history_text),
        in_force=in_force,
        asking=asking,
        spending=spending,
        on_fault=on_fault("triage"),
        on_late=watcher.late,
        texts=kept.texts,
        tracer=tracing.tracer,
    )
    metrics.build.info({"model": triage.model, "rules": triage.rules.content_hash[:16]})
    return App(
        settings=settings,
        clock=clock,
        identities=identities,
        storage=storage,
        limiter=shared.limiter
        if shared
        else MemoryLimiter(lambda account_id, catalogue, now_us: storage.usage(account_id, catalogue, now_us=now_us)),
        catalogues=load_catalogues(free_hourly=settings.rate_limit_hourly, free_daily=settings.rate_limit_daily),
        access=access,
        accounts=accounts,
        keys=Keys(accounts, access.refuse),
        idempotency=Idempotency(storage, journal, SealedAnswers(), clock),
        categories=Categories(accounts, trainer, in_force, engine.classifier.name),
        asking=asking,
        spending=spending,
        triage=triage,
        jobs=jobs,
        history=TicketHistory(kept.history, kept.texts, clock, feedback=kept.feedback),
        feedback=Feedback(kept.feedback, kept.history, in_force, clock=clock, identities=identities),
        eraser=Eraser(
            kept.history,
            kept.erasures,
            texts=kept.texts,
            accounts=accounts,
            identities=identities,
            forget=asking.forget,
            on_fault=on_fault("erasure"),
        ),
        rules=engine.rules,
        metrics=metrics,
        log=log,
        development=development,
        probe=probe,
        start=start,
        close=close,
        tracing=tracing,
        shared=shared,
    )


async def _ensure_demo_accounts(accounts: Accounts) -> None:
    for account in (ANONYMOUS, *DEMO_ACCOUNTS.values()):
        with contextlib.suppress(EmailTaken):
            await accounts.storage.add_account(account, None, accounts.entry("system", "account.create", account.id))
