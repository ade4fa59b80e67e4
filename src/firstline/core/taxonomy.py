"""The words that verdicts are made of: categories, priorities, decisions, signals, plans of a customer, channels."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Priority(StrEnum):
    """How soon a ticket wants attention."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Decision(StrEnum):
    """What to do with a message, from least to most urgent."""

    IGNORE = "ignore"
    STANDARD_RESPONSE = "standard_response"
    PRIORITY_RESPONSE = "priority_response"
    IMMEDIATE_ESCALATION = "immediate_escalation"


class Signal(StrEnum):
    """What a rule has recognised in a message."""

    LEGAL = "legal"
    SAFETY = "safety"
    SECURITY = "security"
    OUTAGE = "outage"
    SPAM = "spam"
    CHURN = "churn"
    COMPLAINT = "complaint"


class UserPlan(StrEnum):
    """The plan of the person who wrote the message (not of the account that asks firstline)."""

    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"


class Channel(StrEnum):
    """Where the message came in."""

    EMAIL = "email"
    CHAT = "chat"
    REVIEW = "review"
    SOCIAL = "social"


class Contract(StrEnum):
    """Which of the two published contracts a request was made under."""

    CLASSIFIER = "classifier"
    DECISION = "decision"


LANGUAGES: Final = ("en", "de", "fr", "es", "pt", "it", "nl", "pl", "ru", "tr", "zh", "ja", "ar", "ko")

MUST_NOT_MISS: Final = (Signal.LEGAL, Signal.SAFETY, Signal.SECURITY)
"""Signals that escalate whatever else is true, first match first."""

PRIORITY_RANK: Final[Mapping[Priority, int]] = {priority: rank for rank, priority in enumerate(Priority)}
DECISION_RANK: Final[Mapping[Decision, int]] = {decision: rank for rank, decision in enumerate(Decision)}


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of ticket.

    Attributes:
        name: as it is shown and answered, 1–64 characters.
        priority: what a ticket of this kind starts at.
    """

    name: str
    priority: Priority


FALLBACK_CATEGORY: Final = "Other"

DEFAULT_CATEGORIES: Final = (
    Category("Network Issue", Priority.HIGH),
    Category("Account Problem", Priority.HIGH),
    Category("Payment Issue", Priority.HIGH),
    Category("Feature Request", Priority.LOW),
    Category(FALLBACK_CATEGORY, Priority.MEDIUM),
)


def higher_priority(left: Priority, right: Priority) -> Priority:
    """The more urgent of two priorities."""
    return left if PRIORITY_RANK[left] >= PRIORITY_RANK[right] else right


def higher_decision(left: Decision, right: Decision) -> Decision:
    """The more urgent of two decisions."""
    return left if DECISION_RANK[left] >= DECISION_RANK[right] else right
