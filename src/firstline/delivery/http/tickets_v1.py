"""The history: `/v1/tickets`, its export, and `/v1/retention`."""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from firstline.bootstrap import App
from firstline.core.errors import FORMAT_UNAVAILABLE, SEARCH_UNAVAILABLE, TICKET_NOT_FOUND
from firstline.core.identity import TICKET, bare
from firstline.core.plans import MICROSECONDS
from firstline.delivery.http.bodies import read_body
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.charging import uncharged
from firstline.delivery.http.classifier_v1 import iso
from firstline.delivery.http.history_schemas import (
    PREVIEW,
    ExportQuery,
    RetentionRequest,
    TicketFilters,
    TicketsQuery,
)
from firstline.delivery.http.own_settings_v1 import invalid, store_failed, validated
from firstline.delivery.http.replies import ErrorReply, json_reply
from firstline.delivery.http.ticket_export import MEDIA_TYPES, FormatUnavailable, Writer, entry_data, writer_of
from firstline.ports.history import Filters, Position, TicketNotFound
from firstline.ports.journal import VerdictRow
from firstline.ports.storage import StorageUnavailable
from firstline.usecases.history import MAX_DAYS, SearchUnavailable, Shown

_Query = TypeVar("_Query", bound=TicketFilters)
_ID_BYTES: Final = 16
_TIME_BYTES: Final = 8


class TicketsV1:
    """Handlers of the routes by which an account reads its history."""

    def __init__(self, app: App, callers: Callers) -> None:
        self._app = app
        self._callers = callers

    async def tickets(self, request: Request) -> Response:
        """Tickets with the verdicts that answer, newest first."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        asked = _asked(TicketsQuery, request)
        after = _position(asked.cursor) if asked.cursor is not None else None
        try:
            page = await self._app.history.list(caller, _filters(asked), after=after, limit=asked.limit)
        except SearchUnavailable:
            raise ErrorReply(SEARCH_UNAVAILABLE) from None
        except StorageUnavailable:
            raise store_failed(self._app) from None
        tickets = [{**entry_data(one), "preview": one.text[:PREVIEW] if one.text else None} for one in page.tickets]
        return json_reply({"tickets": tickets, "next": _cursor(page.next) if page.next else None})

    async def ticket(self, request: Request) -> Response:
        """A ticket with every revision of its verdict, and the evidence."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        ticket_id = bare(request.path_params["ticket_id"], prefix=TICKET)
        try:
            if ticket_id is None:
                raise TicketNotFound
            found = await self._app.history.get(caller, ticket_id)
        except TicketNotFound:
            raise ErrorReply(TICKET_NOT_FOUND) from None
        except StorageUnavailable:
            raise store_failed(self._app) from None
        revisions = [_revision_data(row) for row in found.revisions]
        return json_reply({**entry_data(found), "text": found.text, "revisions": revisions})

    async def export(self, request: Request) -> Response:
        """All tickets that pass the filters, as a file."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        asked = _asked(ExportQuery, request)
        media_type = MEDIA_TYPES[asked.format]
        headers = {"Content-Disposition": f'attachment; filename="tickets.{asked.format}"'}
        try:
            writer = await asyncio.to_thread(writer_of, asked.format)
        except FormatUnavailable as error:
            raise ErrorReply(FORMAT_UNAVAILABLE, str(error)) from None
        parts = self._app.history.export(caller, _filters(asked))
        try:  # the first part now, while there can still be another answer
            first = await anext(parts, None)
        except SearchUnavailable:
            raise ErrorReply(SEARCH_UNAVAILABLE) from None
        except StorageUnavailable:
            raise store_failed(self._app) from None
        if request.method == "HEAD":
            await parts.aclose()
            return Response(b"", 200, headers, media_type)
        return StreamingResponse(_sent(writer, first, parts), 200, headers, media_type)

    async def retention(self, request: Request) -> Response:
        """How long tickets are kept."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        try:
            return json_reply({"days": await self._app.history.retention_days(caller)})
        except StorageUnavailable:
            raise store_failed(self._app) from None

    async def put_retention(self, request: Request) -> Response:
        """Set how long tickets are kept."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        given = validated(RetentionRequest, await read_body(request))
        if given.days is not None and not 1 <= given.days <= MAX_DAYS:
            raise invalid("days", f"days: 1 to {MAX_DAYS}, or null.")
        try:
            await self._app.history.put_retention(caller, given.days)
        except StorageUnavailable:
            raise store_failed(self._app) from None
        return json_reply({"days": given.days})


async def _sent(
    writer: Writer, first: Sequence[Shown] | None, parts: AsyncGenerator[Sequence[Shown], None]
) -> AsyncIterator[bytes]:
    """The file, bit by bit; broken off where the store fails, so that nobody takes a part for the whole."""
    async with aclosing(parts):
        yield await asyncio.to_thread(writer.begin)
        part = first
        while part is not None:
            yield await asyncio.to_thread(writer.add, part)
            part = await anext(parts, None)
        yield await asyncio.to_thread(writer.end)


def _revision_data(row: VerdictRow) -> dict[str, Any]:
    return {
        "revision": row.revision,
        "decided_at": iso(row.decided_at_us),
        "category": row.category,
        "priority": row.priority,
        "decision": row.decision,
        "probability": round(row.probability, 4),
        "confidence": row.confidence,
        "churn_risk": row.churn_risk,
        "needs_review": bool(row.needs_review),
        "source": row.source,
        "recommended_action": row.recommended_action,
        "processing_ms": row.processing_us / 1_000,
        "reasons": orjson.loads(row.reasons),
        "evidence": orjson.loads(row.evidence) if row.evidence else None,
    }


def _asked(model: type[_Query], request: Request) -> _Query:
    """The parameters behind the path.

    Raises: ErrorReply naming the one at fault.
    """
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise invalid(name[:50], f"{name[:50]}: given twice.")
        given[name] = value
    try:
        return model.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = str(fault["loc"][0])[:50]
        if fault["type"] == "extra_forbidden":
            raise invalid(name, f"{name}: no parameter of this route.") from None
        raise invalid(name, f"{name}: {fault['msg'][:1].lower()}{fault['msg'][1:]}.") from None


def _filters(asked: TicketFilters) -> Filters:
    return Filters(
        since_us=_moment("from", asked.since),
        until_us=_moment("to", asked.until),
        category=asked.category,
        priority=asked.priority,
        decision=asked.decision,
        source=asked.source,
        needs_review=asked.needs_review,
        language=asked.language,
        channel=asked.channel,
        contract=asked.contract,
        customer_ref=asked.customer_ref,
        external_id=asked.external_id,
        words=asked.q,
    )


def _moment(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        # A plus that was not encoded arrives as a space; no moment has one before its offset.
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(aware.timestamp() * MICROSECONDS)
    except (ValueError, OverflowError):
        raise invalid(name, f"{name}: no moment such as 2026-11-22 or 2026-11-22T14:30:00Z.") from None


def _cursor(position: Position) -> str:
    raw = position.received_at_us.to_bytes(_TIME_BYTES, "big") + bytes.fromhex(position.ticket_id)
    return base64.urlsafe_b64encode(raw).decode()


def _position(cursor: str) -> Position:
    try:
        raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _TIME_BYTES + _ID_BYTES or raw[0] > 0x7F:
        raise invalid("cursor", "cursor: not the `next` of a page.")
    return Position(int.from_bytes(raw[:_TIME_BYTES], "big"), raw[_TIME_BYTES:].hex())
