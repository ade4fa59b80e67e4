"""Do the language models answer, and what do they cost?"""

from typing import Final

from dashboards.panels import (
    Dashboard,
    Kind,
    Level,
    Panel,
    Query,
    Row,
    Unit,
    grown,
    number,
    of,
    quantile,
    rate,
    share,
    summed,
)

_ASKED: Final = "firstline_provider_questions_total"
_SECONDS: Final = "firstline_provider_answer_seconds"
_COST: Final = "firstline_provider_cost_usd_total"
_STATE: Final = of("circuit_breaker_state", 'model!=""')
_BREAKERS: Final = f"max by (provider, model) ({_STATE})"
_MODEL: Final = "{{provider}} {{model}}"

PROVIDERS: Final = Dashboard(
    name="providers",
    title="firstline / Provider health",
    about="Do the language models answer, and what do they cost? Empty where none is configured.",
    rows=[
        Row(
            "Now",
            [
                number(
                    "Questions",
                    summed(rate(_ASKED)),
                    unit=Unit.PER_S,
                    about="Messages a second that the local answer was in doubt about.",
                ),
                number(
                    "Answered in time",
                    share(summed(rate(_ASKED, 'outcome="answered"')), summed(rate(_ASKED))),
                    unit=Unit.SHARE,
                    about="Share of questions that had a valid answer by the deadline. For the rest the local answer "
                    "stood.",
                    page="runbooks/breaker-open",
                    level=Level(warn=0.95, alarm=0.5, below=True),
                ),
                number(
                    "Slowest twentieth",
                    quantile(0.95, _SECONDS),
                    unit=Unit.SECONDS,
                    about="95 of 100 valid answers came within this time.",
                    level=Level(warn=3, alarm=10),
                ),
                number(
                    "Breakers open",
                    f"count({_BREAKERS} == 2) or count({_BREAKERS}) * 0",
                    unit=Unit.COUNT,
                    about="Models that at least one server does not ask at the moment, because they failed.",
                    page="runbooks/breaker-open",
                    level=Level(alarm=1),
                ),
                number(
                    "Questions under way",
                    summed(of("firstline_provider_questions_running")),
                    unit=Unit.COUNT,
                    about="Messages that wait for a language model at this moment.",
                ),
                number(
                    "Cost",
                    summed(grown(_COST)),
                    unit=Unit.DOLLARS,
                    about="What calls have cost in the time shown, by the prices in force.",
                    page="runbooks/provider-cost",
                    decimals=2,
                ),
            ],
        ),
        Row(
            "Questions",
            [
                Panel(
                    "What came of questions",
                    [Query(summed(rate(_ASKED), by="outcome"), "{{outcome}}")],
                    Unit.PER_S,
                    "`timeout`: no answer by the deadline. `failed`: all that were asked failed. `unavailable`: "
                    "breakers open or slots taken. `budget`: the account's is spent. The local answer stands in each "
                    "case.",
                    page="runbooks/breaker-open",
                    stacked=True,
                ),
                Panel(
                    "Late answers",
                    [Query(summed(rate("firstline_provider_late_total"), by="outcome"), "{{outcome}}")],
                    Unit.PER_S,
                    "Questions not answered by the deadline, and what came of them: a revision of the verdict, "
                    "nothing (`lost`), or an answer that could not be stored.",
                ),
                Panel(
                    "Questions under way",
                    [Query(summed(of("firstline_provider_questions_running"), by="instance"), "{{instance}}")],
                    Unit.COUNT,
                    "By server. It rises when models become slow.",
                ),
                Panel(
                    "Saved and doubled calls",
                    [
                        Query(summed(rate("firstline_provider_cached_total")), "answer at hand"),
                        Query(
                            summed(rate("firstline_provider_hedges_total"), by="provider, model"), f"hedge of {_MODEL}"
                        ),
                    ],
                    Unit.PER_S,
                    "Questions whose answer was known, and calls so slow that the next provider was asked too.",
                ),
            ],
        ),
        Row(
            "Models",
            [
                Panel(
                    "Breakers",
                    [Query(_BREAKERS, _MODEL)],
                    Unit.NONE,
                    "Closed: it is asked. Open: it is left alone for a while. Half open: one call tries whether it is "
                    "well again. The worst server is shown.",
                    kind=Kind.STATES,
                    page="runbooks/breaker-open",
                    names=[(0, "closed", "green"), (1, "half open", "#EAB839"), (2, "open", "red")],
                ),
                Panel(
                    "Failed calls",
                    [
                        Query(
                            f"{summed(rate('provider_failures_total'), by='provider, kind')} > 0",
                            "{{provider}} {{kind}}",
                        )
                    ],
                    Unit.PER_S,
                    "Calls that gave no valid answer, by kind; empty while all do. `unauthorized` is the key, "
                    "`rate_limited` the provider's limit, `bad_json` and `bad_schema` a model that does not keep to "
                    "the format.",
                    page="runbooks/breaker-open",
                ),
                Panel(
                    "Time to a valid answer, half of 100",
                    [Query(quantile(0.5, _SECONDS, by="provider, model"), _MODEL)],
                    Unit.SECONDS,
                    "Half of the valid answers came within this time.",
                ),
                Panel(
                    "Time to a valid answer, 95 of 100",
                    [Query(quantile(0.95, _SECONDS, by="provider, model"), _MODEL)],
                    Unit.SECONDS,
                    "95 of 100 valid answers came within this time.",
                    level=Level(warn=3, alarm=10),
                ),
            ],
        ),
        Row(
            "Cost",
            [
                Panel(
                    "Cost by model",
                    [Query(f"{summed(rate(_COST), by='provider, model')} * 3600", _MODEL)],
                    Unit.DOLLARS_PER_H,
                    "US dollars an hour at the rate of the moment.",
                    page="runbooks/provider-cost",
                    width=8,
                    stacked=True,
                ),
                Panel(
                    "Tokens",
                    [
                        Query(
                            summed(rate("firstline_provider_tokens_total"), by="provider, model, direction"),
                            f"{_MODEL} {{{{direction}}}}",
                        )
                    ],
                    Unit.TOKENS_PER_S,
                    "Tokens in and out a second; those of calls that were cut off are estimated.",
                    page="runbooks/provider-cost",
                    width=8,
                    stacked=True,
                ),
                Panel(
                    "Cost in the time shown",
                    [Query(summed(grown(_COST), by="provider, model"), _MODEL)],
                    Unit.DOLLARS,
                    "What each model has cost in the time shown.",
                    kind=Kind.BARS,
                    page="runbooks/provider-cost",
                    width=8,
                ),
            ],
        ),
        Row(
            "Between servers",
            [
                Panel(
                    "News of breakers",
                    [Query(summed(rate("firstline_redis_news_total"), by="outcome"), "{{outcome}}")],
                    Unit.PER_S,
                    "Messages over Redis by which servers tell each other of breakers that have opened. `unsent` "
                    "means that Redis was away; then each server finds out by itself.",
                    page="runbooks/limits-alone",
                    width=24,
                    height=6,
                ),
            ],
        ),
    ],
)
