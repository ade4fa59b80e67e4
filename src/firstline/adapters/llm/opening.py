"""What a provider is opened with, checked before any of it is used."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

MAX_KEY: Final = 4096
MAX_URL: Final = 500

_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}", re.ASCII)
_KEY: Final = re.compile(r"[\x21-\x7e]+", re.ASCII)


class OpeningInvalid(ValueError):
    """A setting that no provider can be opened with; the text never quotes a key.

    Attributes:
        field: what is at fault: `name`, `model`, `api_key` or `base_url`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a model is, and how it is asked.

    Attributes:
        model: as the provider calls it.
        api_key: or None for an endpoint without keys.
        base_url: http or https, without a query; None for the provider's own.
        structured: whether the endpoint knows JSON schemas; else the schema is told in the prompt.
    """

    model: str
    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    structured: bool = True

    def __post_init__(self) -> None:
        if not _MODEL.fullmatch(self.model) or ".." in self.model or "//" in self.model:
            raise OpeningInvalid("model", "must be 1–200 letters, digits or ._:/@+-, as the provider calls it")
        if self.api_key is not None and not (len(self.api_key) <= MAX_KEY and _KEY.fullmatch(self.api_key)):
            raise OpeningInvalid("api_key", f"must be 1–{MAX_KEY} printable ASCII characters without spaces")
        if self.base_url is not None:
            _check_url(self.base_url)

    def url(self, default: str, *, without: tuple[str, ...] = ()) -> str:
        """The base URL without a slash at its end.

        Args:
            without: ends that the SDK adds by itself.
        """
        url = (self.base_url or default).rstrip("/")
        for end in without:
            if url.endswith(end):
                return url.removesuffix(end)
        return url

    def key(self) -> str:
        """The key of a provider that has no model without one."""
        if self.api_key is None:
            raise OpeningInvalid("api_key", "is missing")
        return self.api_key


def _check_url(base_url: str) -> None:
    problem = f"must be an http or https address of at most {MAX_URL} characters, without a user, query or fragment"
    if len(base_url) > MAX_URL or not _KEY.fullmatch(base_url):
        raise OpeningInvalid("base_url", problem)
    try:
        url = urlsplit(base_url)
        _ = url.port
    except ValueError:
        raise OpeningInvalid("base_url", problem) from None
    if (
        url.scheme not in {"http", "https"}
        or not url.hostname
        or "@" in url.netloc
        or "?" in base_url
        or "#" in base_url
    ):
        raise OpeningInvalid("base_url", problem)
