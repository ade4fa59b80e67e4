"""A question to a model by way of `pydantic_ai.direct`, and what comes of it."""

import asyncio
import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import orjson
from pydantic_ai.direct import model_request
from pydantic_ai.messages import (
    BaseToolCallPart,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ModelSettings

from firstline import __version__
from firstline.adapters.llm.transport import BoundedClient, Call, watched_call
from firstline.core.completion import FailureKind
from firstline.ports.provider import ProviderFailed, Question, Reply, Tokens

THINKING_ROOM: Final = 1024
"""Tokens beside those of the answer for a model that cannot be kept from thinking; its thoughts count as output."""

MAX_TOKENS: Final = 10_000_000
"""No call uses more; a larger figure of an upstream is an error of its own and must not empty a budget."""

_CHARACTERS_PER_TOKEN: Final = 4
_SCHEMA_NAME: Final = "verdict"

for _name in ("openai", "anthropic", "google_genai", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # At lower levels they log what is sent.


@dataclass(frozen=True, slots=True)
class Traits:
    """What is special about a model.

    Attributes:
        takes_temperature: whether it has the setting; others answer it with an error.
        thinks: whether it thinks even when told not to.
        structured: whether it knows JSON schemas; else the schema goes into the prompt.
    """

    takes_temperature: bool
    thinks: bool
    structured: bool


class ModelProvider:
    """One model, asked once per call; safe for any number of calls at once in one event loop."""

    def __init__(self, name: str, model: Model, client: BoundedClient, *, traits: Traits) -> None:
        self._name = name
        self._model = model
        self._client = client
        self._traits = traits

    @property
    def name(self) -> str:
        """Of the provider."""
        return self._name

    @property
    def model(self) -> str:
        """Of the model, as the provider calls it."""
        return self._model.model_name

    async def complete(self, question: Question, *, temperature: float, max_tokens: int, timeout_s: float) -> Reply:
        """Ask once; see `ports.provider`. A model that cannot but think gets `THINKING_ROOM` tokens more."""
        settings = ModelSettings(
            max_tokens=max_tokens + (THINKING_ROOM if self._traits.thinks else 0),
            thinking=False,
        )
        if self._traits.takes_temperature:
            settings["temperature"] = temperature
        request = ModelRequest(parts=[SystemPromptPart(question.instructions), UserPromptPart(question.text)])
        parameters = _parameters(orjson.dumps(question.schema), self._traits.structured)
        with watched_call() as call:
            try:
                async with asyncio.timeout(timeout_s):
                    response = await model_request(
                        self._model,
                        [request],
                        model_settings=settings,
                        model_request_parameters=parameters,
                        instrument=False,
                    )
            except TimeoutError:
                failed = ProviderFailed(call.kind or FailureKind.TIMEOUT, retry_after_s=call.retry_after_s)
            except Exception:
                failed = ProviderFailed(_kind(call), retry_after_s=call.retry_after_s)
            else:
                return _reply(question, response)
        # Raised out here, so that what the SDK has raised is not in its context.
        raise failed

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def user_agent() -> str:
    """What requests name themselves."""
    return f"firstline/{__version__}"


def _kind(call: Call) -> FailureKind:
    """Why the SDK has raised: the transport's reason, a reply whose shape it does not know, or its own fault."""
    if call.kind is not None:
        return call.kind
    return FailureKind.PROTOCOL if call.replied else FailureKind.FAULT


@lru_cache(maxsize=256)
def _parameters(schema: bytes, structured: bool) -> ModelRequestParameters:
    return ModelRequestParameters(
        output_mode="native" if structured else "prompted",
        output_object=OutputObjectDefinition(json_schema=orjson.loads(schema), name=_SCHEMA_NAME, strict=True),
        allow_text_output=True,
    )


def _reply(question: Question, response: ModelResponse) -> Reply:
    text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
    tokens = _tokens(question, text, response)
    failure = _failure(text, response)
    if failure is not None:
        raise ProviderFailed(failure, tokens=tokens)
    return Reply(text, tokens)


def _failure(text: str, response: ModelResponse) -> FailureKind | None:
    """Why an answer that came in whole is none."""
    match response.finish_reason:
        case "content_filter":
            return FailureKind.BLOCKED
        case "length":
            return FailureKind.TRUNCATED
        case "error" | "tool_call":
            return FailureKind.BAD_SCHEMA
    if not text.strip():
        called = any(isinstance(part, BaseToolCallPart) for part in response.parts)
        return FailureKind.BAD_SCHEMA if called else FailureKind.EMPTY
    return None


def _tokens(question: Question, text: str, response: ModelResponse) -> Tokens:
    """What the upstream says that the call used, cached input included, or a guess where it says nothing."""
    usage = response.usage
    if usage.input_tokens > 0:
        return Tokens(input=min(usage.input_tokens, MAX_TOKENS), output=min(max(usage.output_tokens, 0), MAX_TOKENS))
    asked = len(question.instructions) + len(question.text)
    return Tokens(input=asked // _CHARACTERS_PER_TOKEN, output=len(text) // _CHARACTERS_PER_TOKEN, estimated=True)
