"""Endpoints of an account: create, change, rotate, test, look at what was delivered, replay what was not."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from firstline.core.destination import MAX_URL, DestinationRefused
from firstline.core.events import TEST_KIND, EventKind
from firstline.core.plans import MICROSECONDS
from firstline.core.signature import SECRET_BYTES, format_secret
from firstline.ports.journal import OutboxEvent
from firstline.ports.outbound import Outbound
from firstline.ports.sealing import Sealing
from firstline.ports.webhooks import (
    Delivery,
    DeliveryState,
    DisabledReason,
    Endpoint,
    EndpointState,
    SealedSecret,
    Webhooks,
)
from firstline.usecases.access import Caller
from firstline.usecases.accounts import Accounts
from firstline.usecases.events import Interests

MAX_ENDPOINTS: Final = 20
"""Of an account."""

MAX_DESCRIPTION: Final = 200
MAX_OVERLAP_S: Final = 7 * 86_400
DEFAULT_OVERLAP_S: Final = 86_400
MAX_PAGE: Final = 100
WHOLE_PREFIX: Final = "whk_"


class EndpointInvalid(ValueError):
    """An endpoint that cannot be; the message begins with the field.

    Attributes:
        field: what is at fault.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field


class EndpointDisabled(Exception):
    """Nothing is sent to an endpoint that is disabled."""


class SealingMissing(Exception):
    """The server has no key to keep secrets under."""


