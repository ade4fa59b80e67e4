"""Who answers, and why: rules, then the local model, then a provider, merged so that nothing lowers what a rule set.

`settle` is a pure function of facts, matches, prediction, policy and what came of asking providers. Over stored
evidence it gives the stored verdict again, exactly.
"""

from typing import Final

from firstline.core.actions import recommended_action
from firstline.core.churn import churn_risk
from firstline.core.completion import Asked, Completion
from firstline.core.confidence import score
from firstline.core.fusion import choose_category, foremost
from firstline.core.message import Facts
from firstline.core.policy import (
    DECISION_PRIORITY,
    ESCALATE,
    NO_FLOOR,
    PAYING_PLANS,
    PRIORITISE,
    SHORT_LENGTH,
    Floor,
    Policy,
    floor_of,
)
from firstline.core.reasons import asked_reason, reasons_of
from firstline.core.rules import Match
from firstline.core.taxonomy import (
    DECISION_RANK,
    FALLBACK_CATEGORY,
    MUST_NOT_MISS,
    PRIORITY_RANK,
    Contract,
    Decision,
    Priority,
    Signal,
    higher_decision,
    higher_priority,
)
from firstline.core.verdict import Evidence, Prediction, Reason, Source, Verdict

SIGNAL_PROBABILITY: Final = 0.5
"""A local prediction of a legal matter, of churn, of a complaint, or of a category other than the fallback counts from
here on."""

_UNHAPPY: Final = frozenset({Signal.CHURN, Signal.COMPLAINT})
_WATCHED: Final = frozenset({*MUST_NOT_MISS, Signal.OUTAGE})
_SELDOM_NAMED: Final = frozenset({Signal.SAFETY, Signal.SECURITY, Signal.OUTAGE})
"""Signals that people tell without a word for them; a legal threat mostly has one, which the rules know."""

_FAINT: Final = 0.3
"""A signal less probable than this does not keep spam from being ignored."""

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
    asked: Asked | None = None,
) -> Verdict:
    """Decide on a message.

    Args:
        facts: of the message.
        matches: the rules that apply.
        prediction: what the local model says; None when there is no usable model.
        policy: thresholds and categories in force.
        rules_hash: content hash of the rules in force.
        policy_hash: content hash of the policy, when the caller has it at hand.
        asked: what came of asking providers; None when none was asked. It may raise a verdict, never lower one.
    """
    completion = asked.completion if asked else None
    signals = frozenset(match.signal for match in matches if match.signal is not None)
    suspected = _suspected(prediction, signals, policy)
    category, probability, held_back = choose_category(prediction, completion, policy)
    ruled = [match.then.category for match in matches if match.then.category]
    if ruled:
        category, held_back = ruled[-1], None
    floor = _floor(facts, matches, signals)
    terminal = _escalates_terminally(facts, signals) or any(match.then.terminal for match in matches)
    noise = (
        None if _escalates_terminally(facts, signals) else _noise(facts, matches, signals, floor, prediction, policy)
    )
    if noise is None:
        floor = _second_floor(facts, floor, suspected, prediction, policy)
    decision = Decision.IGNORE if noise else higher_decision(Decision.STANDARD_RESPONSE, floor.decision)
    named = _named(suspected, floor)
    if completion is not None:
        alone = settle(facts, matches, prediction, policy, rules_hash=rules_hash, policy_hash=policy_hash)
        floor = floor.raised(decision=alone.decision, priority=alone.priority)
        raised = floor.raised(decision=completion.decision, priority=completion.priority)
        decision = higher_decision(decision, raised.decision)

    chances = prediction.signals if prediction else {}
    confidence = score(
        facts,
        terminal=terminal or noise in {"spam", "short", "rule"},
        unhappy=bool((signals | suspected.keys()) & _UNHAPPY),
        raised=decision in {Decision.PRIORITY_RESPONSE, Decision.IMMEDIATE_ESCALATION},
        churn_opinion=_churn_opinion(prediction, completion),
        provider_failed=asked is not None and asked.failed and facts.contract is Contract.DECISION,
    )
    reasons = reasons_of(facts, matches, signals | suspected.keys(), prediction, noise)
    reasons += [
        Reason("second_line", f"The local model suspects {signal} with probability {chance:.2f}; no rule found it.")
        for signal, chance in suspected.items()
    ]
    if asked is not None:
        reasons.append(asked_reason(asked))
    needs_review = bool(suspected.keys() & _WATCHED) and noise is None
    if confidence < policy.low_confidence:
        decision = _STEP_UP.get(decision, decision)
        needs_review = True
        reasons.append(Reason("low_confidence", f"The score is under the threshold of {policy.low_confidence:g}."))
    if held_back is not None and noise is None:
        needs_review = True
        reasons.append(held_back)
    if probability < policy.review_probability and not terminal and noise is None and held_back is None:
        needs_review = True
        reasons.append(Reason("low_probability", f"The category's probability is under {policy.review_probability:g}."))
    if Signal.SPAM in signals and noise is None and not terminal:
        needs_review = True

    risk = churn_risk(facts, signals, {} if noise else chances)
    action = recommended_action(decision, category, signals | named, matches)
    if completion is not None:
        floor, risk = raised, max(risk, alone.churn_risk, completion.churn_risk)
        needs_review |= DECISION_RANK[completion.decision] > DECISION_RANK[alone.decision] + 1
        if completion.action and not matches and not named and completion.category == category:
            action = completion.action
    return Verdict(
        category=category,
        subcategory=prediction.subcategory if prediction and category == prediction.best[0] else None,
        priority=_priority(facts, category, decision, floor, policy),
        decision=decision,
        probability=probability,
        confidence=confidence,
        churn_risk=risk,
        recommended_action=action,
        needs_review=needs_review,
        source=_source(terminal=terminal or noise in {"spam", "rule"}, completion=completion),
        language=_language(prediction, completion),
        reasons=tuple(reasons),
        evidence=Evidence(
            facts=facts,
            matches=matches,
            prediction=prediction,
            thresholds={
                "low_confidence": policy.low_confidence,
                "review_probability": policy.review_probability,
                "category": policy.threshold_of(*foremost(prediction)),
            },
            policy=policy_hash or policy.content_hash,
            rules=rules_hash,
            asked=asked,
        ),
    )


