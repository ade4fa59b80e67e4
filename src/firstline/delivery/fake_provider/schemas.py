"""JSON schemas as requests carry them: which fields are wanted, and values that fit them."""

import json
from collections.abc import Mapping
from typing import Any, Final

from firstline.core.taxonomy import DEFAULT_CATEGORIES, Decision, Priority
from firstline.delivery.fake_provider.wire import Json

_DEPTH: Final = 12

USUAL: Final[Json] = {
    "type": "object",
    "properties": {
        "category": {"type": "string", "enum": [category.name for category in DEFAULT_CATEGORIES]},
        "priority": {"type": "string", "enum": list(Priority)},
        "decision": {"type": "string", "enum": list(Decision)},
        "churn_risk": {"type": "number", "minimum": 0, "maximum": 1},
        "action": {"type": "string"},
        "language": {"type": "string"},
        "reason": {"type": "string"},
    },
}
"""What is answered when a request says nothing about the shape."""


def fields_of(schema: Json) -> dict[str, Json]:
    """The fields of the object that a schema describes, each with its own schema, references resolved."""
    top = _resolved(schema, schema)
    return {name: _resolved(field, schema) for name, field in (top.get("properties") or {}).items()}


def open_to_more(schema: Json) -> bool:
    """May an answer have fields that the schema does not name?"""
    return bool(_resolved(schema, schema).get("additionalProperties", True))


def schema_in(text: str) -> Json | None:
    """A schema written out in a prompt, as is done for servers that take none."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    for _ in range(32):
        if start < 0:
            return None
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            end = start + 1
        else:
            if isinstance(value, dict) and isinstance(value.get("properties"), dict):
                return value
        start = text.find("{", end)
    return None


def choices_of(field: Json) -> list[Any]:
    """The values that an enumeration allows; empty if any value is allowed."""
    if "const" in field:
        return [field["const"]]
    choices = field.get("enum")
    return [choice for choice in choices if choice is not None] if isinstance(choices, list) else []


def fits(value: Any, field: Json) -> bool:
    """Is a value of the field's type, and one of its choices if it has any?"""
    if choices := choices_of(field):
        return value in choices
    match _kind(field):
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
    return True


def bounded(value: Any, field: Json) -> Any:
    """A value cut to the field's length, or moved into its range."""
    if isinstance(value, str):
        limit = field.get("maxLength", field.get("max_length"))
        return value[: int(limit)] if limit is not None else value
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = max(value, field.get("minimum", value))
        return min(value, field.get("maximum", value))
    return value


def filled(schema: Json, known: Mapping[str, Any]) -> Json:
    """An object with every field of the schema: known values where they fit, else something of the right type."""
    return {
        name: bounded(known[name], field) if name in known and fits(known[name], field) else _any(field, schema)
        for name, field in fields_of(schema).items()
    }


def _any(field: Json, root: Json, depth: int = 0) -> Any:
    """The plainest value that fits."""
    field = _resolved(field, root)
    if choices := choices_of(field):
        return choices[0]
    match _kind(field):
        case "integer" | "number":
            return bounded(0, field)
        case "boolean":
            return False
        case "array":
            least = int(field.get("minItems", 0))
            return [_any(field.get("items") or {}, root, depth + 1) for _ in range(least)] if depth < _DEPTH else []
        case "object":
            if depth >= _DEPTH:
                return {}
            return {name: _any(each, root, depth + 1) for name, each in (field.get("properties") or {}).items()}
        case "null":
            return None
    return bounded("none".ljust(int(field.get("minLength", 0)), "."), field)


def _kind(field: Json) -> str:
    kind = field.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if isinstance(kind, str):
        return kind.lower()
    return "object" if "properties" in field else "string"


def _resolved(field: Any, root: Json) -> Json:
    """A schema without the references and alternatives around it; of alternatives the first that is not null."""
    for _ in range(_DEPTH):
        if not isinstance(field, dict):
            return {}
        if isinstance(reference := field.get("$ref"), str):
            field = _pointed(reference, root)
        elif isinstance(parts := field.get("allOf"), list) and parts:
            merged: Json = {}
            for part in parts:
                merged |= _resolved(part, root)
            field = merged | {name: value for name, value in field.items() if name != "allOf"}
        elif isinstance(parts := field.get("anyOf") or field.get("oneOf"), list) and parts:
            inner = next((part for part in parts if isinstance(part, dict) and part.get("type") != "null"), parts[0])
            field = {name: value for name, value in field.items() if name not in {"anyOf", "oneOf"}} | inner
        else:
            return field
    return {}


def _pointed(reference: str, root: Json) -> Any:
    value: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        value = value.get(step) if isinstance(value, dict) else None
    return value
