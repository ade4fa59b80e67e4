"""The ticket classifier's contract, route for route, error for error, header for header."""

import json
import re
from datetime import UTC, datetime

import pytest
from asgi_server import PRODUCTION, START_US, Serve, Server

from firstline import __version__
from firstline.core.api_key import KeyKind
from firstline.core.taxonomy import Contract

LIMIT_HEADERS = {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}
S = 1_000_000


def test_health_is_measured_and_open_to_all(production: Server) -> None:
    answer = production.get("/api/v1/health")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["version"]) == ("healthy", __version__)
    assert datetime.fromisoformat(body["timestamp"]) == datetime.fromtimestamp(production.clock.us / S, UTC)
    assert body["timestamp"].endswith("Z")
    assert body["provider_status"]["local"] == "available"
    assert set(body["provider_status"].values()) <= {"available", "unavailable", "disabled"}


def test_a_ticket_is_classified_and_stored_before_the_answer(production: Server, key: str) -> None:
    answer = production.post("/api/v1/classify", {"ticket": "  VPN not connecting \n"}, key=key)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert {"category", "confidence", "priority", "provider", "processing_time"} <= body.keys()
    assert {"id", "probability", "needs_review", "source", "reasons", "language"} <= body.keys()
    assert body["confidence"] == body["probability"]
    assert 0 <= body["confidence"] <= 1
    assert 0 <= body["processing_time"] < 60
    ticket = body["id"].removeprefix("tkt_")
    assert production.rows(f"SELECT text, contract FROM tickets WHERE id = '{ticket}'") == [
        ("VPN not connecting", "classifier")
    ]
    assert production.rows(f"SELECT revision, category FROM verdicts WHERE ticket_id = '{ticket}'") == [
        (1, body["category"])
    ]


def test_references_are_stored_with_the_ticket(production: Server, key: str) -> None:
    given = {"ticket": "Payment failed", "customer_ref": "c-1", "external_id": "x-2"}
    ticket = production.post("/api/v1/classify", given, key=key).json()["id"].removeprefix("tkt_")
    assert production.rows(f"SELECT customer_ref, external_id FROM tickets WHERE id = '{ticket}'") == [("c-1", "x-2")]


def test_null_references_are_none(production: Server, key: str) -> None:
    given = {"ticket": "Payment failed", "customer_ref": None, "external_id": None}
    assert production.post("/api/v1/classify", given, key=key).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/json"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/plain; charset=latin-1"},
    ],
)
def test_a_body_is_read_as_json_whatever_its_content_type_says(
    production: Server, key: str, headers: dict[str, str]
) -> None:
    answer = production.post("/api/v1/classify", {"ticket": "Cannot connect to VPN"}, key=key, headers=headers)
    assert answer.status_code == 200


def test_a_byte_order_mark_before_the_body_is_no_mistake(production: Server, key: str) -> None:
    content = b"\xef\xbb\xbf" + json.dumps({"ticket": "VPN not working"}).encode()
    assert production.post("/api/v1/classify", content=content, key=key).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"   ",
        b"{",
        b'{"ticket": "a"} x',
        b"{'ticket': 'a'}",
        b'{"ticket": "a", "ticket": "b"}',
        b'{"ticket": "a", "n": {"x": 1, "x": 2}}',
        b'{"ticket": "a", "n": NaN}',
        b'{"ticket": "a", "n": -Infinity}',
        b'{"ticket": "a", "n": 1e999}',
        b'{"ticket": "a", "n": 18446744073709551616}',
        b'{"ticket": "a", "n": ' + b"9" * 5_000 + b"}",
        b'{"ticket": "\\ud800"}',
        b'{"ticket": "\xff"}',
        b'{"ticket": "a", "n": ' + b"[" * 64 + b"]" * 64 + b"}",
        b"[" * 10_000 + b"]" * 10_000,
        json.dumps({"ticket": "a"}).encode("utf-16"),
    ],
    ids=lambda content: content[:24].decode("latin-1") or "empty",
)
def test_malformed_json_is_400_and_never_quoted(production: Server, key: str, content: bytes) -> None:
    answer = production.post("/api/v1/classify", content=content, key=key)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "message"}
    assert answer.json()["error"] == "Malformed JSON"
    assert answer.headers.keys() >= LIMIT_HEADERS


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "ticket: field required"),
        ({"ticket": None}, "ticket: "),
        ({"ticket": 5}, "ticket: "),
        ({"ticket": ["a"]}, "ticket: "),
        ({"ticket": ""}, "ticket: must hold at least 1"),
        ({"ticket": " \u200b\n"}, "ticket: must hold at least 1"),
        ({"ticket": "a" * 5_001}, "5000"),
        ({"ticket": "a", "customer_ref": "c" * 201}, "customer_ref: "),
        ({"ticket": "a", "external_id": 7}, "external_id: "),
        ({"ticket": "a", "external_id": "a\nb"}, "external_id: "),
        ([], "JSON object"),
        ("ticket", "JSON object"),
        (7, "JSON object"),
    ],
)
def test_a_field_at_fault_is_400_and_named_with_its_bound(
    production: Server, key: str, body: object, names: str
) -> None:
    answer = production.post("/api/v1/classify", body, key=key)
    assert answer.status_code == 400
    assert answer.json()["error"] == "Invalid request"
    assert names in answer.json()["message"]
    assert answer.headers.keys() >= LIMIT_HEADERS


