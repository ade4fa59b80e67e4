"""A verdict, the reasons that it gives, and the evidence from which it can be derived again.

Evidence is data and holds no word of the message: rule ids with spans, numbers, thresholds and content hashes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from firstline.core.completion import Asked, Completion, FailureKind, Outcome
from firstline.core.message import Facts
from firstline.core.rules import NO_EFFECTS, Effects, Match
from firstline.core.taxonomy import Channel, Contract, Decision, Priority, Signal, UserPlan

EVIDENCE_VERSION: Final = 3
_READABLE_VERSIONS: Final = (1, 2, EVIDENCE_VERSION)


class Source(StrEnum):
    """Who gave the answer that stands."""

    RULE = "rule"
    LOCAL = "local"
    PROVIDER = "provider"
    EMERGENCY = "emergency"
    PERSON = "person"


class Abstention(StrEnum):
    """Why the local model gives no opinion on the category."""

    UNSUPPORTED_LANGUAGE = "unsupported_language"
    NO_WORDS = "no_words"
    NONE_OF_THESE = "none_of_these"


class Opinion(NamedTuple):
    """The highest level that a message reaches more likely than not, and how likely it reaches it."""

    level: str
    probability: float


_NOTHING: Final[Mapping[Signal, float]] = {}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the local model says.

    Attributes:
        model: name and version of the artefact, such as `hybrid.v1+3f2a…`; with categories of the account's own,
            theirs follows after a comma.
        probabilities: calibrated, by category; they sum to 1 within 1e-3.
        language: detected, one of `taxonomy.LANGUAGES`, or None.
        subcategory: the likeliest inside the likeliest category, or None.
        signals: calibrated probability of each signal, those under 0.05 left out.
        urgency: a priority, with the probability that the message deserves it or a higher one.
        decision: a decision, likewise.
        agreed: whether both halves of the model name the same category.
        abstained: why there is no opinion on the category, or None.
        support: `doubt.support_of`; None for categories of the account's own and for models that give none.
    """

    model: str
    probabilities: Mapping[str, float]
    language: str | None = None
    subcategory: str | None = None
    signals: Mapping[Signal, float] = field(default_factory=lambda: _NOTHING)
    urgency: Opinion | None = None
    decision: Opinion | None = None
    agreed: bool = True
    abstained: Abstention | None = None
    support: float | None = None

    @property
    def best(self) -> tuple[str, float]:
        """The likeliest category and its probability."""
        name = max(self.probabilities, key=self.probabilities.__getitem__)
        return name, self.probabilities[name]


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that led to a verdict.

    Attributes:
        code: stable name: `rule`, `model`, `second_line`, `urgency`, `abstained`, `threshold`, `doubt`, `spam`,
            `short`, `plan`, `history`, `low_confidence`, `low_probability`, `provider`, `provider_timeout`,
            `provider_failed`, `provider_unavailable`, `provider_budget`, `fault`, `person`.
        text: a sentence for people, without a word of the message; for `provider` what the provider says.
        rule: id of the rule, for `rule`.
        spans: half-open code point ranges of the original, for `rule`.
    """

    code: str
    text: str
    rule: str | None = None
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that `cascade.settle` was given, without the text.

    Attributes:
        facts, matches, prediction: its arguments.
        thresholds: those of the policy that applied.
        policy, rules: content hashes of the versions in force.
        asked: what came of asking providers, or None.
    """

    facts: Facts
    matches: tuple[Match, ...]
    prediction: Prediction | None
    thresholds: Mapping[str, float]
    policy: str
    rules: str
    asked: Asked | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What firstline answers about one message.

    Attributes:
        subcategory: a finer kind inside the category, or None.
        probability: calibrated chance that the category is right, 0–1.
        confidence: the decision contract's score, 0–1.
        churn_risk: 0–1.
        recommended_action: 1–500 characters.
        needs_review: whether a person should look.
    """

    category: str
    priority: Priority
    decision: Decision
    probability: float
    confidence: float
    churn_risk: float
    recommended_action: str
    needs_review: bool
    source: Source
    language: str | None
    reasons: tuple[Reason, ...]
    evidence: Evidence | None
    subcategory: str | None = None


def evidence_to_data(evidence: Evidence) -> dict[str, Any]:
    """Evidence as plain data, for the store; `evidence_from_data` reads it back exactly."""
    facts = evidence.facts
    data: dict[str, Any] = {
        "v": EVIDENCE_VERSION,
        "facts": [
            facts.contract,
            facts.plan,
            facts.channel,
            facts.length,
            facts.has_question,
            facts.history_count,
        ],
        "thresholds": evidence.thresholds,
        "policy": evidence.policy,
        "rules": evidence.rules,
    }
    if evidence.matches:
        data["matches"] = [
            [
                match.rule,
                match.signal,
                match.spans,
                None if match.then == NO_EFFECTS else _effects_to_data(match.then),
            ]
            for match in evidence.matches
        ]
    if evidence.prediction is not None:
        data["prediction"] = _prediction_to_data(evidence.prediction)
    if evidence.asked is not None:
        data["asked"] = _asked_to_data(evidence.asked)
    return data


def evidence_from_data(data: Mapping[str, Any], *, action: str = "", reason: str = "") -> Evidence:
    """Evidence as it was.

    Args:
        action, reason: a provider's words, which evidence does not hold; the verdict beside it does.
    Raises: ValueError when the data is of another version, or of a person's verdict, which nothing was settled for.
    """
    if "person" in data:
        raise ValueError("evidence of what a person has said; there is nothing in it to settle")
    if data.get("v") not in _READABLE_VERSIONS:
        raise ValueError(f"evidence of version {data.get('v')!r}; this firstline reads {_READABLE_VERSIONS}")
    contract, plan, channel, length, has_question, history_count = data["facts"]
    prediction = data.get("prediction")
    return Evidence(
        facts=Facts(
            Contract(contract),
            UserPlan(plan),
            Channel(channel) if channel else None,
            length,
            has_question,
            history_count,
        ),
        matches=tuple(
            Match(
                rule,
                Signal(signal) if signal else None,
                tuple((start, end) for start, end in spans),
                _effects_from_data(then) if then else NO_EFFECTS,
            )
            for rule, signal, spans, then in data.get("matches", ())
        ),
        prediction=_prediction_from_data(prediction) if prediction else None,
        thresholds=data["thresholds"],
        policy=data["policy"],
        rules=data["rules"],
        asked=_asked_from_data(data["asked"], action, reason) if "asked" in data else None,
    )


def waits_for_provider(data: Mapping[str, Any]) -> bool:
    """Whether a provider's answer may still come late, going by evidence as plain data."""
    asked = data.get("asked")
    return asked is not None and asked[0] == Outcome.TIMEOUT


