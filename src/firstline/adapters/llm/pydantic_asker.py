"""A question to a model by way of `pydantic_ai.direct`."""

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

from firstline.adapters.llm.asked_model import THINKING_ROOM, Answer, judged
from firstline.core.completion import FailureKind
from firstline.ports.provider import Question

_SCHEMA_NAME: Final = "verdict"


@dataclass(frozen=True, slots=True)
class Traits:
    """What is special about a model.

    Attributes:
        takes_temperature: whether it has the setting; others answer it with an error.
        most_temperature: that it takes; a higher one is lowered to it.
        thinks: whether it thinks even when told not to.
        structured: whether it knows JSON schemas; else the schema goes into the prompt.
    """

    takes_temperature: bool
    thinks: bool
    structured: bool
    most_temperature: float = 2.0


class PydanticAsker:
    """A model of pydantic_ai, told to think as little as its profile there says that it can."""

    def __init__(self, model: Model, *, traits: Traits) -> None:
        self._model = model
        self._traits = traits

    async def ask(self, question: Question, *, temperature: float, max_tokens: int) -> Answer:
        """Ask once; may raise whatever pydantic_ai and the SDK below it raise."""
        traits = self._traits
        settings = ModelSettings(max_tokens=max_tokens + (THINKING_ROOM if traits.thinks else 0), thinking=False)
        if traits.takes_temperature:
            settings["temperature"] = min(temperature, traits.most_temperature)
        response = await model_request(
            self._model,
            [ModelRequest(parts=[SystemPromptPart(question.instructions), UserPromptPart(question.text)])],
            model_settings=settings,
            model_request_parameters=_parameters(orjson.dumps(question.schema), traits.structured),
            instrument=False,
        )
        text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
        usage = response.usage
        return Answer(text, _failure(text, response), usage.input_tokens, usage.output_tokens)


@lru_cache(maxsize=256)
def _parameters(schema: bytes, structured: bool) -> ModelRequestParameters:
    return ModelRequestParameters(
        output_mode="native" if structured else "prompted",
        output_object=OutputObjectDefinition(json_schema=orjson.loads(schema), name=_SCHEMA_NAME, strict=True),
        allow_text_output=True,
    )


def _failure(text: str, response: ModelResponse) -> FailureKind | None:
    """Why an answer that came in whole is none."""
    match response.finish_reason:
        case "content_filter":
            return FailureKind.BLOCKED
        case "length":
            return FailureKind.TRUNCATED
        case "error" | "tool_call":
            return FailureKind.BAD_SCHEMA
    return judged(text, called=any(isinstance(part, BaseToolCallPart) for part in response.parts))