@pytest.mark.parametrize("ticket", ["a", "a" * 5_000, " " * 200 + "a" * 5_000 + " " * 200, "我" * 5_000])
def test_a_ticket_at_its_bounds_is_classified(production: Server, key: str, ticket: str) -> None:
    assert production.post("/api/v1/classify", {"ticket": ticket}, key=key).status_code == 200


def test_a_body_over_one_mebibyte_is_413(production: Server, key: str) -> None:
    answer = production.post("/api/v1/classify", content=b" " * ((1 << 20) + 1), key=key)
    assert answer.status_code == 413
    assert answer.json()["error"] == "Request body too large"


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({}, "API key required"),
        ({"X-API-Key": ""}, "API key required"),
        ({"X-API-Key": "nonsense"}, "Invalid API key"),
        ({"X-API-Key": "atc_0123456789abcdef0123"}, "Invalid API key"),
        ({"Authorization": "Bearer sk_live_0123456789abcdef0123"}, "Invalid API key"),
        ({"Authorization": "Basic dXNlcjpwYXNz"}, "Invalid API key"),
        ({"X-API-Key": "kéy"}, "Invalid API key"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/classify"),
        ("POST", "/api/v1/batch"),
        ("GET", "/api/v1/auth/usage"),
        ("GET", "/api/v1/auth/keys"),
        ("POST", "/api/v1/auth/keys"),
        ("DELETE", f"/api/v1/auth/keys/key_{'0' * 32}"),
    ],
)
def test_without_a_valid_key_it_is_401(
    production: Server, method: str, path: str, headers: dict[str, str], sentence: str
) -> None:
    production.clock.advance(61)
    headers = {name: value.encode("latin-1") for name, value in headers.items()}  # type: ignore[misc]
    answer = production.call(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"] == sentence
    assert set(answer.json()) == {"error", "message"}
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_in_the_url_never_works(production: Server, key: str) -> None:
    production.clock.advance(61)
    for name in ("api_key", "key", "X-API-Key", "access_token", "token"):
        answer = production.post(f"/api/v1/classify?{name}={key}", {"ticket": "VPN down"})
        assert (answer.status_code, answer.json()["error"]) == (401, "API key required")


@pytest.mark.parametrize("kind", [KeyKind.CLASSIFIER, KeyKind.LIVE, KeyKind.TEST])
def test_a_key_of_any_kind_works_in_either_header_on_every_route(production: Server, kind: KeyKind) -> None:
    key = production.key("kinds@example.com", plan="starter", kind=kind)
    production.key("kinds@example.com", plan="professional", catalogue=Contract.DECISION)
    for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, {"authorization": f"bearer {key}"}):
        for method, path, body in (
            ("POST", "/api/v1/classify", {"ticket": "VPN down"}),
            ("POST", "/api/v1/batch", {"tickets": ["VPN down"]}),
            ("GET", "/api/v1/auth/usage", None),
            ("GET", "/api/v1/auth/keys", None),
            ("POST", "/v1/decision", {"message": "VPN down"}),
            ("GET", "/v1/usage", None),
        ):
            assert production.call(method, path, body=body, headers=headers).status_code == 200


