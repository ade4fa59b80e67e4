"""Which providers there are, and where their modules lie."""

from collections.abc import Mapping
from importlib import import_module
from typing import Final, Protocol, cast

from firstline.adapters.llm.opening import Opening, OpeningInvalid
from firstline.ports.provider import Provider

_MODULES: Final[Mapping[str, str]] = {
    "gemini": "firstline.adapters.llm.gemini",
    "openai": "firstline.adapters.llm.openai",
    "anthropic": "firstline.adapters.llm.anthropic",
    "compatible": "firstline.adapters.llm.compatible",
}

PROVIDERS: Final = tuple(_MODULES)
"""Names of all providers."""


class _ProviderModule(Protocol):
    def open_model(self, opening: Opening) -> Provider: ...


def open_provider(
    name: str, *, model: str, api_key: str | None = None, base_url: str | None = None, structured: bool = True
) -> Provider:
    """Open a model; imports the provider's SDK, which takes a second or two the first time.

    Args:
        name: one of `PROVIDERS`.
        model: as the provider calls it.
        api_key: of the provider; only `compatible` does without.
        base_url: where it is asked; None is the provider's own address, which `compatible` does not have.
        structured: False for an endpoint that does not know JSON schemas.
    Raises: OpeningInvalid, a ValueError that names the field.
    """
    if name not in _MODULES:
        raise OpeningInvalid("name", f"must be one of {', '.join(PROVIDERS)}")
    opening = Opening(model=model, api_key=api_key, base_url=base_url, structured=structured)
    return cast("_ProviderModule", import_module(_MODULES[name])).open_model(opening)
