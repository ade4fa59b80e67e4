"""A charged request from key to answer: authenticate, count, work; refund what was refused; tell the limits."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from firstline.bootstrap import App
from firstline.core.errors import RATE_LIMITED
from firstline.core.plans import MICROSECONDS, Denied, Plan, Window, WindowUse, retry_after_s, tightest
from firstline.core.taxonomy import Contract
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.replies import ErrorReply
from firstline.ports.limiter import UsageUnknown
from firstline.usecases.access import Caller
from firstline.usecases.records import Charge

Work = Callable[[Request, Caller, Charge], Awaitable[Response]]

_WINDOW_NAMES: Final = {Window.MINUTE: "Minute", Window.DAY: "Day"}


def limit_headers(plan: Plan, uses: tuple[WindowUse, ...]) -> dict[str, str]:
    """The rate limit headers of a plan's contract."""
    tight = tightest(uses)
    reset = str(tight.resets_at_us // MICROSECONDS)
    if plan.catalogue is Contract.CLASSIFIER:
        return {
            "X-RateLimit-Limit": str(tight.limit),
            "X-RateLimit-Remaining": str(tight.remaining),
            "X-RateLimit-Reset": reset,
        }
    headers = {}
    for use in uses:
        name = _WINDOW_NAMES.get(use.window)
        if name:
            headers[f"X-RateLimit-Limit-{name}"] = str(use.limit)
            headers[f"X-RateLimit-Remaining-{name}"] = str(use.remaining)
    headers["X-RateLimit-Reset"] = reset
    headers["X-RateLimit-Tier"] = plan.name
    return headers


async def charged(
    request: Request, work: Work, *, app: App, callers: Callers, contract: Contract, keyless: bool = False
) -> Response:
    """Run a charged request.

    A request that ends in an error costs its burst and nothing else.

    Raises: ErrorReply, with the limit headers where the caller is known.
    """
    caller = await callers.identify(request, keyless=keyless)
    charge = await callers.charge(caller, contract)
    if isinstance(charge, Denied):
        raise denied(charge, callers.plan(caller, contract), now_us=app.clock.now_us())
    try:
        response = await work(request, caller, charge)
    except BaseException as error:
        uses = app.limiter.refund(caller.account.id, charge.plan, charge.granted)
        if isinstance(error, ErrorReply):
            error.headers.update(limit_headers(charge.plan, uses))
        raise
    response.raw_headers.extend(
        (name.lower().encode(), value.encode())
        for name, value in limit_headers(charge.plan, charge.granted.uses).items()
    )
    return response


async def uncharged(request: Request, *, app: App, callers: Callers, caller: Caller | None = None) -> Caller:
    """The caller of a request that spends no quota, only the burst of the ticket classifier's plan.

    Args:
        caller: where it is known already.
    Raises: ErrorReply 401, 429 over the burst limit, 503 when the key cannot be looked up.
    """
    caller = caller or await callers.identify(request)
    plan = replace(callers.plan(caller, Contract.CLASSIFIER), limits={})
    now_us = app.clock.now_us()
    try:
        outcome = await app.limiter.charge(caller.account.id, plan, now_us=now_us)
    except UsageUnknown:  # a burst limit fails open
        app.metrics.store_failures.inc()
        return caller
    if isinstance(outcome, Denied):
        app.metrics.denials.labels(plan.catalogue.value, outcome.full.window.value).inc()
        raise denied(outcome, plan, now_us=now_us)
    return caller


def denied(outcome: Denied, plan: Plan, *, now_us: int) -> ErrorReply:
    """429, true to the window that is full."""
    full = outcome.full
    wait_s = retry_after_s(resets_at_us=full.resets_at_us, now_us=now_us)
    headers = limit_headers(plan, outcome.uses)
    headers["Retry-After"] = str(wait_s)
    what = f"{full.limit} requests a {full.window}" if full.published else "too many requests a minute"
    message = f"The {plan.name} plan allows {what}; the window opens again in {wait_s} s."
    if not full.published:
        message = f"That were {what}; wait {wait_s} s."
    if plan.catalogue is Contract.CLASSIFIER:
        if not full.published:
            headers.update({"X-RateLimit-Limit": str(full.limit), "X-RateLimit-Remaining": "0"})
            headers["X-RateLimit-Reset"] = str(full.resets_at_us // MICROSECONDS)
        extra = {"rate_limit": {"limit": full.limit, "remaining": 0, "reset_in": wait_s}}
        return ErrorReply(RATE_LIMITED, message, headers=headers, extra=extra)
    return ErrorReply(RATE_LIMITED, message, headers=headers, extra={"retry_after": wait_s})
