"""Endpoints of an account and what was delivered to them: `/v1/webhooks`."""

from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from firstline.bootstrap import App
from firstline.core.errors import (
    DELIVERY_NOT_FOUND,
    DEMO_ACCOUNT,
    TOO_MANY_WEBHOOKS,
    WEBHOOK_DISABLED,
    WEBHOOK_NOT_FOUND,
    WEBHOOKS_UNAVAILABLE,
)
from firstline.core.identity import EVENT, bare
from firstline.delivery.http.bodies import read_body
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.charging import uncharged
from firstline.delivery.http.classifier_v1 import iso
from firstline.delivery.http.own_settings_v1 import invalid, store_failed, validated
from firstline.delivery.http.queries import asked, moment
from firstline.delivery.http.replies import ErrorReply, json_reply
from firstline.delivery.http.webhook_schemas import (
    DeliveriesQuery,
    ReplayRequest,
    RotateRequest,
    WebhookChangeRequest,
    WebhookRequest,
)
from firstline.ports.storage import StorageUnavailable
from firstline.ports.webhooks import (
    Delivery,
    DeliveryNotFound,
    DeliveryState,
    Endpoint,
    EndpointNotFound,
    TooManyEndpoints,
)
from firstline.usecases.access import Caller
from firstline.usecases.webhooks import (
    WHOLE_PREFIX,
    Change,
    ChangedMeanwhile,
    EndpointDisabled,
    EndpointInvalid,
    SealingMissing,
    WebhookEndpoints,
    shown,
)

_Found = TypeVar("_Found")


