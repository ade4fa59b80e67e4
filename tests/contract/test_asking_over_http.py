"""A server whose providers are the fake ones, over real connections: what a caller sees, and what is stored."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asgi_server import PRODUCTION, Serve, Server

from firstline.bootstrap import Engine
from firstline.core.taxonomy import Contract
from firstline.core.verdict import evidence_from_data
from firstline.delivery.fake_provider import FakeProvider, Fault, Step

UNSURE = "Something about it is strange since the other day"
SURE = "I want a refund for the invoice that was charged twice to my card"
LEGAL = "My lawyer will sue you"


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    """All providers, on one port."""
    with FakeProvider() as running:
        yield running


@pytest.fixture(autouse=True)
def healthy(fake: FakeProvider) -> None:
    """Nothing is left of the test before."""
    fake.release()
    for profile in ("gemini", "openai"):
        fake.script(profile=profile)
    fake.forget()


def settings_of(fake: FakeProvider) -> dict[str, Any]:
    """Gemini first, OpenAI next, both of them the fake."""
    return {
        "gemini_api_key": "fake-gemini-key",
        "gemini_base_url": fake.url("gemini"),
        "openai_api_key": "fake-openai-key",
        "openai_base_url": fake.url("openai"),
        "environment": PRODUCTION,
        "ai_timeout_seconds": 5.0,
    }


@pytest.fixture(scope="module")
def server(engine: Engine, fake: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that leave its breakers closed."""
    with Server(tmp_path_factory.mktemp("asking"), engine, **settings_of(fake)) as running:
        yield running


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    server.key("someone@example.com", plan="enterprise", catalogue=Contract.DECISION)
    return server.key("someone@example.com", plan="enterprise")


def asked(server: Server, key: str, text: str = UNSURE, **members: Any) -> dict[str, Any]:
    """The answer to one ticket."""
    answer = server.post("/api/v1/classify", {"ticket": text, **members}, key=key)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_unsure_message_is_answered_by_the_first_provider(server: Server, key: str, fake: FakeProvider) -> None:
    found = asked(server, key, f"{UNSURE} one")
    assert (found["source"], found["provider"]) == ("provider", "gemini")
    assert [fake.count("gemini"), fake.count("openai")] == [1, 0]
    assert "provider" in [reason["code"] for reason in found["reasons"]]


@pytest.mark.parametrize("text", [SURE, LEGAL])
def test_sure_message_and_terminal_rule_ask_nobody(server: Server, key: str, fake: FakeProvider, text: str) -> None:
    found = asked(server, key, text)
    assert found["provider"] == "local"
    assert fake.count() == 0


def test_terminal_rule_asks_nobody_even_when_the_request_says_always(
    server: Server, key: str, fake: FakeProvider
) -> None:
    assert asked(server, key, LEGAL, ai_mode="always")["source"] == "rule"
    assert fake.count() == 0


def test_request_may_ask_always_or_never(server: Server, key: str, fake: FakeProvider) -> None:
    assert asked(server, key, SURE, ai_mode="always")["provider"] == "gemini"
    assert asked(server, key, f"{UNSURE} two", ai_mode="never")["provider"] == "local"
    assert fake.count() == 1


@pytest.mark.parametrize(
    ("member", "value", "named"),
    [
        ("ai_mode", "sometimes", "ai_mode"),
        ("ai_timeout_seconds", 0, "ai_timeout_seconds"),
        ("ai_timeout_seconds", 61, "ai_timeout_seconds"),
        ("ai_timeout_seconds", "soon", "ai_timeout_seconds"),
    ],
)
def test_bad_request_member_is_named(server: Server, key: str, member: str, value: object, named: str) -> None:
    answer = server.post("/api/v1/classify", {"ticket": UNSURE, member: value}, key=key)
    assert answer.status_code == 400
    assert named in answer.json()["message"]


def test_failing_primary_is_invisible_to_the_caller(serve: Serve, fake: FakeProvider) -> None:
    server = serve(**settings_of(fake))
    key = server.key(plan="enterprise")
    fake.script(Fault.SERVER_ERROR, profile="gemini")
    found = asked(server, key)
    assert (found["source"], found["provider"]) == ("provider", "openai")