def test_registering_gives_a_free_key_once(production: Server) -> None:
    answer = production.post("/api/v1/auth/register", {"email": "new@example.com", "tier": "free"})
    assert answer.status_code == 201
    body = answer.json()
    assert re.fullmatch(r"atc_[A-Za-z0-9_-]{32}", body["api_key"])
    assert (body["tier"], body["rate_limits"]) == ("free", {"hourly": 100, "daily": 1_000})
    assert production.post("/api/v1/classify", {"ticket": "VPN down"}, key=body["api_key"]).status_code == 200
    assert production.rows(f"SELECT count(*) FROM api_keys WHERE hash = '{body['api_key']}'") == [(0,)]


@pytest.mark.parametrize("email", ["new2@example.com", "  new2@example.com ", "NEW2@Example.COM"])
def test_a_second_registration_of_an_address_is_409(production: Server, email: str) -> None:
    production.post("/api/v1/auth/register", {"email": "new2@example.com", "tier": "free"})
    answer = production.post("/api/v1/auth/register", {"email": email})
    assert answer.status_code == 409
    assert answer.json()["error"] == "Email already registered"
    assert set(answer.json()) == {"error", "message"}


@pytest.mark.parametrize("tier", ["starter", "professional", "enterprise"])
def test_a_paid_tier_is_402_and_says_where_to_subscribe(production: Server, tier: str) -> None:
    production.clock.advance(3_601)
    answer = production.post("/api/v1/auth/register", {"email": "paid@example.com", "tier": tier})
    assert answer.status_code == 402
    assert answer.json()["error"] == "Subscription required"
    assert "/v1/pricing" in answer.json()["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "email"),
        ({"email": "nobody"}, "email"),
        ({"email": "a@b"}, "email"),
        ({"email": "a b@example.com"}, "email"),
        ({"email": "a@example.com\n"}, None),
        ({"email": f"{'a' * 250}@example.com"}, "email"),
        ({"email": 5}, "email"),
        ({"email": "ok@example.com", "tier": "gold"}, "tier"),
        ({"email": "ok@example.com", "tier": 5}, "tier"),
    ],
)
def test_a_registration_at_fault_names_the_field(production: Server, body: object, field: str | None) -> None:
    production.clock.advance(3_601)
    answer = production.post("/api/v1/auth/register", body)
    if field is None:
        assert answer.status_code in {201, 409}
        return
    assert (answer.status_code, answer.json()["error"]) == (400, "Invalid request")
    assert answer.json()["message"].startswith(f"{field}: ")


def test_registrations_are_throttled_per_address(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, registrations_per_hour=2)
    for number in range(2):
        answer = server.post("/api/v1/auth/register", {"email": f"p{number}@example.com"}, client="192.0.2.1")
        assert answer.status_code == 201
    refused = server.post("/api/v1/auth/register", {"email": "p3@example.com"}, client="192.0.2.1")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "3600"
    assert refused.json()["rate_limit"]["reset_in"] == 3_600
    assert refused.json()["rate_limit"]["remaining"] == 0
    other = server.post("/api/v1/auth/register", {"email": "p3@example.com"}, client="192.0.2.2")
    assert other.status_code == 201
    server.clock.advance(3_600)
    assert server.post("/api/v1/auth/register", {"email": "p4@example.com"}, client="192.0.2.1").status_code == 201


def test_a_forged_forwarding_header_does_not_escape_the_throttle(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, registrations_per_hour=1)
    for number, status in enumerate((201, 429)):
        answer = server.post(
            "/api/v1/auth/register",
            {"email": f"p{number}@example.com"},
            headers={"X-Forwarded-For": f"198.51.100.{number}"},
            client="192.0.2.1",
        )
        assert answer.status_code == status


