"""Erasure: `/v1/erasures`."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from firstline.bootstrap import App
from firstline.core.errors import ERASURE_NOT_FOUND
from firstline.core.identity import ERASURE, TICKET, bare
from firstline.delivery.http.bodies import read_body
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.charging import uncharged
from firstline.delivery.http.classifier_v1 import iso
from firstline.delivery.http.history_schemas import MAX_NAME, ErasureRequest
from firstline.delivery.http.own_settings_v1 import invalid, store_failed, validated
from firstline.delivery.http.replies import ErrorReply, json_reply
from firstline.ports.erasure import Erasure, ErasureNotFound, Scope
from firstline.ports.storage import StorageUnavailable

LISTED: Final = 100


class ErasuresV1:
    """Handlers of the routes by which an account has data erased."""

    def __init__(self, app: App, callers: Callers) -> None:
        self._app = app
        self._callers = callers

    async def erase(self, request: Request) -> Response:
        """Erase a ticket, all tickets of a customer, or the whole history of the account."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        scope, subject = _wanted(validated(ErasureRequest, await read_body(request)))
        try:
            erasure = await self._app.eraser.erase(caller, scope, subject)
        except StorageUnavailable:
            raise store_failed(self._app) from None
        return json_reply(_data(erasure), status=202 if erasure.finished_at_us is None else 201)

    async def erasures(self, request: Request) -> Response:
        """The newest receipts of the account."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        try:
            found = await self._app.eraser.list(caller, limit=LISTED)
        except StorageUnavailable:
            raise store_failed(self._app) from None
        return json_reply({"erasures": [_data(one) for one in found]})

    async def erasure(self, request: Request) -> Response:
        """A receipt."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        erasure_id = bare(request.path_params["erasure_id"], prefix=ERASURE)
        try:
            if erasure_id is None:
                raise ErasureNotFound
            return json_reply(_data(await self._app.eraser.get(caller, erasure_id)))
        except ErasureNotFound:
            raise ErrorReply(ERASURE_NOT_FOUND) from None
        except StorageUnavailable:
            raise store_failed(self._app) from None


def _wanted(given: ErasureRequest) -> tuple[Scope, str | None]:
    named = [name for name in ("ticket", "customer_ref", "account") if getattr(given, name) is not None]
    if len(named) != 1:
        raise invalid("body", "body: exactly one of ticket, customer_ref and account.")
    if given.ticket is not None:
        ticket_id = bare(given.ticket, prefix=TICKET)
        if ticket_id is None:
            raise invalid("ticket", f"ticket: the id of a ticket, {TICKET} and 32 digits.")
        return Scope.TICKET, ticket_id
    if given.customer_ref is not None:
        if not 1 <= len(given.customer_ref) <= MAX_NAME or not given.customer_ref.isprintable():
            raise invalid("customer_ref", f"customer_ref: 1 to {MAX_NAME} printable characters.")
        return Scope.CUSTOMER, given.customer_ref
    if not given.account:
        raise invalid("account", "account: true, or leave it out.")
    return Scope.ACCOUNT, None


def _data(erasure: Erasure) -> dict[str, Any]:
    finished = erasure.finished_at_us
    return {
        "id": f"{ERASURE}{erasure.id}",
        "scope": erasure.scope.value,
        "requested_at": iso(erasure.requested_at_us),
        "finished_at": iso(finished) if finished is not None else None,
        "removed": dict(sorted(erasure.counts.items())),
    }
