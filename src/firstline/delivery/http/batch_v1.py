"""Batches of the ticket classifier's contract: one JSON answer, or a line for each ticket as soon as it is stored."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from time import perf_counter
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from firstline.adapters.telemetry import fault_fields
from firstline.bootstrap import App
from firstline.core.errors import INVALID_REQUEST, STORE_UNAVAILABLE
from firstline.core.message import MAX_TEXT_LENGTH, Message, trimmed
from firstline.core.taxonomy import DEFAULT_CATEGORIES, Contract
from firstline.delivery.http.bodies import MAX_BODY_BYTES
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.charging import charged
from firstline.delivery.http.classifier_bodies import read_json, validated
from firstline.delivery.http.idempotency import AnsweredOnce, answered_once, keeping
from firstline.delivery.http.replies import ErrorReply, json_reply
from firstline.delivery.http.schemas import BatchRequest
from firstline.delivery.http.verdicts import asks_of, count, shared_members
from firstline.ports.journal import JournalUnavailable
from firstline.ports.storage import StorageUnavailable
from firstline.usecases.access import Caller
from firstline.usecases.records import Charge
from firstline.usecases.tickets import Failed
from firstline.usecases.verdict_store import Triaged

MAX_BATCH_BYTES: Final = 24 << 20
NDJSON: Final = "application/x-ndjson"

_BATCH_BYTES_PER_TICKET: Final = 24 << 10
_ITEMS_PER_TURN: Final = 50

Item = dict[str, Any]


class BatchV1:
    """Handler of `/api/v1/batch`."""

    def __init__(self, app: App, callers: Callers) -> None:
        self._app = app
        self._callers = callers
        self._known = frozenset(category.name for category in DEFAULT_CATEGORIES)
        self._streams: set[asyncio.Task[None]] = set()

    async def batch(self, request: Request) -> Response:
        """Categories and priorities of several tickets, for the price of one request."""
        return await charged(request, self._batch, app=self._app, callers=self._callers, contract=Contract.CLASSIFIER)

    async def _batch(self, request: Request, caller: Caller, charge: Charge) -> Response:
        began, received_at_us = perf_counter(), self._app.clock.now_us()
        most = charge.plan.batch_size
        limit = min(max(most * _BATCH_BYTES_PER_TICKET, MAX_BODY_BYTES), MAX_BATCH_BYTES)
        found = validated(BatchRequest, await read_json(request, limit=limit))
        if len(found.tickets) > most:
            raise ErrorReply(
                INVALID_REQUEST,
                f"tickets: at most {most} in one batch on the {charge.plan.name} plan; this has {len(found.tickets)}.",
            )
        checked = [_message_or_fault(ticket) for ticket in found.tickets]
        places = [place for place, entry in enumerate(checked) if isinstance(entry, Message)]
        whole = _Whole(len(checked), began, lines=_wants_lines(request.headers.get("accept", "")))

        def last(stored: Sequence[tuple[int, Triaged]]) -> Response:
            for place, done in stored:
                whole.add(places[place], lambda done=done: self._item(done))  # type: ignore[misc]  # mypy cannot type a default of a lambda
            return whole.response()

        outcomes = self._app.triage.triage_many(
            [entry for entry in checked if isinstance(entry, Message)],
            caller=caller,
            charge=charge,
            received_at_us=received_at_us,
            asks=asks_of(found),
            keep=keeping(request, last, caller=caller, at_us=received_at_us),
        )
        items = self._items(checked, places, outcomes, whole)
        if whole.lines:
            return await self._lines(items, whole, answered_once(request))
        try:
            async with aclosing(items):
                async for _ in items:
                    pass
        except (JournalUnavailable, StorageUnavailable):
            raise self._store_failed() from None
        return whole.response()

    async def _items(
        self,
        checked: Sequence[Message | str],
        places: Sequence[int],
        outcomes: AsyncGenerator[tuple[int, Triaged | Failed], None],
        whole: "_Whole",
    ) -> AsyncGenerator[tuple[int, Item], None]:
        """Each ticket's answer with its place among those sent."""
        for place, entry in enumerate(checked):
            if isinstance(entry, str):
                yield place, whole.add(place, lambda entry=entry: {"error": entry})  # type: ignore[misc]  # mypy cannot type a default of a lambda
        number = 0
        async with aclosing(outcomes):
            async for place, done in outcomes:
                number += 1
                yield places[place], whole.add(places[place], lambda done=done: self._item(done))  # type: ignore[misc]  # mypy cannot type a default of a lambda
                if number % _ITEMS_PER_TURN == 0:
                    await asyncio.sleep(0)

    async def _lines(
        self, items: AsyncIterator[tuple[int, Item]], whole: "_Whole", once: AnsweredOnce | None
    ) -> Response:
        """One line for each ticket, and one that sums up.

        The work goes on when the client vanishes: what it was told is stored, and what it is charged for is done. A
        batch that fails before the first line is an error like any other; later, a line says so and the stream ends.
        """
        lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._fill(lines, items, first, whole))
        if once is not None:
            once.work = task
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)
        await first

        async def sent() -> AsyncIterator[bytes]:
            while (line := await lines.get()) is not None:
                yield line

        return StreamingResponse(sent(), media_type=NDJSON)

    async def _fill(
        self,
        lines: "asyncio.Queue[bytes | None]",
        items: AsyncIterator[tuple[int, Item]],
        first: "asyncio.Future[None]",
        whole: "_Whole",
    ) -> None:
        try:
            async for place, item in items:
                lines.put_nowait(_line({"index": place, **item}))
                if not first.done():
                    first.set_result(None)
            lines.put_nowait(_line(whole.summary))
        except (JournalUnavailable, StorageUnavailable):
            self._broken(lines, first, self._store_failed())
        except Exception as error:  # the stream has begun: the edge cannot answer any more
            self._app.metrics.faults.labels("/api/v1/batch").inc()
            self._app.log.error("fault", route="/api/v1/batch", **fault_fields(error))
            self._broken(lines, first, self._store_failed())
        finally:
            lines.put_nowait(None)

    def _broken(self, lines: "asyncio.Queue[bytes | None]", first: "asyncio.Future[None]", reply: ErrorReply) -> None:
        if not first.done():
            first.set_exception(reply)
            return
        lines.put_nowait(_line({"error": reply.error.title, "message": reply.message}))

    def _item(self, done: Triaged | Failed) -> Item:
        if isinstance(done, Failed):
            return {"error": "This ticket could not be classified; the others were."}
        count(self._app.metrics, Contract.CLASSIFIER, done.verdict, known=self._known)
        return {
            "category": done.verdict.category,
            "confidence": round(done.verdict.probability, 4),
            "priority": done.verdict.priority.value,
            **shared_members(done),
        }

    def _store_failed(self) -> ErrorReply:
        self._app.metrics.store_failures.inc()
        return ErrorReply(STORE_UNAVAILABLE)