class ChangedMeanwhile(Exception):
    """Somebody else changes the endpoint, again and again."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be different; None leaves as it is."""

    url: str | None = None
    kinds: Sequence[str] | None = None
    description: str | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class WebhookEndpoints:
    """What an account does with its endpoints. Every method raises StorageUnavailable.

    Attributes:
        sealing: None where the server has no key to keep secrets under; then nothing is created.
        on_due: called when something is due at once.
    """

    webhooks: Webhooks
    outbound: Outbound
    sealing: Sealing | None
    accounts: Accounts
    interests: Interests
    on_due: Callable[[], None] = lambda: None

    async def list_all(self, caller: Caller) -> Sequence[Endpoint]:
        """All endpoints of the caller's account, oldest first."""
        return await self.webhooks.list_endpoints(caller.account.id)

    async def get(self, caller: Caller, endpoint_id: str) -> Endpoint:
        """Raises: EndpointNotFound."""
        return await self.webhooks.get_endpoint(endpoint_id, account_id=caller.account.id)

    async def create(
        self, caller: Caller, *, url: str, kinds: Sequence[str], description: str = "", enabled: bool = True
    ) -> tuple[Endpoint, str]:
        """A new endpoint and its secret, which nobody is told again.

        Raises: EndpointInvalid, TooManyEndpoints, SealingMissing.
        """
        now_us = self.accounts.clock.now_us()
        endpoint_id = self.accounts.identities.new_id()
        _check_bounds(kinds, description)
        secret, sealed = self._new_secret(endpoint_id)
        await self._check_url(url)
        endpoint = Endpoint(
            id=endpoint_id,
            account_id=caller.account.id,
            url=url,
            description=description,
            kinds=_ordered(kinds),
            secrets=(sealed,),
            created_at_us=now_us,
            changed_at_us=now_us,
            state=EndpointState.ENABLED if enabled else EndpointState.DISABLED,
            disabled_reason=None if enabled else DisabledReason.OWNER,
        )
        audit = self.accounts.entry(caller.actor, "webhook.create", caller.account.id, target=shown(endpoint_id))
        await self.webhooks.add_endpoint(endpoint, most=MAX_ENDPOINTS, audit=audit)
        self.interests.forget()
        return endpoint, secret

    async def change(self, caller: Caller, endpoint_id: str, change: Change) -> Endpoint:
        """The endpoint as it is then; enabling it forgets its failures.

        Raises: EndpointInvalid, EndpointNotFound, ChangedMeanwhile.
        """
        _check_bounds(change.kinds, change.description)
        if change.url is not None:
            await self.get(caller, endpoint_id)
            await self._check_url(change.url)

        def changed(endpoint: Endpoint) -> Endpoint:
            if change.url is not None:
                endpoint = replace(endpoint, url=change.url)
            if change.kinds is not None:
                endpoint = replace(endpoint, kinds=_ordered(change.kinds))
            if change.description is not None:
                endpoint = replace(endpoint, description=change.description)
            if change.enabled is True:
                return replace(endpoint, state=EndpointState.ENABLED, disabled_reason=None, failing_since_us=None)
            if change.enabled is False and endpoint.state is EndpointState.ENABLED:
                return replace(endpoint, state=EndpointState.DISABLED, disabled_reason=DisabledReason.OWNER)
            return endpoint

        return await self._change(caller, endpoint_id, "webhook.change", changed)

    async def delete(self, caller: Caller, endpoint_id: str) -> None:
        """Delete an endpoint with its deliveries.

        Raises: EndpointNotFound.
        """
        audit = self.accounts.entry(caller.actor, "webhook.delete", caller.account.id, target=shown(endpoint_id))
        await self.webhooks.delete_endpoint(endpoint_id, account_id=caller.account.id, audit=audit)
        self.interests.forget()

    async def rotate(self, caller: Caller, endpoint_id: str, *, overlap_s: int) -> tuple[Endpoint, str]:
        """A new secret; the one before signs beside it for a while, and older ones no more.

        Raises: EndpointInvalid, EndpointNotFound, SealingMissing, ChangedMeanwhile.
        """
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise EndpointInvalid("overlap_seconds", f"must be between 0 and {MAX_OVERLAP_S}")
        secret, sealed = self._new_secret(endpoint_id)
        until_us = self.accounts.clock.now_us() + overlap_s * MICROSECONDS

        def rotated(endpoint: Endpoint) -> Endpoint:
            kept = [replace(endpoint.secrets[0], until_us=until_us)] if overlap_s else []
            return replace(endpoint, secrets=(sealed, *kept))

        return await self._change(caller, endpoint_id, "webhook.rotate", rotated), secret

    async def send_test(self, caller: Caller, endpoint_id: str) -> Delivery:
        """Send an event to see whether it arrives.

        Raises: EndpointNotFound, EndpointDisabled.
        """
        await self._enabled(caller, endpoint_id)
        now_us = self.accounts.clock.now_us()
        payload = orjson.dumps({"webhook": shown(endpoint_id)}).decode()
        event = OutboxEvent(self.accounts.identities.new_id(), caller.account.id, TEST_KIND, payload, now_us)
        delivery = await self.webhooks.add_delivery(event, endpoint_id=endpoint_id)
        self.on_due()
        return delivery

    async def deliveries(
        self, caller: Caller, endpoint_id: str, *, state: DeliveryState | None, before: str | None, limit: int
    ) -> Sequence[Delivery]:
        """A page of the delivery log, newest first.

        Raises: EndpointNotFound.
        """
        await self.get(caller, endpoint_id)
        return await self.webhooks.list_deliveries(endpoint_id, state=state, before=before, limit=limit)

    async def delivery(self, caller: Caller, endpoint_id: str, event_id: str) -> Delivery:
        """Raises: EndpointNotFound, DeliveryNotFound."""
        await self.get(caller, endpoint_id)
        return await self.webhooks.get_delivery(event_id, endpoint_id=endpoint_id)

    async def replay(self, caller: Caller, endpoint_id: str, event_id: str) -> Delivery:
        """Send an event again, whether it arrived or not.

        Raises: EndpointNotFound, EndpointDisabled, DeliveryNotFound.
        """
        await self._enabled(caller, endpoint_id)
        now_us = self.accounts.clock.now_us()
        delivery = await self.webhooks.replay(event_id, endpoint_id=endpoint_id, now_us=now_us)
        self.on_due()
        return delivery

    async def replay_dead(self, caller: Caller, endpoint_id: str, *, since_us: int) -> int:
        """Send again what never arrived, of events since a time; how many there are.

        Raises: EndpointNotFound, EndpointDisabled.
        """
        await self._enabled(caller, endpoint_id)
        now_us = self.accounts.clock.now_us()
        count = await self.webhooks.replay_dead(endpoint_id, since_us=since_us, now_us=now_us)
        self.on_due()
        return count

    async def _enabled(self, caller: Caller, endpoint_id: str) -> None:
        if (await self.get(caller, endpoint_id)).state is not EndpointState.ENABLED:
            raise EndpointDisabled(endpoint_id)

    async def _change(
        self, caller: Caller, endpoint_id: str, action: str, changed: Callable[[Endpoint], Endpoint]
    ) -> Endpoint:
        for _ in range(3):
            before = await self.get(caller, endpoint_id)
            changed_at_us = max(self.accounts.clock.now_us(), before.changed_at_us + 1)
            after = replace(changed(before), changed_at_us=changed_at_us)
            audit = self.accounts.entry(caller.actor, action, caller.account.id, target=shown(endpoint_id))
            if await self.webhooks.change_endpoint(after, expected_us=before.changed_at_us, audit=audit):
                self.interests.forget()
                return after
        raise ChangedMeanwhile(endpoint_id)

    async def _check_url(self, url: str) -> None:
        if len(url) > MAX_URL:
            raise EndpointInvalid("url", f"must be at most {MAX_URL} characters long")
        try:
            await self.outbound.check(url)
        except DestinationRefused as error:
            raise EndpointInvalid("url", str(error)) from None

    def _new_secret(self, endpoint_id: str) -> tuple[str, SealedSecret]:
        if self.sealing is None:
            raise SealingMissing
        drawn = "".join(self.accounts.identities.new_secret() for _ in range(2))
        secret = format_secret(base64.urlsafe_b64decode(drawn)[:SECRET_BYTES])
        return secret, SealedSecret(self.sealing.seal(secret.encode(), context=seal_context(endpoint_id)))


def shown(endpoint_id: str) -> str:
    """An endpoint's id as callers see it."""
    return f"{WHOLE_PREFIX}{endpoint_id}"


def seal_context(endpoint_id: str) -> str:
    """Under what the secrets of an endpoint are sealed."""
    return f"webhook:{endpoint_id}"


def _ordered(kinds: Sequence[str]) -> tuple[str, ...]:
    return tuple(kind.value for kind in EventKind if kind.value in kinds)


def _check_bounds(kinds: Sequence[str] | None, description: str | None) -> None:
    if kinds is not None:
        known = [kind.value for kind in EventKind]
        if not kinds:
            raise EndpointInvalid("events", f"must name at least one of {', '.join(known)}")
        for number, kind in enumerate(kinds):
            if kind not in known:
                raise EndpointInvalid(f"events[{number}]", f"must be one of {', '.join(known)}")
    if description is not None and len(description) > MAX_DESCRIPTION:
        raise EndpointInvalid("description", f"must be at most {MAX_DESCRIPTION} characters long")