def test_all_failing_leaves_the_local_answer_and_takes_a_fifth_off_the_score(serve: Serve, fake: FakeProvider) -> None:
    server = serve(**settings_of(fake))
    key = server.key(catalogue=Contract.DECISION, plan="enterprise")
    body = {"message": f"{UNSURE}. What should I look at in order to find out what it is, and why did it change?"}
    alone = server.post("/v1/decision", {**body, "ai_mode": "never"}, key=key).json()
    for profile in ("gemini", "openai"):
        fake.script(Fault.CUT_JSON, profile=profile)
    found = server.post("/v1/decision", {**body, "ai_mode": "always"}, key=key).json()
    assert (found["source"], found["provider"]) == ("local", "failed")
    assert found["confidence"] == pytest.approx(alone["confidence"] - 0.20)
    assert found["decision"] == alone["decision"]
    assert "provider_failed" in [reason["code"] for reason in found["reasons"]]


def test_nobody_configured_takes_nothing_off_the_score(production: Server) -> None:
    key = production.key("nobody@example.com", catalogue=Contract.DECISION, plan="enterprise")
    found = production.post("/v1/decision", {"message": UNSURE, "ai_mode": "always"}, key=key).json()
    without = production.post("/v1/decision", {"message": UNSURE, "ai_mode": "never"}, key=key).json()
    assert found["provider"] == "local"
    assert found["confidence"] == without["confidence"]


def test_late_answer_adds_a_revision_and_fires_an_event(serve: Serve, fake: FakeProvider) -> None:
    server = serve(**settings_of(fake))
    key = server.key(plan="enterprise")
    for profile in ("gemini", "openai"):
        fake.script(Step(Fault.HANG, answer={"category": "Payment Issue"}), profile=profile)
    found = asked(server, key, ai_timeout_seconds=0.3)
    assert (found["source"], found["provider"]) == ("local", "timeout")
    ticket = found["id"].removeprefix("tkt_")
    assert server.rows("SELECT revision FROM verdicts") == [(1,)]
    fake.release()
    wait_for(server, "SELECT count(*) FROM outbox", 1)
    rows = server.rows("SELECT revision, source FROM verdicts ORDER BY revision")
    assert rows == [(1, "local"), (2, "provider")]
    ((kind, payload),) = server.rows("SELECT kind, payload FROM outbox")
    event = json.loads(payload)
    assert kind == "ticket.revised"
    assert (event["ticket"], event["revision"]) == (f"tkt_{ticket}", 2)
    assert UNSURE not in payload


def test_stored_evidence_gives_the_stored_verdict_again(server: Server, key: str) -> None:
    from firstline.core.cascade import settle

    found = asked(server, key, f"{UNSURE}, and it never did before", ai_mode="always")
    ticket = found["id"].removeprefix("tkt_")
    ((evidence, action, priority, decision, probability, reasons),) = server.rows(
        "SELECT evidence, recommended_action, priority, decision, probability, reasons "
        f"FROM verdicts WHERE ticket_id = '{ticket}'"
    )
    (said,) = [reason["text"] for reason in json.loads(reasons) if reason["code"] == "provider"]
    read = evidence_from_data(json.loads(evidence), action=action, reason=said.partition(": ")[2])
    again = settle(
        read.facts,
        read.matches,
        read.prediction,
        server.app.triage.policy,
        rules_hash=read.rules,
        asked=read.asked,
    )
    assert (again.recommended_action, again.priority, again.decision) == (action, priority, decision)
    assert again.probability == probability
    assert said in [reason.text for reason in again.reasons]
    assert said.partition(": ")[2] not in evidence


def test_where_texts_are_not_kept_a_providers_words_are_not_either(serve: Serve, fake: FakeProvider) -> None:
    server = serve(**settings_of(fake), history_text=False)
    key = server.key(plan="enterprise")
    fake.script(Step(answer={"reason": "It says strange things.", "action": "Ask what is strange."}), profile="gemini")
    found = asked(server, key)
    assert "strange" in json.dumps(found["reasons"])
    assert "strange" not in str(server.rows("SELECT * FROM verdicts")) + str(server.rows("SELECT * FROM tickets"))


