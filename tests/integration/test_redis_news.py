"""Breakers that open in one server open in all: news arrive once, from others only, and after restarts of Redis."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from firstline.adapters.redis.shared import Shared
from firstline.core.plans import Window
from firstline.core.taxonomy import Contract
from redis_server import RedisServer

pytestmark = pytest.mark.service

Heard = tuple[str, str, float]


class Listener:
    """A replica and what it has heard."""

    def __init__(self, url: str) -> None:
        self.heard: asyncio.Queue[Heard] = asyncio.Queue()
        self.counted: Counter[str] = Counter()
        self.shared = Shared(
            url, _nothing, least_replicas=1, watcher=self, on_trip=self.trip, on_news=self.count, timeout_s=1.0
        )

    def local(self, outcome: str) -> None:
        raise AssertionError(outcome)

    def trip(self, provider: str, model: str, seconds: float) -> None:
        self.heard.put_nowait((provider, model, seconds))

    def count(self, outcome: str) -> None:
        self.counted[outcome] += 1


async def _nothing(_account: str, _catalogue: Contract, _now_us: int) -> Mapping[Window, int]:
    return {}


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as started:
        yield started


@asynccontextmanager
async def listening(*urls: str) -> AsyncIterator[list[Listener]]:
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        found = []
        for url in urls:
            listener = Listener(url)
            await listener.shared.start()
            stack.push_async_callback(listener.shared.close)
            await listener.shared.news.listening.wait()
            found.append(listener)
        yield found


def test_a_trip_reaches_every_other_replica_and_not_the_one_that_told(server: RedisServer) -> None:
    async def work() -> None:
        async with listening(server.url, server.url, server.url) as (first, second, third):
            first.shared.news.publish_trip("gemini", "flash", 2.5)
            assert await second.heard.get() == ("gemini", "flash", 2.5)
            assert await third.heard.get() == ("gemini", "flash", 2.5)
            second.shared.news.publish_trip("openai", "luna", 1.0)
            assert await first.heard.get() == ("openai", "luna", 1.0)
            assert first.heard.empty()
            assert first.counted["own"] == 1

    asyncio.run(work())


def test_what_is_no_trip_is_ignored_and_counted(server: RedisServer) -> None:
    bad = [
        "nonsense",
        "[]",
        "{}",
        '{"from":"x","provider":"a","model":"b"}',
        '{"from":"x","provider":"a","model":"b","seconds":"1"}',
        '{"from":"x","provider":"a","model":"b","seconds":true}',
        '{"from":"x","provider":"a","model":"b","seconds":-1}',
        '{"from":"x","provider":"a","model":"b","seconds":1e9}',
        '{"from":"x","provider":"a","model":7,"seconds":1}',
        '{"from":"x","provider":"' + "a" * 400 + '","model":"b","seconds":1}',
        "x" * 5_000,
    ]

    async def work() -> None:
        async with listening(server.url) as (only,):
            for news in bad:
                assert server.ask(f"PUBLISH firstline:0:trips {_quoted(news)}") == ":1"
            good = '{"from":"x","provider":"a","model":"b","seconds":1}'
            server.ask(f"PUBLISH firstline:0:trips {_quoted(good)}")
            assert await only.heard.get() == ("a", "b", 1.0)
            assert only.counted == {"malformed": len(bad), "taken": 1}

    asyncio.run(work())


def test_news_arrive_again_after_redis_has_come_back(server: RedisServer) -> None:
    async def work() -> None:
        async with listening(server.url, server.url) as (first, second):
            server.kill()
            await until(lambda: not second.shared.news.listening.is_set())
            first.shared.news.publish_trip("gemini", "flash", 1.0)  # nobody hears of it, and nothing breaks
            await until(lambda: first.counted["unsent"] == 1)
            server.start()
            await second.shared.news.listening.wait()
            await until(lambda: first.shared.limiter.shared)
            first.shared.news.publish_trip("openai", "luna", 1.0)
            assert await second.heard.get() == ("openai", "luna", 1.0)

    asyncio.run(work())


def test_another_numbered_database_has_news_of_its_own(server: RedisServer) -> None:
    async def work() -> None:
        other_url = server.url.removesuffix("/0") + "/1"
        async with listening(server.url, other_url, other_url) as (first, second, third):
            first.shared.news.publish_trip("gemini", "flash", 1.0)
            second.shared.news.publish_trip("openai", "luna", 1.0)
            assert await third.heard.get() == ("openai", "luna", 1.0)
            assert third.heard.empty()

    asyncio.run(work())


async def until(holds: Callable[[], bool]) -> None:
    while True:
        if holds():
            return
        await asyncio.sleep(0.01)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
