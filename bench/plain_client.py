"""What one writes first: the primary with a timeout, then the fallback; no breaker and no hedge."""

import asyncio
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

import httpx2
import uvloop

from bench.asked import Answer, OpenLoop
from bench.fake import FALLBACK, PRIMARY, Control, Fake
from bench.fault_run import CHARACTERS, DEADLINE_S, RATE
from bench.faults import Fault
from bench.texts import tickets
from firstline.core.completion import CompletionInvalid, answer_schema, parse_completion
from firstline.core.message import Message
from firstline.core.prompt import document, instructions
from firstline.core.taxonomy import DEFAULT_CATEGORIES, Contract

NAMES: Final = tuple(category.name for category in DEFAULT_CATEGORIES)


def measure(fake: Fake, fault: Fault, seconds: float, seed: int) -> list[Answer]:
    """What such a client's callers wait for."""
    return uvloop.run(_measure(fake, fault, seconds, seed))


def chat_body(text: str) -> dict[str, Any]:
    """A question in OpenAI's format, of firstline's size."""
    return {
        "model": "gpt-6-luna",
        "messages": [
            {"role": "system", "content": instructions(DEFAULT_CATEGORIES)},
            {"role": "user", "content": _document(text)},
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": answer_schema(NAMES)}},
    }


def _gemini_body(text: str) -> dict[str, Any]:
    return {
        "systemInstruction": {"parts": [{"text": instructions(DEFAULT_CATEGORIES)}]},
        "contents": [{"role": "user", "parts": [{"text": _document(text)}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": answer_schema(NAMES)},
    }


def _document(text: str) -> str:
    return document(Message(text, Contract.DECISION), mask=str)


async def _measure(fake: Fake, fault: Fault, seconds: float, seed: int) -> list[Answer]:
    texts = tickets(int(RATE * seconds * 2), length=CHARACTERS, seed=seed)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=DEADLINE_S, limits=limits) as client,
        httpx2.AsyncClient(trust_env=False, timeout=10.0) as controlling,
    ):
        gemini = f"{fake.primary_url}/v1beta/models/gemini-3.5-flash-lite:generateContent"
        chat = f"{fake.fallback_url}/chat/completions"

        async def ask(number: int) -> tuple[bool, str]:
            text = texts[number % len(texts)]
            try:
                reply = await client.post(gemini, json=_gemini_body(text), headers={"x-goog-api-key": "fake"})
                _checked(reply, lambda body: body["candidates"][0]["content"]["parts"][0]["text"])
                return True, PRIMARY
            except (httpx2.HTTPError, ValueError, LookupError, TypeError):
                pass
            try:
                reply = await client.post(chat, json=chat_body(text), headers={"authorization": "Bearer fake"})
                _checked(reply, lambda body: body["choices"][0]["message"]["content"])
                return True, FALLBACK
            except (httpx2.HTTPError, ValueError, LookupError, TypeError):
                return False, ""

        control = Control(controlling, fake)
        await control.play({})
        loop = OpenLoop(ask, rate=RATE, seed=seed)
        asking = asyncio.create_task(loop.run())
        await asyncio.sleep(1.0)
        began_s = perf_counter()
        await control.play(fault.script)
        await asyncio.sleep(seconds)
        loop.stop()
        await asking
        await control.play({})
        return [answer for answer in loop.answers if answer.due_s >= began_s]


def _checked(reply: httpx2.Response, text_of: Any) -> None:
    """Raises: ValueError, LookupError or TypeError for anything but a valid answer."""
    body: Mapping[str, Any] = reply.raise_for_status().json()
    try:
        parse_completion(text_of(body), categories=NAMES)
    except CompletionInvalid as invalid:
        raise ValueError(invalid.kind.value) from None
