"""Any endpoint that speaks OpenAI's chat completions: Ollama, vLLM, Azure, OpenRouter and others."""

from typing import Final

from openai import AsyncOpenAI
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from firstline.adapters.llm.asked_model import AskedModel, user_agent
from firstline.adapters.llm.opening import Opening, OpeningInvalid
from firstline.adapters.llm.pydantic_asker import PydanticAsker, Traits
from firstline.adapters.llm.transport import BoundedClient
from firstline.ports.provider import Provider

_NO_KEY: Final = "none"
"""The SDK wants one; the transport sends none."""


def open_model(opening: Opening) -> Provider:
    """A model behind a base URL; nothing is known of it but its name."""
    if opening.base_url is None:
        raise OpeningInvalid("base_url", "is missing")
    url = opening.url("")
    auth_header = ("authorization", f"Bearer {opening.api_key}") if opening.api_key else None
    client = BoundedClient(url, auth_header=auth_header, user_agent=user_agent())
    sdk = AsyncOpenAI(api_key=opening.api_key or _NO_KEY, base_url=url, max_retries=0, http_client=client)
    model = OpenAIChatModel(
        opening.model,
        provider=OpenAICompatibleProvider("compatible", openai_client=sdk),
        profile=OpenAIModelProfile(
            supports_json_schema_output=opening.structured,
            openai_chat_supports_max_completion_tokens=_is_azure(url),
        ),
    )
    profile = model.profile
    traits = Traits(
        takes_temperature=not profile.get("openai_supports_reasoning", False),
        thinks=profile.get("thinking_always_enabled", False),
        structured=opening.structured,
    )
    return AskedModel("compatible", opening.model, PydanticAsker(model, traits=traits), client)


def _is_azure(url: str) -> bool:
    """Azure's newer models know only `max_completion_tokens`; most other servers know only `max_tokens`."""
    return ".azure.com" in url
