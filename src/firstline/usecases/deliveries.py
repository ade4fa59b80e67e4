"""Delivering events: from the outbox to endpoints, again and again until they have arrived or it is given up.

Every event reaches an endpoint at least once: a delivery counts as done only after its answer is stored, so that a
process that dies in between leaves it to be sent again, under the same id. Endpoints do not wait for each other. Of
one endpoint, an event about a ticket waits until earlier events about the same ticket have arrived or were given up.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import orjson

from firstline.core.backoff import RETRY_DELAYS_S, next_delay_s
from firstline.core.events import event_message
from firstline.core.identity import EVENT
from firstline.core.plans import MICROSECONDS
from firstline.core.signature import signature_headers
from firstline.ports.clock import Clock
from firstline.ports.outbound import NotSent, Outbound
from firstline.ports.sealing import SealBroken, Sealing
from firstline.ports.storage import StorageUnavailable
from firstline.ports.webhooks import Attempt, Attempted, Backlog, Claimed, DeliveryState, DisabledReason, Webhooks
from firstline.usecases.accounts import Accounts
from firstline.usecases.webhooks import seal_context, shown

SLOTS: Final = 256
"""Attempts under way at once."""

ENDPOINT_SLOTS: Final = 32
"""Of one endpoint; one whose last attempt failed has a single one."""

LEASE_S: Final = 30.0
"""Longer than an attempt can take with what it needs to be stored."""

FAN_OUT: Final = 500
POLL_S: Final = 1.0
GATHER_S: Final = 0.05
"""After something has happened, so that what happens together is stored together."""

LOOK_S: Final = 15.0
"""Between looks at the backlog."""

PRUNE_S: Final = 3_600.0
KEPT_S: Final = 30 * 86_400.0
FAILING_S: Final = 5 * 86_400.0
"""An endpoint that only failed for so long is disabled."""

CLOSE_S: Final = 5.0


class Watcher(Protocol):
    """Is told of deliveries."""

    def attempted(self, outcome: str) -> None:
        """An attempt ended as `delivered`, `failed` (there will be another one) or `dead`."""
        ...

    def backlog(self, found: Backlog) -> None:
        """What waits."""
        ...

    def disabled(self, endpoint: str, reason: str) -> None:
        """An endpoint was disabled by what it answered."""
        ...


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """When it is tried again.

    Attributes:
        delays_s: after the first failure, the second, and so on.
        only_us: whether no other process delivers from the store; then what a dead one had claimed is free at once.
    """

    delays_s: Sequence[float] = RETRY_DELAYS_S
    only_us: bool = True


class Dispatcher:
    """Delivers until it is closed."""

    def __init__(
        self,
        webhooks: Webhooks,
        outbound: Outbound,
        sealing: Sealing | None,
        *,
        accounts: Accounts,
        policy: DeliveryPolicy,
        random: Callable[[], float],
        watcher: Watcher,
        on_fault: Callable[[BaseException], None],
    ) -> None:
        """Args:
        random: from 0 to 1, for jitter.
        on_fault: told of errors of our own; deliveries go on.
        """
        self._webhooks = webhooks
        self._outbound = outbound
        self._sealing = sealing
        self._accounts = accounts
        self._clock: Clock = accounts.clock
        self._policy = policy
        self._random = random
        self._watcher = watcher
        self._on_fault = on_fault
        self._flying: dict[asyncio.Task[None], Claimed] = {}
        self._done: list[Attempted] = []
        self._awake = asyncio.Event()
        self._run: asyncio.Task[None] | None = None
        self._released = False
        self._looked_s = self._pruned_s = float("-inf")

    def start(self) -> None:
        """Begin; call from the event loop."""
        self._run = asyncio.create_task(self._forever())

    def wake(self) -> None:
        """Something may be due."""
        self._awake.set()

    async def close(self) -> None:
        """Let what is under way end for a short while, store what came of it, and give back the rest."""
        if self._run is None:
            return
        self._run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._run
        flying = dict(self._flying)
        if flying:
            await asyncio.wait(flying, timeout=CLOSE_S)
        left = [claimed for task, claimed in flying.items() if not task.done()]
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)
        with contextlib.suppress(StorageUnavailable):
            await self._store_done()
            await self._webhooks.release(left)

    async def _forever(self) -> None:
        while True:
            self._awake.clear()
            more = False
            try:
                more = await self.turn()
            except StorageUnavailable:
                pass
            except Exception as error:  # deliveries must go on
                self._on_fault(error)
            if not more:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._awake.wait(), POLL_S)
            await asyncio.sleep(GATHER_S)

    async def turn(self) -> bool:
        """Store what was answered, fan out what is new, begin what is due; whether there may be more.

        Raises: StorageUnavailable.
        """
        now_us = self._clock.now_us()
        if self._policy.only_us and not self._released:
            await self._webhooks.release_all()
            self._released = True
        await self._store_done()
        moved = await self._webhooks.fan_out(limit=FAN_OUT, now_us=now_us)
        claimed: Sequence[Claimed] = ()
        if len(self._flying) < SLOTS:
            claimed = await self._webhooks.claim(
                now_us=now_us,
                lease_us=now_us + int(LEASE_S * MICROSECONDS),
                slots=SLOTS - len(self._flying),
                endpoint_slots=ENDPOINT_SLOTS,
                busy=Counter(one.endpoint.id for one in self._flying.values()),
            )
        for one in claimed:
            task = asyncio.create_task(self._attempt(one))
            self._flying[task] = one
            task.add_done_callback(self._landed)
        await self._housekeeping(now_us)
        return moved == FAN_OUT

    async def settled(self) -> None:
        """Wait for everything under way and store what came of it.

        Raises: StorageUnavailable.
        """
        while self._flying:
            await asyncio.wait(dict(self._flying))
        await self._store_done()

    def _landed(self, task: "asyncio.Task[None]") -> None:
        self._flying.pop(task, None)
        self._awake.set()

    async def _store_done(self) -> None:
        done, self._done = self._done, []
        if not done:
            return
        try:
            await self._webhooks.settle(done)
        except BaseException:
            self._done = done + self._done
            raise

    async def _housekeeping(self, now_us: int) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._watcher.backlog(await self._webhooks.backlog())
        if now_s - self._pruned_s >= PRUNE_S:
            self._pruned_s = now_s
            await self._webhooks.prune_deliveries(before_us=now_us - int(KEPT_S * MICROSECONDS))

    async def _attempt(self, claimed: Claimed) -> None:
        began_us = self._clock.now_us()
        status: int | None = None
        retry_after_s: float | None = None
        try:
            body = self._body(claimed)
            headers = self._headers(claimed, body, now_us=began_us)
            reply = await self._outbound.post(claimed.endpoint.url, headers=headers, body=body)
            status, retry_after_s = reply.status, reply.retry_after_s
            error = _fault_of(status)
        except NotSent as failure:
            error = failure.failure.value
        except SealBroken:
            error = "secret_unreadable"
        except Exception as fault:  # of our own: it is tried again like any other
            self._on_fault(fault)
            error = "internal"
        ended_us = self._clock.now_us()
        attempt = Attempt(began_us, max(ended_us - began_us, 0), status, error)
        self._done.append(self._outcome(claimed, attempt, retry_after_s=retry_after_s))

    def _body(self, claimed: Claimed) -> bytes:
        happened = datetime.fromtimestamp(claimed.happened_at_us / MICROSECONDS, UTC)
        timestamp = happened.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return orjson.dumps(event_message(claimed.kind, timestamp=timestamp, data=orjson.loads(claimed.payload)))

    def _headers(self, claimed: Claimed, body: bytes, *, now_us: int) -> dict[str, str]:
        if self._sealing is None:
            raise SealBroken
        context = seal_context(claimed.endpoint.id)
        live = [secret for secret in claimed.endpoint.secrets if secret.until_us is None or now_us < secret.until_us]
        secrets = [self._sealing.open(live[0].sealed, context=context).decode()]
        for older in live[1:]:
            with contextlib.suppress(SealBroken):  # what replaced it signs
                secrets.append(self._sealing.open(older.sealed, context=context).decode())
        signed = signature_headers(
            secrets, message_id=f"{EVENT}{claimed.event_id}", timestamp_s=now_us // MICROSECONDS, body=body
        )
        return {"Content-Type": "application/json", **signed}

    def _outcome(self, claimed: Claimed, attempt: Attempt, *, retry_after_s: float | None) -> Attempted:
        if attempt.error is None:
            self._watcher.attempted("delivered")
            return Attempted(claimed, attempt, DeliveryState.DELIVERED)
        failures = claimed.attempts + 1
        delay_s = next_delay_s(
            failures, delays_s=self._policy.delays_s, random=self._random(), retry_after_s=retry_after_s
        )
        reason = self._disables(claimed, attempt, failures)
        if reason is not None or delay_s is None:
            self._watcher.attempted("dead")
            audit = None
            if reason is not None:
                endpoint = claimed.endpoint
                self._watcher.disabled(shown(endpoint.id), reason.value)
                audit = self._accounts.entry(
                    "system",
                    "webhook.disable",
                    endpoint.account_id,
                    target=shown(endpoint.id),
                    detail={"reason": reason.value},
                )
            return Attempted(claimed, attempt, DeliveryState.DEAD, attempt.at_us, reason, audit)
        self._watcher.attempted("failed")
        next_at_us = attempt.at_us + attempt.duration_us + int(delay_s * MICROSECONDS)
        return Attempted(claimed, attempt, DeliveryState.PENDING, next_at_us)

    def _disables(self, claimed: Claimed, attempt: Attempt, failures: int) -> DisabledReason | None:
        if attempt.status == 410:
            return DisabledReason.GONE
        since_us = claimed.endpoint.failing_since_us
        # One failure of a quiet endpoint is none of five days, even if its last one is that long ago.
        if since_us is not None and failures > 1 and attempt.at_us - since_us >= FAILING_S * MICROSECONDS:
            return DisabledReason.FAILING
        return None


def _fault_of(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if status == 410:
        return "gone"
    return "redirected" if 300 <= status < 400 else "refused" if status < 500 else "failed"