def test_behind_a_configured_proxy_the_forwarded_address_counts(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, registrations_per_hour=1, trusted_proxies="10.0.0.0/8")
    for number, (forwarded, status) in enumerate(
        (("198.51.100.1", 201), ("198.51.100.2, 10.0.0.7", 201), ("203.0.113.9, 198.51.100.1", 429))
    ):
        answer = server.post(
            "/api/v1/auth/register",
            {"email": f"p{number}@example.com"},
            headers={"X-Forwarded-For": forwarded},
            client="10.0.0.1",
        )
        assert answer.status_code == status


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_a_line_that_a_client_puts_before_the_line_of_the_proxy_does_not_count(serve: Serve, peer: str) -> None:
    server = serve(environment=PRODUCTION, registrations_per_hour=1, trusted_proxies="10.0.0.0/8")
    for number, status in enumerate((201, 429)):
        answer = server.post(
            "/api/v1/auth/register",
            {"email": f"p{number}@example.com"},
            headers=[("X-Forwarded-For", f"198.51.100.{number}"), ("X-Forwarded-For", "203.0.113.9")],
            client=peer,
        )
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("second", "status"),
    [
        ("2001:db8:1:2::2", 429),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", 429),
        ("2001:DB8:1:2::1%zone", 429),
        ("2001:db8:1:3::1", 201),
    ],
)
def test_all_addresses_of_an_ipv6_site_share_a_limit(serve: Serve, second: str, status: int) -> None:
    server = serve(environment=PRODUCTION, registrations_per_hour=1)
    first = server.post("/api/v1/auth/register", {"email": "a@example.com"}, client="2001:db8:1:2::1")
    assert first.status_code == 201
    assert server.post("/api/v1/auth/register", {"email": "b@example.com"}, client=second).status_code == status


def test_wrong_keys_are_limited_per_address(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, failed_logins_per_minute=3)
    good = server.key()
    for _ in range(3):
        assert server.get("/api/v1/auth/usage", key="atc_0123456789abcdef").status_code == 401
    refused = server.get("/api/v1/auth/usage", key="atc_0123456789abcdef")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert server.get("/api/v1/auth/usage", key=good).status_code == 200
    assert server.get("/api/v1/auth/usage", key="atc_0123456789abcdef", client="192.0.2.9").status_code == 401
    server.clock.advance(60)
    assert server.get("/api/v1/auth/usage", key="atc_0123456789abcdef").status_code == 401


def test_usage_costs_nothing_and_tells_what_is_left(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key()
    server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key)
    for _ in range(3):
        answer = server.get("/api/v1/auth/usage", key=key)
        assert answer.json() == {
            "tier": "free",
            "rate_limits": {
                "hourly_limit": 100,
                "hourly_remaining": 99,
                "daily_limit": 1_000,
                "daily_remaining": 999,
            },
        }
        assert answer.headers["x-ratelimit-remaining"] == "99"


