"""A creating request that is sent again takes effect once and is answered the same."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgi_server import PRODUCTION, Serve, Server
from stores import NOW_US, Store, account, entry, idempotency, key

from firstline.adapters.sealed_answers import SealedAnswers
from firstline.bootstrap import Engine
from firstline.core.api_key import KeyKind, Scope
from firstline.core.taxonomy import Contract
from firstline.ports.journal import JournalUnavailable, Record
from firstline.ports.storage import StorageUnavailable

CLASSIFY = "/api/v1/classify"
DECISION = "/v1/decision"
TICKET = {"ticket": "Cannot connect to VPN"}
REGISTER = "/api/v1/auth/register"


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(environment=PRODUCTION)


def again(server: Server, path: str, body: object, *, key: str | None, name: str, **given: object) -> httpx.Response:
    headers = {"Idempotency-Key": name, **given.pop("headers", {})}  # type: ignore[dict-item]
    return server.post(path, body, key=key, headers=headers, **given)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (CLASSIFY, TICKET, 200),
        (DECISION, {"message": "I was charged twice", "customer_ref": "c-1"}, 200),
        ("/api/v1/batch", {"tickets": ["Cannot connect to VPN", "", *["Where is my refund?"] * 40]}, 200),
        ("/api/v1/auth/keys", {"name": "staging"}, 201),
    ],
)
def test_the_same_key_and_body_get_the_same_answer_once(server: Server, path: str, body: object, status: int) -> None:
    api_key = server.key(plan="enterprise")
    first = again(server, path, body, key=api_key, name="n-1")
    tickets, keys = server.rows("SELECT count(*) FROM tickets"), server.rows("SELECT count(*) FROM api_keys")
    usage = server.rows('SELECT "window", requests FROM usage ORDER BY 1')
    second = again(server, path, body, key=api_key, name="n-1")
    assert (first.status_code, second.status_code) == (status, status)
    assert second.content == first.content
    assert second.headers["content-type"] == first.headers["content-type"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers.keys() - first.headers.keys() == {"idempotency-replayed"}
    assert server.rows("SELECT count(*) FROM tickets") == tickets
    assert server.rows("SELECT count(*) FROM api_keys") == keys
    assert server.rows('SELECT "window", requests FROM usage ORDER BY 1') == usage


def test_lines_of_a_batch_are_replayed_in_the_order_in_which_they_were_sent(server: Server) -> None:
    api_key = server.key(plan="enterprise")
    body = {"tickets": ["Cannot connect to VPN", "", *[f"Refund {number}" for number in range(70)]]}
    lines = {"Accept": "application/x-ndjson"}
    first = again(server, "/api/v1/batch", body, key=api_key, name="n-1", headers=lines)
    second = again(server, "/api/v1/batch", body, key=api_key, name="n-1", headers=lines)
    assert len(first.content.splitlines()) == 73
    assert second.content == first.content
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers["idempotency-replayed"] == "true"


def test_a_registration_sent_again_shows_the_same_key_to_the_same_address(server: Server) -> None:
    name = "registration-0001"
    first = again(server, REGISTER, {"email": "r@example.com"}, key=None, name=name)
    second = again(server, REGISTER, {"email": "r@example.com"}, key=None, name=name)
    elsewhere = again(server, REGISTER, {"email": "r@example.com"}, key=None, name=name, client="192.0.2.1")
    assert (first.status_code, second.status_code, elsewhere.status_code) == (201, 201, 409)
    assert second.json()["api_key"] == first.json()["api_key"]
    assert elsewhere.json()["error"] == "Email already registered"


def test_an_operators_key_for_somebody_is_shown_again(server: Server) -> None:
    operator = server.key(scope=Scope.OPERATE, kind=KeyKind.LIVE, catalogue=Contract.DECISION)
    body = {"email": "customer@example.com", "name": "shop", "tier": "professional"}
    first = again(server, "/v1/keys/create", body, key=operator, name="n")
    second = again(server, "/v1/keys/create", body, key=operator, name="n")
    assert (first.status_code, second.content) == (201, first.content)
    assert server.post(DECISION, {"message": "hello"}, key=second.json()["api_key"]).status_code == 200


def test_the_store_holds_neither_the_key_nor_what_was_answered(server: Server) -> None:
    api_key = server.key()
    made = again(server, "/api/v1/auth/keys", {"name": "x"}, key=api_key, name="my-own-name-for-it").json()["key"]
    server.close()
    for path in server.settings.data_dir.iterdir():
        content = path.read_bytes()
        assert made.encode() not in content
        assert b"my-own-name-for-it" not in content


@pytest.mark.parametrize("path", [CLASSIFY, DECISION])
def test_another_body_with_the_same_key_is_refused(server: Server, path: str) -> None:
    api_key, field = server.key(), "ticket" if path == CLASSIFY else "message"
    assert again(server, path, {field: "Cannot connect to VPN"}, key=api_key, name="n").status_code == 200
    other = again(server, path, {field: "Cannot connect to WiFi"}, key=api_key, name="n")
    assert other.status_code == 409
    assert other.json()["error"] in {"Idempotency-Key used for another request", "idempotency_key_reused"}
    assert server.rows("SELECT count(*) FROM tickets") == [(1,)]


def test_a_key_belongs_to_its_account_and_its_route(server: Server) -> None:
    one, other = server.key("one@example.com"), server.key("other@example.com")
    body = {**TICKET, "message": "Cannot connect to VPN"}
    found = {
        again(server, path, body, key=api_key, name="same").json()["id"]
        for api_key in (one, other)
        for path in (CLASSIFY, DECISION)
    }
    assert len(found) == 4


def test_what_was_refused_is_tried_anew_with_the_same_key(server: Server) -> None:
    api_key = server.key()
    assert again(server, CLASSIFY, {"ticket": ""}, key=api_key, name="n").status_code == 400
    assert again(server, CLASSIFY, TICKET, key=api_key, name="n").status_code == 200


def test_after_a_day_the_key_is_free_again(server: Server) -> None:
    api_key = server.key()
    first = again(server, CLASSIFY, TICKET, key=api_key, name="n")
    server.clock.advance(86_399)
    assert again(server, CLASSIFY, TICKET, key=api_key, name="n").json()["id"] == first.json()["id"]
    server.clock.advance(1)
    assert again(server, CLASSIFY, {"ticket": "Something else"}, key=api_key, name="n").status_code == 200


def test_an_exhausted_quota_still_gives_the_answer_that_was_given(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, rate_limit_hourly=1)
    api_key = server.key()
    first = again(server, CLASSIFY, TICKET, key=api_key, name="n")
    assert server.post(CLASSIFY, TICKET, key=api_key).status_code == 429
    second = again(server, CLASSIFY, TICKET, key=api_key, name="n")
    assert second.content == first.content
    assert second.headers["x-ratelimit-remaining"] == "0"


@pytest.mark.parametrize("name", ["", "a b", "é", "x" * 256, "tab\there"])
def test_a_value_that_is_no_key_is_refused_and_nothing_is_done(server: Server, name: str) -> None:
    api_key = server.key()
    headers: dict[str, Any] = {"Idempotency-Key": name.encode()}
    answer = server.post(CLASSIFY, TICKET, key=api_key, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "Invalid Idempotency-Key")
    assert server.rows("SELECT count(*) FROM tickets") == [(0,)]


def test_a_short_key_is_refused_where_there_is_no_account_yet(server: Server) -> None:
    answer = again(server, REGISTER, {"email": "r@example.com"}, key=None, name="1")
    assert answer.status_code == 400
    assert "at least 16 characters" in answer.json()["message"]


def test_a_wrong_api_key_is_told_nothing_of_the_answer(server: Server) -> None:
    api_key = server.key()
    again(server, CLASSIFY, TICKET, key=api_key, name="n")
    assert again(server, CLASSIFY, TICKET, key=api_key[:-1] + "0", name="n").status_code == 401


def test_the_same_request_twice_at_once_is_done_once(server: Server) -> None:
    api_key = server.key()

    async def both() -> list[httpx.Response]:
        headers = {"Idempotency-Key": "n"}
        return await asyncio.gather(
            *(server.send("POST", CLASSIFY, key=api_key, body=TICKET, headers=headers) for _ in range(5))
        )

    answers = server.run(both())
    assert server.rows("SELECT count(*) FROM tickets") == [(1,)]
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert set(statuses) <= {200, 409}
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["error"] == "Request still under way"
            assert answer.headers["retry-after"] == "1"
    assert again(server, CLASSIFY, TICKET, key=api_key, name="n").status_code == 200


def test_a_replica_that_comes_second_gives_the_answer_of_the_first(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    api_key = server.key()
    first = again(server, CLASSIFY, TICKET, key=api_key, name="n")
    looked, find = [], server.app.storage.find_idempotency

    async def late(key_hash: str) -> object:
        """What a replica sees that looked just before the other one stored its answer."""
        looked.append(key_hash)
        return await find(key_hash) if len(looked) > 1 else None

    monkeypatch.setattr(server.app.storage, "find_idempotency", late)
    second = again(server, CLASSIFY, TICKET, key=api_key, name="n")
    assert second.content == first.content
    assert len(looked) == 2
    assert server.rows("SELECT count(*) FROM tickets") == [(1,)]
    assert server.rows("SELECT max(requests) FROM usage") == [(1,)]


def test_the_answer_outlives_the_server(engine: Engine, tmp_path: Path) -> None:
    with Server(tmp_path, engine, environment=PRODUCTION) as server:
        api_key = server.key()
        first = again(server, CLASSIFY, TICKET, key=api_key, name="n")
    with Server(tmp_path, engine, environment=PRODUCTION) as server:
        assert again(server, CLASSIFY, TICKET, key=api_key, name="n").content == first.content


def test_a_verdict_that_cannot_be_stored_leaves_no_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    api_key, store = server.key(), server.app.triage._store

    async def full(_record: Record) -> None:
        raise JournalUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(store._journal, "append", full)
        assert again(server, CLASSIFY, TICKET, key=api_key, name="n").status_code == 503
    assert server.rows("SELECT count(*) FROM idempotency") == [(0,)]
    assert again(server, CLASSIFY, TICKET, key=api_key, name="n").status_code == 200


def test_every_post_says_in_openapi_that_it_takes_the_header(server: Server) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    for path in (CLASSIFY, DECISION, "/api/v1/batch", REGISTER, "/api/v1/auth/keys", "/v1/keys/create"):
        post = paths[path]["post"]
        assert "Idempotency-Key" in {parameter["name"] for parameter in post["parameters"]}
        assert {"400", "409"} <= post["responses"].keys()


def test_a_store_keeps_an_answer_with_a_key_or_an_account(
    opened: Callable[[], AbstractAsyncContextManager[Store]],
) -> None:
    async def work(store: Store) -> None:
        storage, other = store.storage, "c" * 32
        await storage.add_key(key(other), entry("2"), idempotency=idempotency("one"))
        with pytest.raises(StorageUnavailable):
            await storage.add_key(key("d" * 32), entry("3"), idempotency=idempotency("one"))
        assert len(await storage.list_keys()) == 2
        made = account("e" * 32, email="e@example.com")
        with pytest.raises(StorageUnavailable):
            await storage.add_account(made, None, entry("4"), idempotency=idempotency("one"))
        assert await storage.find_account("e@example.com") is None
        await storage.add_account(made, None, entry("5"), idempotency=idempotency("two"))
        assert await storage.find_idempotency("two") == idempotency("two")
        await storage.drop_idempotency("two", expired_at_us=NOW_US)
        assert await storage.find_idempotency("two") is not None
        await storage.drop_idempotency("two", expired_at_us=NOW_US + 10)
        assert await storage.find_idempotency("two") is None
        assert await storage.find_idempotency("three") is None

    async def work_on_it() -> None:
        async with opened() as store:
            await work(store)

    asyncio.run(work_on_it())


def test_a_sealed_answer_opens_under_its_key_and_place_alone() -> None:
    sealer, answer = SealedAnswers(), json.dumps({"api_key": "x"}).encode()
    sealed = sealer.seal(answer, key="k", bound_to="p")
    assert sealed != sealer.seal(answer, key="k", bound_to="p")
    assert sealer.open(sealed, key="k", bound_to="p") == answer
    for text, name, place in [
        (sealed, "other", "p"),
        (sealed, "k", "other"),
        (sealed[:-8], "k", "p"),
        ("", "k", "p"),
        ("?", "k", "p"),
    ]:
        with pytest.raises(ValueError, match="sealed"):
            sealer.open(text, key=name, bound_to=place)
