"""What a fault makes of the model's own answer; the envelope around it stays whole."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from firstline.delivery.fake_provider.replies import Ending, Said
from firstline.delivery.fake_provider.schemas import choices_of, fields_of
from firstline.delivery.fake_provider.script import Fault
from firstline.delivery.fake_provider.wire import Json

_FIELD_SIZE: Final = 2 << 20
_DEPTH: Final = 100_000
_ENDINGS: Final[Mapping[Fault, Ending]] = {
    Fault.BLOCKED_PROMPT: Ending.BLOCKED_PROMPT,
    Fault.BLOCKED_ANSWER: Ending.BLOCKED_ANSWER,
    Fault.EMPTY: Ending.EMPTY,
}


def said(fault: Fault, answer: Json, schema: Json, *, tool: str | None, size: int | None = None) -> Said:
    """The answer as the model says it under a fault; faults that are not the model's leave it alone.

    Args:
        answer: a good one.
        schema: that it fits.
        tool: that is called with it, if any.
        size: characters of a huge field.
    """
    if ending := _ENDINGS.get(fault):
        return Said("", ending, tool)
    text = json.dumps(_changed(fault, answer, schema, size or _FIELD_SIZE), ensure_ascii=False)
    match fault:
        case Fault.CUT_JSON:
            return Said(text[: len(text) * 2 // 3], tool=tool)
        case Fault.LENGTH:
            return Said(text[: len(text) // 2], Ending.LENGTH, tool)
        case Fault.FENCED_JSON:
            return Said(f"```json\n{text}\n```")
        case Fault.PROSE:
            return Said("Sure! I have read the message and I would say that it is rather important.")
        case Fault.NOT_OBJECT:
            return Said(f"[{text}]", tool=tool)
        case Fault.DEEP_JSON:
            return Said('{"category":' * _DEPTH)
        case Fault.TOOL_CALL:
            return Said('{"to": "all", "text": "hello"}', tool="send_message")
    return Said(text, tool=tool)


def _changed(fault: Fault, answer: Json, schema: Json, size: int) -> Json:
    """The answer with one field made wrong, or the answer itself."""
    wrong = dict(answer)
    wishes = fields_of(schema)
    match fault:
        case Fault.WRONG_ENUM:
            wrong[_first(answer, "category", lambda name: bool(choices_of(wishes.get(name, {}))))] = "No Such Choice"
        case Fault.MISSING_FIELD:
            wrong.pop(_first(answer, "category", lambda name: True), None)
        case Fault.WRONG_TYPE:
            wrong[_first(answer, "churn_risk", lambda name: not isinstance(answer[name], str))] = {"value": "very"}
        case Fault.OUT_OF_RANGE:
            wrong[_first(answer, "churn_risk", lambda name: isinstance(answer[name], int | float))] = 37.5
        case Fault.NAN:
            wrong[_first(answer, "churn_risk", lambda name: isinstance(answer[name], int | float))] = math.nan
        case Fault.HUGE_FIELD:
            free = (name for name, value in answer.items() if isinstance(value, str) and not choices_of(wishes[name]))
            wrong[next(free, "reason")] = "A" * size
    return wrong


def _first(answer: Json, usual: str, wanted: Any) -> str:
    """Name of the field to spoil: the usual one, else the first that will do."""
    if usual in answer:
        return usual
    return next((name for name in answer if wanted(name)), usual)
