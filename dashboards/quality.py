"""Who decides, how surely, and is it right?"""

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
    mean,
    number,
    rate,
    share,
    shares,
    summed,
)

_VERDICTS: Final = "firstline_decisions_total"
_SOURCES: Final = "classification_requests_total"
_PROBABILITY: Final = "firstline_verdict_probability"
_FEEDBACK: Final = "firstline_feedback_total"
_ALL: Final = summed(rate(_VERDICTS))
_YES: Final = 'correct="yes"'
_RIGHT: Final = summed(grown(_FEEDBACK, _YES))
_REVIEWS: Final = "firstline_reviews_total"

QUALITY: Final = Dashboard(
    name="quality",
    title="firstline / Decision quality",
    about="Who decides, how surely, and is it right? Of verdicts over HTTP; rows of jobs are not in it.",
    since="now-24h",
    rows=[
        Row(
            "Now",
            [
                number("Verdicts", _ALL, unit=Unit.PER_S, about="Verdicts given a second."),
                number(
                    "For review",
                    share(summed(rate(_REVIEWS)), _ALL),
                    unit=Unit.SHARE,
                    about="Share of verdicts that a person should look at.",
                    page="runbooks/review-share",
                ),
                number(
                    "Escalated",
                    share(summed(rate(_VERDICTS, 'decision="immediate_escalation"')), _ALL),
                    unit=Unit.SHARE,
                    about="Share of verdicts that say immediate_escalation.",
                ),
                number(
                    "Emergency verdicts",
                    summed(grown(_SOURCES, 'source="emergency"')),
                    unit=Unit.COUNT,
                    about="Messages on which firstline itself failed, in the time shown. A person has to read them.",
                    page="runbooks/emergency-verdicts",
                    level=Level(alarm=1),
                    decimals=0,
                ),
                number(
                    "Stated probability",
                    f"{summed(rate(f'{_PROBABILITY}_sum'))} / {summed(rate(f'{_PROBABILITY}_count'))}",
                    unit=Unit.SHARE,
                    about="Mean probability of the verdicts given: how many should be right.",
                    page="concepts",
                ),
                number(
                    "Right by feedback",
                    share(_RIGHT, summed(grown(_FEEDBACK))),
                    unit=Unit.SHARE,
                    about="Share of judged verdicts whose category was right, in the time shown. Compare it with the "
                    "stated probability of the judged ones below.",
                    page="guides/feedback",
                ),
            ],
        ),
        Row(
            "Who decides",
            [
                Panel(
                    "By source",
                    [Query(shares(summed(rate(_SOURCES), by="source"), summed(rate(_SOURCES))), "{{source}}")],
                    Unit.SHARE,
                    "What the answer rests on: a rule, the local model, a language model, or nothing (`emergency`). A "
                    "jump of `rule` is a new rule or a wave of messages; less `provider` means that models fail.",
                    stacked=True,
                    most=1,
                ),
                Panel(
                    "By decision",
                    [Query(shares(summed(rate(_VERDICTS), by="decision"), _ALL), "{{decision}}")],
                    Unit.SHARE,
                    "What is to be done with messages. The mix should change slowly.",
                    stacked=True,
                    most=1,
                ),
                Panel(
                    "By category",
                    [Query(shares(summed(rate(_SOURCES), by="category"), summed(rate(_SOURCES))), "{{category}}")],
                    Unit.SHARE,
                    "What messages are about. Accounts' own categories count as `custom`.",
                    stacked=True,
                    most=1,
                ),
                Panel(
                    "Signals",
                    [Query(shares(summed(rate("firstline_signals_total"), by="signal"), _ALL), "{{signal}}")],
                    Unit.SHARE,
                    "Share of verdicts in which a signal fired. A rise of `outage` is often the first sign of one.",
                ),
            ],
        ),
        Row(
            "Review",
            [
                Panel(
                    "Flagged for review",
                    [
                        Query(
                            share(summed(rate(_REVIEWS), by="contract"), summed(rate(_VERDICTS), by="contract")),
                            "{{contract}}",
                        )
                    ],
                    Unit.SHARE,
                    "Share of verdicts that a person should look at. Twice or half of what it was last week deserves "
                    "a look: messages, rules or thresholds have changed.",
                    page="runbooks/review-share",
                ),
                Panel(
                    "Escalated by contract",
                    [
                        Query(
                            share(
                                summed(rate(_VERDICTS, 'decision="immediate_escalation"'), by="contract"),
                                summed(rate(_VERDICTS), by="contract"),
                            ),
                            "{{contract}}",
                        )
                    ],
                    Unit.SHARE,
                    "Share of verdicts that say immediate_escalation.",
                ),
            ],
        ),
        Row(
            "Probability",
            [
                Panel(
                    "Probability over time",
                    [Query(summed(rate(f"{_PROBABILITY}_bucket"), by="le"), "{{le}}", buckets=True)],
                    Unit.SHARE,
                    "How sure verdicts are of their category, by the upper end of each step. When the lower steps "
                    "fill, messages have become unlike those that the model knows.",
                    kind=Kind.HEAT,
                    page="concepts",
                ),
                Panel(
                    "Mean probability",
                    [Query(mean(_PROBABILITY, by="contract"), "{{contract}}")],
                    Unit.SHARE,
                    "How many of 100 verdicts should be right, as they say themselves.",
                    page="concepts",
                    most=1,
                ),
            ],
        ),
        Row(
            "Feedback",
            [
                Panel(
                    "Right, by what was stated",
                    [
                        Query(
                            f"{summed(grown(_FEEDBACK, _YES), by='probability')}"
                            f" / ({summed(grown(_FEEDBACK), by='probability')} > 0)",
                            "{{probability}}",
                        )
                    ],
                    Unit.SHARE,
                    "Share of judged verdicts that were right, by the probability that they stated. Calibrated means "
                    "that the band 0.8-0.9 is right in 80 to 90 of 100. People judge what looks wrong more often, so "
                    "it reads low unless a random sample is judged. Empty until somebody judges.",
                    kind=Kind.BARS,
                    page="guides/feedback",
                    width=8,
                    most=1,
                ),
                Panel(
                    "Judged, by what was stated",
                    [Query(summed(grown(_FEEDBACK), by="probability"), "{{probability}}")],
                    Unit.COUNT,
                    "How many verdicts were judged in the time shown. Under 50 in a band, its share beside says "
                    "little.",
                    kind=Kind.BARS,
                    page="guides/feedback",
                    width=8,
                ),
                Panel(
                    "Feedback over time",
                    [Query(summed(rate(_FEEDBACK), by="correct"), "right: {{correct}}")],
                    Unit.PER_S,
                    "Judgements a second.",
                    page="guides/feedback",
                    width=8,
                    stacked=True,
                ),
            ],
        ),
    ],
)