def test_cost_is_stored_shown_and_counted(serve: Serve, fake: FakeProvider) -> None:
    server = serve(**settings_of(fake), ai_prices="gemini/gemini-3.5-flash-lite=1000/1000")
    key = server.key(plan="enterprise")
    asked(server, key)
    ((calls, tokens, cost),) = server.rows(
        "SELECT calls, input_tokens + output_tokens, cost_usd_micros FROM provider_spend"
    )
    assert calls == 1
    assert cost == tokens * 1_000
    usage = server.get("/api/v1/auth/usage", key=key).json()
    assert usage["providers"]["spent_today_usd"] == pytest.approx(cost / 1_000_000)
    assert "firstline_provider_cost_usd_total" in server.get("/metrics").text


def test_spent_budget_falls_to_the_local_answer(serve: Serve, fake: FakeProvider) -> None:
    server = serve(**settings_of(fake), ai_prices="gemini/gemini-3.5-flash-lite=1000/1000", ai_daily_budget_usd=2.0)
    key = server.key(plan="enterprise")
    found = [asked(server, key, f"{UNSURE} {number}") for number in range(6)]
    answered = sum(one["provider"] == "gemini" for one in found)
    assert 1 <= answered < 6
    assert fake.count("gemini") == answered
    assert "provider_budget" in [reason["code"] for reason in found[-1]["reasons"]]
    usage = server.get("/api/v1/auth/usage", key=key).json()
    assert usage["providers"]["spent_today_usd"] <= 2.0


def test_accounts_own_order_and_mode_are_in_force_for_the_next_message(serve: Serve, fake: FakeProvider) -> None:
    server = serve(**settings_of(fake))
    key = server.key(plan="enterprise")
    changed = server.put("/v1/providers", {"mode": "always", "providers": [{"provider": "openai"}]}, key=key)
    assert changed.status_code == 200, changed.text
    assert asked(server, key, SURE)["provider"] == "openai"
    assert fake.count("gemini") == 0


def test_health_reads_the_breakers(serve: Serve, fake: FakeProvider) -> None:
    server = serve(**settings_of(fake))
    key = server.key(plan="enterprise")
    before = server.get("/api/v1/health").json()["provider_status"]
    assert before == {"local": "available", "gemini": "available", "openai": "available"}
    assert server.get("/health").json()["ai_layer"] == "operational"
    for profile in ("gemini", "openai"):
        fake.script(Fault.UNAUTHORIZED, profile=profile)
    asked(server, key)
    status = server.get("/api/v1/health").json()
    assert status["provider_status"] == {"local": "available", "gemini": "unavailable", "openai": "unavailable"}
    assert status["status"] == "healthy"
    assert server.get("/health").json()["ai_layer"] == "unavailable"
    metrics = server.get("/metrics").text
    assert 'circuit_breaker_state{model="gpt-6-luna",provider="openai"} 2.0' in metrics
    assert 'provider_failures_total{kind="unauthorized",provider="gemini"} 1.0' in metrics


