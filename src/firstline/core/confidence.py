"""The decision contract's confidence: a score of signals, kept because clients rely on it.

It is no probability; the calibrated one stands beside it in every verdict. The score is added up in hundredths, so
that it is exact.
"""

from typing import Final

from firstline.core.message import Facts
from firstline.core.taxonomy import UserPlan

LONG: Final = 100
SHORT: Final = 30

_BASE: Final = 50
_TERMINAL_RULE: Final = 30
_UNHAPPY_ENTERPRISE: Final = 20
_HISTORY_3: Final = 10
_HISTORY_5: Final = 15


def score(
    facts: Facts,
    *,
    terminal: bool,
    unhappy: bool,
    raised: bool,
    churn_opinion: float | None = None,
    provider_failed: bool = False,
) -> float:
    """The published score of a verdict, 0 to 1 in steps of 0.01.

    Args:
        facts: of the message.
        terminal: whether a terminal rule decided.
        unhappy: whether a churn or complaint rule matched.
        raised: whether the decision is a priority response or an escalation.
        churn_opinion: churn risk 0–1 in the opinion of the provider, or of the local model when no provider
            answered; None when neither has one.
        provider_failed: a provider was asked and gave no valid answer.
    """
    points = _BASE + _rule_points(facts, terminal=terminal, unhappy=unhappy)
    if facts.length > LONG:
        points += 10
    elif facts.length < SHORT:
        points -= 10
    if facts.has_question:
        points += 5
    points += min(3 * facts.history_count, 15)
    if facts.plan is UserPlan.ENTERPRISE:
        points += 10
    if churn_opinion is not None and (churn_opinion >= 0.5) == raised:
        points += 5 + round(5 * abs(2 * churn_opinion - 1))
    if provider_failed:
        points -= 20
    return min(max(points, 0), 100) / 100


def _rule_points(facts: Facts, *, terminal: bool, unhappy: bool) -> int:
    if terminal:
        return _TERMINAL_RULE
    points = 0
    if unhappy and facts.plan is UserPlan.ENTERPRISE:
        points += _UNHAPPY_ENTERPRISE
    if unhappy and facts.history_count >= 5:
        points += _HISTORY_5
    elif unhappy and facts.history_count >= 3:
        points += _HISTORY_3
    return min(points, _TERMINAL_RULE)
