"""The history: `/v1/tickets`, its export, and `/v1/retention`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from firstline.bootstrap import App
from firstline.core.errors import FORMAT_UNAVAILABLE, SEARCH_UNAVAILABLE, TICKET_NOT_FOUND
from firstline.core.identity import TICKET, bare
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
from firstline.delivery.http.queries import asked, cursor_of, moment, place_in
from firstline.delivery.http.replies import ErrorReply, json_reply
from firstline.delivery.http.ticket_export import MEDIA_TYPES, FormatUnavailable, Writer, entry_data, writer_of
from firstline.ports.history import Filters, Position, TicketNotFound
from firstline.ports.journal import VerdictRow
from firstline.ports.storage import StorageUnavailable
from firstline.usecases.history import MAX_DAYS, SearchUnavailable, Shown

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
        given = asked(TicketsQuery, request)
        after = _position(given.cursor) if given.cursor is not None else None
        try:
            page = await self._app.history.list(caller, _filters(given), after=after, limit=given.limit)
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
        given = asked(ExportQuery, request)
        media_type = MEDIA_TYPES[given.format]
        headers = {"Content-Disposition": f'attachment; filename="tickets.{given.format}"'}
        try:
            writer = await asyncio.to_thread(writer_of, given.format)
        except FormatUnavailable as error:
            raise ErrorReply(FORMAT_UNAVAILABLE, str(error)) from None
        parts = self._app.history.export(caller, _filters(given))
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


def _filters(given: TicketFilters) -> Filters:
    return Filters(
        since_us=None if given.since is None else moment("from", given.since),
        until_us=None if given.until is None else moment("to", given.until),
        category=given.category,
        priority=given.priority,
        decision=given.decision,
        source=given.source,
        needs_review=given.needs_review,
        language=given.language,
        channel=given.channel,
        contract=given.contract,
        customer_ref=given.customer_ref,
        external_id=given.external_id,
        words=given.q,
    )


def _cursor(position: Position) -> str:
    return cursor_of(position.received_at_us.to_bytes(_TIME_BYTES, "big") + bytes.fromhex(position.ticket_id))


def _position(cursor: str) -> Position:
    raw = place_in(cursor, size=_TIME_BYTES + _ID_BYTES)
    return Position(int.from_bytes(raw[:_TIME_BYTES], "big"), raw[_TIME_BYTES:].hex())