class WebhooksV1:
    """Handlers of the routes by which an account is told of events."""

    def __init__(self, app: App, callers: Callers) -> None:
        self._app = app
        self._callers = callers

    async def webhooks(self, request: Request) -> Response:
        """All endpoints."""
        caller = await self._caller(request)
        found = await self._outcome(self._endpoints.list_all(caller))
        return json_reply({"webhooks": [self._endpoint(endpoint) for endpoint in found]})

    async def create_webhook(self, request: Request) -> Response:
        """Add an endpoint; the answer alone shows its secret."""
        caller = await self._caller(request)
        if caller.key is None:  # demo accounts are everybody's
            raise ErrorReply(DEMO_ACCOUNT)
        given = validated(WebhookRequest, await read_body(request))
        endpoint, secret = await self._outcome(
            self._endpoints.create(
                caller, url=given.url, kinds=given.events, description=given.description, enabled=given.enabled
            )
        )
        return json_reply({**self._endpoint(endpoint), "secret": secret}, status=201)

    async def webhook(self, request: Request) -> Response:
        """One endpoint."""
        caller = await self._caller(request)
        return json_reply(self._endpoint(await self._outcome(self._endpoints.get(caller, _endpoint_id(request)))))

    async def change_webhook(self, request: Request) -> Response:
        """Change an endpoint; what is left out stays."""
        caller = await self._caller(request)
        given = validated(WebhookChangeRequest, await read_body(request))
        change = Change(given.url, given.events, given.description, given.enabled)
        found = await self._outcome(self._endpoints.change(caller, _endpoint_id(request), change))
        return json_reply(self._endpoint(found))

    async def delete_webhook(self, request: Request) -> Response:
        """Delete an endpoint with its deliveries."""
        caller = await self._caller(request)
        endpoint_id = _endpoint_id(request)
        await self._outcome(self._endpoints.delete(caller, endpoint_id))
        return json_reply({"id": shown(endpoint_id), "deleted": True})

    async def rotate_webhook_secret(self, request: Request) -> Response:
        """Give an endpoint a new secret; the one before goes on signing for a while."""
        caller = await self._caller(request)
        given = validated(RotateRequest, await read_body(request))
        found = self._endpoints.rotate(caller, _endpoint_id(request), overlap_s=given.overlap_seconds)
        endpoint, secret = await self._outcome(found)
        return json_reply({**self._endpoint(endpoint), "secret": secret})

    async def test_webhook(self, request: Request) -> Response:
        """Send an event to see whether it arrives."""
        caller = await self._caller(request)
        found = await self._outcome(self._endpoints.send_test(caller, _endpoint_id(request)))
        return json_reply(_delivery(found), status=202)

    async def deliveries(self, request: Request) -> Response:
        """The delivery log, newest first."""
        caller = await self._caller(request)
        given = asked(DeliveriesQuery, request)
        before = bare(given.cursor, prefix=EVENT) if given.cursor is not None else None
        found = await self._outcome(
            self._endpoints.deliveries(
                caller,
                _endpoint_id(request),
                state=DeliveryState(given.state) if given.state else None,
                before=before,
                limit=given.limit + 1,
            )
        )
        page = found[: given.limit]
        cursor = f"{EVENT}{page[-1].event_id}" if len(found) > given.limit else None
        return json_reply({"deliveries": [_delivery(one) for one in page], "next_cursor": cursor})

    async def delivery(self, request: Request) -> Response:
        """One delivery."""
        caller = await self._caller(request)
        found = await self._outcome(self._endpoints.delivery(caller, _endpoint_id(request), _event_id(request)))
        return json_reply(_delivery(found))

    async def replay_delivery(self, request: Request) -> Response:
        """Send an event again, whether it arrived or not."""
        caller = await self._caller(request)
        found = await self._outcome(self._endpoints.replay(caller, _endpoint_id(request), _event_id(request)))
        return json_reply(_delivery(found), status=202)

    async def replay_dead_letters(self, request: Request) -> Response:
        """Send again what never arrived."""
        caller = await self._caller(request)
        given = validated(ReplayRequest, await read_body(request))
        since_us = moment("since", given.since) if given.since is not None else 0
        count = await self._outcome(
            self._endpoints.replay_dead(caller, _endpoint_id(request), since_us=max(since_us, 0))
        )
        return json_reply({"replayed": count}, status=202)

    @property
    def _endpoints(self) -> WebhookEndpoints:
        return self._app.hooks.endpoints

    async def _caller(self, request: Request) -> Caller:
        return await uncharged(request, app=self._app, callers=self._callers)

    async def _outcome(self, work: Awaitable[_Found]) -> _Found:
        try:
            return await work
        except EndpointInvalid as error:
            raise invalid(error.field, f"{error}.") from None
        except EndpointNotFound:
            raise ErrorReply(WEBHOOK_NOT_FOUND) from None
        except DeliveryNotFound:
            raise ErrorReply(DELIVERY_NOT_FOUND) from None
        except TooManyEndpoints:
            raise ErrorReply(TOO_MANY_WEBHOOKS) from None
        except EndpointDisabled:
            raise ErrorReply(WEBHOOK_DISABLED) from None
        except SealingMissing:
            raise ErrorReply(WEBHOOKS_UNAVAILABLE) from None
        except (StorageUnavailable, ChangedMeanwhile):
            raise store_failed(self._app) from None

    def _endpoint(self, endpoint: Endpoint) -> dict[str, Any]:
        now_us = self._app.clock.now_us()
        live = [secret.until_us for secret in endpoint.secrets if secret.until_us and secret.until_us > now_us]
        return {
            "id": shown(endpoint.id),
            "url": endpoint.url,
            "events": endpoint.kinds,
            "description": endpoint.description,
            "state": endpoint.state.value,
            "disabled_reason": endpoint.disabled_reason.value if endpoint.disabled_reason else None,
            "failing_since": _iso(endpoint.failing_since_us),
            "previous_secret_until": _iso(max(live, default=None)),
            "created_at": iso(endpoint.created_at_us),
            "changed_at": iso(endpoint.changed_at_us),
        }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    pending = delivery.state is DeliveryState.PENDING
    return {
        "event": f"{EVENT}{delivery.event_id}",
        "type": delivery.kind,
        "subject": delivery.subject,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "happened_at": iso(delivery.created_at_us),
        "next_attempt_at": iso(delivery.next_at_us) if pending else None,
        "log": [
            {
                "at": iso(attempt.at_us),
                "duration_ms": attempt.duration_us // 1_000,
                "status": attempt.status,
                "error": attempt.error,
            }
            for attempt in delivery.log
        ],
    }


def _iso(at_us: int | None) -> str | None:
    return iso(at_us) if at_us is not None else None


def _endpoint_id(request: Request) -> str:
    found = bare(request.path_params["webhook_id"], prefix=WHOLE_PREFIX)
    if found is None:
        raise ErrorReply(WEBHOOK_NOT_FOUND)
    return found


def _event_id(request: Request) -> str:
    found = bare(request.path_params["event_id"], prefix=EVENT)
    if found is None:
        raise ErrorReply(DELIVERY_NOT_FOUND)
    return found
