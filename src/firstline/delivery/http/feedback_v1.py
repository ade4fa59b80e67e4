"""Feedback on verdicts: `/v1/tickets/{ticket_id}/feedback` and `/v1/feedback`."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from firstline.bootstrap import App
from firstline.core.errors import TICKET_NOT_FOUND, TOO_MUCH_FEEDBACK
from firstline.core.feedback import BANDS, FeedbackInvalid, Judgement, Tally, band_name
from firstline.core.identity import FEEDBACK, TICKET, bare
from firstline.core.verdict import Source
from firstline.delivery.http.bodies import read_body
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.charging import uncharged
from firstline.delivery.http.classifier_v1 import iso
from firstline.delivery.http.feedback_schemas import FeedbackQuery, FeedbackRequest, SummaryQuery
from firstline.delivery.http.idempotency import answered_once
from firstline.delivery.http.own_settings_v1 import invalid, store_failed, validated
from firstline.delivery.http.queries import asked, cursor_of, moment, place_in
from firstline.delivery.http.replies import ErrorReply, json_reply
from firstline.ports.feedback import FeedbackRow, Judged, TooMuchFeedback
from firstline.ports.history import TicketNotFound
from firstline.ports.journal import IdempotencyEntry, TicketRow
from firstline.ports.storage import StorageUnavailable
from firstline.usecases.access import Caller
from firstline.usecases.feedback import KeepAnswer, Summary

_TIME_BYTES: Final = 8


class FeedbackV1:
    """Handlers of the routes by which an account judges verdicts."""

    def __init__(self, app: App, callers: Callers) -> None:
        self._app = app
        self._callers = callers

    async def give_feedback(self, request: Request) -> Response:
        """Judge the verdict on a ticket, and correct it where it is wrong."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        ticket_id = _ticket_id(request)
        given = validated(FeedbackRequest, await read_body(request))
        judgement = Judgement(
            given.correct,
            given.category,
            given.priority,
            given.decision,
            given.revision,
            given.source,
            given.author,
        )
        keep = self._keeping(request, caller)
        try:
            judged = await self._app.feedback.give(caller, ticket_id, judgement, keep=keep)
        except TicketNotFound:
            raise ErrorReply(TICKET_NOT_FOUND) from None
        except TooMuchFeedback:
            raise ErrorReply(TOO_MUCH_FEEDBACK) from None
        except FeedbackInvalid as error:
            raise invalid(error.field, f"{error}.") from None
        except StorageUnavailable:
            raise store_failed(self._app) from None
        self._count(judged)
        at_work = answered_once(request)
        if at_work is not None and at_work.response is not None:
            return at_work.response
        return _reply(judged.feedback, repeated=judged.repeated)

    async def ticket_feedback(self, request: Request) -> Response:
        """What was said about the verdict on a ticket."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        try:
            found = await self._app.feedback.of_ticket(caller, _ticket_id(request))
        except TicketNotFound:
            raise ErrorReply(TICKET_NOT_FOUND) from None
        except StorageUnavailable:
            raise store_failed(self._app) from None
        return json_reply({"feedback": [feedback_data(row) for row in found]})

    async def feedback(self, request: Request) -> Response:
        """What was said about verdicts of the account, oldest first."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        given = asked(FeedbackQuery, request)
        since_us = 0 if given.since is None else moment("since", given.since)
        after_us = max(since_us - 1, 0 if given.cursor is None else _moment_of(given.cursor))
        try:
            page = await self._app.feedback.list(caller, after_us=after_us, limit=given.limit)
        except StorageUnavailable:
            raise store_failed(self._app) from None
        rows = [feedback_data(row) for row in page.feedback]
        return json_reply({"feedback": rows, "next": None if page.next is None else _cursor(page.next)})

    async def feedback_summary(self, request: Request) -> Response:
        """Whether probabilities keep their promise."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        given = asked(SummaryQuery, request)
        from_us = None if given.since is None else moment("from", given.since)
        to_us = None if given.until is None else moment("to", given.until)
        try:
            found = await self._app.feedback.summary(caller, from_us=from_us, to_us=to_us)
        except FeedbackInvalid as error:
            raise invalid(error.field, f"{error}.") from None
        except StorageUnavailable:
            raise store_failed(self._app) from None
        return json_reply(_summary_data(found))

    def _keeping(self, request: Request, caller: Caller) -> KeepAnswer | None:
        """What stores the answer with the feedback; None for a request without an Idempotency-Key."""
        at_work = answered_once(request)
        if at_work is None:
            return None
        work = at_work

        def keep(row: FeedbackRow, ticket: TicketRow, repeated: bool) -> IdempotencyEntry:
            # By the moment of the ticket, so that erasing it finds the answer.
            return work.entry(
                _reply(row, repeated=repeated),
                account_id=caller.account.id,
                at_us=ticket.received_at_us,
                kept_from_us=self._app.clock.now_us(),
            )

        return keep

    def _count(self, judged: Judged) -> None:
        row = judged.feedback
        if judged.repeated or row.judged_source == Source.EMERGENCY.value:
            return
        correct = "yes" if row.category_correct else "no"
        self._app.metrics.feedback.labels(band_name(row.probability), correct).inc()


def feedback_data(row: FeedbackRow) -> dict[str, Any]:
    """Feedback as it is shown."""
    right = {"category": row.right_category, "priority": row.right_priority, "decision": row.right_decision}
    return {
        "id": f"{FEEDBACK}{row.id}",
        "ticket": f"{TICKET}{row.ticket_id}",
        "revision": row.revision,
        "given_at": iso(row.given_at_us),
        "correct": bool(row.correct),
        "category_correct": bool(row.category_correct),
        "source": row.source,
        "author": row.author,
        "verdict": {
            "category": row.judged_category,
            "priority": row.judged_priority,
            "decision": row.judged_decision,
            "probability": round(row.probability, 4),
            "source": row.judged_source,
        },
        "right": right if row.right_category is not None else None,
        "added_revision": row.added_revision,
        "newest": bool(row.newest),
    }


def _reply(row: FeedbackRow, *, repeated: bool) -> Response:
    return json_reply(feedback_data(row), status=200 if repeated else 201)


def _ticket_id(request: Request) -> str:
    found = bare(request.path_params["ticket_id"], prefix=TICKET)
    if found is None:
        raise ErrorReply(TICKET_NOT_FOUND)
    return found


def _summary_data(found: Summary) -> dict[str, Any]:
    return {
        "from": iso(found.from_us),
        "to": iso(found.to_us),
        "totals": {**_tally_data(found.totals), "calibration_error": _rounded(found.calibration_error)},
        "bands": [
            {"from": band / BANDS, "to": (band + 1) / BANDS, **_tally_data(tally)}
            for band, tally in enumerate(found.bands)
        ],
        "categories": [
            {
                "category": one.category,
                **_tally_data(one.tally),
                "calibration_error": _rounded(one.calibration_error),
            }
            for one in found.categories
        ],
    }


def _tally_data(tally: Tally) -> dict[str, Any]:
    interval = tally.interval
    return {
        "tickets": tally.tickets,
        "right": tally.right,
        "share": _rounded(tally.share),
        "interval": None if interval is None else [_rounded(bound) for bound in interval],
        "mean_probability": _rounded(tally.mean_probability),
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)


def _cursor(given_at_us: int) -> str:
    return cursor_of(given_at_us.to_bytes(_TIME_BYTES, "big"))


def _moment_of(cursor: str) -> int:
    return int.from_bytes(place_in(cursor, size=_TIME_BYTES), "big")
