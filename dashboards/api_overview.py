"""Does it answer, how fast, and what?"""

from typing import Final

from dashboards.panels import (
    FOR_CALLERS,
    ONE_MESSAGE,
    Dashboard,
    Level,
    Panel,
    Query,
    Row,
    Unit,
    number,
    of,
    quantile,
    rate,
    share,
    summed,
)

_REQUESTS: Final = "http_requests_total"
_SECONDS: Final = "http_request_duration_seconds"
_ALL: Final = summed(rate(_REQUESTS, FOR_CALLERS))
_FAILED: Final = share(summed(rate(_REQUESTS, FOR_CALLERS, 'status=~"5.."')), _ALL)
_FAST: Final = summed(rate(f"{_SECONDS}_bucket", ONE_MESSAGE, 'le="0.25"'))
_SLOW: Final = f"1 - {_FAST} / {summed(rate(f'{_SECONDS}_count', ONE_MESSAGE))}"
_ERRORS: Final = Level(warn=0.001, alarm=0.0144)
_LATENCY: Final = Level(warn=0.25, alarm=1)

API_OVERVIEW: Final = Dashboard(
    name="api-overview",
    title="firstline / API overview",
    about="Does it answer, how fast, and what? Begin here.",
    rows=[
        Row(
            "Now",
            [
                number(
                    "Processes",
                    summed(of("up")),
                    unit=Unit.COUNT,
                    about="Servers and workers whose metrics Prometheus can read.",
                    page="runbooks/down",
                    level=Level(alarm=1, below=True),
                ),
                number("Requests", _ALL, unit=Unit.REQUESTS_PER_S, about="Requests answered, all routes for callers."),
                number(
                    "Failed",
                    _FAILED,
                    unit=Unit.SHARE,
                    about="Share of requests answered with a 5xx status. One in 1,000 uses up the error budget.",
                    page="runbooks/error-budget",
                    level=_ERRORS,
                    decimals=2,
                ),
                number(
                    "Slowest twentieth",
                    quantile(0.95, _SECONDS, ONE_MESSAGE),
                    unit=Unit.SECONDS,
                    about="95 of 100 requests for one verdict are answered within this time.",
                    page="runbooks/slow",
                    level=_LATENCY,
                ),
                number(
                    "Under way",
                    summed(of("firstline_requests_running")),
                    unit=Unit.COUNT,
                    about="Requests that are being answered at this moment. Those that wait for a language model "
                    "count.",
                ),
                number(
                    "Verdicts",
                    summed(rate("firstline_decisions_total")),
                    unit=Unit.PER_S,
                    about="Verdicts given over HTTP a second, tickets of batches included; rows of jobs are not.",
                    page="runbooks/no-traffic",
                ),
            ],
        ),
        Row(
            "Traffic",
            [
                Panel(
                    "Requests by route",
                    [Query(summed(rate(_REQUESTS, FOR_CALLERS), by="route"), "{{route}}")],
                    Unit.REQUESTS_PER_S,
                    "Requests answered a second. `unmatched` is every path that does not exist, `refused` what was no "
                    "proper HTTP.",
                    page="runbooks/no-traffic",
                    stacked=True,
                ),
                Panel(
                    "Requests by status",
                    [Query(summed(rate(_REQUESTS, FOR_CALLERS), by="status"), "{{status}}")],
                    Unit.REQUESTS_PER_S,
                    "429 is a limit, 401 a missing or wrong key, 422 and 400 bad input, 499 a client that went away, "
                    "503 a store that could not be written.",
                    stacked=True,
                ),
                Panel(
                    "Failed requests",
                    [Query(_FAILED, "failed")],
                    Unit.SHARE,
                    "Share of requests answered with a 5xx status, health checks left out. Above the first line it "
                    "uses up the error budget of 30 days (1 in 1,000), above the second in two days.",
                    page="runbooks/error-budget",
                    level=_ERRORS,
                ),
                Panel(
                    "Refused requests",
                    [
                        Query(
                            summed(rate(_REQUESTS, FOR_CALLERS, 'status=~"4.."'), by="route, status"),
                            "{{status}} {{route}}",
                        )
                    ],
                    Unit.REQUESTS_PER_S,
                    "Requests answered with a 4xx status: mistakes of callers, limits and keys. A jump on one route "
                    "is mostly one client.",
                ),
            ],
        ),
        Row(
            "Latency",
            [
                Panel(
                    "Time to a verdict",
                    [
                        Query(quantile(at, _SECONDS, ONE_MESSAGE), f"{round(at * 100)} of 100")
                        for at in (0.5, 0.95, 0.99)
                    ],
                    Unit.SECONDS,
                    "Within which time so many of 100 requests for one verdict are answered. Without a language model "
                    "it is milliseconds; with one, its deadline is the bound.",
                    page="runbooks/slow",
                    level=_LATENCY,
                ),
                Panel(
                    "Slow verdicts",
                    [Query(_SLOW, "slower than 250 ms")],
                    Unit.SHARE,
                    "Share of requests for one verdict that took longer than 250 ms. An alert looks at it.",
                    page="runbooks/slow",
                    level=Level(alarm=0.05),
                ),
                Panel(
                    "Slowest twentieth by route",
                    [Query(quantile(0.95, _SECONDS, FOR_CALLERS, by="route"), "{{route}}")],
                    Unit.SECONDS,
                    "95 of 100 requests of a route are answered within this time. Batches and uploads of jobs take as "
                    "long as they have rows.",
                ),
                Panel(
                    "Requests under way",
                    [Query(of("firstline_requests_running"), "{{instance}}")],
                    Unit.COUNT,
                    "By server. If it only rises, answers do not keep up: look at language models and at the store.",
                    page="runbooks/slow",
                ),
            ],
        ),
        Row(
            "Answers",
            [
                Panel(
                    "Verdicts by contract",
                    [Query(summed(rate("firstline_decisions_total"), by="contract"), "{{contract}}")],
                    Unit.PER_S,
                    "Verdicts given over HTTP a second, by the contract that was asked.",
                    page="runbooks/no-traffic",
                    width=8,
                    stacked=True,
                ),
                Panel(
                    "Verdicts that could not be stored",
                    [Query(summed(rate("firstline_store_failures_total"), by="instance"), "{{instance}}")],
                    Unit.REQUESTS_PER_S,
                    "Requests answered with 503 because the database or the disk failed. Nothing was charged.",
                    page="runbooks/store-failing",
                    width=8,
                    level=Level(alarm=0.01),
                ),
                Panel(
                    "Unexpected errors",
                    [Query(summed(rate("firstline_faults_total"), by="route"), "{{route}}")],
                    Unit.PER_S,
                    "Errors of firstline itself, by the route or the part. Each has a line in the log with its place.",
                    page="runbooks/emergency-verdicts",
                    width=8,
                    level=Level(alarm=0.001),
                ),
            ],
        ),
    ],
)
