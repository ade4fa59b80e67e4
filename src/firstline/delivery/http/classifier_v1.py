"""The ticket classifier's contract: `/api/v1/*`."""

from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from firstline import __version__
from firstline.bootstrap import App
from firstline.core.errors import (
    DEMO_ACCOUNT,
    EMAIL_TAKEN,
    INVALID_REQUEST,
    KEY_NOT_FOUND,
    STORE_UNAVAILABLE,
    SUBSCRIPTION_REQUIRED,
)
from firstline.core.identity import KEY, bare
from firstline.core.message import Message
from firstline.core.plans import MICROSECONDS, Window
from firstline.core.taxonomy import DEFAULT_CATEGORIES, Contract
from firstline.delivery.http.callers import Callers, key_of, too_many_attempts
from firstline.delivery.http.charging import charged, limit_headers
from firstline.delivery.http.classifier_bodies import read_json, validated
from firstline.delivery.http.idempotency import answered_once, keeping, keeping_key
from firstline.delivery.http.replies import ErrorReply, json_reply
from firstline.delivery.http.schemas import ClassifyRequest, NewKeyRequest, RegisterRequest
from firstline.delivery.http.verdicts import asks_of, count, shared_members, spent_member
from firstline.ports.journal import JournalUnavailable
from firstline.ports.limiter import UsageUnknown
from firstline.ports.storage import ApiKey, EmailTaken, KeyNotFound, StorageUnavailable
from firstline.usecases.access import Caller
from firstline.usecases.accounts import FREE, NewKey, valid_email
from firstline.usecases.records import Charge
from firstline.usecases.verdict_store import Triaged

MAX_BATCH_BYTES: Final = 24 << 20
_BATCH_BYTES_PER_TICKET: Final = 24 << 10
_ITEMS_PER_TURN: Final = 50
_Model = TypeVar("_Model", bound=BaseModel)


