"""What somebody says about a verdict, what would have been right, and whether probabilities keep their promise."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt
from typing import Final

from firstline.core.actions import recommended_action
from firstline.core.taxonomy import Decision, Priority

BANDS: Final = 10
MAX_AUTHOR_LENGTH: Final = 100
_Z: Final = 1.959963984540054
"""Of a normal distribution, 95 % lie within so many standard deviations."""


class FeedbackSource(StrEnum):
    """Who says whether a verdict was right."""

    AGENT = "agent"
    CUSTOMER = "customer"
    SYSTEM = "system"


class FeedbackInvalid(ValueError):
    """A judgement that cannot be meant.

    Attributes:
        field: the one at fault.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Answer:
    """What of a verdict can be right or wrong."""

    category: str
    priority: Priority
    decision: Decision


@dataclass(frozen=True, slots=True)
class Judgement:
    """What somebody says about a verdict.

    Attributes:
        correct: whether everything was right; None where that follows from what is named.
        category, priority, decision: the right ones; what is not named was right.
        revision: the one that was seen; None for the latest.
        author: the account's own id of whoever says so.
    """

    correct: bool | None = None
    category: str | None = None
    priority: Priority | None = None
    decision: Decision | None = None
    revision: int | None = None
    source: FeedbackSource | None = None
    author: str | None = None

    @property
    def names(self) -> bool:
        """Whether it names anything that is right."""
        return not (self.category is None and self.priority is None and self.decision is None)


def right_answer(judgement: Judgement, seen: Answer, *, revision: int, by_person: bool) -> Answer | None:
    """What is right by a judgement; None where it only says that what was seen is wrong.

    Args:
        seen: what the judged revision says.
        revision: its number.
        by_person: whether a person gave it.
    Raises: FeedbackInvalid when the judgement says nothing, or contradicts itself.
    """
    if not judgement.names:
        if judgement.correct is None:
            raise FeedbackInvalid("body", "say `correct`, or name the right category, priority or decision")
        if judgement.correct:
            return seen
        if by_person:
            raise FeedbackInvalid(
                "correct", f"revision {revision} is a person's correction; name what is right instead"
            )
        return None
    right = Answer(
        judgement.category if judgement.category is not None else seen.category,
        judgement.priority or seen.priority,
        judgement.decision or seen.decision,
    )
    if judgement.correct is False and right == seen:
        raise FeedbackInvalid("correct", f"false, but everything that is named is what revision {revision} says")
    if judgement.correct:
        for field in ("category", "priority", "decision"):
            if getattr(right, field) != getattr(seen, field):
                raise FeedbackInvalid(field, f"another one than revision {revision} has, although `correct` is true")
    return right


_DECIDED: Final = {
    Decision.IMMEDIATE_ESCALATION: "Escalate at once: the person who judged this message has decided so.",
    Decision.PRIORITY_RESPONSE: "Answer before the normal queue: the person who judged this message has decided so.",
}


def action_after(right: Answer, before: Answer, action: str | None) -> str:
    """What to do next, once a person has said what is right.

    Args:
        before: what stood until then.
        action: what it recommended; None where that may hold words of the message.
    """
    if (
        action
        and right.decision is before.decision
        and (right.decision in _DECIDED or right.category == before.category)
    ):
        return action
    return _DECIDED.get(right.decision) or recommended_action(right.decision, right.category, frozenset(), ())


def person_reason(right: Answer, before: Answer) -> str:
    """A sentence on what a person has changed."""
    changes = [
        f"the {field} is {getattr(right, field)}, not {getattr(before, field)}"
        for field in ("category", "priority", "decision")
        if getattr(right, field) != getattr(before, field)
    ]
    return f"A person has corrected it: {'; '.join(changes)}." if changes else "A person has looked and found it right."


def band_of(probability: float) -> int:
    """Which tenth a probability lies in, 0 to 9; the last one holds 1."""
    return min(int(probability * BANDS), BANDS - 1)


def band_name(probability: float) -> str:
    """The same as metrics name it, such as `0.9-1.0`."""
    band = band_of(probability)
    return f"{band / BANDS:.1f}-{(band + 1) / BANDS:.1f}"


def wilson(right: int, of: int) -> tuple[float, float]:
    """Where the true share lies with 95 % confidence.

    Args:
        right, of: counts; 0 ≤ right ≤ of, of ≥ 1.
    Returns: lower and upper bound, 0–1.
    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    share = right / of
    weight = _Z * _Z / of
    middle = (share + weight / 2) / (1 + weight)
    half = _Z / (1 + weight) * sqrt(share * (1 - share) / of + weight / (4 * of))
    return (0.0 if right == 0 else max(middle - half, 0.0)), (1.0 if right == of else min(middle + half, 1.0))


@dataclass(frozen=True, slots=True)
class Tally:
    """Judged verdicts added up.

    Attributes:
        tickets: how many.
        right: those whose category was right.
        promised: sum of the probabilities that they stated.
    """

    tickets: int = 0
    right: int = 0
    promised: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.tickets + other.tickets, self.right + other.right, self.promised + other.promised)

    @property
    def share(self) -> float | None:
        """Part of them that was right; None where there are none, as for the mean."""
        return self.right / self.tickets if self.tickets else None

    @property
    def mean_probability(self) -> float | None:
        """What they promised on average."""
        return self.promised / self.tickets if self.tickets else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """See `wilson`."""
        return wilson(self.right, self.tickets) if self.tickets else None


def calibration_error(bands: Iterable[Tally]) -> float | None:
    """Expected calibration error: the gaps between share and promise, averaged by the tickets of each band.

    Returns: 0–1; None where nothing was judged.
    Source: Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning".
    """
    found = list(bands)
    tickets = sum(band.tickets for band in found)
    return sum(abs(band.right - band.promised) for band in found) / tickets if tickets else None
