"""Webhooks over the database that a server has opened: who asks for what, endpoints, and what delivers."""

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firstline import __version__
from firstline.adapters.outbound import GuardedOutbound
from firstline.adapters.sealing import KEY_FILE, open_sealer
from firstline.adapters.sql.runners import read_in_threads, write_directly
from firstline.adapters.sql.server_stores import ServerStore
from firstline.adapters.sql.sql_webhooks import SqlWebhooks
from firstline.adapters.telemetry import Metrics, fault_fields
from firstline.core.breaker import Phase
from firstline.ports.journal import JournalUnavailable
from firstline.ports.storage import StorageUnavailable
from firstline.ports.webhooks import Backlog
from firstline.settings import SettingsInvalid
from firstline.usecases.deliveries import DeliveryPolicy, Dispatcher
from firstline.usecases.events import Events, Interests
from firstline.usecases.webhooks import WebhookEndpoints

if TYPE_CHECKING:
    from firstline.bootstrap import App


@dataclass(frozen=True, slots=True)
class Hooks:
    """Webhooks of a server.

    Attributes:
        endpoints: what accounts do with theirs.
        events: makes events for those who ask for them.
        dispatcher: delivers them.
    """

    endpoints: WebhookEndpoints
    events: Events
    dispatcher: Dispatcher
    outbound: GuardedOutbound

    def start(self) -> None:
        """Begin to deliver; call from the event loop."""
        self.dispatcher.start()

    async def close(self) -> None:
        """Deliver nothing any more."""
        await self.dispatcher.close()
        await self.outbound.close()

    def forget(self) -> None:
        """Something has changed, maybe in another process."""
        self.events.interests.forget()


def build_webhooks(app: "App", store: ServerStore) -> Hooks:
    """Webhooks of an assembled server; its triage and its providers tell of events from then on.

    Raises: SettingsInvalid when the key file cannot be used.
    """
    settings = app.settings
    key_folder = None if store.shared else settings.data_dir
    try:
        sealing = open_sealer(
            settings.secret_key.get_secret_value() if settings.secret_key else None, key_folder=key_folder
        )
    except OSError as error:
        place = settings.data_dir / KEY_FILE
        raise SettingsInvalid(f"The key in {place} cannot be used: {error.strerror or error}.") from None
    # Servers that claim at the same time would be in each other's way again and again if that were serializable.
    deliver = write_directly(store.database, isolation="READ COMMITTED") if store.shared else None
    webhooks = SqlWebhooks(read_in_threads(store.database), store.write, deliver=deliver)
    outbound = GuardedOutbound(loopback=app.development, user_agent=f"firstline/{__version__}")
    interests = Interests(webhooks)
    dispatcher = Dispatcher(
        webhooks,
        app.tracing.outbound(outbound),
        sealing,
        accounts=app.accounts,
        policy=DeliveryPolicy(delays_s=settings.webhook_delays_s, only_us=not store.shared),
        random=random.random,
        watcher=_Watcher(app.metrics, app),
        on_fault=lambda error: _say_fault(app, error),
    )
    events = Events(interests, app.clock, app.identities, on_written=dispatcher.wake)
    app.triage.tell(events)
    _tell_provider_states(app, store, events)
    endpoints = WebhookEndpoints(webhooks, outbound, sealing, app.accounts, interests, on_due=dispatcher.wake)
    return Hooks(endpoints, events, dispatcher, outbound)


class _Watcher:
    """Implements `usecases.deliveries.Watcher`: metrics and log; neither holds a URL, a body or a secret."""

    def __init__(self, metrics: Metrics, app: "App") -> None:
        self._metrics = metrics
        self._app = app
        self._oldest_at_us: int | None = None
        metrics.webhook_oldest.set_function(self._age_s)

    def attempted(self, outcome: str) -> None:
        """See the protocol, as for all methods below."""
        self._metrics.webhook_attempts.labels(outcome).inc()

    def backlog(self, found: Backlog) -> None:
        self._metrics.webhook_pending.set(found.pending)
        self._metrics.webhook_dead.set(found.dead)
        self._oldest_at_us = found.oldest_at_us

    def disabled(self, endpoint: str, reason: str) -> None:
        self._app.log.warning("webhook_disabled", endpoint=endpoint, reason=reason)

    def _age_s(self) -> float:
        if self._oldest_at_us is None:
            return 0.0
        return max(self._app.clock.now_us() - self._oldest_at_us, 0) / 1_000_000


def _tell_provider_states(app: "App", store: ServerStore, events: Events) -> None:
    watcher = app.metrics.providers
    said = watcher.on_state
    telling: set[asyncio.Task[None]] = set()

    async def tell(provider: str, model: str, phase: Phase) -> None:
        try:
            await events.tell_provider_state(store.journal, provider, model, phase.value)
        except (StorageUnavailable, JournalUnavailable):
            app.metrics.store_failures.inc()
        except Exception as error:  # nobody waits for this task
            _say_fault(app, error)

    def on_state(provider: str, model: str, phase: Phase) -> None:
        said(provider, model, phase)
        try:
            task = asyncio.get_running_loop().create_task(tell(provider, model, phase))
        except RuntimeError:  # outside of the server's loop nothing is told
            return
        telling.add(task)
        task.add_done_callback(telling.discard)

    watcher.on_state = on_state


def _say_fault(app: "App", error: BaseException) -> None:
    app.metrics.faults.labels("webhooks").inc()
    app.log.error("fault", route="webhooks", **fault_fields(error))
