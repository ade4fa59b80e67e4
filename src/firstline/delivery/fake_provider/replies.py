"""Answers and errors in the shapes that the providers publish."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from firstline.delivery.fake_provider.wire import Format, Json, Question

_CREATED: Final = 1_793_000_000
_THOUGHTS: Final = 24
"""Tokens that a model of Gemini thought about an answer; billed as output, beside those of the answer."""

_REFUSAL: Final = "I'm sorry, but I can't help with that."


class Ending(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    BLOCKED_PROMPT = "blocked_prompt"
    BLOCKED_ANSWER = "blocked_answer"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Said:
    """What the model came up with.

    Attributes:
        text: of the answer; JSON, or what a fault made of it.
        ending: why it stopped.
        tool: name of the tool that is called with the text as its arguments, if any.
    """

    text: str
    ending: Ending = Ending.STOP
    tool: str | None = None


_STATUS: Final[Mapping[int, tuple[str, str, str]]] = {
    400: ("INVALID_ARGUMENT", "invalid_request_error", "invalid_request_error"),
    401: ("UNAUTHENTICATED", "invalid_request_error", "authentication_error"),
    403: ("PERMISSION_DENIED", "invalid_request_error", "permission_error"),
    404: ("NOT_FOUND", "invalid_request_error", "not_found_error"),
    413: ("INVALID_ARGUMENT", "invalid_request_error", "request_too_large"),
    429: ("RESOURCE_EXHAUSTED", "requests", "rate_limit_error"),
    500: ("INTERNAL", "server_error", "api_error"),
    502: ("UNAVAILABLE", "server_error", "api_error"),
    503: ("UNAVAILABLE", "server_error", "api_error"),
    529: ("UNAVAILABLE", "server_error", "overloaded_error"),
}
_CODES: Final[Mapping[int, str]] = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


def answer(question: Question, said: Said, *, number: int) -> bytes:
    """The body of an answer.

    Args:
        number: of the request, for the ids.
    """
    match question.format:
        case Format.GEMINI:
            body = _gemini(question, said, number)
        case Format.CHAT:
            body = _chat(question, said, number)
        case Format.RESPONSES:
            body = _responses(question, said, number)
        case Format.MESSAGES:
            body = _messages(question, said, number)
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def error(format_: Format | None, status: int, message: str, *, retry_after_s: float | None = None) -> bytes:
    """The body of an error.

    Args:
        retry_after_s: is said inside the body where the provider does so.
    """
    code, openai_type, anthropic_type = _STATUS.get(status, ("UNKNOWN", "server_error", "api_error"))
    body: Json
    match format_:
        case Format.GEMINI:
            body = {"error": {"code": status, "message": message, "status": code}}
            if retry_after_s is not None:
                retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after_s:g}s"}
                body["error"]["details"] = [retry]
        case Format.MESSAGES:
            body = {"type": "error", "error": {"type": anthropic_type, "message": message}, "request_id": "req_fake"}
        case _:
            body = {"error": {"message": message, "type": openai_type, "param": None, "code": _CODES.get(status)}}
    return json.dumps(body).encode()


def _tokens(*texts: str) -> int:
    """About as many as a tokenizer would count: one for four characters."""
    return 8 + sum(map(len, texts)) // 4


def _arguments(said: Said) -> Any:
    """The arguments of a call where they stand as an object and not as text."""
    try:
        arguments = json.loads(said.text)
    except (ValueError, RecursionError):
        return {}
    return arguments if isinstance(arguments, dict) else {"value": arguments}


def _gemini(question: Question, said: Said, number: int) -> Json:
    asked, spoken = _tokens(question.system, question.text), _tokens(said.text)
    usage: Json = {
        "promptTokenCount": asked,
        "totalTokenCount": asked + spoken + _THOUGHTS,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": asked}],
        "thoughtsTokenCount": _THOUGHTS,
    }
    body: Json = {"usageMetadata": usage, "modelVersion": question.model, "responseId": f"fake-{number:016x}"}
    if said.ending is Ending.BLOCKED_PROMPT:
        usage.update(totalTokenCount=asked)
        del usage["thoughtsTokenCount"]
        return {"promptFeedback": {"blockReason": "SAFETY"}, **body}
    usage["candidatesTokenCount"] = spoken
    reasons = {Ending.LENGTH: "MAX_TOKENS", Ending.BLOCKED_ANSWER: "SAFETY"}
    candidate: Json = {"finishReason": reasons.get(said.ending, "STOP"), "index": 0}
    if said.ending is Ending.BLOCKED_ANSWER:
        candidate["safetyRatings"] = [
            {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}
        ]
    elif said.ending is Ending.EMPTY:
        candidate["content"] = {"role": "model"}
    else:
        part: Json = {"text": said.text}
        if said.tool:
            part = {"functionCall": {"name": said.tool, "args": _arguments(said)}}
        candidate["content"] = {"role": "model", "parts": [part]}
    return {"candidates": [candidate], **body}


def _chat(question: Question, said: Said, number: int) -> Json:
    asked, spoken = _tokens(question.system, question.text), _tokens(said.text)
    message: Json = {"role": "assistant", "content": said.text, "refusal": None, "annotations": []}
    reason = {Ending.LENGTH: "length", Ending.BLOCKED_ANSWER: "content_filter"}.get(said.ending, "stop")
    if said.ending is Ending.BLOCKED_PROMPT:
        message.update(content=None, refusal=_REFUSAL)
    elif said.ending in {Ending.BLOCKED_ANSWER, Ending.EMPTY}:
        message["content"] = None if said.ending is Ending.BLOCKED_ANSWER else ""
    elif said.tool:
        call = {"id": f"call_{number:024x}", "type": "function"}
        message["content"] = None
        message["tool_calls"] = [{**call, "function": {"name": said.tool, "arguments": said.text}}]
        reason = "tool_calls" if reason == "stop" else reason
    return {
        "id": f"chatcmpl-{number:024x}",
        "object": "chat.completion",
        "created": _CREATED,
        "model": question.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": spoken,
            "total_tokens": asked + spoken,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }


def _responses(question: Question, said: Said, number: int) -> Json:
    asked, spoken = _tokens(question.system, question.text), _tokens(said.text)
    short = {Ending.LENGTH: "max_output_tokens", Ending.BLOCKED_ANSWER: "content_filter"}.get(said.ending)
    status = "incomplete" if short else "completed"
    output: list[Json] = []
    if said.tool and said.ending in {Ending.STOP, Ending.LENGTH}:
        call = {"type": "function_call", "id": f"fc_{number:024x}", "call_id": f"call_{number:024x}"}
        output = [{**call, "name": said.tool, "arguments": said.text, "status": status}]
    elif said.ending not in {Ending.EMPTY, Ending.BLOCKED_ANSWER}:
        part: Json = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        if said.ending is Ending.BLOCKED_PROMPT:
            part = {"type": "refusal", "refusal": _REFUSAL}
        message = {"type": "message", "id": f"msg_{number:024x}", "status": status, "role": "assistant"}
        output = [{**message, "content": [part]}]
    return {
        "id": f"resp_{number:024x}",
        "object": "response",
        "created_at": _CREATED,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": short} if short else None,
        "instructions": None,
        "max_output_tokens": None,
        "model": question.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": spoken,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked + spoken,
        },
        "user": None,
        "metadata": {},
    }


def _messages(question: Question, said: Said, number: int) -> Json:
    content: list[Json] = [{"type": "text", "text": said.text}]
    reason = "max_tokens" if said.ending is Ending.LENGTH else "end_turn"
    if said.ending in {Ending.BLOCKED_PROMPT, Ending.BLOCKED_ANSWER}:
        content, reason = [], "refusal"
    elif said.ending is Ending.EMPTY:
        content = []
    elif said.tool:
        call = {"type": "tool_use", "id": f"toolu_{number:024x}", "name": said.tool}
        content = [{**call, "input": _arguments(said)}]
        reason = "tool_use" if reason == "end_turn" else reason
    return {
        "id": f"msg_{number:024x}",
        "type": "message",
        "role": "assistant",
        "model": question.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": _tokens(question.system, question.text),
            "output_tokens": _tokens(said.text),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "service_tier": "standard",
        },
    }
