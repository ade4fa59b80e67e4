"""One model as a provider: a question under a timeout, and every way in which it can end."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, Protocol

from firstline import __version__
from firstline.adapters.llm.transport import BoundedClient, Call, watched_call
from firstline.core.completion import FailureKind
from firstline.ports.provider import ProviderFailed, Question, Reply, Tokens

THINKING_ROOM: Final = 1024
"""Tokens beside those of the answer for a model that cannot be kept from thinking; its thoughts count as output."""

MAX_TOKENS: Final = 10_000_000
"""No call uses more; a larger figure of an upstream is an error of its own and must not empty a budget."""

_CHARACTERS_PER_TOKEN: Final = 4

for _name in ("openai", "anthropic", "google_genai", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # At lower levels they log what is sent.


@dataclass(frozen=True, slots=True)
class Answer:
    """What an SDK has made of a reply.

    Attributes:
        text: that the model wrote, without its thoughts.
        failure: why it is of no use, or None.
        input_tokens, output_tokens: as the upstream counts them, cached input and thoughts included; 0 is not told.
    """

    text: str
    failure: FailureKind | None
    input_tokens: int
    output_tokens: int


class Asker(Protocol):
    """A model behind an SDK that was given a `BoundedClient`."""

    async def ask(self, question: Question, *, temperature: float, max_tokens: int) -> Answer:
        """Ask once; may raise whatever the SDK raises."""
        ...


class AskedModel:
    """A `ports.provider.Provider`; any number of calls may run at once in one event loop."""

    def __init__(self, name: str, model: str, asker: Asker, client: BoundedClient) -> None:
        self._name = name
        self._model = model
        self._asker = asker
        self._client = client

    @property
    def name(self) -> str:
        """Of the provider."""
        return self._name

    @property
    def model(self) -> str:
        """Of the model, as the provider calls it."""
        return self._model

    async def complete(self, question: Question, *, temperature: float, max_tokens: int, timeout_s: float) -> Reply:
        """Ask once; see `ports.provider`. A model that cannot but think gets `THINKING_ROOM` tokens more."""
        with watched_call() as call:
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await self._asker.ask(question, temperature=temperature, max_tokens=max_tokens)
            except TimeoutError:
                failed = ProviderFailed(call.kind or FailureKind.TIMEOUT, retry_after_s=call.retry_after_s)
            except Exception:  # whatever an SDK raises: the port knows kinds alone
                failed = ProviderFailed(_kind(call), retry_after_s=call.retry_after_s)
            else:
                tokens = _tokens(question, answer)
                if answer.failure is None:
                    return Reply(answer.text, tokens)
                failed = ProviderFailed(answer.failure, tokens=tokens)
        # Raised out here, so that what the SDK has raised is not in its context.
        raise failed

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def user_agent() -> str:
    """What requests name themselves."""
    return f"firstline/{__version__}"


def judged(text: str, *, called: bool) -> FailureKind | None:
    """Whether there is an answer at all in a reply that ended well.

    Args:
        called: whether the model called a tool.
    """
    if text.strip():
        return None
    return FailureKind.BAD_SCHEMA if called else FailureKind.EMPTY


def _kind(call: Call) -> FailureKind:
    """Why the SDK has raised: the transport's reason, a reply whose shape it does not know, or its own fault."""
    if call.kind is not None:
        return call.kind
    return FailureKind.PROTOCOL if call.replied else FailureKind.FAULT


def _tokens(question: Question, answer: Answer) -> Tokens:
    """What the upstream says that the call used, or a guess where it says nothing."""
    if answer.input_tokens > 0:
        return Tokens(min(answer.input_tokens, MAX_TOKENS), min(max(answer.output_tokens, 0), MAX_TOKENS))
    asked = len(question.instructions) + len(question.text)
    return Tokens(asked // _CHARACTERS_PER_TOKEN, len(answer.text) // _CHARACTERS_PER_TOKEN, estimated=True)