def test_over_the_hour_it_is_429_and_true_to_the_window(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, rate_limit_hourly=2, rate_limit_daily=3)
    key = server.key()
    for left in ("1", "0"):
        answer = server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key)
        assert (answer.status_code, answer.headers["x-ratelimit-remaining"]) == (200, left)
        assert answer.headers["x-ratelimit-limit"] == "2"
    hour_ends = (START_US // (3_600 * S) + 1) * 3_600
    refused = server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key)
    wait = hour_ends - START_US // S
    assert refused.status_code == 429
    assert refused.json()["error"] == "Rate limit exceeded"
    assert refused.json()["rate_limit"] == {"limit": 2, "remaining": 0, "reset_in": wait}
    assert refused.headers["retry-after"] == str(wait)
    assert refused.headers["x-ratelimit-reset"] == str(hour_ends)
    assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("2", "0")
    assert server.get("/api/v1/auth/usage", key=key).status_code == 200
    server.clock.advance(wait - 1)
    assert server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key).headers["retry-after"] == "1"
    server.clock.advance(1)
    last = server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key)
    assert (last.status_code, last.headers["x-ratelimit-limit"], last.headers["x-ratelimit-remaining"]) == (
        200,
        "3",
        "0",
    )
    refused = server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key)
    day_ends = (START_US // (86_400 * S) + 1) * 86_400
    assert refused.json()["rate_limit"]["limit"] == 3
    assert refused.headers["retry-after"] == str(day_ends - server.clock.us // S)


def test_usage_is_kept_true_across_a_restart(serve: Serve, engine: object) -> None:
    first = serve(environment=PRODUCTION, rate_limit_hourly=2)
    key = first.key()
    first.post("/api/v1/classify", {"ticket": "VPN down"}, key=key)
    folder = first.settings.data_dir
    first.close()
    with Server(folder, engine, environment=PRODUCTION, rate_limit_hourly=2) as second:  # type: ignore[arg-type]
        assert second.get("/api/v1/auth/usage", key=key).json()["rate_limits"]["hourly_remaining"] == 1
        assert second.post("/api/v1/classify", {"ticket": "VPN down"}, key=key).status_code == 200
        assert second.post("/api/v1/classify", {"ticket": "VPN down"}, key=key).status_code == 429


def test_a_refused_request_spends_no_quota_but_its_burst(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key()
    for body in ({"ticket": ""}, {}, {"ticket": "a" * 5_001}):
        refused = server.post("/api/v1/classify", body, key=key)
        assert (refused.status_code, refused.headers["x-ratelimit-remaining"]) == (400, "100")
    assert server.post("/api/v1/batch", {"tickets": []}, key=key).status_code == 400
    assert server.get("/api/v1/auth/usage", key=key).json()["rate_limits"]["hourly_remaining"] == 100
    account = server.run(server.app.storage.find_account("someone@example.com"))
    assert account is not None
    plan = server.app.catalogues[Contract.CLASSIFIER].plans["free"]
    burst, *quota = server.run(server.app.limiter.uses(account.id, plan, now_us=server.clock.us))
    assert burst.used == 4
    assert [use.used for use in quota] == [0, 0]


def test_refused_requests_alone_use_the_burst_up(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key()
    plan = server.app.catalogues[Contract.CLASSIFIER].plans["free"]

    async def flood() -> list[int]:
        return [
            (await server.send("POST", "/api/v1/classify", key=key, body={})).status_code
            for _ in range(plan.burst_per_minute + 1)
        ]

    statuses = server.run(flood())
    assert statuses == [400] * plan.burst_per_minute + [429]
    refused = server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key)
    assert refused.json()["rate_limit"]["limit"] == plan.burst_per_minute
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    server.clock.advance(int(refused.headers["retry-after"]))
    assert server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key).status_code == 200


def test_further_keys_share_the_limits_of_their_account(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, rate_limit_hourly=2)
    key = server.key()
    other = server.post("/api/v1/auth/keys", {"name": "second"}, key=key).json()["key"]
    server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key)
    assert server.post("/api/v1/classify", {"ticket": "VPN down"}, key=other).headers["x-ratelimit-remaining"] == "0"
    assert server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key).status_code == 429


def test_a_key_lives_from_creation_to_revocation(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.post("/api/v1/auth/register", {"email": "a@example.com"}).json()["api_key"]
    made = server.post("/api/v1/auth/keys", {"name": "Mobile ✓"}, key=key)
    assert made.status_code == 201
    assert set(made.json()) == {"key", "key_id", "tier", "created_at", "message"}
    assert made.headers.keys() >= LIMIT_HEADERS
    second = made.json()
    server.clock.advance(5)
    server.post("/api/v1/classify", {"ticket": "VPN down"}, key=second["key"])
    listed = server.get("/api/v1/auth/keys", key=key).json()
    assert listed["total"] == 2
    assert set(listed["keys"][0]) == {
        "id",
        "name",
        "tier",
        "is_active",
        "created_at",
        "last_used",
        "requests_count",
    }
    entry = listed["keys"][1]
    assert (entry["id"], entry["name"], entry["tier"], entry["is_active"], entry["requests_count"]) == (
        second["key_id"],
        "Mobile ✓",
        "free",
        True,
        1,
    )
    assert datetime.fromisoformat(entry["last_used"]).timestamp() == server.clock.us / S
    assert listed["keys"][0]["last_used"] is None
    assert second["key"] not in server.get("/api/v1/auth/keys", key=key).text
    gone = server.call("DELETE", f"/api/v1/auth/keys/{second['key_id']}", key=key)
    assert (gone.status_code, set(gone.json())) == (200, {"message"})
    refused = server.post("/api/v1/classify", {"ticket": "VPN down"}, key=second["key"])
    assert (refused.status_code, refused.json()["error"]) == (401, "API key revoked")
    assert not server.get("/api/v1/auth/keys", key=key).json()["keys"][1]["is_active"]
    assert server.call("DELETE", f"/api/v1/auth/keys/{second['key_id']}", key=key).status_code == 200
    actions = [
        action for (action,) in server.rows("SELECT action FROM audit WHERE actor <> 'system' ORDER BY at_us, id")
    ]
    assert actions == ["account.register", "key.create", "key.revoke"]


def test_an_exhausted_key_can_still_look_and_revoke_itself(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, rate_limit_hourly=1)
    key = server.key()
    server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key)
    assert server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key).status_code == 429
    assert server.get("/api/v1/auth/usage", key=key).status_code == 200
    own = server.get("/api/v1/auth/keys", key=key).json()["keys"][0]["id"]
    assert server.call("DELETE", f"/api/v1/auth/keys/{own}", key=key).status_code == 200
    assert server.get("/api/v1/auth/usage", key=key).json()["error"] == "API key revoked"


