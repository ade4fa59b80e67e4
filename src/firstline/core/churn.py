"""How likely it is that the writer leaves: an estimate from signals, plan and history."""

from collections.abc import Mapping
from typing import Final

from firstline.core.message import Facts
from firstline.core.taxonomy import Signal, UserPlan

_BASE: Final = 5
_SIGNAL_POINTS: Final[Mapping[Signal, int]] = {
    Signal.CHURN: 55,
    Signal.COMPLAINT: 30,
    Signal.LEGAL: 60,
    Signal.SECURITY: 25,
    Signal.OUTAGE: 25,
    Signal.SAFETY: 15,
}
_NOTHING: Final[Mapping[Signal, float]] = {}
_FURTHER_SIGNAL_SHARE: Final = 0.3
_HISTORY_POINTS: Final = 3


def churn_risk(facts: Facts, signals: frozenset[Signal], suspected: Mapping[Signal, float] = _NOTHING) -> float:
    """0 to 1 in steps of 0.01.

    The strongest signal counts in full, each further one by three tenths. Earlier messages count only beside a
    signal: a long conversation alone is no complaint. Enterprise customers who complain are nearer to leaving than
    free users who do, for they have somewhere to go.

    Args:
        facts: of the message.
        signals: those that rules have found.
        suspected: probabilities 0–1 of signals in the local model's opinion; each counts by its probability.
    """
    if signals == {Signal.SPAM}:
        return 0.0
    strengths = {**suspected, **dict.fromkeys(signals, 1.0)}
    points = sorted(
        (_SIGNAL_POINTS[signal] * strength for signal, strength in strengths.items() if signal in _SIGNAL_POINTS),
        reverse=True,
    )
    risk = float(_BASE)
    if points:
        risk += points[0] + _FURTHER_SIGNAL_SHARE * sum(points[1:])
        certainty = max(strengths[signal] for signal in strengths if signal in _SIGNAL_POINTS)
        risk += certainty * _HISTORY_POINTS * min(facts.history_count, 5)
        risk += certainty * {UserPlan.FREE: 0, UserPlan.PRO: 3, UserPlan.ENTERPRISE: 8}[facts.plan]
    return min(round(risk), 98) / 100
