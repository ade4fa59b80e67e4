"""Gemini, through Google's own SDK and `generateContent`; decision 0021 says why not through pydantic_ai."""

import re
import warnings
from functools import lru_cache
from typing import Final

import orjson
from google import genai
from google.genai import types

from firstline.adapters.llm.asked_model import THINKING_ROOM, Answer, AskedModel, judged, user_agent
from firstline.adapters.llm.opening import Opening
from firstline.adapters.llm.transport import BoundedClient
from firstline.core.completion import FailureKind
from firstline.ports.provider import Provider, Question

BASE_URL: Final = "https://generativelanguage.googleapis.com"

_VERSION: Final = re.compile(r"(?:models/)?gemini-(\d{1,3})(?:\.(\d{1,3}))?", re.ASCII)
_PRO_BUDGET: Final = 128
"""Tokens; the least that 2.5 Pro thinks."""

_BLOCKED: Final = frozenset({"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"})
_ODD: Final = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"})

# The SDK warns of an unknown word of a reply by quoting it.
warnings.filterwarnings("ignore", module=r"google\.genai")


def open_model(opening: Opening) -> Provider:
    """A model of Gemini; thinking is off, or at the lowest level that the model has."""
    url, key = opening.url(BASE_URL, without=("/v1", "/v1beta")), opening.key()
    client = BoundedClient(url, auth_header=("x-goog-api-key", key), user_agent=user_agent())
    options = types.HttpOptions(base_url=url, httpx_async_client=client)
    sdk = genai.Client(vertexai=False, api_key=key, http_options=options)
    return AskedModel("gemini", opening.model, GeminiAsker(sdk, opening), client)


class GeminiAsker:
    """A model of Gemini; requests are prepared once for the same instructions and schema."""

    def __init__(self, sdk: genai.Client, opening: Opening) -> None:
        self._sdk = sdk
        self._model = opening.model
        self._structured = opening.structured
        version = _version(opening.model)
        self._takes_temperature = version < (3, 6)
        self._thinking = _least_thinking(opening.model, version)
        self._room = THINKING_ROOM if version >= (3, 0) or self._thinking == _budget(_PRO_BUDGET) else 0
        self._config = lru_cache(maxsize=256)(self._new_config)

    async def ask(self, question: Question, *, temperature: float, max_tokens: int) -> Answer:
        """Ask once; may raise whatever the SDK raises."""
        config = self._config(question.instructions, orjson.dumps(question.schema), temperature, max_tokens)
        reply = await self._sdk.aio.models.generate_content(model=self._model, contents=question.text, config=config)
        candidate = reply.candidates[0] if reply.candidates else None
        parts = (candidate.content.parts if candidate is not None and candidate.content is not None else None) or []
        text = "".join(part.text for part in parts if part.text and not part.thought)
        called = any(part.function_call is not None for part in parts)
        usage = reply.usage_metadata or types.GenerateContentResponseUsageMetadata()
        return Answer(
            text,
            _failure(reply, candidate) or judged(text, called=called),
            usage.prompt_token_count or 0,
            (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
        )

    def _new_config(
        self, instructions: str, schema: bytes, temperature: float, max_tokens: int
    ) -> types.GenerateContentConfig:
        told = instructions
        if not self._structured:
            told = f"{instructions}\n\nAnswer with one JSON object that fits this schema:\n{schema.decode()}"
        return types.GenerateContentConfig(
            system_instruction=told,
            temperature=temperature if self._takes_temperature else None,
            max_output_tokens=max_tokens + self._room,
            response_mime_type="application/json",
            response_json_schema=orjson.loads(schema) if self._structured else None,
            thinking_config=self._thinking,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )


def _failure(reply: types.GenerateContentResponse, candidate: types.Candidate | None) -> FailureKind | None:
    """Why an answer that came in whole is none; reasons that nobody knows yet are judged by the text."""
    if candidate is None:
        feedback = reply.prompt_feedback
        return FailureKind.BLOCKED if feedback is not None and feedback.block_reason is not None else None
    reason = candidate.finish_reason.value if candidate.finish_reason is not None else ""
    if reason in _BLOCKED:
        return FailureKind.BLOCKED
    if reason in _ODD:
        return FailureKind.BAD_SCHEMA
    return FailureKind.TRUNCATED if reason in {"MAX_TOKENS", "CONTINUATION"} else None


def _version(model: str) -> tuple[int, int]:
    """Of the generation; models from 3.6 on refuse a temperature. A name without one is taken for an older model."""
    match = _VERSION.match(model)
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)


def _least_thinking(model: str, version: tuple[int, int]) -> types.ThinkingConfig | None:
    """From the third generation on a level, before it a budget; nothing for models that never think or are unknown."""
    if version >= (3, 0):
        level = types.ThinkingLevel.MINIMAL if "lite" in model else types.ThinkingLevel.LOW
        return types.ThinkingConfig(thinking_level=level)
    if version == (2, 5):
        return _budget(_PRO_BUDGET if "pro" in model else 0)
    return None


def _budget(tokens: int) -> types.ThinkingConfig:
    return types.ThinkingConfig(thinking_budget=tokens)