class _Whole:
    """The answer to a batch as it grows; what it says once it says again."""

    def __init__(self, total: int, began: float, *, lines: bool) -> None:
        """Args:
        lines: whether each ticket has a line instead of a place in one list.
        """
        self.lines = lines
        self._total = total
        self._began = began
        self._items: dict[int, Item] = {}
        self._summary: Item = {}

    def add(self, place: int, item: Callable[[], Item]) -> Item:
        """The answer to a ticket; made when it is asked for first."""
        if place not in self._items:
            self._items[place] = item()
        return self._items[place]

    @property
    def summary(self) -> Item:
        """Counts and time, as they are when this is asked for first."""
        if not self._summary:
            failed = sum("error" in item for item in self._items.values())
            self._summary = {
                "total": self._total,
                "successful": len(self._items) - failed,
                "failed": failed,
                "processing_time": round(perf_counter() - self._began, 6),
            }
        return self._summary

    def response(self) -> Response:
        """All of it."""
        if self.lines:
            lines = [_line({"index": place, **item}) for place, item in self._items.items()]
            return Response(b"".join([*lines, _line(self.summary)]), media_type=NDJSON)
        results = [self._items.get(place, {}) for place in range(self._total)]
        return json_reply({**self.summary, "results": results})


def _line(item: Item) -> bytes:
    return orjson.dumps(item) + b"\n"


def _wants_lines(accept: str) -> bool:
    """Whether a client names NDJSON, and likes it no less than JSON where it names both."""
    liked = {}
    for part in accept.lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        try:
            liked[media] = float(quality)
        except ValueError:
            liked[media] = 0.0
    return liked.get(NDJSON, 0.0) > 0 and liked[NDJSON] >= liked.get("application/json", 0.0)


def _message_or_fault(ticket: Any) -> Message | str:
    if not isinstance(ticket, str):
        return "The ticket must be a string."
    text = trimmed(ticket)
    if not text:
        return "The ticket must hold at least 1 visible character."
    if len(text) > MAX_TEXT_LENGTH:
        return f"The ticket may have at most {MAX_TEXT_LENGTH} characters; this has {len(text)}."
    return Message(text, Contract.CLASSIFIER)
