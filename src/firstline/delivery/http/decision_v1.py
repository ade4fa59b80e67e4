"""The decision contract: `/v1/decision` and what belongs to it."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from firstline.bootstrap import App
from firstline.core.api_key import KeyKind
from firstline.core.errors import OPERATOR_REQUIRED, STORE_UNAVAILABLE, VALIDATION_FAILED
from firstline.core.message import Message
from firstline.core.plans import Plan, Window
from firstline.core.taxonomy import DEFAULT_CATEGORIES, Contract
from firstline.delivery.http.bodies import JsonInvalid, parse_json, read_body
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.charging import charged, limit_headers
from firstline.delivery.http.classifier_v1 import iso
from firstline.delivery.http.idempotency import answered_once, keeping, keeping_key
from firstline.delivery.http.replies import ErrorReply, json_reply
from firstline.delivery.http.schemas import CreateKeyRequest, DecisionRequest
from firstline.delivery.http.verdicts import asks_of, count, shared_members, spent_member
from firstline.ports.journal import JournalUnavailable
from firstline.ports.limiter import UsageUnknown
from firstline.ports.storage import StorageUnavailable
from firstline.usecases.access import Caller
from firstline.usecases.accounts import NewKey, valid_email
from firstline.usecases.records import Charge
from firstline.usecases.verdict_store import Triaged

_Model = TypeVar("_Model", bound=BaseModel)


class DecisionV1:
    """Handlers of the decision contract's routes."""

    def __init__(self, app: App, callers: Callers) -> None:
        self._app = app
        self._callers = callers
        self._known = frozenset(category.name for category in DEFAULT_CATEGORIES)

    async def decide(self, request: Request) -> Response:
        """What to do with a message."""
        return await charged(
            request,
            self._decide,
            app=self._app,
            callers=self._callers,
            contract=Contract.DECISION,
            keyless=True,
        )

    async def _decide(self, request: Request, caller: Caller, charge: Charge) -> Response:
        received_at_us = self._app.clock.now_us()
        found = _validated(DecisionRequest, await read_body(request))
        message = Message(
            found.message,
            Contract.DECISION,
            plan=found.user_plan,
            channel=found.channel,
            history=tuple(found.history),
            customer_ref=found.customer_ref,
            external_id=found.external_id,
        )
        once = answered_once(request)
        keep = keeping(request, lambda stored: _answer(stored[0][1]), caller=caller, at_us=received_at_us)
        try:
            done = await self._app.triage.triage_safely(
                message, caller=caller, charge=charge, received_at_us=received_at_us, asks=asks_of(found), keep=keep
            )
        except (JournalUnavailable, StorageUnavailable):
            self._app.metrics.store_failures.inc()
            raise ErrorReply(STORE_UNAVAILABLE) from None
        count(self._app.metrics, Contract.DECISION, done.verdict, known=self._known)
        return (once and once.response) or _answer(done)

    async def usage(self, request: Request) -> Response:
        """Requests so far, limits and cost; costs nothing."""
        caller = await self._callers.identify(request)
        plan = self._callers.plan(caller, Contract.DECISION)
        try:
            uses = await self._app.limiter.uses(caller.account.id, plan, now_us=self._app.clock.now_us())
            last = await self._app.storage.last_request_at_us(caller.account.id)
            providers = await spent_member(self._app, caller.account.id)
        except (UsageUnknown, StorageUnavailable):
            self._app.metrics.store_failures.inc()
            raise ErrorReply(STORE_UNAVAILABLE) from None
        by_window = {use.window: use for use in uses}
        day, month = by_window[Window.DAY], by_window[Window.MONTH]
        return json_reply(
            {
                "tier": plan.name,
                "usage": {
                    "requests_today": day.used,
                    "requests_this_month": month.used,
                    "last_request_at": iso(last) if last is not None else None,
                },
                "limits": {"requests_per_day": day.limit, "requests_per_month": month.limit},
                "remaining": {"today": day.remaining, "this_month": month.remaining},
                "estimated_cost_this_month": {
                    "included_requests": month.limit,
                    "overage_requests": 0,
                    "overage_cost_usd": 0.0,
                    "total_cost_usd": float(plan.price_usd_per_month or 0),
                },
                **providers,
            },
            headers=limit_headers(plan, uses),
        )

    async def pricing(self, request: Request) -> Response:
        """The plans and their prices."""
        catalogue = self._app.catalogues[Contract.DECISION]
        tiers = [
            {"tier": plan.name, "price_usd_per_month": plan.price_usd_per_month, "limits": _limits_data(plan)}
            for plan in catalogue.plans.values()
        ]
        return json_reply({"currency": "USD", "tiers": tiers, "notes": list(catalogue.notes)})

    async def create_key(self, request: Request) -> Response:
        """A key for an e-mail address; operators only."""
        caller = await self._callers.identify(request)
        plan = self._callers.plan(caller, Contract.DECISION)
        try:
            uses = await self._app.limiter.uses(caller.account.id, plan, now_us=self._app.clock.now_us())
            response = await self._create_key(request, caller)
        except UsageUnknown:
            self._app.metrics.store_failures.inc()
            raise ErrorReply(STORE_UNAVAILABLE) from None
        except ErrorReply as reply:
            reply.headers.update(limit_headers(plan, uses))
            raise
        response.headers.update(limit_headers(plan, uses))
        return response

    async def _create_key(self, request: Request, caller: Caller) -> Response:
        if not caller.is_operator:
            raise ErrorReply(OPERATOR_REQUIRED)
        found = _validated(CreateKeyRequest, await read_body(request))
        email = valid_email(found.email)
        if email is None:
            raise _unprocessable([_fault("value_error", ["body", "email"], "not an e-mail address")])
        plan = self._app.catalogues[Contract.DECISION].plans[found.tier]

        def answer(new: NewKey) -> Response:
            return json_reply(
                {
                    "api_key": new.secret,
                    "tier": found.tier,
                    "limits": _limits_data(plan),
                    "warning": "Store this key now: it is not shown again.",
                },
                status=201,
            )

        once = answered_once(request)
        try:
            new = await self._app.accounts.create_key(
                email,
                catalogue=Contract.DECISION,
                plan=found.tier,
                name=found.name,
                kind=KeyKind.TEST if found.is_test else KeyKind.LIVE,
                actor=caller.actor,
                keep=keeping_key(request, answer, self._app.clock, account_id=caller.account.id),
            )
        except StorageUnavailable:
            self._app.metrics.store_failures.inc()
            raise ErrorReply(STORE_UNAVAILABLE) from None
        self._app.access.forget()
        return (once and once.response) or answer(new)


def _answer(done: Triaged) -> Response:
    verdict = done.verdict
    return json_reply(
        {
            "decision": verdict.decision.value,
            "priority": verdict.priority.value,
            "churn_risk": verdict.churn_risk,
            "confidence": verdict.confidence,
            "recommended_action": verdict.recommended_action,
            "category": verdict.category,
            **shared_members(done),
        }
    )


def _limits_data(plan: Plan) -> dict[str, int]:
    return {f"requests_per_{window}": limit for window, limit in plan.limits.items()}


def _validated(model: type[_Model], body: bytes) -> _Model:
    try:
        data = parse_json(body)
    except JsonInvalid as error:
        raise _unprocessable(
            [_fault("json_invalid", ["body", error.position], f"JSON decode error: {error}")]
        ) from None
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise _unprocessable(
            [
                _fault(fault["type"], ["body", *fault["loc"]], fault["msg"].removeprefix("Value error, "))
                for fault in found[:20]
            ]
        ) from None


def _fault(kind: str, place: list[Any], message: str) -> dict[str, Any]:
    return {"type": kind, "loc": place, "msg": message}


def _unprocessable(detail: list[dict[str, Any]]) -> ErrorReply:
    return ErrorReply(VALIDATION_FAILED, body={"detail": detail})
