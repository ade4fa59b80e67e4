"""The transport refuses what no SDK should do: ask twice, ask elsewhere, ask outside a call."""

import asyncio
from collections.abc import Callable

import httpx2
import pytest

from firstline.adapters.llm.transport import BoundedClient, UpstreamFailed, watched_call
from firstline.core.completion import FailureKind

BASE_URL = "http://127.0.0.1:9"


def sending(*urls: str) -> Callable[[], FailureKind | None]:
    """Sends requests one after the other in one call; gives the kind of its failure."""

    async def work() -> FailureKind | None:
        async with BoundedClient(BASE_URL, auth_header=("x-key", "k"), user_agent="test") as client:
            with watched_call() as call:
                for url in urls:
                    with pytest.raises(UpstreamFailed):
                        await client.send(httpx2.Request("POST", url, content=b"{}"))
                return call.kind

    return lambda: asyncio.run(work())


def test_another_origin_is_never_asked() -> None:
    for url in ("http://127.0.0.2:9/", "https://127.0.0.1:9/", "http://127.0.0.1:10/", "http://127.0.0.1/"):
        assert sending(url)() is FailureKind.FAULT


def test_a_second_request_of_the_same_call_is_refused_and_the_first_failure_stands() -> None:
    assert sending(f"{BASE_URL}/")() is FailureKind.REFUSED
    assert sending(f"{BASE_URL}/", f"{BASE_URL}/")() is FailureKind.REFUSED
    assert sending(f"{BASE_URL}/", "http://127.0.0.2:9/")() is FailureKind.REFUSED


def test_a_request_outside_a_call_is_refused() -> None:
    async def work() -> None:
        async with BoundedClient(BASE_URL, auth_header=None, user_agent="test") as client:
            with pytest.raises(UpstreamFailed):
                await client.get(f"{BASE_URL}/")

    asyncio.run(work())


def test_calls_at_the_same_time_are_watched_apart() -> None:
    async def call(client: BoundedClient, url: str) -> FailureKind | None:
        with watched_call() as watched:
            with pytest.raises(UpstreamFailed):
                await client.send(httpx2.Request("POST", url, content=b"{}"))
            return watched.kind

    async def work() -> list[FailureKind | None]:
        async with BoundedClient(BASE_URL, auth_header=None, user_agent="test") as client:
            return await asyncio.gather(call(client, f"{BASE_URL}/"), call(client, "http://127.0.0.2/"))

    assert asyncio.run(work()) == [FailureKind.REFUSED, FailureKind.FAULT]
