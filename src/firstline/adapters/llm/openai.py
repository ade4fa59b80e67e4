"""OpenAI, through its chat completions."""

import re
from typing import Final

from openai import AsyncOpenAI
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from firstline.adapters.llm.asked_model import AskedModel, user_agent
from firstline.adapters.llm.opening import Opening
from firstline.adapters.llm.pydantic_asker import PydanticAsker, Traits
from firstline.adapters.llm.transport import BoundedClient
from firstline.ports.provider import Provider

BASE_URL: Final = "https://api.openai.com/v1"

_WITHOUT_TEMPERATURE: Final = re.compile(r"(?:ft:)?gpt-(?:[5-9]|\d\d)", re.ASCII)


def open_model(opening: Opening) -> Provider:
    """A model of OpenAI; reasoning is off, or at the lowest effort that the model has."""
    url, key = opening.url(BASE_URL), opening.key()
    client = BoundedClient(url, auth_header=("authorization", f"Bearer {key}"), user_agent=user_agent())
    sdk = AsyncOpenAI(api_key=key, base_url=url, max_retries=0, http_client=client)
    model = OpenAIChatModel(opening.model, provider=OpenAIProvider(openai_client=sdk))
    profile = model.profile
    traits = Traits(
        takes_temperature=not profile.get("openai_supports_reasoning", False)
        and not _WITHOUT_TEMPERATURE.match(opening.model),
        thinks=profile.get("thinking_always_enabled", False),
        structured=opening.structured and profile.get("supports_json_schema_output", False),
    )
    return AskedModel("openai", opening.model, PydanticAsker(model, traits=traits), client)
