"""A language model somewhere else.

Guarantees of every provider:

- `complete` asks once: no retry, no sleep, no redirect, whatever the upstream says.
- What it cannot use it raises as `ProviderFailed` of a kind; no other exception leaves it but a cancellation.
- Cancelling a call gives its connection back or closes it; nothing of it goes on.
- At most `MAX_REPLY_BYTES` of a reply are read, and a compressed one is refused.
- Nothing of the reply, the URL or the key is in an exception's text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from firstline.core.completion import FailureKind

MAX_REPLY_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked.

    Attributes:
        instructions: the system prompt, which holds no word of a message.
        text: the message as data, masked and bounded.
        schema: JSON schema of the answer.
    """

    instructions: str
    text: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a call used; `output` includes tokens that a model thought with, where they are billed.

    Attributes:
        estimated: whether these were guessed, because the call ended before it told.
    """

    input: int
    output: int
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model wrote, not looked at yet."""

    text: str
    tokens: Tokens


class ProviderFailed(Exception):
    """A call gave nothing that can be used; the message is the kind alone.

    Attributes:
        retry_after_s: how long the upstream asks to be left alone, or None.
        tokens: what the call used, if it told.
    """

    def __init__(self, kind: FailureKind, *, retry_after_s: float | None = None, tokens: Tokens | None = None) -> None:
        super().__init__(kind.value)
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.tokens = tokens


class Provider(Protocol):
    """One model of one provider."""

    @property
    def name(self) -> str:
        """Of the provider, such as `gemini`."""
        ...

    @property
    def model(self) -> str:
        """Of the model, as the provider calls it."""
        ...

    async def complete(self, question: Question, *, temperature: float, max_tokens: int, timeout_s: float) -> Reply:
        """Ask once.

        Args:
            timeout_s: seconds in all, from the connection to the last byte.
        Raises: ProviderFailed.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
