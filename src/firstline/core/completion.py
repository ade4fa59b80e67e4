"""What a language model has answered: parsed, bounded, and never trusted further than that.

A completion is data from outside. Its category must be one of the account's, its levels must be known, its texts are
bounded and hold no link, markup or control character. Whatever does not fit is a failure of that provider, of a kind
that is counted, and nothing of it goes on.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NoReturn

from firstline.core.taxonomy import LANGUAGES, Decision, Priority

MAX_ANSWER: Final = 20_000
"""Characters of an answer that are read at all."""

MAX_ACTION: Final = 500
MAX_REASON: Final = 300
LEAK_LENGTH: Final = 40
"""So many characters in a row of what a model was told are taken for a leak of the instructions."""

_UNSAFE: Final = re.compile(
    r"https?:|www\.|://|<[a-zA-Z/!]|\]\(|[\w.+-]@[\w-]|\bjavascript:|[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]",
    re.IGNORECASE,
)


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
        instructions: what the model was told; an answer that repeats `LEAK_LENGTH` characters of it is refused.
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
    if instructions and _repeats(f"{action}\n{reason}", instructions):
        raise CompletionInvalid(FailureKind.LEAK)
    language = _string(data, "language").strip().lower()[:2]
    return Completion(
        category=category,
        priority=priority,
        decision=decision,
        churn_risk=round(float(churn_risk), 2),
        language=language if language in LANGUAGES else None,
        action=_fit(action, MAX_ACTION),
        reason=_fit(reason, MAX_REASON),
    )


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


def _fit(text: str, most: int) -> str:
    """A text fit to be shown, or nothing: no link, address, markup, control or invisible character, no surrogate."""
    flat = " ".join(text.split())
    if not flat or _UNSAFE.search(flat) or not flat.isprintable():
        return ""
    return flat if len(flat) <= most else flat[: most - 1].rstrip() + "…"


def _repeats(text: str, instructions: str) -> bool:
    """Whether a run of the instructions stands in the text, however it is spaced and cased."""
    folded, told = _letters(text), _told(instructions)
    return any(folded[start : start + LEAK_LENGTH] in told for start in range(0, len(folded) - LEAK_LENGTH + 1, 8))


@lru_cache(maxsize=256)
def _told(instructions: str) -> str:
    return _letters(instructions)


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())
