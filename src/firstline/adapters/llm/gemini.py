"""Gemini, through the Gemini API (`generateContent`)."""

import re
from typing import Final

from pydantic_ai.models.google import GoogleModel
from pydantic_ai.providers.google import GoogleProvider

from firstline.adapters.llm.model_provider import ModelProvider, Traits, user_agent
from firstline.adapters.llm.opening import Opening
from firstline.adapters.llm.transport import BoundedClient
from firstline.ports.provider import Provider

BASE_URL: Final = "https://generativelanguage.googleapis.com"

_VERSION: Final = re.compile(r"(?:models/)?gemini-(\d{1,3})(?:\.(\d{1,3}))?", re.ASCII)


def open_model(opening: Opening) -> Provider:
    """A model of Gemini; thinking is off, or at the lowest level that the model has."""
    url, key = opening.url(BASE_URL, without=("/v1", "/v1beta")), opening.key()
    client = BoundedClient(url, auth_header=("x-goog-api-key", key), user_agent=user_agent())
    model = GoogleModel(opening.model, provider=GoogleProvider(api_key=key, base_url=url, http_client=client))
    profile = model.profile
    traits = Traits(
        takes_temperature=_version(opening.model) < (3, 6),
        thinks=bool(profile.get("supports_thinking"))
        and (bool(profile.get("thinking_always_enabled")) or profile.get("google_supports_thinking_level", True)),
        structured=opening.structured and profile.get("supports_json_schema_output", False),
    )
    return ModelProvider("gemini", model, client, traits=traits)


def _version(model: str) -> tuple[int, int]:
    """Of the generation; models from 3.6 on refuse a temperature. A name without one is taken for an older model."""
    match = _VERSION.match(model)
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)
