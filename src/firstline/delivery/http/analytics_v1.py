"""Counts of verdicts: `/v1/analytics`."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from firstline.bootstrap import App
from firstline.core.errors import OPERATOR_REQUIRED
from firstline.core.identity import ACCOUNT, bare
from firstline.core.rollups import Dimension
from firstline.delivery.http.analytics_schemas import AnalyticsQuery
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.charging import uncharged
from firstline.delivery.http.classifier_v1 import iso
from firstline.delivery.http.own_settings_v1 import invalid, store_failed
from firstline.delivery.http.queries import asked, moment
from firstline.delivery.http.replies import ErrorReply, json_reply
from firstline.delivery.http.verdicts import MICROS
from firstline.ports.storage import StorageUnavailable
from firstline.usecases.analytics import (
    ALL_ACCOUNTS,
    AnalyticsInvalid,
    Figures,
    Group,
    OperatorNeeded,
    Question,
    Report,
)

_MANY = 100
"""Groups beyond which an answer is written in a thread."""


class AnalyticsV1:
    """The handler of the counts."""

    def __init__(self, app: App, callers: Callers) -> None:
        self._app = app
        self._callers = callers

    async def analytics(self, request: Request) -> Response:
        """Counts, shares, sources, latency and cost over time."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        question = _question(asked(AnalyticsQuery, request))
        try:
            report = await self._app.analytics.report(caller, question)
        except AnalyticsInvalid as error:
            raise invalid(error.field, f"{error}.") from None
        except OperatorNeeded:
            raise ErrorReply(OPERATOR_REQUIRED) from None
        except StorageUnavailable:
            raise store_failed(self._app) from None
        if len(report.groups) > _MANY:
            return await asyncio.to_thread(_reply, report, question)
        return _reply(report, question)


def _question(given: AnalyticsQuery) -> Question:
    account = given.account
    if account not in (None, ALL_ACCOUNTS):
        account = bare(account, prefix=ACCOUNT)
        if account is None:
            raise invalid("account", "account: must be the id of an account, or `all`.")
    return Question(
        from_us=None if given.since is None else moment("from", given.since),
        to_us=None if given.until is None else moment("to", given.until),
        step=given.step,
        by=_dimensions(given.by),
        account=account,
    )


def _dimensions(text: str) -> tuple[Dimension, ...]:
    names = [name.strip() for name in text.split(",")] if text.strip() else []
    try:
        return tuple(Dimension(name) for name in names)
    except ValueError:
        raise invalid("by", f"by: must be of {', '.join(Dimension)}, with commas between.") from None


def _reply(report: Report, question: Question) -> Response:
    return json_reply(
        {
            "from": iso(report.from_us),
            "to": iso(report.to_us),
            "step": question.step,
            "by": question.by,
            "totals": _figures_data(report.totals),
            "groups": [_group_data(group, question.by) for group in report.groups],
        }
    )


def _group_data(group: Group, by: tuple[Dimension, ...]) -> dict[str, Any]:
    values = dict(zip(by, group.values, strict=True))
    if Dimension.ACCOUNT in values:
        values[Dimension.ACCOUNT] = f"{ACCOUNT}{values[Dimension.ACCOUNT]}"
    return {
        "starts_at": iso(group.starts_at_us),
        **{dimension.value: value for dimension, value in values.items()},
        "share": round(group.share, 6),
        **_figures_data(group.figures),
    }


def _figures_data(figures: Figures) -> dict[str, Any]:
    return {
        "tickets": figures.tickets,
        "reviews": figures.reviews,
        "review_rate": round(figures.reviews / figures.tickets, 6) if figures.tickets else None,
        "sources": dict(figures.sources),
        "latency": {
            "mean_ms": _rounded(figures.mean_ms),
            "p50_ms": _rounded(figures.p50_ms),
            "p95_ms": _rounded(figures.p95_ms),
        },
        "cost_usd": None if figures.cost_usd_micros is None else figures.cost_usd_micros / MICROS,
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
