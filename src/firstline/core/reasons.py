"""What a verdict says about how it came about: sentences for people, without a word of the message."""

from typing import Final

from firstline.core.completion import Asked, Outcome
from firstline.core.message import Facts
from firstline.core.policy import PAYING_PLANS, SHORT_LENGTH
from firstline.core.rules import Match
from firstline.core.taxonomy import Signal
from firstline.core.verdict import Prediction, Reason

_UNHAPPY: Final = frozenset({Signal.CHURN, Signal.COMPLAINT})
_ASKED: Final = {
    Outcome.TIMEOUT: (
        "provider_timeout",
        "No provider answered by the deadline, so the local answer stands; a late answer adds a revision.",
    ),
    Outcome.FAILED: ("provider_failed", "Providers were asked and gave no valid answer, so the local one stands."),
    Outcome.UNAVAILABLE: (
        "provider_unavailable",
        "No provider can be asked at the moment, so the local answer stands.",
    ),
    Outcome.BUDGET: ("provider_budget", "The budget for providers is spent, so the local answer stands."),
}


def reasons_of(
    facts: Facts,
    matches: tuple[Match, ...],
    signals: frozenset[Signal],
    prediction: Prediction | None,
    noise: str | None,
) -> list[Reason]:
    """What rules and local model have found.

    Args:
        signals: found or suspected.
        noise: why the message may be ignored, or None.
    """
    reasons = [
        Reason(
            "rule",
            f"Rule {match.rule} matched" + (f": {match.signal}." if match.signal else "."),
            rule=match.rule,
            spans=match.spans,
        )
        for match in matches
    ]
    if prediction is not None:
        category, probability = prediction.best
        reasons.append(
            Reason(
                "model",
                f"The local model {prediction.model} says {category} with probability {probability:.2f}.",
            )
        )
    if noise == "model":
        reasons.append(Reason("spam", "The local model takes it for spam, and nothing else was found in it."))
    if noise == "short":
        reasons.append(Reason("short", f"Under {SHORT_LENGTH} characters and nothing in it says what it wants."))
    if signals & _UNHAPPY:
        if facts.plan in PAYING_PLANS:
            reasons.append(Reason("plan", f"The customer pays: {facts.plan}."))
        if facts.history_count >= 3:
            reasons.append(Reason("history", f"{facts.history_count} earlier messages strengthen the complaint."))
    return reasons


def asked_reason(asked: Asked) -> Reason:
    """What came of asking providers."""
    completion = asked.completion
    if completion is None:
        return Reason(_ASKED[asked.outcome][0], _ASKED[asked.outcome][1])
    text = f"{asked.provider} ({asked.model}) says {completion.category}"
    return Reason("provider", f"{text}: {completion.reason}" if completion.reason else f"{text}.")
