"""The decision contract, route for route, error for error, header for header."""

import json
import re
from typing import Any

import pytest
from asgi_server import PRODUCTION, START_US, Serve, Server

from firstline import __version__
from firstline.core.api_key import KeyKind, Scope
from firstline.core.taxonomy import Contract
from firstline.usecases.access import DEMO_KEYS

LIMIT_HEADERS = {
    "x-ratelimit-limit-minute",
    "x-ratelimit-remaining-minute",
    "x-ratelimit-limit-day",
    "x-ratelimit-remaining-day",
    "x-ratelimit-reset",
    "x-ratelimit-tier",
}
PRO_DEMO = "sk_test_demo_pro_key_123456789012345678"
S = 1_000_000


def decision_key(server: Server, plan: str = "free", *, email: str = "d@example.com") -> str:
    return server.key(email, plan=plan, catalogue=Contract.DECISION, kind=KeyKind.LIVE)


def test_the_root_greets_programs_and_people(production: Server) -> None:
    assert production.get("/").json() == {
        "status": "operational",
        "service": "firstline",
        "version": __version__,
        "documentation": "/docs",
    }
    page = production.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    assert "/v1/decision" in page.text


def test_health_is_measured(production: Server) -> None:
    answer = production.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "healthy",
        "api": "operational",
        "storage": "ok",
        "rules_engine": "operational",
        "ai_layer": "disabled",
        "limits": "local",
    }


@pytest.mark.parametrize(("path", "status"), [("/health/live", "ok"), ("/health/ready", "ok")])
def test_probes_answer(production: Server, path: str, status: str) -> None:
    assert production.get(path).json() == {"status": status}


def test_a_store_that_cannot_be_written_shows_in_health(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)

    async def fails() -> bool:
        return False

    server.app.probe = fails
    assert server.get("/health").status_code == 503
    assert server.get("/health").json()["status"] == "degraded"
    assert server.get("/health/ready").status_code == 503
    assert server.get("/health/live").status_code == 200
    assert server.get("/api/v1/health").json()["status"] == "degraded"


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_documentation_needs_no_internet(production: Server, path: str) -> None:
    page = production.get(path)
    assert page.status_code == 200
    links = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert links
    for link in links:
        assert link.startswith("/"), link
        if "." in link:
            assert production.get(link).status_code == 200
    assert "openapi.json" in page.text


def test_every_error_links_to_a_page_of_this_server(production: Server) -> None:
    body = production.get("/v1/usage").json()
    page = production.get(body["docs"])
    assert page.status_code == 200
    assert "API key required" in page.text
    assert production.get("/docs/errors/no_such_code").status_code == 404
    assert "rate_limited" in production.get("/docs/errors").text


def test_prices_are_the_published_ones(production: Server) -> None:
    body = production.get("/v1/pricing").json()
    assert body["currency"] == "USD"
    assert body["notes"]
    assert [
        (
            tier["tier"],
            tier["price_usd_per_month"],
            tier["limits"]["requests_per_minute"],
            tier["limits"]["requests_per_day"],
            tier["limits"]["requests_per_month"],
        )
        for tier in body["tiers"]
    ] == [
        ("free", 0, 10, 100, 1_000),
        ("starter", 29, 60, 5_000, 100_000),
        ("professional", 99, 300, 50_000, 1_000_000),
        ("enterprise", 499, 1_000, 500_000, 10_000_000),
    ]


def test_a_message_is_decided_on_and_stored(production: Server, key: str) -> None:
    answer = production.post(
        "/v1/decision",
        {"message": " Where is my invoice? ", "channel": "review", "customer_ref": "c", "external_id": "e"},
        headers={"Authorization": f"Bearer {key}"},
    )
    assert answer.status_code == 200
    body = answer.json()
    assert {"decision", "priority", "churn_risk", "confidence", "recommended_action"} <= body.keys()
    assert {"id", "probability", "needs_review", "source", "reasons", "language", "category"} <= body.keys()
    assert 0 <= body["churn_risk"] <= 1
    assert 0 <= body["confidence"] <= 1
    assert 1 <= len(body["recommended_action"]) <= 500
    assert answer.headers.keys() >= LIMIT_HEADERS
    ticket = body["id"].removeprefix("tkt_")
    assert production.rows(
        f"SELECT text, contract, channel, customer_ref, external_id FROM tickets WHERE id = '{ticket}'"
    ) == [("Where is my invoice?", "decision", "review", "c", "e")]


def test_null_for_an_optional_field_means_its_default(production: Server, key: str) -> None:
    nulls = {"message": "How do exports work here?", "user_plan": None, "channel": None, "history": None}
    with_nulls = production.post("/v1/decision", nulls, key=key).json()
    without = production.post("/v1/decision", {"message": nulls["message"]}, key=key).json()
    assert {**with_nulls, "id": ""} == {**without, "id": ""}