@pytest.mark.parametrize("key_id", [f"key_{'0' * 32}", "key_x", "1", "%00", "key_" + "g" * 32])
def test_a_key_that_is_not_there_is_404(production: Server, key: str, key_id: str) -> None:
    answer = production.call("DELETE", f"/api/v1/auth/keys/{key_id}", key=key)
    assert (answer.status_code, answer.json()["error"]) == (404, "API key not found")
    assert answer.headers.keys() >= LIMIT_HEADERS


def test_a_key_of_another_account_is_404(production: Server, key: str) -> None:
    other = production.key("other@example.com")
    theirs = production.get("/api/v1/auth/keys", key=other).json()["keys"][0]["id"]
    assert production.call("DELETE", f"/api/v1/auth/keys/{theirs}", key=key).status_code == 404
    assert production.get("/api/v1/auth/usage", key=other).status_code == 200


@pytest.mark.parametrize("name", ["", "a" * 101, None, 5, "a\nb", "\u202e"])
def test_a_key_s_name_has_1_to_100_visible_characters(production: Server, key: str, name: object) -> None:
    answer = production.post("/api/v1/auth/keys", {"name": name}, key=key)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("name: ")


def test_a_batch_answers_in_the_order_sent_and_one_bad_item_fails_alone(production: Server, key: str) -> None:
    tickets = ["VPN connection issue", "", "Refund request", 5, "a" * 5_001, None, "Add dark mode"]
    answer = production.post("/api/v1/batch", {"tickets": tickets}, key=key)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["total"], body["successful"], body["failed"]) == (7, 3, 4)
    assert body["processing_time"] >= 0
    categories = [item.get("category") for item in body["results"]]
    assert categories == ["Network Issue", None, "Payment Issue", None, None, None, "Feature Request"]
    for item in body["results"]:
        assert ("error" in item) != ("category" in item)
        assert "error" in item or {"category", "confidence", "priority"} <= item.keys()
    assert "5001" in body["results"][4]["error"]


