"""Webhooks through the front door: managing them, and events that verdicts and quotas leave."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

import httpx
import pytest
from asgi_server import PRODUCTION, Serve, Server

from firstline.bootstrap_stores import DATABASE_NAME
from firstline.core.events import EventKind
from firstline.core.taxonomy import Contract
from firstline.ports.outbound import DestinationRefused
from firstline.usecases.webhooks import MAX_ENDPOINTS, MAX_OVERLAP_S

PATH = "/v1/webhooks"
URL = "https://hooks.example.com/in"
NOBODY = "whk_" + "0" * 32
EVERYTHING = [kind.value for kind in EventKind]


@pytest.fixture
def server(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A production server that takes every name ending in example.com for a public one, and delivers nothing."""
    server = serve(environment=PRODUCTION)

    async def resolve(host: str, port: int) -> list[str]:
        if not host.endswith("example.com"):
            raise OSError
        return ["93.184.216.34"]

    server.app.hooks.outbound._resolve = resolve
    server.run(server.app.hooks.dispatcher.close())
    return server


@pytest.fixture
def mine(server: Server) -> str:
    return key_of(server, "mine@example.com")


def key_of(server: Server, email: str) -> str:
    server.key(email, plan="enterprise", catalogue=Contract.DECISION)
    return server.key(email, plan="enterprise")


def create(server: Server, key: str, **given: Any) -> dict[str, Any]:
    reply = server.post(PATH, {"url": URL, "events": ["ticket.classified"], **given}, key=key)
    assert reply.status_code == 201, reply.text
    found: dict[str, Any] = reply.json()
    return found


def events(server: Server) -> list[tuple[str, dict[str, Any]]]:
    """Kind and data of what waits in the outbox."""
    rows = server.rows("SELECT kind, payload FROM outbox ORDER BY id")
    return [(kind, json.loads(payload)) for kind, payload in rows]


