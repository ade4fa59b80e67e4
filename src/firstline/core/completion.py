"""What a language model has answered: parsed, bounded, and never trusted further than that.

A completion is data from outside. Its category must be one of the account's and its levels must be known; whatever
does not fit is a failure of that provider, of a kind that is counted, and nothing of it goes on. Its texts are shown
when they are fit to be (`shown_text`), and withheld when they are not.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, NoReturn

from firstline.core.leaks import repeated
from firstline.core.shown_text import MAX_ACTION as MAX_ACTION
from firstline.core.shown_text import MAX_REASON as MAX_REASON
from firstline.core.shown_text import shown_action, shown_reason
from firstline.core.taxonomy import LANGUAGES, Decision, Priority

MAX_ANSWER: Final = 20_000
"""Characters of an answer that are read at all."""

LEAK: Final = 60
"""Letters of the instructions in a row with which an answer is refused: the model no longer does what it was told."""

LEAK_ALTOGETHER: Final = 120
"""Letters of the instructions in several runs with which it is refused."""

ECHO: Final = 24
"""Letters in a row with which texts are withheld; models in good health repeat a phrase now and then."""

ECHO_ALTOGETHER: Final = 50
"""Letters in several runs with which they are."""


class FailureKind(StrEnum):
    """Why a call gave no valid answer; the label under which it is counted."""

    REFUSED = "refused"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    UNAUTHORIZED = "unauthorized"
    REJECTED = "rejected"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"
    EMPTY = "empty"
    BLOCKED = "blocked"
    TRUNCATED = "truncated"
    BAD_JSON = "bad_json"
    BAD_SCHEMA = "bad_schema"
    LEAK = "leak"
    FAULT = "fault"


class Mode(StrEnum):
    """When a provider is asked."""

    NEVER = "never"
    UNCERTAIN = "uncertain"
    ALWAYS = "always"


class Outcome(StrEnum):
    """What came of asking.

    Attributes:
        ANSWERED: a provider gave a valid answer in time.
        TIMEOUT: none had answered by the deadline.
        FAILED: every provider that was asked failed.
        UNAVAILABLE: none could be asked: all breakers are open, or too many calls are running.
        BUDGET: the account's budget is spent.
    """

    ANSWERED = "answered"
    TIMEOUT = "timeout"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"
    BUDGET = "budget"


class CompletionInvalid(ValueError):
    """An answer that cannot be used; says the kind and never quotes it."""

    def __init__(self, kind: FailureKind) -> None:
        super().__init__(kind.value)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Completion:
    """A provider's opinion on one message.

    Attributes:
        category: one of the account's.
        churn_risk: 0–1.
        language: one of `taxonomy.LANGUAGES`, or None for any other.
        action: what to do next, at most `MAX_ACTION` characters; empty when it was not fit to be shown.
        reason: why, at most `MAX_REASON` characters; likewise.
    """

    category: str
    priority: Priority
    decision: Decision
    churn_risk: float
    language: str | None
    action: str = ""
    reason: str = ""

    def without_texts(self) -> "Completion":
        """The same opinion without its words, which may repeat the message's."""
        return replace(self, action="", reason="")


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking providers about one message.

    Attributes:
        provider, model: whose answer it is; None unless one answered.
        failures: provider and kind of each call that failed, in order.
    """

    outcome: Outcome
    provider: str | None = None
    model: str | None = None
    completion: Completion | None = None
    failures: tuple[tuple[str, FailureKind], ...] = ()

    @property
    def failed(self) -> bool:
        """Whether a provider was needed and gave no valid answer; a spent budget is no failure."""
        return self.outcome in {Outcome.TIMEOUT, Outcome.FAILED, Outcome.UNAVAILABLE}


def answer_schema(categories: Collection[str]) -> dict[str, Any]:
    """The JSON schema that providers are told to answer by."""
    properties: dict[str, Any] = {
        "category": {"type": "string", "enum": list(categories)},
        "priority": {"type": "string", "enum": [priority.value for priority in Priority]},
        "decision": {"type": "string", "enum": [decision.value for decision in Decision]},
        "churn_risk": {"type": "number", "minimum": 0, "maximum": 1},
        "language": {"type": "string"},
        "action": {"type": "string"},
        "reason": {"type": "string"},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def parse_completion(text: str, *, categories: Collection[str], instructions: str = "") -> Completion:
    """Read a provider's answer.

    Args:
        text: what the model wrote: one JSON object, alone or in one code fence.
        categories: of the account; the answered one must be among them.
        instructions: what the model was told; an answer that repeats `LEAK` letters of it is refused, and one that
            repeats `ECHO` loses its texts.
    Raises: CompletionInvalid with the kind of the fault.
    """
    if len(text) > MAX_ANSWER:
        raise CompletionInvalid(FailureKind.TOO_LARGE)
    stripped = text.strip()
    if not stripped:
        raise CompletionInvalid(FailureKind.EMPTY)
    data = _object(_unfenced(stripped))
    category = _string(data, "category")
    if category not in categories:
        raise CompletionInvalid(FailureKind.BAD_SCHEMA)
    try:
        priority, decision = Priority(_string(data, "priority")), Decision(_string(data, "decision"))
    except ValueError:
        raise CompletionInvalid(FailureKind.BAD_SCHEMA) from None
    churn_risk = data.get("churn_risk")
    if isinstance(churn_risk, bool) or not isinstance(churn_risk, int | float) or not 0 <= churn_risk <= 1:
        raise CompletionInvalid(FailureKind.BAD_SCHEMA)
    action, reason = _string(data, "action"), _string(data, "reason")
    longest, altogether = repeated(f"{action[: 2 * MAX_ACTION]}\n{reason[: 2 * MAX_REASON]}", instructions)
    if longest >= LEAK or altogether >= LEAK_ALTOGETHER:
        raise CompletionInvalid(FailureKind.LEAK)
    language = _string(data, "language").strip().lower()[:2]
    completion = Completion(
        category=category,
        priority=priority,
        decision=decision,
        churn_risk=round(float(churn_risk), 2),
        language=language if language in LANGUAGES else None,
        # Nobody is asked about a message that is ignored, so a step that goes with that verdict never fits.
        action=shown_action(action) if decision is not Decision.IGNORE else "",
        reason=shown_reason(reason),
    )
    return completion if longest < ECHO and altogether < ECHO_ALTOGETHER else completion.without_texts()


def _object(text: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text, object_pairs_hook=_members, parse_constant=_constant)
    except (ValueError, RecursionError):
        raise CompletionInvalid(FailureKind.BAD_JSON) from None
    if not isinstance(data, dict):
        raise CompletionInvalid(FailureKind.BAD_SCHEMA)
    return data


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key given twice could hide one verdict behind another."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _constant(_name: str) -> NoReturn:
    raise ValueError


def _string(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str):
        raise CompletionInvalid(FailureKind.BAD_SCHEMA)
    return value


def _unfenced(text: str) -> str:
    """Some models put JSON into a code fence whatever they are told."""
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        return text[3:-3].removeprefix("json").strip()
    return text