def test_the_confidence_is_the_published_score(production: Server, key: str) -> None:
    body = {"message": "I will sue you", "user_plan": "enterprise", "history": ["a", "b"]}
    # 0.5, terminal +0.30, under 30 characters -0.10, two messages +0.06, enterprise +0.10
    assert production.post("/v1/decision", body, key=key).json()["confidence"] == 0.86


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"not json", b'{"message": "a", "message": "b"}', b'{"message": NaN}', b'{"message": "\xff"}'],
)
def test_malformed_json_is_422_without_echo_and_free(serve: Serve, content: bytes) -> None:
    server = serve(environment=PRODUCTION)
    key = decision_key(server)
    answer = server.post("/v1/decision", content=content, key=key)
    assert answer.status_code == 422
    (fault,) = answer.json()["detail"]
    assert set(fault) == {"type", "loc", "msg"}
    assert (fault["type"], fault["loc"][0]) == ("json_invalid", "body")
    assert answer.headers["x-ratelimit-remaining-day"] == "100"
    assert server.get("/v1/usage", key=key).json()["usage"]["requests_today"] == 0


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ["body", "message"]),
        ({"message": ""}, ["body", "message"]),
        ({"message": " \n\u200b"}, ["body", "message"]),
        ({"message": None}, ["body", "message"]),
        ({"message": 5}, ["body", "message"]),
        ({"message": "a" * 5_001}, ["body", "message"]),
        ({"message": "marker", "user_plan": "gold"}, ["body", "user_plan"]),
        ({"message": "marker", "channel": "fax"}, ["body", "channel"]),
        ({"message": "marker", "history": "marker"}, ["body", "history"]),
        ({"message": "marker", "history": ["a"] * 51}, ["body", "history"]),
        ({"message": "marker", "history": [5]}, ["body", "history", 0]),
        ({"message": "marker", "history": ["a", "b" * 5_001]}, ["body", "history", 1]),
        ({"message": "marker", "customer_ref": ""}, ["body", "customer_ref"]),
        ([], ["body"]),
        ("marker", ["body"]),
    ],
)
def test_a_bad_body_is_422_without_echo(production: Server, key: str, body: Any, loc: list[Any]) -> None:
    answer = production.post("/v1/decision", body, key=key)
    assert answer.status_code == 422
    faults = answer.json()["detail"]
    assert faults[0]["loc"] == loc
    assert all(set(fault) == {"type", "loc", "msg"} for fault in faults)
    assert "marker" not in answer.text
    assert answer.headers.keys() >= LIMIT_HEADERS


def test_a_message_and_its_history_at_their_bounds_are_decided_on(production: Server, key: str) -> None:
    body = {"message": "a" * 5_000, "history": ["b" * 5_000] * 50}
    assert production.post("/v1/decision", body, key=key).status_code == 200


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({}, "API key required"),
        ({"Authorization": "Bearer nonsense"}, "Invalid API key"),
        ({"Authorization": "Bearer"}, "API key required"),
        ({"X-API-Key": "sk_live_0123456789abcdef0123"}, "Invalid API key"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/decision"), ("GET", "/v1/usage"), ("POST", "/v1/keys/create")]
)
def test_without_a_valid_key_it_is_401(
    production: Server, method: str, path: str, headers: dict[str, str], sentence: str
) -> None:
    production.clock.advance(61)
    answer = production.call(method, path, headers=headers)
    assert answer.status_code == 401
    assert set(answer.json()) == {"error", "message", "docs"}
    assert answer.json()["error"] == "authentication_failed"
    assert sentence in answer.json()["message"]
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_in_the_url_never_works(production: Server, key: str) -> None:
    production.clock.advance(61)
    for name in ("api_key", "key", "token"):
        assert production.post(f"/v1/decision?{name}={key}", {"message": "hello there"}).status_code == 401