def test_a_batch_is_charged_as_one_request(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key()
    answer = server.post("/api/v1/batch", {"tickets": ["VPN down"] * 10}, key=key)
    assert answer.headers["x-ratelimit-remaining"] == "99"
    assert server.rows("SELECT count(*) FROM tickets") == [(10,)]


@pytest.mark.parametrize(
    ("plan", "most"), [("free", 10), ("starter", 50), ("professional", 100), ("enterprise", 1_000)]
)
def test_a_batch_holds_as_many_as_the_plan_allows(production: Server, plan: str, most: int) -> None:
    key = production.key(f"{plan}-batch@example.com", plan=plan)
    fits = production.post("/api/v1/batch", {"tickets": ["Refund request"] * most}, key=key)
    assert (fits.status_code, fits.json()["successful"]) == (200, most)
    too_many = production.post("/api/v1/batch", {"tickets": ["a"] * (most + 1)}, key=key)
    assert too_many.status_code == 400
    assert str(most) in too_many.json()["message"]


def test_a_large_batch_may_have_a_large_body_on_a_large_plan_only(production: Server, key: str) -> None:
    body = {"tickets": ["我" * 5_000] * 60}  # 1.8 MB escaped
    assert production.post("/api/v1/batch", body, key=key).status_code == 200
    free = production.key("free-body@example.com")
    assert production.post("/api/v1/batch", body, key=free).status_code == 413


@pytest.mark.parametrize("body", [{}, {"tickets": []}, {"tickets": "a"}, {"tickets": None}, {"tickets": {"a": 1}}])
def test_a_batch_without_tickets_is_400(production: Server, key: str, body: object) -> None:
    answer = production.post("/api/v1/batch", body, key=key)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("tickets: ")


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/classify/", "/api/v2/classify"])
def test_an_unknown_path_is_404_in_json(production: Server, path: str) -> None:
    answer = production.get(path)
    assert (answer.status_code, answer.json()["error"]) == (404, "Not found")
    assert set(answer.json()) == {"error", "message"}


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/v1/classify", "POST"),
        ("PUT", "/api/v1/auth/keys", "GET, HEAD, POST"),
        ("GET", f"/api/v1/auth/keys/key_{'0' * 32}", "DELETE"),
        ("POST", "/api/v1/health", "GET, HEAD"),
        ("OPTIONS", "/api/v1/batch", "POST"),
        ("HEAD", "/api/v1/classify", "POST"),
        ("BREW", "/api/v1/classify", "POST"),
    ],
)
def test_a_wrong_method_is_405_in_json_and_names_the_right_ones(
    production: Server, method: str, path: str, allow: str
) -> None:
    answer = production.call(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    if method != "HEAD":
        assert answer.json()["error"] == "Method not allowed"


def test_metrics_hold_the_published_names_and_no_key(production: Server, key: str) -> None:
    production.post("/api/v1/classify", {"ticket": "Zanzibar is not working"}, key=key)
    answer = production.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    for name in (
        "http_requests_total",
        "http_request_duration_seconds",
        "classification_requests_total",
        "provider_failures_total",
        "circuit_breaker_state",
    ):
        assert f"# TYPE {name.removesuffix('_total')}" in answer.text
    assert key not in answer.text
    assert "Zanzibar" not in answer.text


def test_metrics_can_ask_for_a_token(serve: Serve) -> None:
    server = serve(metrics_token="scrape-me")
    assert server.get("/metrics").status_code == 401
    assert server.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert server.get("/metrics", headers={"Authorization": "Bearer scrape-me"}).status_code == 200


def test_a_store_that_fails_is_503_and_costs_nothing(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key()
    server.get("/api/v1/auth/usage", key=key)

    async def unavailable(_record: object) -> None:
        from firstline.ports.journal import JournalUnavailable

        raise JournalUnavailable("the disk is full")

    journal = server.app.triage._store._journal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(journal), "append", lambda _self, record: unavailable(record))
        for path, body in (("/api/v1/classify", {"ticket": "VPN down"}), ("/api/v1/batch", {"tickets": ["VPN"]})):
            answer = server.post(path, body, key=key)
            assert (answer.status_code, answer.json()["error"]) == (503, "Service unavailable")
            assert "disk" not in answer.text
            assert answer.headers["x-ratelimit-remaining"] == "100"
    assert server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key).status_code == 200


def test_a_fault_of_our_own_is_500_without_its_text(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key()

    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    server.app.triage._settle = broken  # type: ignore[method-assign, assignment]
    answer = server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key)
    assert (answer.status_code, answer.json()["error"]) == (500, "Internal error")
    assert "secret" not in answer.text
    assert server.get("/api/v1/auth/usage", key=key).json()["rate_limits"]["hourly_remaining"] == 100


def test_an_answer_carries_the_request_s_id_or_one_of_its_own(production: Server) -> None:
    assert production.get("/api/v1/health", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    for bad in ("a b", "x" * 65, "<script>"):
        own = production.get("/api/v1/health", headers={"X-Request-ID": bad}).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{32}", own)


def test_head_answers_as_get_does_without_a_body(production: Server) -> None:
    assert production.call("HEAD", "/api/v1/health").status_code == 200


def test_without_texts_the_verdict_alone_is_stored(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, history_text=False)
    server.post("/api/v1/classify", {"ticket": "VPN down"}, key=server.key())
    assert server.rows("SELECT text FROM tickets") == [(None,)]
    assert server.rows("SELECT count(*) FROM verdicts") == [(1,)]


def test_without_history_nothing_but_the_count_is_stored(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, history=False)
    key = server.key()
    server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key)
    assert server.rows("SELECT count(*) FROM tickets") == [(0,)]
    assert server.get("/api/v1/auth/usage", key=key).json()["rate_limits"]["hourly_remaining"] == 99