def emergency_verdict() -> Verdict:
    """The answer when firstline itself has failed on a message: ahead of the others, and flagged for a person."""
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


def _churn_opinion(prediction: Prediction | None, completion: Completion | None) -> float | None:
    if completion is not None:
        return completion.churn_risk
    return prediction.signals.get(Signal.CHURN, 0.0) if prediction else None


def _language(prediction: Prediction | None, completion: Completion | None) -> str | None:
    if prediction is not None and prediction.language is not None:
        return prediction.language
    return completion.language if completion is not None else None


def _source(*, terminal: bool, completion: Completion | None) -> Source:
    if terminal:
        return Source.RULE
    return Source.LOCAL if completion is None else Source.PROVIDER


def _suspected(prediction: Prediction | None, signals: frozenset[Signal], policy: Policy) -> dict[Signal, float]:
    """Signals that no rule has found and the local model thinks likely."""
    if prediction is None:
        return {}
    return {
        signal: chance
        for signal, chance in prediction.signals.items()
        if signal is not Signal.SPAM
        and signal not in signals
        and chance >= (policy.suspicion if signal in _SELDOM_NAMED else SIGNAL_PROBABILITY)
    }


def _second_floor(
    facts: Facts, floor: Floor, suspected: dict[Signal, float], prediction: Prediction | None, policy: Policy
) -> Floor:
    """The floor of the rules, raised by what the local model suspects; it never lowers one."""
    if not suspected.keys().isdisjoint(_WATCHED):
        floor = floor.raised(decision=PRIORITISE.decision, priority=PRIORITISE.priority)
    if any(suspected.get(signal, 0.0) >= policy.alarm for signal in MUST_NOT_MISS):
        floor = floor.raised(decision=ESCALATE.decision, priority=ESCALATE.priority)
    unhappy = floor_of(frozenset(suspected.keys() & _UNHAPPY), plan=facts.plan, history_count=facts.history_count)
    floor = floor.raised(decision=unhappy.decision, priority=unhappy.priority)
    if prediction is not None:
        if prediction.urgency and prediction.urgency.probability >= policy.insistence:
            level = Priority(prediction.urgency.level)
            floor = floor.raised(priority=min(level, Priority.HIGH, key=PRIORITY_RANK.__getitem__))
        if prediction.decision and prediction.decision.probability >= policy.insistence:
            opinion = Decision(prediction.decision.level)
            floor = floor.raised(decision=min(opinion, Decision.PRIORITY_RESPONSE, key=DECISION_RANK.__getitem__))
    return floor


def _named(suspected: dict[Signal, float], floor: Floor) -> frozenset[Signal]:
    """Suspected signals that the recommended action may name: those that have raised the message."""
    return frozenset(suspected) if floor != NO_FLOOR else frozenset()


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
    policy: Policy,
) -> str | None:
    """Why a message may be ignored, or None. One with any other signal is never noise."""
    if floor != NO_FLOOR:
        return None
    if signals == {Signal.SPAM}:
        return "spam"
    chances = prediction.signals if prediction else {}
    serious = max((chance for signal, chance in chances.items() if signal is not Signal.SPAM), default=0.0)
    if not matches and chances.get(Signal.SPAM, 0.0) >= policy.spam and serious < _FAINT:
        return "model"
    if not signals and any(match.then.terminal and match.then.decision is Decision.IGNORE for match in matches):
        return "rule"
    if facts.length < SHORT_LENGTH and not matches and serious < policy.suspicion:
        category, probability = prediction.best if prediction else (FALLBACK_CATEGORY, 1.0)
        if category == FALLBACK_CATEGORY or probability < SIGNAL_PROBABILITY:
            return "short"
    return None


def _priority(facts: Facts, category: str, decision: Decision, floor: Floor, policy: Policy) -> Priority:
    if facts.contract is Contract.CLASSIFIER:
        return higher_priority(policy.priority_of(category), floor.priority)
    return higher_priority(DECISION_PRIORITY[decision], floor.priority)
