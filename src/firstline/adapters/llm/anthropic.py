"""Anthropic, through its messages API."""

from typing import Final

from anthropic import AsyncAnthropic
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

from firstline.adapters.llm.asked_model import AskedModel, user_agent
from firstline.adapters.llm.opening import Opening
from firstline.adapters.llm.pydantic_asker import PydanticAsker, Traits
from firstline.adapters.llm.transport import BoundedClient
from firstline.ports.provider import Provider

BASE_URL: Final = "https://api.anthropic.com"
MOST_TEMPERATURE: Final = 1.0


def open_model(opening: Opening) -> Provider:
    """A model of Anthropic; thinking is off, or at the lowest effort that the model has."""
    url, key = opening.url(BASE_URL, without=("/v1",)), opening.key()
    client = BoundedClient(url, auth_header=("x-api-key", key), user_agent=user_agent())
    sdk = AsyncAnthropic(api_key=key, base_url=url, max_retries=0, http_client=client)
    model = AnthropicModel(opening.model, provider=AnthropicProvider(anthropic_client=sdk))
    profile = model.profile
    traits = Traits(
        takes_temperature=not profile.get("anthropic_disallows_sampling_settings", False),
        thinks=profile.get("thinking_always_enabled", False),
        most_temperature=MOST_TEMPERATURE,
        structured=opening.structured and profile.get("supports_json_schema_output", False),
    )
    return AskedModel("anthropic", opening.model, PydanticAsker(model, traits=traits), client)