def test_over_the_minute_it_is_429_and_true_to_the_window(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = decision_key(server)
    for number in range(10):
        answer = server.post("/v1/decision", {"message": "How do exports work?"}, key=key)
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-remaining-minute"] == str(9 - number)
        assert answer.headers["x-ratelimit-remaining-day"] == str(99 - number)
    refused = server.post("/v1/decision", {"message": "How do exports work?"}, key=key)
    wait = (START_US // (60 * S) + 1) * 60 - START_US // S
    assert refused.status_code == 429
    assert set(refused.json()) == {"error", "message", "retry_after", "docs"}
    assert (refused.json()["error"], refused.json()["retry_after"]) == ("rate_limit_exceeded", wait)
    assert refused.headers["retry-after"] == str(wait)
    assert refused.headers.keys() >= LIMIT_HEADERS
    assert (refused.headers["x-ratelimit-limit-minute"], refused.headers["x-ratelimit-tier"]) == ("10", "free")
    assert server.get("/v1/usage", key=key).json()["usage"]["requests_today"] == 10
    server.clock.advance(wait)
    assert server.post("/v1/decision", {"message": "How do exports work?"}, key=key).status_code == 200


def test_over_the_day_it_waits_for_midnight_in_utc(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = decision_key(server)
    for _ in range(10):
        for _ in range(10):
            assert server.post("/v1/decision", {"message": "How do exports work?"}, key=key).status_code == 200
        server.clock.advance(60)
    refused = server.post("/v1/decision", {"message": "How do exports work?"}, key=key)
    midnight = (START_US // (86_400 * S) + 1) * 86_400
    assert refused.status_code == 429
    assert refused.json()["retry_after"] == midnight - server.clock.us // S
    assert refused.headers["x-ratelimit-reset"] == str(midnight)


def test_usage_tells_counts_limits_and_cost_and_costs_nothing(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = decision_key(server, "starter")
    assert server.get("/v1/usage", key=key).json()["usage"]["last_request_at"] is None
    server.post("/v1/decision", {"message": "How do exports work?"}, key=key)
    for _ in range(2):
        answer = server.get("/v1/usage", key=key)
        body = answer.json()
        assert body["usage"].pop("last_request_at").endswith("Z")
        assert body == {
            "tier": "starter",
            "usage": {"requests_today": 1, "requests_this_month": 1},
            "limits": {"requests_per_day": 5_000, "requests_per_month": 100_000},
            "remaining": {"today": 4_999, "this_month": 99_999},
            "estimated_cost_this_month": {
                "included_requests": 100_000,
                "overage_requests": 0,
                "overage_cost_usd": 0.0,
                "total_cost_usd": 29.0,
            },
        }
        assert answer.headers.keys() >= LIMIT_HEADERS


def test_the_two_contracts_are_charged_apart(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key()
    server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key)
    assert server.get("/v1/usage", key=key).json()["usage"]["requests_today"] == 0
    server.post("/v1/decision", {"message": "How do exports work?"}, key=key)
    assert server.get("/api/v1/auth/usage", key=key).json()["rate_limits"]["hourly_remaining"] == 99


def test_an_operator_makes_keys_and_nobody_else(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    operator = server.key("op@example.com", kind=KeyKind.OPERATOR, scope=Scope.OPERATE)
    body = {"email": "client@example.com", "name": "Client", "tier": "professional", "is_test": False}
    made = server.post("/v1/keys/create", body, key=operator)
    assert made.status_code == 201
    assert set(made.json()) == {"api_key", "tier", "limits", "warning"}
    assert made.json()["api_key"].startswith("sk_live_")
    assert made.json()["limits"]["requests_per_minute"] == 300
    assert made.headers.keys() >= LIMIT_HEADERS
    new = made.json()["api_key"]
    assert server.get("/v1/usage", key=new).json()["tier"] == "professional"
    test = server.post("/v1/keys/create", {**body, "is_test": True}, key=operator).json()["api_key"]
    assert test.startswith("sk_test_")
    refused = server.post("/v1/keys/create", body, key=new)
    assert (refused.status_code, refused.json()["error"]) == (403, "operator_required")
    assert refused.headers.keys() >= LIMIT_HEADERS
    for bad in ({"email": "x"}, {**body, "tier": "gold"}, {**body, "name": ""}, {**body, "is_test": "perhaps"}):
        answer = server.post("/v1/keys/create", bad, key=operator)
        assert answer.status_code == 422
        assert answer.json()["detail"]


@pytest.mark.parametrize(("demo", "tier"), list(DEMO_KEYS.items()))
def test_a_demo_key_works_in_development(development: Server, demo: str, tier: str) -> None:
    answer = development.post(
        "/v1/decision", {"message": "I will sue you"}, headers={"Authorization": f"Bearer {demo}"}
    )
    assert (answer.status_code, answer.headers["x-ratelimit-tier"]) == (200, tier)
    assert development.get("/v1/usage", key=demo).json()["tier"] == tier
    assert development.post("/api/v1/classify", {"ticket": "VPN down"}, key=demo).status_code == 200
    assert development.post("/api/v1/auth/keys", {"name": "x"}, key=demo).status_code == 403


@pytest.mark.parametrize("demo", list(DEMO_KEYS))
def test_a_demo_key_is_refused_in_production(production: Server, demo: str) -> None:
    production.clock.advance(61)
    assert production.post("/v1/decision", {"message": "hello there"}, key=demo).status_code == 401


def test_a_keyless_call_from_loopback_works_in_development_on_the_decision_route_alone(
    development: Server,
) -> None:
    assert development.post("/v1/decision", {"message": "How do exports work?"}).status_code == 200
    for method, path in (("POST", "/api/v1/classify"), ("GET", "/v1/usage"), ("GET", "/api/v1/auth/usage")):
        assert development.call(method, path).status_code == 401


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Host"])
@pytest.mark.parametrize("demo", [None, PRO_DEMO])
def test_behind_a_proxy_nothing_of_development_is_open(development: Server, name: str, demo: str | None) -> None:
    development.clock.advance(61)
    answer = development.post("/v1/decision", {"message": "hello there"}, key=demo, headers={name: "127.0.0.1"})
    assert answer.status_code == 401


def test_from_another_machine_nothing_of_development_is_open(development: Server) -> None:
    for demo in (None, PRO_DEMO):
        answer = development.post("/v1/decision", {"message": "hello there"}, key=demo, client="192.0.2.7")
        assert answer.status_code == 401


def test_a_start_that_would_open_development_to_others_is_refused_with_the_reason(serve: Serve) -> None:
    from firstline.bootstrap_stores import CannotStart

    with pytest.raises(CannotStart, match=r"demo keys.*0\.0\.0\.0.*production"):
        serve(environment="development", host="0.0.0.0")


def test_a_fault_of_our_own_is_an_escalated_verdict_that_is_stored(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = decision_key(server)

    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    server.app.triage._settle = broken  # type: ignore[method-assign, assignment]
    answer = server.post("/v1/decision", {"message": "How do exports work?"}, key=key)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["decision"], body["priority"]) == ("priority_response", "high")
    assert body["needs_review"] is True
    assert body["source"] == "emergency"
    assert "secret" not in answer.text
    assert server.rows("SELECT decision, needs_review, source FROM verdicts") == [("priority_response", 1, "emergency")]


def test_a_verdict_that_cannot_be_stored_is_503(serve: Serve) -> None:
    from firstline.ports.journal import JournalUnavailable

    server = serve(environment=PRODUCTION)
    key = decision_key(server)

    async def unavailable(_self: object, _record: object) -> None:
        raise JournalUnavailable("the disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(server.app.triage._store._journal), "append", unavailable)
        answer = server.post("/v1/decision", {"message": "How do exports work?"}, key=key)
    assert answer.status_code == 503
    assert set(answer.json()) == {"error", "message", "docs"}
    assert answer.headers["x-ratelimit-remaining-day"] == "100"


def test_a_threshold_lifts_what_is_under_it(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, low_confidence_threshold=0.45)
    body = server.post("/v1/decision", {"message": "ok then"}, key=decision_key(server)).json()
    assert body["needs_review"] is (body["confidence"] < 0.45)
    high = serve(environment=PRODUCTION, low_confidence_threshold=0.9)
    body = high.post("/v1/decision", {"message": "ok then"}, key=decision_key(high)).json()
    assert (body["decision"], body["needs_review"]) == ("standard_response", True)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/decision", 405, "POST"),
        ("POST", "/v1/pricing", 405, "GET, HEAD"),
        ("DELETE", "/", 405, "GET, HEAD"),
        ("GET", "/nothing", 404, None),
    ],
)
def test_a_wrong_path_or_method_is_json(
    production: Server, method: str, path: str, status: int, allow: str | None
) -> None:
    answer = production.call(method, path)
    assert answer.status_code == status
    assert answer.headers.get("allow") == allow
    assert set(answer.json()) == {"error", "message", "docs"}


def test_an_unknown_resource_of_firstline_s_own_is_a_problem(production: Server) -> None:
    answer = production.get("/v1/nothing")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code"} <= answer.json().keys()


@pytest.mark.parametrize("path", ["/", "/health", "/v1/pricing", "/openapi.json", "/docs"])
def test_head_is_answered_where_get_is(production: Server, path: str) -> None:
    assert production.call("HEAD", path).status_code == 200


def test_concurrent_requests_never_get_more_than_the_limit(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = decision_key(server)

    async def flood() -> list[int]:
        import asyncio

        answers = await asyncio.gather(
            *(server.send("POST", "/v1/decision", key=key, body={"message": f"Question {n}?"}) for n in range(30))
        )
        return sorted(answer.status_code for answer in answers)

    assert server.run(flood()) == [200] * 10 + [429] * 20
    assert server.rows("SELECT count(*) FROM verdicts") == [(10,)]
    assert server.rows("SELECT requests FROM usage WHERE \"window\" = 'day'") == [(10,)]


def test_reasons_point_at_the_words_that_matched(production: Server, key: str) -> None:
    text = "Refund me, or my lawyer will call"
    reasons = production.post("/v1/decision", {"message": text}, key=key).json()["reasons"]
    spans = [text[start:end] for reason in reasons if reason["code"] == "rule" for start, end in reason["spans"]]
    assert any("lawyer" in piece for piece in spans)
    assert json.dumps(reasons).find("lawyer will call") == -1