def has_completion(data: Mapping[str, Any]) -> bool:
    """Whether a provider has answered, going by evidence as plain data: its words may repeat the message's."""
    asked = data.get("asked")
    return asked is not None and asked[3] is not None


def _asked_to_data(asked: Asked) -> list[Any]:
    found = asked.completion
    completion = found and [found.category, found.priority, found.decision, found.churn_risk, found.language]
    return [asked.outcome, asked.provider, asked.model, completion, asked.failures]


def _asked_from_data(data: list[Any], action: str, reason: str) -> Asked:
    outcome, provider, model, completion, failures = data
    found = None
    if completion is not None:
        category, priority, decision, churn, language = completion
        found = Completion(category, Priority(priority), Decision(decision), churn, language, action, reason)
    return Asked(Outcome(outcome), provider, model, found, tuple((name, FailureKind(kind)) for name, kind in failures))


def _prediction_to_data(prediction: Prediction) -> list[Any]:
    return [
        prediction.model,
        prediction.probabilities,
        prediction.language,
        prediction.subcategory,
        {signal.value: chance for signal, chance in prediction.signals.items()},
        list(prediction.urgency) if prediction.urgency else None,
        list(prediction.decision) if prediction.decision else None,
        prediction.agreed,
        prediction.abstained,
        prediction.support,
    ]


def _prediction_from_data(data: list[Any]) -> Prediction:
    if len(data) == 3:  # version 1
        return Prediction(*data)
    model, probabilities, language, subcategory, signals, urgency, decision, agreed, abstained = data[:9]
    return Prediction(
        model=model,
        probabilities=probabilities,
        language=language,
        subcategory=subcategory,
        signals={Signal(name): probability for name, probability in signals.items()},
        urgency=Opinion(*urgency) if urgency else None,
        decision=Opinion(*decision) if decision else None,
        agreed=agreed,
        abstained=Abstention(abstained) if abstained else None,
        support=data[9] if len(data) > 9 else None,  # version 2 has none
    )


def _effects_to_data(effects: Effects) -> list[Any]:
    return [effects.decision, effects.priority, effects.category, effects.action, effects.terminal]


def _effects_from_data(data: list[Any]) -> Effects:
    decision, priority, category, action, terminal = data
    return Effects(
        Decision(decision) if decision else None,
        Priority(priority) if priority else None,
        category,
        action,
        terminal,
    )
