"""What every provider promises, whatever its upstream does: one request, one reply or one failure of a kind."""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from firstline.adapters.llm import PROVIDERS, open_provider
from firstline.adapters.llm.opening import Opening
from firstline.core.completion import FailureKind, answer_schema, parse_completion
from firstline.delivery.fake_provider import FakeProvider, Fault, Received, Step, refused_url
from firstline.ports.provider import MAX_REPLY_BYTES, Provider, ProviderFailed, Question, Reply, Tokens

CATEGORIES = ("Network Issue", "Payment Issue", "Other")
SECRET_WORD = "zanzibar"
QUESTION = Question(
    instructions="You triage messages. " * 4,
    text=f"Cannot connect to the VPN from {SECRET_WORD} since this morning.",
    schema=answer_schema(CATEGORIES),
)
SPEAKING: Mapping[str, tuple[Any, str]] = {
    "gemini": ("gemini", "gemini-3.5-flash-lite"),
    "openai": ("openai", "gpt-6-luna"),
    "anthropic": ("anthropic", "claude-haiku-5-5"),
    "compatible": ("compatible", "qwen3:8b"),
}
"""Of each provider the format that it speaks, as the fake names it, and one of its models."""

KEY = "-".join(("key", "of", "a", "test"))
TIMEOUT_S = 0.2
PATIENT_S = 20.0