class ClassifierV1:
    """Handlers of the routes of `/api/v1`."""

    def __init__(self, app: App, callers: Callers) -> None:
        self._app = app
        self._callers = callers
        self._known = frozenset(category.name for category in DEFAULT_CATEGORIES)

    async def health(self, request: Request) -> Response:
        """Whether verdicts can be given and stored; providers as their breakers say."""
        works = await self._app.probe()
        now = datetime.fromtimestamp(self._app.clock.now_us() / MICROSECONDS, UTC)
        body = {
            "status": "healthy" if works else "degraded",
            "version": __version__,
            "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "provider_status": {
                "local": "available",
                **{name: self._app.asking.state(name) for name in ("gemini", "openai", *self._app.asking.offered())},
            },
        }
        return json_reply(body, status=200 if works else 503)

    async def classify(self, request: Request) -> Response:
        """Category and priority of one ticket."""
        return await charged(
            request, self._classify, app=self._app, callers=self._callers, contract=Contract.CLASSIFIER
        )

    async def _classify(self, request: Request, caller: Caller, charge: Charge) -> Response:
        began, received_at_us = perf_counter(), self._app.clock.now_us()
        found = validated(ClassifyRequest, await read_json(request))
        message = Message(
            found.ticket, Contract.CLASSIFIER, customer_ref=found.customer_ref, external_id=found.external_id
        )

        def answer(done: Triaged) -> Response:
            return json_reply(
                {
                    "category": done.verdict.category,
                    "confidence": round(done.verdict.probability, 4),
                    "priority": done.verdict.priority.value,
                    "processing_time": round(perf_counter() - began, 6),
                    **shared_members(done),
                }
            )

        once = answered_once(request)
        keep = keeping(request, lambda stored: answer(stored[0][1]), caller=caller, at_us=received_at_us)
        try:
            done = await self._app.triage.triage(
                message, caller=caller, charge=charge, received_at_us=received_at_us, asks=asks_of(found), keep=keep
            )
        except (JournalUnavailable, StorageUnavailable):
            raise self._store_failed() from None
        count(self._app.metrics, Contract.CLASSIFIER, done.verdict, known=self._known)
        return (once and once.response) or answer(done)

    async def register(self, request: Request) -> Response:
        """A free account with its first key; paid tiers only for operators."""
        wait_s = self._callers.registrations.spend(self._callers.address(request), now_us=self._app.clock.now_us())
        if wait_s:
            raise too_many_attempts(wait_s, limit=self._callers.registrations.limit)
        found = validated(RegisterRequest, await read_json(request))
        email = valid_email(found.email)
        if email is None:
            raise ErrorReply(INVALID_REQUEST, "email: not an e-mail address.")
        plans = self._app.catalogues[Contract.CLASSIFIER].plans
        if found.tier not in plans:
            raise ErrorReply(INVALID_REQUEST, f"tier: one of {', '.join(plans)}.")
        operator = await self._callers.identify(request) if key_of(request) else None
        if found.tier != FREE and not (operator and operator.is_operator):
            raise ErrorReply(
                SUBSCRIPTION_REQUIRED,
                f"The {found.tier} tier needs a paid subscription: see {self._app.settings.upgrade_url}, or ask the "
                "operator of this server.",
            )
        limits = plans[found.tier].limits

        def answer(new: NewKey) -> Response:
            return json_reply(
                {
                    "api_key": new.secret,
                    "tier": found.tier,
                    "rate_limits": {"hourly": limits[Window.HOUR], "daily": limits[Window.DAY]},
                },
                status=201,
            )

        once = answered_once(request)
        try:
            actor = operator.actor if operator else f"address:{self._callers.address(request)}"
            new = await self._app.accounts.register(
                email, actor=actor, plan=found.tier, keep=keeping_key(request, answer, self._app.clock)
            )
        except EmailTaken:
            raise ErrorReply(EMAIL_TAKEN) from None
        except StorageUnavailable:
            raise self._store_failed() from None
        self._app.access.forget()
        return (once and once.response) or answer(new)

    async def usage(self, request: Request) -> Response:
        """Limits and what is left of them; costs nothing."""
        caller = await self._callers.identify(request)
        plan = self._callers.plan(caller, Contract.CLASSIFIER)
        headers, uses = await self._limits(caller)
        try:
            providers = await spent_member(self._app, caller.account.id)
        except StorageUnavailable:
            raise self._store_failed() from None
        left = {use.window: use for use in uses}
        return json_reply(
            {
                "tier": plan.name,
                "rate_limits": {
                    "hourly_limit": left[Window.HOUR].limit,
                    "hourly_remaining": left[Window.HOUR].remaining,
                    "daily_limit": left[Window.DAY].limit,
                    "daily_remaining": left[Window.DAY].remaining,
                },
                **providers,
            },
            headers=headers,
        )

    async def list_keys(self, request: Request) -> Response:
        """The keys of the caller's account."""
        caller = await self._callers.identify(request)
        headers, _ = await self._limits(caller)
        try:
            found = await self._app.keys.list(caller)
        except StorageUnavailable:
            raise self._store_failed() from None
        tier = caller.account.plans[Contract.CLASSIFIER]
        keys = [_key_data(key, tier) for key in found]
        return json_reply({"keys": keys, "total": len(keys)}, headers=headers)

    async def add_key(self, request: Request) -> Response:
        """A further key; it shares the account's limits."""
        caller = await self._callers.identify(request)
        headers, _ = await self._limits(caller)

        def answer(new: NewKey) -> Response:
            return json_reply(
                {
                    "key": new.secret,
                    "key_id": f"{KEY}{new.key.id}",
                    "tier": caller.account.plans[Contract.CLASSIFIER],
                    "created_at": iso(new.key.created_at_us),
                    "message": "Store this key now: it is not shown again.",
                },
                status=201,
                headers=headers,
            )

        once = answered_once(request)
        try:
            found = validated(NewKeyRequest, await read_json(request))
            if caller.key is None:
                raise ErrorReply(DEMO_ACCOUNT)
            keep = keeping_key(request, answer, self._app.clock, account_id=caller.account.id)
            new = await self._app.keys.add(caller, name=found.name, keep=keep)
        except ErrorReply as reply:
            reply.headers.update(headers)
            raise
        except StorageUnavailable:
            raise self._store_failed() from None
        return (once and once.response) or answer(new)

    async def revoke_key(self, request: Request) -> Response:
        """Revoke a key of the caller's account for good."""
        caller = await self._callers.identify(request)
        headers, _ = await self._limits(caller)
        key_id = bare(request.path_params["key_id"], prefix=KEY)
        try:
            if key_id is None:
                raise KeyNotFound
            await self._app.keys.revoke(key_id, account_id=caller.account.id, actor=caller.actor)
        except KeyNotFound:
            raise ErrorReply(KEY_NOT_FOUND, headers=headers) from None
        except StorageUnavailable:
            raise self._store_failed() from None
        return json_reply({"message": "The key is revoked and will not work again."}, headers=headers)

    async def _limits(self, caller: Caller) -> tuple[dict[str, str], tuple[Any, ...]]:
        plan = self._callers.plan(caller, Contract.CLASSIFIER)
        try:
            uses = await self._app.limiter.uses(caller.account.id, plan, now_us=self._app.clock.now_us())
        except UsageUnknown:
            raise self._store_failed() from None
        return limit_headers(plan, uses), uses

    def _store_failed(self) -> ErrorReply:
        self._app.metrics.store_failures.inc()
        return ErrorReply(STORE_UNAVAILABLE)


def _key_data(key: ApiKey, tier: str) -> dict[str, Any]:
    return {
        "id": f"{KEY}{key.id}",
        "name": key.name,
        "tier": tier,
        "is_active": key.revoked_at_us is None,
        "created_at": iso(key.created_at_us),
        "last_used": iso(key.last_used_at_us) if key.last_used_at_us is not None else None,
        "requests_count": key.requests,
    }


def iso(microseconds: int) -> str:
    """A moment as ISO 8601 with Z."""
    moment = datetime.fromtimestamp(microseconds / MICROSECONDS, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