def problem(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = reply.json()
    assert found["code"] == code
    return found


def test_a_secret_is_shown_once_and_stored_sealed(server: Server, mine: str) -> None:
    made = create(server, mine, description="help desk")
    assert made["secret"].startswith("whsec_")
    shown = {name: value for name, value in made.items() if name != "secret"}
    assert server.get(f"{PATH}/{made['id']}", key=mine).json() == shown
    assert server.get(PATH, key=mine).json() == {"webhooks": [shown]}
    dump = json.dumps(server.rows("SELECT * FROM webhook_endpoints") + server.rows("SELECT * FROM audit"))
    assert made["secret"] not in dump
    assert made["secret"].removeprefix("whsec_") not in dump


def test_webhooks_of_other_accounts_are_not_there(server: Server, mine: str) -> None:
    made = create(server, mine)
    other = key_of(server, "other@example.com")
    one = f"{PATH}/{made['id']}"
    assert server.get(PATH, key=other).json() == {"webhooks": []}
    for method, path, body in (
        ("GET", one, None),
        ("PATCH", one, {}),
        ("DELETE", one, None),
        ("POST", f"{one}/secret", {}),
        ("POST", f"{one}/test", None),
        ("POST", f"{one}/replay", {}),
        ("GET", f"{one}/deliveries", None),
        ("GET", f"{one}/deliveries/evt_{'0' * 32}", None),
        ("POST", f"{one}/deliveries/evt_{'0' * 32}/replay", None),
    ):
        problem(server.call(method, path, key=other, body=body), 404, "webhook_not_found")
    assert server.get(one, key=mine).status_code == 200


@pytest.mark.parametrize("path", [NOBODY, "whk_x", "x", NOBODY.upper()])
def test_an_id_that_is_none_is_not_found(server: Server, mine: str, path: str) -> None:
    problem(server.get(f"{PATH}/{path}", key=mine), 404, "webhook_not_found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"events": ["ticket.classified"]}, "url"),
        ({"url": 5, "events": ["ticket.classified"]}, "url"),
        ({"url": "http://hooks.example.com/", "events": ["ticket.classified"]}, "url"),
        ({"url": "https://127.0.0.1/", "events": ["ticket.classified"]}, "url"),
        ({"url": "https://nowhere.example.org/", "events": ["ticket.classified"]}, "url"),
        ({"url": URL + "x" * 3_000, "events": ["ticket.classified"]}, "url"),
        ({"url": URL}, "events"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "events": ["ticket.classified", "no.such"]}, "events[1]"),
        ({"url": URL, "events": ["job.finished"], "description": "x" * 201}, "description"),
        ({"url": URL, "events": ["job.finished"], "enabled": "yes"}, "enabled"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field_at_fault(
    server: Server, mine: str, body: dict[str, Any], field: str
) -> None:
    found = problem(server.post(PATH, body, key=mine), 422, "validation_failed")
    assert found["field"] == field
    assert "3.0.0.1" not in found["detail"]
    assert server.get(PATH, key=mine).json() == {"webhooks": []}


def test_a_key_is_needed_and_demo_accounts_have_no_webhooks(server: Server, serve: Serve) -> None:
    problem(server.get(PATH), 401, "api_key_required")
    development = serve()
    demo = "sk_test_demo_free_key_12345678901234567890"
    body = {"url": "http://127.0.0.1:9/", "events": ["job.finished"]}
    problem(development.post(PATH, body, key=demo), 403, "demo_account")


def test_an_account_has_no_more_than_twenty(server: Server, mine: str) -> None:
    for _ in range(MAX_ENDPOINTS):
        create(server, mine)
    problem(server.post(PATH, {"url": URL, "events": ["job.finished"]}, key=mine), 409, "too_many_webhooks")


def test_a_change_leaves_what_it_does_not_name(server: Server, mine: str) -> None:
    made = create(server, mine, description="ours")
    server.clock.advance(1)
    changed = server.call(
        "PATCH", f"{PATH}/{made['id']}", key=mine, body={"events": ["job.finished", "ticket.revised"]}
    )
    assert changed.json()["events"] == ["ticket.revised", "job.finished"]
    assert (changed.json()["url"], changed.json()["description"]) == (URL, "ours")
    off = server.call("PATCH", f"{PATH}/{made['id']}", key=mine, body={"enabled": False}).json()
    assert (off["state"], off["disabled_reason"]) == ("disabled", "owner")
    problem(server.post(f"{PATH}/{made['id']}/test", key=mine), 409, "webhook_disabled")
    problem(server.post(f"{PATH}/{made['id']}/replay", {}, key=mine), 409, "webhook_disabled")
    on = server.call("PATCH", f"{PATH}/{made['id']}", key=mine, body={"enabled": True}).json()
    assert (on["state"], on["disabled_reason"]) == ("enabled", None)


def test_a_change_to_a_url_that_leads_inside_is_refused(server: Server, mine: str) -> None:
    made = create(server, mine)
    reply = server.call("PATCH", f"{PATH}/{made['id']}", key=mine, body={"url": "https://[::ffff:10.0.0.1]/"})
    assert problem(reply, 422, "validation_failed")["field"] == "url"
    assert server.get(f"{PATH}/{made['id']}", key=mine).json()["url"] == URL


def test_a_deleted_webhook_is_gone(server: Server, mine: str) -> None:
    made = create(server, mine)
    server.post(f"{PATH}/{made['id']}/test", key=mine)
    assert server.call("DELETE", f"{PATH}/{made['id']}", key=mine).json() == {"id": made["id"], "deleted": True}
    problem(server.get(f"{PATH}/{made['id']}", key=mine), 404, "webhook_not_found")
    assert server.rows("SELECT count(*) FROM webhook_deliveries") == [(0,)]


def test_a_rotated_secret_is_another_one_and_the_old_one_lives_on(server: Server, mine: str) -> None:
    made = create(server, mine)
    rotated = server.post(f"{PATH}/{made['id']}/secret", {"overlap_seconds": 60}, key=mine).json()
    assert rotated["secret"] != made["secret"]
    assert rotated["previous_secret_until"] is not None
    server.clock.advance(61)
    assert server.get(f"{PATH}/{made['id']}", key=mine).json()["previous_secret_until"] is None
    at_once = server.post(f"{PATH}/{made['id']}/secret", {"overlap_seconds": 0}, key=mine).json()
    assert at_once["previous_secret_until"] is None
    for seconds in (-1, MAX_OVERLAP_S + 1, "60", 1.5, None):
        reply = server.post(f"{PATH}/{made['id']}/secret", {"overlap_seconds": seconds}, key=mine)
        assert problem(reply, 422, "validation_failed")["field"] == "overlap_seconds"


def test_a_created_webhook_is_answered_the_same_under_the_same_idempotency_key(server: Server, mine: str) -> None:
    body = {"url": URL, "events": ["job.finished"]}
    headers = {"Idempotency-Key": "one-webhook-and-no-more"}
    first = server.post(PATH, body, key=mine, headers=headers)
    again = server.post(PATH, body, key=mine, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert len(server.get(PATH, key=mine).json()["webhooks"]) == 1


def test_without_a_key_to_seal_under_no_webhook_is_made(server: Server, mine: str) -> None:
    made = create(server, mine)
    hooks = server.app.hooks
    server.app.hooks = replace(hooks, endpoints=replace(hooks.endpoints, sealing=None))
    reply = server.post(PATH, {"url": URL, "events": ["job.finished"]}, key=mine)
    problem(reply, 503, "webhooks_unavailable")
    problem(server.post(f"{PATH}/{made['id']}/secret", {}, key=mine), 503, "webhooks_unavailable")
    assert server.get(f"{PATH}/{made['id']}", key=mine).status_code == 200


def test_the_delivery_log_is_read_in_pages(server: Server, mine: str) -> None:
    one = f"{PATH}/{create(server, mine)['id']}"
    made = [server.post(f"{one}/test", key=mine).json()["event"] for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = server.get(f"{one}/deliveries?limit=2{cursor and f'&cursor={cursor}'}", key=mine).json()
        seen += [entry["event"] for entry in page["deliveries"]]
        cursor = page["next_cursor"]
    assert seen == made[::-1]
    assert server.get(f"{one}/deliveries/{made[0]}", key=mine).json()["state"] == "pending"
    assert server.get(f"{one}/deliveries?state=dead", key=mine).json()["deliveries"] == []
    assert server.post(f"{one}/deliveries/{made[0]}/replay", key=mine).status_code == 202
    for query, field in (("limit=0", "limit"), ("limit=101", "limit"), ("state=odd", "state"), ("cursor=x", "cursor"),
                         ("odd=1", "odd"), ("limit=1&limit=2", "limit")):  # fmt: skip
        reply = server.get(f"{one}/deliveries?{query}", key=mine)
        assert problem(reply, 422, "validation_failed")["field"] == field
    problem(server.get(f"{one}/deliveries/evt_x", key=mine), 404, "delivery_not_found")
    problem(server.post(f"{one}/deliveries/evt_{'0' * 32}/replay", key=mine), 404, "delivery_not_found")


@pytest.mark.parametrize("since", ["yesterday", "", "99999-01-01", 5])
def test_a_moment_to_replay_from_must_be_one(server: Server, mine: str, since: object) -> None:
    one = f"{PATH}/{create(server, mine)['id']}"
    assert (
        problem(server.post(f"{one}/replay", {"since": since}, key=mine), 422, "validation_failed")["field"] == "since"
    )
    assert server.post(f"{one}/replay", {"since": "2026-01-01"}, key=mine).json() == {"replayed": 0}


def test_verdicts_leave_the_events_that_the_account_asks_for(server: Server, mine: str) -> None:
    create(server, mine, events=["ticket.classified", "ticket.escalated", "ticket.needs_review"])
    answer = server.post("/v1/decision", {"message": "I will sue you", "external_id": "ZD-1"}, key=mine).json()
    found = events(server)
    assert [kind for kind, _ in found] == ["ticket.classified", "ticket.escalated"]
    for _, data in found:
        assert (data["ticket"], data["external_id"]) == (answer["id"], "ZD-1")
        assert data["verdict"]["decision"] == "immediate_escalation"
        assert "sue" not in json.dumps(data)


def test_a_verdict_that_a_person_should_look_at_leaves_an_event(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, review_probability=1.0)
    server.app.hooks.outbound._resolve = public
    server.run(server.app.hooks.dispatcher.close())
    key = key_of(server, "mine@example.com")
    create(server, key, events=["ticket.needs_review"])
    answer = server.post("/api/v1/classify", {"ticket": "Is there a fee?"}, key=key).json()
    assert answer["needs_review"]
    assert [(kind, data["ticket"]) for kind, data in events(server)] == [("ticket.needs_review", answer["id"])]


def test_each_ticket_of_a_batch_leaves_its_event(server: Server, mine: str) -> None:
    create(server, mine)
    tickets = [f"Where is my invoice number {number}?" for number in range(70)]
    answer = server.post("/api/v1/batch", {"tickets": tickets}, key=mine).json()
    assert {data["ticket"] for _, data in events(server)} == {result["id"] for result in answer["results"]}


def test_accounts_without_webhooks_and_disabled_ones_leave_no_event(server: Server, mine: str) -> None:
    made = create(server, mine, events=["job.finished"])
    other = key_of(server, "other@example.com")
    for key in (mine, other):
        assert server.post("/v1/decision", {"message": "I will sue you"}, key=key).status_code == 200
    off = {"enabled": False, "events": EVERYTHING}
    assert server.call("PATCH", f"{PATH}/{made['id']}", key=mine, body=off).status_code == 200
    assert server.post("/v1/decision", {"message": "I will sue you"}, key=mine).status_code == 200
    assert events(server) == []


def test_a_quota_is_warned_of_at_80_percent_and_when_it_is_used_up(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, rate_limit_hourly=5, rate_limit_daily=100)
    server.app.hooks.outbound._resolve = public
    server.run(server.app.hooks.dispatcher.close())
    key = server.key("free@example.com")
    create(server, key, events=["quota.warning"])
    for _ in range(6):
        server.post("/api/v1/classify", {"ticket": "Where is my invoice?"}, key=key)
    found = [(kind, data["window"], data["used"], data["limit"], data["percent"]) for kind, data in events(server)]
    assert found == [("quota.warning", "hour", 4, 5, 80), ("quota.warning", "hour", 5, 5, 100)]


def test_a_provider_that_trips_is_told_to_those_who_ask(server: Server, mine: str) -> None:
    create(server, mine, events=["provider.state_changed"])
    create(server, key_of(server, "other@example.com"), events=["job.finished"])

    async def trip() -> None:
        journal = server.app.triage._store._journal
        await server.app.hooks.events.tell_provider_state(journal, "gemini", "small", "open")

    server.run(trip())
    assert events(server) == [("provider.state_changed", {"provider": "gemini", "model": "small", "state": "open"})]


def test_a_webhook_made_in_another_process_counts_once_that_is_known(server: Server, mine: str) -> None:
    assert server.post("/v1/decision", {"message": "I will sue you"}, key=mine).status_code == 200
    made = create(server, mine)
    server.call("PATCH", f"{PATH}/{made['id']}", key=mine, body={"enabled": False})
    path = server.settings.data_dir / DATABASE_NAME
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE webhook_endpoints SET state = 'enabled', disabled_reason = NULL")
    server.app.hooks.forget()
    assert server.post("/v1/decision", {"message": "I will sue you"}, key=mine).status_code == 200
    assert [kind for kind, _ in events(server)] == ["ticket.classified"]


async def public(host: str, port: int) -> list[str]:
    return ["93.184.216.34"]


def test_a_name_that_leads_inside_now_is_refused_at_creation(server: Server, mine: str) -> None:
    async def inside(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "10.0.0.1"]

    server.app.hooks.outbound._resolve = inside
    with pytest.raises(DestinationRefused):
        server.run(server.app.hooks.outbound.check(URL))
    problem(server.post(PATH, {"url": URL, "events": ["job.finished"]}, key=mine), 422, "validation_failed")