KINDS = {
    Fault.RESET: FailureKind.PROTOCOL,
    Fault.RESET_BODY: FailureKind.PROTOCOL,
    Fault.HANG: FailureKind.TIMEOUT,
    Fault.HANG_BODY: FailureKind.TIMEOUT,
    Fault.DRIBBLE: FailureKind.TIMEOUT,
    Fault.TRUNCATED: FailureKind.PROTOCOL,
    Fault.BAD_REQUEST: FailureKind.REJECTED,
    Fault.UNAUTHORIZED: FailureKind.UNAUTHORIZED,
    Fault.FORBIDDEN: FailureKind.UNAUTHORIZED,
    Fault.NOT_FOUND: FailureKind.REJECTED,
    Fault.RATE_LIMITED: FailureKind.RATE_LIMITED,
    Fault.SERVER_ERROR: FailureKind.SERVER_ERROR,
    Fault.BAD_GATEWAY: FailureKind.SERVER_ERROR,
    Fault.UNAVAILABLE: FailureKind.SERVER_ERROR,
    Fault.OVERLOADED: FailureKind.SERVER_ERROR,
    Fault.REDIRECT: FailureKind.PROTOCOL,
    Fault.HTML: FailureKind.PROTOCOL,
    Fault.WRONG_CONTENT_TYPE: FailureKind.PROTOCOL,
    Fault.NO_BODY: FailureKind.PROTOCOL,
    Fault.INVALID_UTF8: FailureKind.PROTOCOL,
    Fault.HUGE_BODY: FailureKind.TOO_LARGE,
    Fault.ENDLESS_BODY: FailureKind.TOO_LARGE,
    Fault.GZIP_BOMB: FailureKind.PROTOCOL,
    Fault.HUGE_FIELD: FailureKind.TOO_LARGE,
    Fault.DEEP_JSON: FailureKind.TOO_LARGE,
    Fault.TOOL_CALL: FailureKind.BAD_SCHEMA,
    Fault.BLOCKED_PROMPT: FailureKind.BLOCKED,
    Fault.BLOCKED_ANSWER: FailureKind.BLOCKED,
    Fault.LENGTH: FailureKind.TRUNCATED,
    Fault.EMPTY: FailureKind.EMPTY,
}
HANGING = frozenset({Fault.HANG, Fault.HANG_BODY, Fault.DRIBBLE})
OF_THE_PORT = frozenset({Fault.REFUSED, Fault.HANG_CONNECT})
OWN_WORDS = frozenset(Fault) - set(KINDS) - OF_THE_PORT - {Fault.NONE}
"""Faults of the model's own text, which whoever parses it judges."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeProvider]:
    with FakeProvider(own_ports=PROVIDERS) as running:
        yield running


@pytest.fixture
def fake(upstream: FakeProvider) -> FakeProvider:
    """Healthy, with nothing received."""
    for name in (*PROVIDERS, ""):
        upstream.script(profile=name)
    upstream.forget()
    return upstream


def address(fake: FakeProvider, name: str) -> str:
    """Where the fake plays a provider."""
    return fake.url(SPEAKING[name][0], profile=name)


@asynccontextmanager
async def opened(name: str, base_url: str, **options: Any) -> AsyncIterator[Provider]:
    provider = open_provider(name, **{"model": SPEAKING[name][1], "api_key": KEY, "base_url": base_url, **options})
    try:
        yield provider
    finally:
        await provider.close()


async def ask(provider: Provider, *, timeout_s: float = PATIENT_S, temperature: float = 0.2) -> Reply:
    return await provider.complete(QUESTION, temperature=temperature, max_tokens=500, timeout_s=timeout_s)


async def failure(provider: Provider, *, timeout_s: float = PATIENT_S) -> ProviderFailed:
    with pytest.raises(ProviderFailed) as caught:
        await ask(provider, timeout_s=timeout_s)
    return caught.value


def one_request(fake: FakeProvider, name: str, *, temperature: float = 0.2, **options: Any) -> Received:
    """What a healthy call sends."""

    async def work() -> None:
        async with opened(name, address(fake, name), **options) as provider:
            await ask(provider, temperature=temperature)

    fake.forget()
    asyncio.run(work())
    (received,) = fake.received(name)
    return received


def in_one_case(value: Any) -> Any:
    """Names without capitals and underscores: Gemini reads camel and snake case, and its SDK writes both."""
    if isinstance(value, dict):
        return {name.replace("_", "").lower(): in_one_case(each) for name, each in value.items()}
    return value


@asynccontextmanager
async def server(*replies: bytes) -> AsyncIterator[str]:
    """Answers each request on a connection with the next of some bytes, the last one again and again."""
    left = list(replies)
    serving: set[asyncio.Task[Any] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()

    async def forgiving(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(forgiving, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    await asyncio.gather(*(task for task in serving if task is not None))


def http(body: Any, *, status: str = "200 OK", headers: str = "content-type: application/json\r\n") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\n{headers}content-length: {len(data)}\r\n\r\n".encode() + data


def chat(usage: Mapping[str, Any] | None, text: str = '{"a": 1}') -> bytes:
    message = {"role": "assistant", "content": text}
    body: dict[str, Any] = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }
    return http(body if usage is None else {**body, "usage": usage})


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_healthy_answer_is_valid_and_says_what_it_used(fake: FakeProvider, name: str) -> None:
    async def work() -> None:
        async with opened(name, address(fake, name)) as provider:
            assert (provider.name, provider.model) == (name, SPEAKING[name][1])
            reply = await ask(provider)
        assert parse_completion(reply.text, categories=CATEGORIES).category == "Network Issue"
        assert reply.tokens.input > 0
        assert reply.tokens.output > 0
        assert not reply.tokens.estimated

    asyncio.run(work())
    assert fake.count(name) == 1


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_key_is_in_one_header_and_nowhere_else(fake: FakeProvider, name: str) -> None:
    received = one_request(fake, name)
    with_key = [header for header, value in received.headers.items() if KEY in value]
    assert with_key == [{"gemini": "x-goog-api-key", "anthropic": "x-api-key"}.get(name, "authorization")]
    assert KEY not in f"{received.path}?{received.query}{received.body}"


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_request_says_no_more_than_it_must(fake: FakeProvider, name: str) -> None:
    headers = one_request(fake, name).headers
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"].startswith("firstline/")
    keys = {"authorization", "x-api-key", "x-goog-api-key"}
    usual = {"host", "content-type", "content-length", "accept", "accept-encoding", "user-agent"}
    assert set(headers) - keys - usual <= {"anthropic-version", "anthropic-beta"}


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_schema_goes_along_with_all_choices(fake: FakeProvider, name: str) -> None:
    body = json.dumps(one_request(fake, name).body)
    assert all(category in body for category in CATEGORIES)
    assert "json_schema" in body or "responseJsonSchema" in body


@pytest.mark.parametrize("fault", KINDS, ids=str)
@pytest.mark.parametrize("name", PROVIDERS)
def test_a_fault_is_a_failure_of_its_kind_and_the_next_call_succeeds(
    fake: FakeProvider, name: str, fault: Fault
) -> None:
    size = 1 << 20 if fault is Fault.GZIP_BOMB else None
    fake.script(Step(fault, count=1, size_bytes=size, pace_s=0.02), profile=name)

    async def work() -> None:
        async with opened(name, address(fake, name)) as provider:
            failed = await failure(provider, timeout_s=TIMEOUT_S if fault in HANGING else PATIENT_S)
            assert failed.kind is KINDS[fault]
            assert str(failed) == failed.kind.value
            assert failed.args == (failed.kind.value,)
            assert failed.__cause__ is None
            assert failed.__context__ is None
            assert fake.count(name) == 1
            parse_completion((await ask(provider)).text, categories=CATEGORIES)

    asyncio.run(work())
    assert fake.count("elsewhere") == 0


@pytest.mark.parametrize("fault", sorted(OWN_WORDS), ids=str)
@pytest.mark.parametrize("name", PROVIDERS)
def test_what_the_model_says_is_handed_on_as_it_is(fake: FakeProvider, name: str, fault: Fault) -> None:
    fake.script(fault, profile=name)

    async def work() -> None:
        async with opened(name, address(fake, name)) as provider:
            reply = await ask(provider)
        assert reply.text.strip()
        assert reply.tokens.output > 0

    asyncio.run(work())


@pytest.mark.parametrize("fault", [Fault.BLOCKED_ANSWER, Fault.LENGTH, Fault.TOOL_CALL], ids=str)
@pytest.mark.parametrize("name", PROVIDERS)
def test_an_answer_that_cannot_be_used_still_says_what_it_cost(fake: FakeProvider, name: str, fault: Fault) -> None:
    fake.script(fault, profile=name)

    async def work() -> ProviderFailed:
        async with opened(name, address(fake, name)) as provider:
            return await failure(provider)

    tokens = asyncio.run(work()).tokens
    assert tokens is not None
    assert tokens.input > 0
    assert tokens.output > 0


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_port_without_a_listener_is_refused(name: str) -> None:
    async def work(url: str) -> None:
        async with opened(name, url) as provider:
            assert (await failure(provider)).kind is FailureKind.REFUSED

    with refused_url() as url:
        asyncio.run(work(url))


@pytest.mark.parametrize("name", PROVIDERS)
def test_connecting_that_hangs_is_a_timeout(fake: FakeProvider, name: str) -> None:
    fake.script(Fault.HANG_CONNECT, profile=name)

    async def work() -> None:
        async with opened(name, address(fake, name)) as provider:
            assert (await failure(provider, timeout_s=TIMEOUT_S)).kind is FailureKind.TIMEOUT

    asyncio.run(work())


@pytest.mark.parametrize("how", ["seconds", "date"])
@pytest.mark.parametrize("name", PROVIDERS)
def test_the_upstream_says_how_long_to_stay_away(fake: FakeProvider, name: str, how: Any) -> None:
    fake.script(Step(Fault.RATE_LIMITED, retry_after=how, retry_after_s=120), profile=name)

    async def work() -> float | None:
        async with opened(name, address(fake, name)) as provider:
            return (await failure(provider)).retry_after_s

    retry_after_s = asyncio.run(work())
    assert retry_after_s is not None
    assert 60 < retry_after_s <= 120


@pytest.mark.parametrize(("said", "understood"), [("17.5s", 17.5), ("9999999s", 3600.0), ("soon", None)])
def test_gemini_says_it_in_the_body(said: str, understood: float | None) -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": said}
    body = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "no", "details": [detail]}}

    async def work() -> float | None:
        async with server(http(body, status="429 Too Many Requests")) as url, opened("gemini", url) as provider:
            return (await failure(provider)).retry_after_s

    assert asyncio.run(work()) == understood


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HANG_BODY], ids=str)
@pytest.mark.parametrize("name", PROVIDERS)
def test_a_cancelled_call_leaves_nothing_behind(fake: FakeProvider, name: str, fault: Fault) -> None:
    fake.script(Step(fault, count=1), profile=name)

    async def work() -> None:
        async with opened(name, address(fake, name)) as provider:
            call = asyncio.create_task(ask(provider))
            assert await asyncio.to_thread(fake.wait_for, 1, profile=name)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.to_thread(fake.wait_abandoned, 1, profile=name)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            await ask(provider)

    asyncio.run(work())


def test_no_call_waits_for_another_however_many_there_are() -> None:
    together, arrived = 100, 0
    everybody = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        await reader.readuntil(b"\r\n\r\n")
        arrived += 1
        if arrived == together:
            everybody.set()
        await everybody.wait()
        writer.write(chat(None))
        writer.close()

    async def work() -> int:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=together)
        port = server.sockets[0].getsockname()[1]
        async with server, opened("compatible", f"http://127.0.0.1:{port}/v1") as provider:
            replies = await asyncio.gather(*(ask(provider) for _ in range(together)))
        return len(replies)

    assert asyncio.run(work()) == together


@pytest.mark.parametrize("name", PROVIDERS)
def test_many_calls_at_once_are_answered_and_a_hanging_one_does_not_hold_them_up(fake: FakeProvider, name: str) -> None:
    fake.script(Step(Fault.HANG, count=1), profile=name)

    async def work() -> None:
        async with opened(name, address(fake, name)) as provider:
            hanging = asyncio.create_task(ask(provider))
            assert await asyncio.to_thread(fake.wait_for, 1, profile=name)
            replies = await asyncio.gather(*(ask(provider) for _ in range(40)))
            assert len({reply.text for reply in replies}) == 1
            assert not hanging.done()
            fake.release()
            await hanging

    asyncio.run(work())
    assert fake.count(name) == 41


@pytest.mark.parametrize("name", PROVIDERS)
def test_keys_proxies_and_addresses_of_the_environment_are_not_used(
    fake: FakeProvider, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = "http://127.0.0.1:9"
    other = "-".join(("another", "key"))
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, elsewhere)
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.setenv(variable, elsewhere)
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(variable, other)
    for variable in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(variable, "org-of-somebody")
    for variable in ("OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.setenv(variable, "x-custom: org-of-somebody")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    received = one_request(fake, name)
    assert other not in str(received.headers)
    assert "org-of-somebody" not in str(received.headers)


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.SERVER_ERROR, Fault.HTML], ids=str)
@pytest.mark.parametrize("name", PROVIDERS)
def test_nothing_that_is_sent_is_logged(
    fake: FakeProvider, name: str, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    fake.script(fault, profile=name)
    caplog.set_level(logging.DEBUG)

    async def work() -> None:
        async with opened(name, address(fake, name)) as provider:
            if fault is Fault.NONE:
                await ask(provider)
            else:
                await failure(provider)

    asyncio.run(work())
    assert SECRET_WORD not in caplog.text
    assert KEY not in caplog.text
    assert address(fake, name) not in caplog.text


@pytest.mark.parametrize(
    ("name", "model", "sent"),
    [
        ("gemini", "gemini-2.5-flash", True),
        ("gemini", "gemini-3.5-flash-lite", True),
        ("gemini", "gemini-3.8-flash", False),
        ("gemini", "gemini-4-argon", False),
        ("openai", "gpt-4o-mini", True),
        ("openai", "gpt-5-nano", False),
        ("openai", "gpt-6-luna", False),
        ("openai", "o4-mini", False),
        ("anthropic", "claude-haiku-4-5", True),
        ("anthropic", "claude-haiku-5-5", False),
        ("compatible", "llama3.3", True),
    ],
)
def test_the_temperature_goes_to_models_that_have_one(fake: FakeProvider, name: str, model: str, sent: bool) -> None:
    body = one_request(fake, name, model=model).body
    settings = body["generationConfig"] if name == "gemini" else body
    assert settings.get("temperature") == (0.2 if sent else None)


def test_a_temperature_beyond_what_anthropic_takes_is_lowered_to_that(fake: FakeProvider) -> None:
    assert one_request(fake, "anthropic", model="claude-haiku-4-5", temperature=2.0).body["temperature"] == 1.0


@pytest.mark.parametrize(
    ("name", "model", "part", "expected"),
    [
        ("gemini", "gemini-3.5-flash-lite", "generationConfig", {"thinkingconfig": {"thinkinglevel": "MINIMAL"}}),
        ("gemini", "gemini-3.8-flash", "generationConfig", {"thinkingconfig": {"thinkinglevel": "LOW"}}),
        ("gemini", "gemini-2.5-flash", "generationConfig", {"thinkingconfig": {"thinkingbudget": 0}}),
        ("gemini", "gemini-2.5-pro", "generationConfig", {"thinkingconfig": {"thinkingbudget": 128}}),
        ("gemini", "gemini-2.0-flash", "generationConfig", {"thinkingconfig": None}),
        ("gemini", "gemini-flash-latest", "generationConfig", {"thinkingconfig": None}),
        ("openai", "gpt-6-luna", None, {"reasoningeffort": "none"}),
        ("openai", "gpt-5-nano", None, {"reasoningeffort": "minimal"}),
        ("anthropic", "claude-haiku-5-5", None, {"thinking": {"type": "disabled"}}),
    ],
)
def test_models_are_told_to_think_as_little_as_they_can(
    fake: FakeProvider, name: str, model: str, part: str | None, expected: Mapping[str, Any]
) -> None:
    body = one_request(fake, name, model=model).body
    settings = in_one_case(body[part] if part else body)
    assert {key: settings.get(key) for key in expected} == expected


def test_a_model_of_which_nothing_is_known_is_told_nothing_about_thinking(fake: FakeProvider) -> None:
    body = one_request(fake, "compatible").body
    assert not {"reasoning_effort", "thinking", "reasoning"} & set(body)


@pytest.mark.parametrize(
    ("name", "model", "thinks"),
    [
        ("gemini", "gemini-3.5-flash-lite", True),
        ("gemini", "gemini-2.5-flash", False),
        ("openai", "gpt-5-nano", True),
        ("openai", "gpt-6-luna", False),
        ("anthropic", "claude-haiku-5-5", False),
    ],
)
def test_a_model_that_cannot_but_think_has_room_for_it(fake: FakeProvider, name: str, model: str, thinks: bool) -> None:
    body = one_request(fake, name, model=model).body
    most = body.get("max_completion_tokens") or body.get("max_tokens") or body["generationConfig"]["maxOutputTokens"]
    assert most >= 1_500 if thinks else most == 500


def test_thoughts_of_gemini_count_as_output(fake: FakeProvider) -> None:
    async def work(name: str) -> Tokens:
        async with opened(name, address(fake, name)) as provider:
            return (await ask(provider)).tokens

    thinking, plain = asyncio.run(work("gemini")), asyncio.run(work("openai"))
    assert thinking.output > plain.output


def test_cached_input_counts_as_input() -> None:
    usage = {"prompt_tokens": 900, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 800}}

    async def work() -> Tokens:
        async with server(chat({**usage, "total_tokens": 907})) as url, opened("openai", f"{url}/v1") as provider:
            return (await ask(provider)).tokens

    assert asyncio.run(work()) == Tokens(900, 7)


def test_cached_input_of_anthropic_counts_as_input() -> None:
    body = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "{}"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 100, "cache_read_input_tokens": 800, "output_tokens": 7},
    }

    async def work() -> Tokens:
        async with server(http(body)) as url, opened("anthropic", url) as provider:
            return (await ask(provider)).tokens

    assert asyncio.run(work()) == Tokens(900, 7)


def test_usage_that_is_not_told_is_guessed_and_says_so() -> None:
    async def work() -> Tokens:
        async with server(chat(None, text="x" * 40)) as url, opened("compatible", f"{url}/v1") as provider:
            return (await ask(provider)).tokens

    asked = len(QUESTION.instructions) + len(QUESTION.text)
    assert asyncio.run(work()) == Tokens(asked // 4, 10, estimated=True)


def test_usage_beyond_all_reason_is_cut_down() -> None:
    usage = {"prompt_tokens": 10**15, "completion_tokens": 10**15, "total_tokens": 2 * 10**15}

    async def work() -> Tokens:
        async with server(chat(usage)) as url, opened("compatible", f"{url}/v1") as provider:
            return (await ask(provider)).tokens

    tokens = asyncio.run(work())
    assert max(tokens.input, tokens.output) <= 10_000_000


@pytest.mark.parametrize(
    "reply",
    [
        http([]),
        http(b'{"choices"'),
        http({}, status="204 No Content"),
        http({}, status="206 Partial Content"),
        http({}, status="302 Found", headers="location: http://127.0.0.1:9/\r\n"),
        http({}, headers="content-type: application/json\r\ncontent-encoding: br\r\n"),
        http({}, headers=""),
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: -1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000,
    ],
    ids=lambda reply: repr(reply[:24]),
)
@pytest.mark.parametrize("name", PROVIDERS)
def test_whatever_is_no_reply_of_the_protocol_is_none(name: str, reply: bytes) -> None:
    async def work() -> None:
        async with server(reply) as url, opened(name, url) as provider:
            assert (await failure(provider)).kind is FailureKind.PROTOCOL

    asyncio.run(work())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"error": {"message": SECRET_WORD, "code": 500}},
        {"choices": None},
        {"choices": []},
        {"choices": [{"message": {"content": [1, 2]}}]},
        {"candidates": "none"},
        {"candidates": [{"content": {"parts": [{"text": 7}]}}]},
        {"candidates": [None]},
        {"content": [{"type": "text"}], "usage": {"input_tokens": "many"}},
        {"type": "message", "role": "assistant", "content": "text", "usage": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", PROVIDERS)
def test_a_json_object_of_another_shape_is_a_failure_and_no_crash(name: str, body: Any) -> None:
    async def work() -> None:
        async with server(http(body)) as url, opened(name, url) as provider:
            failed = await failure(provider)
        assert failed.kind in {FailureKind.PROTOCOL, FailureKind.EMPTY}
        assert str(failed) == failed.kind.value
        assert failed.__context__ is None

    asyncio.run(work())


def test_a_declared_length_and_a_real_one_are_both_bounded() -> None:
    big = json.dumps({"choices": [], "padding": "x" * MAX_REPLY_BYTES}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    declared = head + b"content-length: 999999999999\r\n\r\n{}"
    chunked = head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(big), big)

    async def work(reply: bytes) -> FailureKind:
        async with server(reply) as url, opened("openai", f"{url}/v1") as provider:
            return (await failure(provider)).kind

    assert [asyncio.run(work(reply)) for reply in (declared, chunked)] == [FailureKind.TOO_LARGE] * 2


def test_an_error_whose_body_never_ends_is_known_by_its_status() -> None:
    reply = b"HTTP/1.1 429 Too Many\r\ncontent-type: application/json\r\nretry-after: 9\r\ncontent-length: 50\r\n\r\n{"

    async def work() -> None:
        async with server(reply) as url, opened("gemini", url) as provider:
            failed = await failure(provider)
        assert (failed.kind, failed.retry_after_s) == (FailureKind.RATE_LIMITED, 9.0)

    asyncio.run(work())


def test_a_key_that_gemini_does_not_know_is_unauthorized() -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    body = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "no", "details": [detail]}}

    async def work() -> FailureKind:
        async with server(http(body, status="400 Bad Request")) as url, opened("gemini", url) as provider:
            return (await failure(provider)).kind

    assert asyncio.run(work()) is FailureKind.UNAUTHORIZED


def test_a_connection_that_was_closed_meanwhile_is_replaced(fake: FakeProvider) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
    closing = chat(usage).replace(b"200 OK\r\n", b"200 OK\r\nconnection: close\r\n")

    async def work() -> None:
        async with server(closing) as url, opened("openai", f"{url}/v1") as provider:
            for _ in range(3):
                await ask(provider)

    asyncio.run(work())


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_schema_that_an_endpoint_does_not_know_is_told_in_the_prompt(fake: FakeProvider, name: str) -> None:
    body = json.dumps(one_request(fake, name, structured=False).body)
    assert "json_schema" not in body
    assert "responseJsonSchema" not in body
    assert "immediate_escalation" in body


def test_a_compatible_endpoint_needs_no_key_and_no_knowledge_of_schemas(fake: FakeProvider) -> None:
    received = one_request(fake, "compatible", api_key=None, structured=False)
    assert "authorization" not in received.headers
    assert received.body.get("response_format", {}).get("type") != "json_schema"
    assert "immediate_escalation" in json.dumps(received.body["messages"])


def test_the_example_of_the_guide_is_a_provider(fake: FakeProvider) -> None:
    guide = Path(__file__).parents[2] / "docs" / "guides" / "adding-a-provider.md"
    example, *_ = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    module: dict[str, Any] = {}
    exec(example, module)
    opening = Opening("mistral-small-latest", api_key=KEY, base_url=fake.url("openai", profile="mistral"))

    async def work() -> Reply:
        provider: Provider = module["open_model"](opening)
        try:
            return await ask(provider)
        finally:
            await provider.close()

    parse_completion(asyncio.run(work()).text, categories=CATEGORIES)
    (received,) = fake.received("mistral")
    assert received.body["max_tokens"] == 500


def test_cookies_are_not_kept() -> None:
    seen: list[bytes] = []
    usage = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
    reply = chat(usage).replace(b"200 OK\r\n", b"200 OK\r\nset-cookie: track=1; path=/\r\n")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply.replace(b"200 OK\r\n", b"200 OK\r\nconnection: close\r\n"))
        await writer.drain()
        writer.close()

    async def work() -> None:
        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        async with listening, opened("openai", url) as provider:
            await ask(provider)
            await ask(provider)

    asyncio.run(work())
    assert len(seen) == 2
    assert b"cookie" not in seen[1].lower()


def test_no_sdk_is_imported_before_a_provider_is_opened() -> None:
    script = (
        "import sys, firstline.bootstrap, firstline.adapters.llm as llm, firstline.adapters.llm.prices\n"
        "heavy = {'pydantic_ai', 'openai', 'anthropic', 'google.genai', 'genai_prices', 'httpx2'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "llm.open_provider('openai', model='m', api_key='k')\n"
        "print(sorted({'openai', 'anthropic', 'google.genai'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ), timeout=120
    )
    assert done.stdout.splitlines() == ["[]", "['openai']"]
    assert done.stderr == ""


def test_a_date_to_come_back_at_is_read_by_the_clock_of_now() -> None:
    at = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 500))
    reply = http({}, status="503 Service Unavailable", headers=f"retry-after: {at}\r\n")

    async def work() -> float | None:
        async with server(reply) as url, opened("anthropic", url) as provider:
            return (await failure(provider)).retry_after_s

    retry_after_s = asyncio.run(work())
    assert retry_after_s is not None
    assert 400 < retry_after_s <= 500
