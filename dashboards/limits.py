"""Who is refused, and who will be soon?"""

from typing import Final

from dashboards.panels import (
    FOR_CALLERS,
    Dashboard,
    Kind,
    Level,
    Panel,
    Query,
    Row,
    Unit,
    number,
    of,
    rate,
    share,
    summed,
)

_REQUESTS: Final = "http_requests_total"
_DENIED: Final = "firstline_limit_denials_total"
_NEAR: Final = f"max by (catalogue) ({of('firstline_accounts_near_quota')})"

LIMITS: Final = Dashboard(
    name="limits",
    title="firstline / Rate limiting and usage",
    about="Who is refused, and who will be soon? Metrics name no account; `firstline keys list` does.",
    rows=[
        Row(
            "Now",
            [
                number(
                    "Over a limit",
                    summed(rate(_DENIED)),
                    unit=Unit.REQUESTS_PER_S,
                    about="Requests refused because a window of a plan was full.",
                    page="runbooks/quota-near",
                ),
                number(
                    "Answered with 429",
                    share(summed(rate(_REQUESTS, 'status="429"')), summed(rate(_REQUESTS, FOR_CALLERS))),
                    unit=Unit.SHARE,
                    about="Share of all requests: limits of plans, and addresses that tried too many keys.",
                    level=Level(warn=0.05, alarm=0.25),
                ),
                number(
                    "Near their quota",
                    _NEAR,
                    legend="{{catalogue}}",
                    unit=Unit.COUNT,
                    about="Accounts that have used 90 % of the longest window of their plan.",
                    page="runbooks/quota-near",
                    width=8,
                    level=Level(warn=1),
                ),
                number(
                    "Without a valid key",
                    summed(rate("firstline_auth_failures_total")),
                    unit=Unit.REQUESTS_PER_S,
                    about="Requests whose key is missing, unknown or revoked.",
                    page="runbooks/keys-tried",
                    level=Level(warn=1),
                ),
                number(
                    "Servers that share limits",
                    f"max({of('firstline_replicas')})",
                    unit=Unit.COUNT,
                    about="As last known. Without Redis each counts for itself.",
                    page="runbooks/limits-alone",
                ),
            ],
        ),
        Row(
            "Usage",
            [
                Panel(
                    "Verdicts charged",
                    [
                        Query(summed(rate("firstline_decisions_total"), by="contract"), "{{contract}}, online"),
                        Query(
                            summed(rate("firstline_job_rows_total", 'outcome="answered"'), by="contract"),
                            "{{contract}}, jobs",
                        ),
                    ],
                    Unit.PER_S,
                    "What plans are charged for, by the catalogue that pays: answers over HTTP, and rows of jobs.",
                    stacked=True,
                ),
                Panel(
                    "Accounts near their quota",
                    [Query(_NEAR, "{{catalogue}}")],
                    Unit.COUNT,
                    "Accounts that have used 90 % of the longest window of their plan: a day for the classifier, a "
                    "month for decisions. They get 429 when it is full.",
                    page="runbooks/quota-near",
                    level=Level(warn=1),
                ),
            ],
        ),
        Row(
            "Limits",
            [
                Panel(
                    "Refusals by window",
                    [Query(summed(rate(_DENIED), by="catalogue, window"), "{{catalogue}} {{window}}")],
                    Unit.REQUESTS_PER_S,
                    "Requests over a limit. A full minute is a burst and passes; a full day or month wants a larger "
                    "plan.",
                    page="runbooks/quota-near",
                    stacked=True,
                ),
                Panel(
                    "429 by route",
                    [Query(summed(rate(_REQUESTS, 'status="429"'), by="route"), "{{route}}")],
                    Unit.REQUESTS_PER_S,
                    "Where requests are refused. Without a refusal by window beside it, an address has tried too many "
                    "keys or registrations.",
                    page="runbooks/keys-tried",
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Keys",
            [
                Panel(
                    "Requests without a valid key",
                    [Query(summed(rate("firstline_auth_failures_total"), by="reason"), "{{reason}}")],
                    Unit.REQUESTS_PER_S,
                    "`invalid` for long means that somebody tries keys, or a client has a wrong one; `revoked` that "
                    "one still uses an old one.",
                    page="runbooks/keys-tried",
                    level=Level(warn=1),
                ),
                Panel(
                    "401, 402 and 403 by route",
                    [
                        Query(
                            summed(rate(_REQUESTS, 'status=~"401|402|403"'), by="status, route"), "{{status}} {{route}}"
                        )
                    ],
                    Unit.REQUESTS_PER_S,
                    "401: no valid key. 402: the plan has no such thing. 403: not with this key.",
                ),
            ],
        ),
        Row(
            "Redis",
            [
                Panel(
                    "Limits are counted",
                    [Query(of("firstline_limits_shared"), "{{instance}}")],
                    Unit.NONE,
                    "Together with the other servers in Redis, or by each server alone: without Redis, or while it is "
                    "away.",
                    kind=Kind.STATES,
                    page="runbooks/limits-alone",
                    names=[(0, "alone", "#EAB839"), (1, "together", "green")],
                ),
                Panel(
                    "Decided alone",
                    [Query(summed(rate("firstline_limits_local_total"), by="outcome"), "{{outcome}}")],
                    Unit.REQUESTS_PER_S,
                    "Requests that servers decided on without Redis although it is configured. `unknown` was answered "
                    "with 503, since what was left of the quota could not be known.",
                    page="runbooks/limits-alone",
                    level=Level(alarm=0.01),
                ),
            ],
        ),
    ],
)
