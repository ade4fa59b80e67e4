"""What providers are asked, in the formats that they publish, brought into one value."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

Json = dict[str, Any]


class Format(StrEnum):
    """A wire format."""

    GEMINI = "gemini"
    CHAT = "chat"
    RESPONSES = "responses"
    MESSAGES = "messages"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads.

    Attributes:
        profile: name after `/p/`, or empty.
        path: the rest of the path, without the query.
        format: None if no provider has such a path.
        model: named by the path, or empty.
    """

    profile: str
    path: str
    format: Format | None
    model: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What one request asks of the model.

    Attributes:
        format: of the request, and therefore of its answer.
        model: the name that was asked for.
        system: the instructions, all parts joined.
        text: what came in the role of the user, all turns and parts joined.
        schema: JSON schema that the answer has to fit, if the request carries one.
        tool: name of the tool that is called with the answer, if that is how the answer is wanted.
    """

    format: Format
    model: str
    system: str
    text: str
    schema: Json | None = None
    tool: str | None = None


class RequestInvalid(Exception):
    """The body is not what the provider takes; the message says what is wrong, in one sentence."""


_PROFILE: Final = re.compile(r"/p/([A-Za-z0-9._-]{1,64})(/.*)")
_PATHS: Final = (
    (Format.GEMINI, re.compile(r"/v1(?:beta|alpha)?/(?:[\w./-]+/)?models/([^/:]+):generateContent")),
    (Format.CHAT, re.compile(r"(?:/openai/deployments/([^/]+)|(?:/openai|/api)?(?:/v1)?)/chat/completions")),
    (Format.RESPONSES, re.compile(r"(?:/openai|/api)?(?:/v1)?/responses()")),
    (Format.MESSAGES, re.compile(r"(?:/v1)?/messages()")),
)
_KEY_HEADERS: Final[Mapping[Format, tuple[str, ...]]] = {
    Format.GEMINI: ("x-goog-api-key", "authorization"),
    Format.CHAT: ("authorization", "api-key"),
    Format.RESPONSES: ("authorization", "api-key"),
    Format.MESSAGES: ("x-api-key", "authorization"),
}


@lru_cache(maxsize=1_024)
def place_of(path: str) -> Place:
    """Where a path without its query leads."""
    found = _PROFILE.fullmatch(path)
    profile, rest = found.groups() if found else ("", path)
    for format_, pattern in _PATHS:
        if match := pattern.fullmatch(rest):
            return Place(profile, rest, format_, match[1] or "")
    return Place(profile, rest, None)


def has_key(format_: Format, headers: Mapping[str, str], query: str) -> bool:
    """Does the request carry a key where this provider looks for it? Any key will do."""
    if any(headers.get(name, "").removeprefix("Bearer").strip() for name in _KEY_HEADERS[format_]):
        return True
    return format_ is Format.GEMINI and re.search(r"(?:^|&)key=[^&]", query) is not None


def question_of(place: Place, body: Any) -> Question:
    """Read a request's body.

    Raises: RequestInvalid.
    """
    if not isinstance(body, dict):
        raise RequestInvalid("The body is not a JSON object.")
    if body.get("stream"):
        raise RequestInvalid("stream: this fake does not stream.")
    match place.format:
        case Format.GEMINI:
            return _gemini(place.model, body)
        case Format.CHAT:
            return _chat(place.model, body)
        case Format.RESPONSES:
            return _responses(body)
        case Format.MESSAGES:
            return _messages(body)
    raise RequestInvalid("No provider has this path.")


def _gemini(model: str, body: Json) -> Question:
    contents = body.get("contents")
    if not contents or not isinstance(contents, list):
        raise RequestInvalid("contents is not specified")
    options = _either(body, "generationConfig") or {}
    schema = _either(options, "responseJsonSchema") or _either(options, "responseSchema")
    tool, schema = _tool(_gemini_functions(body), schema)
    return Question(
        Format.GEMINI,
        model,
        _text(_either(body, "systemInstruction")),
        _joined(_text(turn) for turn in contents if _role(turn) != "model"),
        schema,
        tool,
    )


def _gemini_functions(body: Json) -> Iterator[tuple[Any, Any]]:
    for tool in _dicts(body.get("tools")):
        for function in _dicts(_either(tool, "functionDeclarations")):
            yield function.get("name"), _either(function, "parametersJsonSchema") or function.get("parameters")


def _chat(deployment: str, body: Json) -> Question:
    turns = body.get("messages")
    if not turns or not isinstance(turns, list):
        raise RequestInvalid("Missing required parameter: 'messages'.")
    wanted = body.get("response_format") or {}
    schema = (wanted.get("json_schema") or {}).get("schema")
    functions = [tool.get("function") or {} for tool in _dicts(body.get("tools"))]
    tool, schema = _tool(((function.get("name"), function.get("parameters")) for function in functions), schema)
    return Question(Format.CHAT, _model(body, deployment), *_by_role(turns), schema, tool)


def _responses(body: Json) -> Question:
    turns = body.get("input")
    if not turns:
        raise RequestInvalid("Missing required parameter: 'input'.")
    if isinstance(turns, str):
        turns = [{"role": "user", "content": turns}]
    wanted = (body.get("text") or {}).get("format") or {}
    functions = ((tool.get("name"), tool.get("parameters")) for tool in _dicts(body.get("tools")))
    tool, schema = _tool(functions, wanted.get("schema"))
    system, text = _by_role(turns)
    return Question(
        Format.RESPONSES, _model(body), _joined((_text(body.get("instructions")), system)), text, schema, tool
    )


def _messages(body: Json) -> Question:
    turns = body.get("messages")
    if not turns or not isinstance(turns, list):
        raise RequestInvalid("messages: Field required")
    if not isinstance(body.get("max_tokens"), int):
        raise RequestInvalid("max_tokens: Field required")
    wanted = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    functions = ((tool.get("name"), tool.get("input_schema")) for tool in _dicts(body.get("tools")))
    tool, schema = _tool(functions, wanted.get("schema"))
    system, text = _by_role(turns)
    return Question(Format.MESSAGES, _model(body), _joined((_text(body.get("system")), system)), text, schema, tool)


def _tool(functions: Iterable[tuple[Any, Any]], schema: Any) -> tuple[str | None, Json | None]:
    """Name of the first tool with its schema, unless the text of the answer has a schema of its own."""
    if isinstance(schema, dict):
        return None, schema
    for name, parameters in functions:
        if isinstance(name, str):
            return name, parameters if isinstance(parameters, dict) else None
    return None, None


def _model(body: Json, otherwise: str = "") -> str:
    model = body.get("model") or otherwise
    if not isinstance(model, str) or not model:
        raise RequestInvalid("you must provide a model parameter")
    return model


def _by_role(turns: list[Any]) -> tuple[str, str]:
    """What the system said and what users said."""
    system = _joined(_text(turn) for turn in turns if _role(turn) in {"system", "developer"})
    return system, _joined(_text(turn) for turn in turns if _role(turn) not in {"system", "developer", "assistant"})


def _role(turn: Any) -> Any:
    return turn.get("role") if isinstance(turn, dict) else None


def _text(part: Any) -> str:
    """All text in a turn, a list of parts, one part or a string."""
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return _joined(map(_text, part))
    if isinstance(part, dict):
        return _joined(_text(part.get(name)) for name in ("text", "parts", "content", "output"))
    return ""


def _joined(texts: Iterable[str]) -> str:
    return "\n".join(text for text in texts if text)


def _dicts(values: Any) -> list[Json]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _either(values: Any, name: str) -> Any:
    """The value of a camelCase name, which may have come in snake_case."""
    if not isinstance(values, dict):
        return None
    if name in values:
        return values[name]
    return values.get(re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name))
