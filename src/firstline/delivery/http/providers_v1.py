"""When and how an account's messages go to providers, and what that has cost: `/v1/providers`."""

from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from firstline.bootstrap import App
from firstline.core.asking import AskPolicy, AskPolicyInvalid, ModelChoice, to_data
from firstline.core.errors import VERSION_CHANGED
from firstline.delivery.http.bodies import MAX_BODY_BYTES, read_body
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.charging import uncharged
from firstline.delivery.http.classifier_v1 import iso
from firstline.delivery.http.own_settings_schemas import ProvidersRequest
from firstline.delivery.http.own_settings_v1 import expected_versions, invalid, store_failed, validated
from firstline.delivery.http.replies import ErrorReply, json_reply
from firstline.delivery.http.verdicts import MICROS
from firstline.ports.storage import SpendRow, StorageUnavailable, VersionChanged
from firstline.usecases.ask_policies import AskPolicies, Offers, Spent
from firstline.usecases.in_force import InForce


class ProvidersV1:
    """Handlers of the route by which an account says when and how providers are asked."""

    def __init__(self, app: App, callers: Callers, *, offers: Offers) -> None:
        self._app = app
        self._callers = callers
        self._offers = offers
        self._policies = AskPolicies(app.accounts, app.categories.in_force, offers)

    async def providers(self, request: Request) -> Response:
        """When and how providers are asked, what this server offers, and what was spent."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        try:
            return self._reply(await self._policies.get(caller), await self._policies.spent(caller))
        except StorageUnavailable:
            raise store_failed(self._app) from None

    async def put_providers(self, request: Request) -> Response:
        """Say when and how providers are asked, in place of all that was said before."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        given = validated(ProvidersRequest, await read_body(request, limit=MAX_BODY_BYTES))
        wanted = _policy(given, defaults=self._policies.defaults)
        try:
            spent = await self._policies.spent(caller)  # before the change: a failure has changed nothing
            found = await self._policies.put(caller, wanted, expected=expected_versions(request))
        except AskPolicyInvalid as error:
            raise invalid(error.field, f"{error}.") from None
        except VersionChanged:
            raise ErrorReply(VERSION_CHANGED) from None
        except StorageUnavailable:
            raise store_failed(self._app) from None
        return self._reply(found, spent)

    def _reply(self, found: InForce, spent: Spent) -> Response:
        body = {
            "version": found.asking_version,
            **to_data(found.asking),
            "changed_at": iso(found.asking_at_us) if found.asking_at_us is not None else None,
            "offered": [
                {
                    "provider": provider,
                    "models": models,
                    "default": models[0] if models else None,
                    "state": self._offers.state(provider),
                }
                for provider, models in self._offers.offered().items()
            ],
            "spent": _spent_data(spent),
        }
        return json_reply(body, headers={"ETag": f'"{found.asking_version}"'})


def _policy(given: ProvidersRequest, *, defaults: AskPolicy) -> AskPolicy | None:
    """The policy that a body asks for; None when it says nothing at all."""
    members: dict[str, Any] = {
        "mode": given.mode,
        "threshold": given.threshold,
        "timeout_s": given.timeout_seconds,
        "temperature": given.temperature,
        "max_tokens": given.max_tokens,
        "daily_budget_usd": given.daily_budget_usd,
        "monthly_budget_usd": given.monthly_budget_usd,
    }
    if given.providers is not None:
        members["order"] = tuple(ModelChoice(entry.provider, entry.model) for entry in given.providers)
    if given.allowed is not None:
        members["allowed"] = tuple(entry.strip() for entry in given.allowed)
    said = {name: value for name, value in members.items() if value is not None}
    return replace(defaults, **said) if said else None


def _spent_data(spent: Spent) -> dict[str, Any]:
    return {
        "today_usd": spent.today_micros / MICROS,
        "this_month_usd": spent.month_micros / MICROS,
        "by_provider": [_model_data(row) for row in spent.by_model],
    }


def _model_data(row: SpendRow) -> dict[str, Any]:
    return {
        "provider": row.provider,
        "model": row.model,
        "calls": row.calls,
        "failures": row.failures,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost_usd": row.cost_usd_micros / MICROS,
    }
