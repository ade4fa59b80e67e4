"""Who answers, and why: rules, then the local model, then a provider, merged so that nothing lowers what a rule set.

`settle` is a pure function of facts, matches, prediction, policy and what came of asking providers. Over stored
evidence it gives the stored verdict again, exactly.
"""

from collections.abc import Mapping
from typing import Final

from firstline.core.actions import recommended_action
from firstline.core.asking import AskPolicy
from firstline.core.churn import churn_risk
from firstline.core.completion import Asked, Completion, Mode, Outcome
from firstline.core.confidence import score
from firstline.core.doubt import doubt, doubted
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
from firstline.core.verdict import Abstention, Evidence, Prediction, Reason, Source, Verdict

SIGNAL_PROBABILITY: Final = 0.5
"""A local prediction of a legal matter, of churn, of a complaint, or of a category other than the fallback counts from
here on."""

_UNHAPPY: Final = frozenset({Signal.CHURN, Signal.COMPLAINT})
_WATCHED: Final = frozenset({*MUST_NOT_MISS, Signal.OUTAGE})
_SELDOM_NAMED: Final = frozenset({Signal.SAFETY, Signal.SECURITY, Signal.OUTAGE})
"""Signals that people tell without a word for them; a legal threat mostly has one, which the rules know."""

_FAINT: Final = 0.3
"""A signal less probable than this does not keep spam from being ignored."""

_ABSTAINED: Final = {
    Abstention.UNSUPPORTED_LANGUAGE: "The message is in a language that the local model does not know.",
    Abstention.NO_WORDS: "The local model knows no word of the message.",
    Abstention.NONE_OF_THESE: "The message seems to belong to none of the account's categories.",
}
_KNOWS_NOTHING: Final = frozenset({Abstention.UNSUPPORTED_LANGUAGE, Abstention.NO_WORDS})
_LEAST_CHANCE: Final = 1e-6
"""However sure the local model is, it leaves a category this much."""

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
    category, probability, held_back = _category(prediction, completion, policy)
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
        provider_failed=asked is not None and asked.failed,
    )
    reasons = _reasons(facts, matches, signals | suspected.keys(), prediction, noise)
    reasons += [
        Reason("second_line", f"The local model suspects {signal} with probability {chance:.2f}; no rule found it.")
        for signal, chance in suspected.items()
    ]
    if asked is not None:
        reasons.append(_asked_reason(asked))
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
    action = recommended_action(decision, category, signals | _named(suspected, floor), matches)
    if completion is not None:
        floor, risk = raised, max(risk, alone.churn_risk, completion.churn_risk)
        needs_review |= DECISION_RANK[completion.decision] > DECISION_RANK[alone.decision] + 1
        if completion.action and not matches and completion.category == category:
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
                "category": policy.threshold_of(*_foremost(prediction)),
            },
            policy=policy_hash or policy.content_hash,
            rules=rules_hash,
            asked=asked,
        ),
    )


def wants_provider(verdict: Verdict, asking: AskPolicy) -> bool:
    """Whether a verdict of rules and local model is worth a provider's opinion.

    A terminal rule has decided, and what is ignored (spam, noise) needs no second opinion.
    """
    if asking.mode is Mode.NEVER or verdict.source is not Source.LOCAL or verdict.decision is Decision.IGNORE:
        return False
    return asking.mode is Mode.ALWAYS or assurance_of(verdict) < asking.threshold


def assurance_of(verdict: Verdict) -> float:
    """How sure the local answer is of its category, 0–1, as `core.doubt` has it; 0 when the model has no opinion."""
    prediction = verdict.evidence.prediction if verdict.evidence else None
    return 0.0 if prediction is None else 1.0 - doubt(prediction, support=prediction.support)


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


def _foremost(prediction: Prediction | None) -> tuple[str, str | None]:
    return (prediction.best[0], prediction.language) if prediction else (FALLBACK_CATEGORY, None)


def _category(
    prediction: Prediction | None, completion: Completion | None, policy: Policy
) -> tuple[str, float, Reason | None]:
    """The category that is answered, its probability, and why it is the fallback instead of the likeliest."""
    chances = _category_chances(prediction, completion, policy)
    if not chances:
        return FALLBACK_CATEGORY, 0.0, None
    name = max(chances, key=chances.__getitem__)
    probability = chances[name]
    threshold = policy.threshold_of(name, prediction.language if prediction else None)
    if completion is None and prediction is not None and prediction.abstained is not None:
        reason = Reason("abstained", _ABSTAINED[prediction.abstained])
    elif probability < threshold:
        reason = Reason("threshold", f"{name} has probability {probability:.2f}, under its threshold of {threshold:g}.")
    else:
        return name, probability, None
    return FALLBACK_CATEGORY, chances.get(FALLBACK_CATEGORY, 0.0), reason


def _category_chances(
    prediction: Prediction | None, completion: Completion | None, policy: Policy
) -> Mapping[str, float]:
    """Probabilities by category after everybody has been heard.

    A provider is taken to be right with the policy's `provider_accuracy`, else to name any other category, whatever
    the local model thinks: Bayes' rule then weighs both. Where the local model knows nothing of a message, all
    categories are as likely before.
    """
    if completion is None:
        return prediction.probabilities if prediction else {}
    names = [category.name for category in policy.categories]
    if prediction is None or not prediction.probabilities or prediction.abstained in _KNOWS_NOTHING:
        local = dict.fromkeys(names, 1.0 / len(names))
    else:
        local = doubted(prediction, doubt(prediction, support=prediction.support))
    otherwise = (1.0 - policy.provider_accuracy) / max(len(names) - 1, 1)
    weights = {
        name: max(local.get(name, 0.0), _LEAST_CHANCE)
        * (policy.provider_accuracy if name == completion.category else otherwise)
        for name in names
    }
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


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


def _asked_reason(asked: Asked) -> Reason:
    completion = asked.completion
    if completion is None:
        return Reason(_ASKED[asked.outcome][0], _ASKED[asked.outcome][1])
    text = f"{asked.provider} ({asked.model}) says {completion.category}"
    return Reason("provider", f"{text}: {completion.reason}" if completion.reason else f"{text}.")


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
