"""What follows from a signal, and the thresholds: versioned values per account, never globals.

Floors only ever raise. Nothing that is merged later (local model, provider, score) lowers what a rule has set.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from firstline.core.taxonomy import (
    DEFAULT_CATEGORIES,
    FALLBACK_CATEGORY,
    Category,
    Decision,
    Priority,
    Signal,
    UserPlan,
    higher_decision,
    higher_priority,
)


@dataclass(frozen=True, slots=True)
class Floor:
    """The least urgent decision and priority that a verdict may have."""

    decision: Decision = Decision.IGNORE
    priority: Priority = Priority.LOW

    def raised(self, *, decision: Decision | None = None, priority: Priority | None = None) -> "Floor":
        """This floor, or a higher one; never a lower."""
        return Floor(
            higher_decision(self.decision, decision) if decision else self.decision,
            higher_priority(self.priority, priority) if priority else self.priority,
        )


NO_FLOOR: Final = Floor()
ESCALATE: Final = Floor(Decision.IMMEDIATE_ESCALATION, Priority.CRITICAL)
PRIORITISE: Final = Floor(Decision.PRIORITY_RESPONSE, Priority.HIGH)

DECISION_PRIORITY: Final[Mapping[Decision, Priority]] = {
    Decision.IGNORE: Priority.LOW,
    Decision.STANDARD_RESPONSE: Priority.MEDIUM,
    Decision.PRIORITY_RESPONSE: Priority.HIGH,
    Decision.IMMEDIATE_ESCALATION: Priority.CRITICAL,
}
"""The decision contract's priority of a decision that nothing raises further."""

PAYING_PLANS: Final = frozenset({UserPlan.PRO, UserPlan.ENTERPRISE})
SHORT_LENGTH: Final = 10
"""Characters, as a reader counts them, under which a message without any signal is noise."""

COMPLAINT_HISTORY: Final = 3
"""Earlier messages that strengthen a complaint."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """The least probability at which a category is answered; below it the fallback is, and a person looks.

    Attributes:
        category: name, or None for every category.
        language: code, or None for every language.
        probability: 0–1.
    """

    category: str | None
    language: str | None
    probability: float


@dataclass(frozen=True, slots=True)
class Policy:
    """Thresholds and categories in force for one account.

    Attributes:
        low_confidence: 0–1; a score under it lifts the decision by one step and asks for a review.
        review_probability: 0–1; a calibrated probability under it asks for a review.
        categories: names and starting priorities; the fallback is always among them.
        thresholds: of categories and languages; the most specific one applies.
        suspicion: 0–1; a safety or security matter or an outage that the local model gives this probability, and no
            rule has found, raises the message to a priority response and asks for a review. It is low: to look at
            two harmless messages costs less than to miss one.
        alarm: 0–1; at this probability a suspected legal, safety or security matter escalates at once.
        spam: 0–1; at this probability a message with no other signal is ignored.
        insistence: 0–1; at this probability the model's opinion on urgency and decision raises the message.
        provider_accuracy: 0–1; how often a provider is taken to name the right category.
    """

    low_confidence: float = 0.4
    review_probability: float = 0.5
    categories: tuple[Category, ...] = DEFAULT_CATEGORIES
    thresholds: tuple[Threshold, ...] = ()
    suspicion: float = 0.3
    alarm: float = 0.9
    spam: float = 0.9
    insistence: float = 0.8
    provider_accuracy: float = 0.9

    @property
    def content_hash(self) -> str:
        """Hex SHA-256 over the values; names this version in evidence."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def threshold_of(self, category: str, language: str | None) -> float:
        """The least probability for a category in a language; 0 when none is set.

        One for both counts before one for the category, and that before one for the language, and that before one
        for everything.
        """
        best, rank = 0.0, -1
        for threshold in self.thresholds:
            if threshold.category not in (None, category) or threshold.language not in (None, language):
                continue
            specific = 2 * (threshold.category is not None) + (threshold.language is not None)
            if specific > rank:
                best, rank = threshold.probability, specific
        return best

    def priority_of(self, category: str) -> Priority:
        """Where tickets of a category start; an unknown category starts where the fallback does."""
        fallback = Priority.MEDIUM
        for known in self.categories:
            if known.name == category:
                return known.priority
            if known.name == FALLBACK_CATEGORY:
                fallback = known.priority
        return fallback


def floor_of(signals: frozenset[Signal], *, plan: UserPlan, history_count: int) -> Floor:
    """The floor that the signals of a message set, given who wrote it and how often before."""
    if signals & {Signal.LEGAL, Signal.SAFETY, Signal.SECURITY}:
        return ESCALATE
    if Signal.OUTAGE in signals:
        return ESCALATE if plan in PAYING_PLANS else PRIORITISE
    unhappy = Signal.CHURN in signals or Signal.COMPLAINT in signals
    if unhappy and (plan is UserPlan.ENTERPRISE or history_count >= COMPLAINT_HISTORY):
        return PRIORITISE
    return NO_FLOOR
