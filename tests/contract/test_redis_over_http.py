"""Servers that share limits, as their callers and operators see it."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from asgi_server import PRODUCTION, Serve

from firstline.bootstrap_redis import redis_url
from firstline.settings import SettingsInvalid, load_settings
from redis_server import RedisServer
from waiting import until

WITHIN_S = 20.0
TICKET = {"ticket": "Please cancel my subscription, I was charged twice."}


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.mark.service
def test_health_says_whether_limits_are_shared_and_headers_stay_true_through_an_outage(
    serve: Serve, redis_server: RedisServer
) -> None:
    server = serve(environment=PRODUCTION, redis_url=redis_server.url)
    key = server.key("a@example.com", plan="free")
    assert until(lambda: server.get("/health").json()["limits"] == "shared", within_s=WITHIN_S)
    before = int(server.post("/api/v1/classify", key=key, body=TICKET).headers["X-RateLimit-Remaining"])
    redis_server.kill()
    during = server.post("/api/v1/classify", key=key, body=TICKET)
    assert (during.status_code, int(during.headers["X-RateLimit-Remaining"])) == (200, before - 1)
    health = server.get("/health")
    assert (health.status_code, health.json()["limits"]) == (200, "local")
    assert "firstline_limits_shared 0.0" in server.get("/metrics").text
    assert 'firstline_limits_local_total{outcome="granted"} 1.0' in server.get("/metrics").text
    redis_server.start()
    assert until(lambda: server.get("/health").json()["limits"] == "shared", within_s=WITHIN_S)
    after = server.post("/api/v1/classify", key=key, body=TICKET)
    assert int(after.headers["X-RateLimit-Remaining"]) == before - 2


@pytest.mark.service
def test_a_part_that_is_used_up_is_503_and_not_a_false_429(serve: Serve, redis_server: RedisServer) -> None:
    redis_server.kill()
    server = serve(environment=PRODUCTION, redis_url=redis_server.url, replicas=2, rate_limit_hourly=4)
    key = server.key("a@example.com", plan="free")
    statuses = [server.post("/api/v1/classify", key=key, body=TICKET).status_code for _ in range(3)]
    assert statuses == [200, 200, 503]


@pytest.mark.service
def test_what_is_refused_costs_no_quota_in_redis_either(serve: Serve, redis_server: RedisServer) -> None:
    server = serve(environment=PRODUCTION, redis_url=redis_server.url)
    key = server.key("a@example.com", plan="free")
    first = int(server.post("/api/v1/classify", key=key, body=TICKET).headers["X-RateLimit-Remaining"])
    refused = server.post("/api/v1/classify", key=key, body={"ticket": 7})
    assert refused.status_code == 400
    assert int(server.post("/api/v1/classify", key=key, body=TICKET).headers["X-RateLimit-Remaining"]) == first - 1


def test_a_server_starts_where_redis_is_away(serve: Serve) -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        server = serve(environment=PRODUCTION, redis_url=f"redis://127.0.0.1:{free.getsockname()[1]}/0")
    assert server.get("/health").json()["limits"] == "local"
    key = server.key("a@example.com", plan="free")
    assert server.post("/api/v1/classify", key=key, body=TICKET).status_code == 200


def test_the_published_names_say_where_redis_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert redis_url(load_settings(env_file=None)) is None
    monkeypatch.setenv("REDIS_HOST", "cache.internal")
    assert redis_url(load_settings(env_file=None)) == "redis://cache.internal:6379/0"
    monkeypatch.setenv("REDIS_HOST", "fd00::7")
    monkeypatch.setenv("REDIS_PORT", "6380")
    monkeypatch.setenv("REDIS_DB", "3")
    assert redis_url(load_settings(env_file=None)) == "redis://[fd00::7]:6380/3"
    monkeypatch.setenv("FIRSTLINE_REDIS_URL", "rediss://other:6379/0")
    assert redis_url(load_settings(env_file=None)) == "rediss://other:6379/0"


@pytest.mark.parametrize("path", ["http://cache", "cache:6379", "unix:///tmp/redis.sock"])
def test_what_is_no_address_of_redis_is_refused_by_the_settings(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTLINE_REDIS_URL", path)
    with pytest.raises(SettingsInvalid, match="FIRSTLINE_REDIS_URL: it must begin with redis:// or rediss://"):
        load_settings(env_file=None)


@pytest.mark.parametrize("path", ["redis://cache:port/0", "redis://cache:99999/0", "redis://cache/name"])
def test_an_address_that_cannot_be_used_stops_the_start_without_being_shown(serve: Serve, path: str) -> None:
    with pytest.raises(Exception, match=r"^FIRSTLINE_REDIS_URL: not an address such as redis://127\.0\.0\.1:6379/0\.$"):
        serve(environment=PRODUCTION, redis_url=path)