def test_what_a_provider_says_in_an_error_is_nowhere(
    serve: Serve, fake: FakeProvider, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve(**{**settings_of(fake), "log_level": "debug"})
    key = server.key(plan="enterprise")
    seen = ""
    for number, fault in enumerate((Fault.UNAUTHORIZED, Fault.BAD_REQUEST, Fault.HTML, Fault.WRONG_ENUM)):
        for profile in ("gemini", "openai"):
            fake.script(fault, profile=profile)
        answer = server.post("/api/v1/classify", {"ticket": f"{UNSURE} {number}", "ai_mode": "always"}, key=key)
        seen += answer.text + str(answer.headers)
    seen += server.get("/metrics").text + "".join(capfd.readouterr())
    for secret in (
        "fake-gemini-key",
        "fake-openai-key",
        fake.base_url.removeprefix("http://"),
        "<html",
        "INVALID_ARGUMENT",
    ):
        assert secret not in seen


def test_batch_asks_for_the_unsure_ones_at_once_within_one_deadline(
    server: Server, key: str, fake: FakeProvider
) -> None:
    tickets = [f"{UNSURE} number {number}" for number in range(40)] + [SURE, LEGAL]
    answer = server.post("/api/v1/batch", {"tickets": tickets, "ai_mode": "always"}, key=key).json()
    assert [answer["total"], answer["failed"]] == [42, 0]
    assert {item["source"] for item in answer["results"][:41]} == {"provider"}
    assert answer["results"][41]["provider"] == "local"
    assert fake.count("gemini") >= 1


def test_batch_with_a_hanging_provider_is_answered_at_its_deadline(serve: Serve, fake: FakeProvider) -> None:
    server = serve(**settings_of(fake))
    key = server.key(plan="enterprise")
    for profile in ("gemini", "openai"):
        fake.script(Fault.HANG, profile=profile)
    tickets = [f"{UNSURE} number {number}" for number in range(30)]
    answer = server.post(
        "/api/v1/batch", {"tickets": tickets, "ai_timeout_seconds": 0.3, "ai_mode": "always"}, key=key
    ).json()
    assert answer["failed"] == 0
    assert {item["provider"] for item in answer["results"]} <= {"timeout", "failed"}
    assert len(server.rows("SELECT id FROM tickets")) == 30


def test_batch_is_streamed_line_by_line_where_the_client_takes_lines(server: Server, key: str) -> None:
    tickets = [SURE, 7, f"{UNSURE} streamed", LEGAL]
    answer = server.post("/api/v1/batch", {"tickets": tickets}, key=key, headers={"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert "x-ratelimit-remaining" in answer.headers
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert sorted(line["index"] for line in lines[:-1]) == [0, 1, 2, 3]
    assert lines[-1].items() >= {"total": 4, "successful": 3, "failed": 1}.items()
    by_index = {line["index"]: line for line in lines[:-1]}
    assert "error" in by_index[1]
    assert by_index[3]["priority"] == "critical"


@pytest.mark.parametrize(
    ("accept", "streamed"),
    [
        ("application/x-ndjson, application/json;q=0.5", True),
        ("Application/X-NDJSON; charset=utf-8 ; q=1", True),
        ("application/json, application/x-ndjson", True),
        ("application/json, application/x-ndjson;q=0.5", False),
        ("application/x-ndjson;q=0", False),
        ("application/x-ndjson;q=much", False),
        ("application/x-ndjson-stream", False),
        ("*/*", False),
    ],
)
def test_batch_is_streamed_only_to_clients_that_like_lines_best(
    server: Server, key: str, accept: str, streamed: bool
) -> None:
    answer = server.post("/api/v1/batch", {"tickets": [SURE]}, key=key, headers={"Accept": accept})
    assert (answer.headers["content-type"] == "application/x-ndjson") is streamed


def test_streamed_batch_sends_what_is_ready_before_the_slow_ones(serve: Serve, fake: FakeProvider) -> None:
    server = serve(**settings_of(fake))
    key = server.key(plan="enterprise")
    for profile in ("gemini", "openai"):
        fake.script(Fault.HANG, profile=profile)
    tickets = [UNSURE, SURE, LEGAL]
    answer = server.post(
        "/api/v1/batch",
        {"tickets": tickets, "ai_timeout_seconds": 0.3},
        key=key,
        headers={"Accept": "application/x-ndjson"},
    )
    order = [json.loads(line).get("index") for line in answer.text.splitlines()]
    assert order == [1, 2, 0, None]


def test_streamed_batch_that_cannot_be_stored_is_an_error_before_the_first_line(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    from firstline.ports.journal import JournalUnavailable

    server = serve(environment=PRODUCTION)
    key = server.key(plan="enterprise")

    async def unavailable(_self: object, _record: object) -> None:
        raise JournalUnavailable("the disk is full")

    monkeypatch.setattr(type(server.app.triage._store._journal), "append", unavailable)
    answer = server.post("/api/v1/batch", {"tickets": [SURE]}, key=key, headers={"Accept": "application/x-ndjson"})
    assert answer.status_code == 503
    assert answer.json()["error"] == "Service unavailable"


def wait_for(server: Server, query: str, value: int) -> None:
    """Until the store says so; the server works on by itself meanwhile."""
    ends = time.monotonic() + 20
    while server.rows(query) != [(value,)]:
        assert time.monotonic() < ends, query
