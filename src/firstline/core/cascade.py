"""Who answers, and why: rules first, then the local model, merged so that nothing lowers what a rule set.

`settle` is a pure function of facts, matches, prediction and policy. Over stored evidence it gives the stored
verdict again, exactly.
"""

from typing import Final

from firstline.core.actions import recommended_action
from firstline.core.churn import churn_risk
from firstline.core.confidence import score
from firstline.core.message import Facts
from firstline.core.policy import (
    DECISION_PRIORITY,
    NO_FLOOR,
    PAYING_PLANS,
    SHORT_LENGTH,
    Floor,
    Policy,
    floor_of,
)
from firstline.core.rules import Match
from firstline.core.taxonomy import (
    FALLBACK_CATEGORY,
    MUST_NOT_MISS,
    Contract,
    Decision,
    Priority,
    Signal,
    higher_decision,
    higher_priority,
)
from firstline.core.verdict import Evidence, Prediction, Reason, Source, Verdict

SIGNAL_PROBABILITY: Final = 0.5
"""A local prediction of a category other than the fallback at or above it is a signal of its own."""

_UNHAPPY: Final = frozenset({Signal.CHURN, Signal.COMPLAINT})
_STEP_UP: Final = {
    Decision.IGNORE: Decision.STANDARD_RESPONSE,
    Decision.STANDARD_RESPONSE: Decision.PRIORITY_RESPONSE,
}


def settle(
    facts: Facts,
    matches: tuple[Match, ...],
    prediction: Prediction | None,
    policy: Policy,
    *,
    rules_hash: str,
    policy_hash: str | None = None,
) -> Verdict:
    """Decide on a message.

    Args:
        facts: of the message.
        matches: the rules that apply.
        prediction: what the local model says; None when there is no usable model.
        policy: thresholds and categories in force.
        rules_hash: content hash of the rules in force.
        policy_hash: content hash of the policy, when the caller has it at hand.
    """
    signals = frozenset(match.signal for match in matches if match.signal is not None)
    category, probability = prediction.best if prediction else (FALLBACK_CATEGORY, 0.0)
    for match in matches:
        if match.then.category:
            category = match.then.category
    floor = _floor(facts, matches, signals)
    terminal = _escalates_terminally(facts, signals) or any(match.then.terminal for match in matches)
    noise = None if _escalates_terminally(facts, signals) else _noise(facts, matches, signals, floor, prediction)
    decision = Decision.IGNORE if noise else higher_decision(Decision.STANDARD_RESPONSE, floor.decision)

    unhappy = bool(signals & _UNHAPPY)
    confidence = score(
        facts,
        terminal=terminal or noise is not None,
        unhappy=unhappy,
        raised=decision in {Decision.PRIORITY_RESPONSE, Decision.IMMEDIATE_ESCALATION},
    )
    reasons = _reasons(facts, matches, signals, prediction, noise)
    needs_review = False
    if confidence < policy.low_confidence:
        decision = _STEP_UP.get(decision, decision)
        needs_review = True
        reasons.append(Reason("low_confidence", f"The score is under the threshold of {policy.low_confidence:g}."))
    if probability < policy.review_probability and not terminal and noise is None:
        needs_review = True
        reasons.append(Reason("low_probability", f"The category's probability is under {policy.review_probability:g}."))
    if Signal.SPAM in signals and noise is None and not terminal:
        needs_review = True

    return Verdict(
        category=category,
        priority=_priority(facts, category, decision, floor, policy),
        decision=decision,
        probability=probability,
        confidence=confidence,
        churn_risk=churn_risk(facts, signals),
        recommended_action=recommended_action(decision, category, signals, matches),
        needs_review=needs_review,
        source=Source.RULE if terminal or noise in {"spam", "rule"} else Source.LOCAL,
        language=prediction.language if prediction else None,
        reasons=tuple(reasons),
        evidence=Evidence(
            facts=facts,
            matches=matches,
            prediction=prediction,
            thresholds={
                "low_confidence": policy.low_confidence,
                "review_probability": policy.review_probability,
            },
            policy=policy_hash or policy.content_hash,
            rules=rules_hash,
        ),
    )


def emergency_verdict() -> Verdict:
    """The answer when firstline itself has failed on a message: escalated, and flagged for a person."""
    return Verdict(
        category=FALLBACK_CATEGORY,
        priority=Priority.HIGH,
        decision=Decision.PRIORITY_RESPONSE,
        probability=0.0,
        confidence=0.0,
        churn_risk=0.5,
        recommended_action="Read this message now: automatic triage failed on it, so nothing about it is known.",
        needs_review=True,
        source=Source.EMERGENCY,
        language=None,
        reasons=(Reason("fault", "Automatic triage failed; the message was kept and flagged for manual review."),),
        evidence=None,
    )


def _floor(facts: Facts, matches: tuple[Match, ...], signals: frozenset[Signal]) -> Floor:
    floor = floor_of(signals, plan=facts.plan, history_count=facts.history_count)
    for match in matches:
        floor = floor.raised(decision=match.then.decision, priority=match.then.priority)
    return floor


def _escalates_terminally(facts: Facts, signals: frozenset[Signal]) -> bool:
    return not signals.isdisjoint(MUST_NOT_MISS) or (Signal.OUTAGE in signals and facts.plan in PAYING_PLANS)


def _noise(
    facts: Facts,
    matches: tuple[Match, ...],
    signals: frozenset[Signal],
    floor: Floor,
    prediction: Prediction | None,
) -> str | None:
    """Why a message may be ignored, or None. One with any other signal is never noise."""
    if floor != NO_FLOOR:
        return None
    if signals == {Signal.SPAM}:
        return "spam"
    if not signals and any(match.then.terminal and match.then.decision is Decision.IGNORE for match in matches):
        return "rule"
    if facts.length < SHORT_LENGTH and not matches:
        category, probability = prediction.best if prediction else (FALLBACK_CATEGORY, 1.0)
        if category == FALLBACK_CATEGORY or probability < SIGNAL_PROBABILITY:
            return "short"
    return None


def _priority(facts: Facts, category: str, decision: Decision, floor: Floor, policy: Policy) -> Priority:
    if facts.contract is Contract.CLASSIFIER:
        return higher_priority(policy.priority_of(category), floor.priority)
    return higher_priority(DECISION_PRIORITY[decision], floor.priority)


def _reasons(
    facts: Facts,
    matches: tuple[Match, ...],
    signals: frozenset[Signal],
    prediction: Prediction | None,
    noise: str | None,
) -> list[Reason]:
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
    if noise == "short":
        reasons.append(Reason("short", f"Under {SHORT_LENGTH} characters and nothing in it says what it wants."))
    if signals & _UNHAPPY:
        if facts.plan in PAYING_PLANS:
            reasons.append(Reason("plan", f"The customer pays: {facts.plan}."))
        if facts.history_count >= 3:
            reasons.append(Reason("history", f"{facts.history_count} earlier messages strengthen the complaint."))
    return reasons
