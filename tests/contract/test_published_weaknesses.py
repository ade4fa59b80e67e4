"""Weaknesses of published triage systems, each refused here through the front door."""

import re
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import pytest
from asgi_server import PRODUCTION, Serve, Server
from typer.main import get_command

from firstline.core.api_key import KeyKind, Scope
from firstline.core.errors import CATALOGUE
from firstline.core.taxonomy import Contract
from firstline.delivery.cli.program import program
from firstline.delivery.fake_provider import FakeProvider, Fault
from firstline.usecases.access import DEMO_KEYS

KEY_SHAPED = re.compile(r"\b(?:atc|sk_live|sk_test|op|whsec)_[A-Za-z0-9_-]{16,}|\bsk-[A-Za-z0-9_-]{16,}|\bAIza\w{20,}")
HOSTILE = '"}\n# HELP evil 1\nevil{a="b"} 1'
UNSURE = "It is about the thing from last week, you know which one I mean"
NOT_LIMITED = ("/health", "/health/live", "/health/ready", "/api/v1/health", "/metrics")


def pages_of(server: Server) -> Iterator[tuple[str, str]]:
    """Every page and document that a link leads to from the start page, and what they load."""
    waiting = ["/", "/docs", "/redoc", "/openapi.json", "/v1/pricing", "/health", "/metrics"]
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = server.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == 200, path
        kind = answer.headers["content-type"]
        if kind.startswith("image/"):
            continue
        if not path.startswith("/docs/assets/"):  # files of others, which know no key of ours
            yield path, answer.text
        if kind.startswith("text/html"):
            found = re.findall(r"""(?:href|src)=["']([^"']+)["']""", answer.text)
            waiting += [urlsplit(urljoin(path, link)).path for link in found if link.startswith(("/", "."))]
    assert len(seen) > len(CATALOGUE)


# --- keys or master keys in pages ------------------------------------------------------------------------------


def test_no_page_and_no_document_holds_a_key(serve: Serve) -> None:
    for environment in ("production", "development"):
        server = serve(
            environment=environment,
            secret_key="a-master-key-of-the-operator-0123456789",
            metrics_token=None,
            gemini_api_key="AIzaOperatorsOwnKey0123456789",
        )
        secret = server.key("a@example.com")
        for path, text in pages_of(server):
            found = set(KEY_SHAPED.findall(text)) - set(DEMO_KEYS)
            assert found == set(), f"{path} in {environment}"
            assert secret not in text
            assert "a-master-key" not in text
            assert "AIzaOperators" not in text
            if environment == "production":
                assert not any(demo in text for demo in DEMO_KEYS)


# --- any key that makes keys of higher plans -------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["free", "enterprise"])
def test_no_key_of_a_customer_makes_a_key_of_another_plan(plan: str, serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key("a@example.com", plan=plan)
    for tier in ("starter", "professional", "enterprise", "pro"):
        body = {"email": "b@example.com", "name": "b", "tier": tier, "is_test": False}
        assert server.post("/v1/keys/create", body, key=key).status_code == 403
        registered = server.post("/api/v1/auth/register", {"email": "c@example.com", "tier": tier}, key=key)
        assert registered.status_code in {400, 402}
        further = server.post("/api/v1/auth/keys", {"name": "x", "tier": tier, "scope": "operate"}, key=key)
        assert (further.status_code, further.json()["tier"]) == (201, plan)
        assert server.post("/v1/keys/create", body, key=further.json()["key"]).status_code == 403
    assert server.rows("SELECT count(*) FROM accounts WHERE email = 'b@example.com'") == [(0,)]


# --- limits per process ----------------------------------------------------------------------------------------


@pytest.mark.service
def test_two_servers_together_grant_no_more_than_the_limit(serve: Serve, database_url: str, redis_url: str) -> None:
    shared = {"environment": PRODUCTION, "database_url": database_url, "redis_url": redis_url, "rate_limit_hourly": 5}
    servers = [serve(**shared), serve(**shared)]
    key = servers[0].key("a@example.com")
    statuses = [
        servers[number % 2].post("/api/v1/classify", {"ticket": "VPN down"}, key=key).status_code for number in range(8)
    ]
    assert statuses == [200] * 5 + [429] * 3


# --- public demo keys ------------------------------------------------------------------------------------------


def test_public_demo_keys_open_nothing_in_production(production: Server) -> None:
    routes = [("POST", "/v1/decision"), ("POST", "/api/v1/classify"), ("GET", "/v1/usage"), ("GET", "/v1/tickets")]
    for demo in DEMO_KEYS:
        for method, path in routes:
            production.clock.advance(61)
            for headers in ({"X-API-Key": demo}, {"Authorization": f"Bearer {demo}"}):
                body = {"message": "hello", "ticket": "hello"}
                assert production.call(method, path, body=body, headers=headers).status_code == 401


# --- keys in URLs and on command lines -------------------------------------------------------------------------


def test_a_key_in_a_url_opens_nothing(production: Server, key: str) -> None:
    for name in ("api_key", "apikey", "key", "token", "access_token", "X-API-Key", "authorization"):
        production.clock.advance(61)
        assert production.get(f"/v1/usage?{name}={key}").status_code == 401
        assert production.get(f"/v1/usage;{name}={key}").status_code == 404
        assert production.get("/v1/usage", headers={"Cookie": f"{name}={key}"}).status_code == 401
    assert production.get(f"/v1/{key}/usage").status_code == 404


def test_no_option_of_the_command_line_takes_a_secret() -> None:
    waiting, options = [get_command(program)], set()
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        takes = [parameter for parameter in command.params if not getattr(parameter, "is_flag", False)]
        options |= {option for parameter in takes for option in parameter.opts if option.startswith("--")}
    assert "--data-dir" in options
    secret = re.compile(r"secret|password|token|api-key|database-url|redis-url|dsn")
    assert {option for option in options if secret.search(option)} == set()


# --- exception text in answers ---------------------------------------------------------------------------------


def test_no_answer_says_what_went_wrong_inside(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key("a@example.com", plan="enterprise")
    server.key("a@example.com", plan="enterprise", catalogue=Contract.DECISION)

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("hush: password=tops3cret at /srv/firstline/secret.py")

    def fail_at_once(*_: object, **__: object) -> None:
        raise KeyError("hush: password=tops3cret")

    monkeypatch.setattr(type(server.app.limiter), "charge", fail)
    monkeypatch.setattr(type(server.app.limiter), "uses", fail)
    answers = [
        server.post("/v1/decision", {"message": "hello"}, key=key),
        server.post("/api/v1/classify", {"ticket": "hello"}, key=key),
        server.post("/api/v1/batch", {"tickets": ["hello"]}, key=key),
        server.get("/v1/usage", key=key),
    ]
    monkeypatch.undo()
    monkeypatch.setattr(server.app.access, "authenticate", fail)
    answers += [server.get(path, key=key) for path in ("/v1/tickets", "/v1/jobs", "/v1/webhooks", "/v1/categories")]
    monkeypatch.undo()
    monkeypatch.setattr(server.app.triage, "_settle", fail_at_once)
    answers += [
        server.post("/v1/decision", {"message": "hello"}, key=key),
        server.post("/api/v1/classify", {"ticket": "hello"}, key=key),
        server.post("/api/v1/batch", {"tickets": ["hello"]}, key=key),
    ]
    assert sum(answer.status_code == 500 for answer in answers) >= 7
    for answer in answers:
        for word in ("hush", "tops3cret", "Traceback", "RuntimeError", "KeyError", ".py", "/srv"):
            assert word not in answer.text + str(answer.headers)


# --- a model's text as a label of a metric ---------------------------------------------------------------------


def test_no_text_of_a_model_or_a_caller_is_a_label(serve: Serve) -> None:
    with FakeProvider() as fake:
        server = serve(
            environment=PRODUCTION,
            gemini_api_key="fake-gemini-key",
            gemini_base_url=fake.url("gemini"),
            metrics_token=None,
        )
        key = server.key("a@example.com", plan="enterprise")
        before = label_values(server)
        fake.script(Fault.WRONG_ENUM, profile="gemini")
        for number in range(3):
            body = {"ticket": f"{UNSURE} {number} {HOSTILE}", "ai_mode": "always"}
            server.post("/api/v1/classify", body, key=key)
        categories = [
            {"name": "evil_label", "description": "Parcels that arrive late or never"},
            {"name": "Sales", "description": "Prices, offers and discounts"},
        ]
        assert server.put("/v1/categories", {"categories": categories}, key=key).status_code == 200
        server.post("/api/v1/classify", {"ticket": "My parcel is late", "ai_mode": "never"}, key=key)
        for path in ("/evil_label", "/v1/jobs/evil_label", "/docs/errors/evil_label"):
            server.get(path, key=key)
        server.call("BREW", "/evil_label")
        text = server.get("/metrics").text
        assert 'category="custom"' in text
        assert re.search(r'provider_failures_total\{kind="bad_schema",provider="gemini"\} [1-9]', text)
        assert "evil" not in text
        assert not re.search(r"^evil", text, re.MULTILINE)
        new = {value for value in label_values(server) - before if not re.fullmatch(r"[\d.e+-]+|\+Inf", value)}
        assert all(re.fullmatch(r"[A-Za-z0-9 _./{}+-]{1,60}", value) for value in new), new


def label_values(server: Server) -> set[str]:
    return set(re.findall(r'="((?:[^"\\]|\\.)*)"', server.get("/metrics").text))


# --- unthrottled registration ----------------------------------------------------------------------------------


def test_registration_is_throttled_whatever_a_client_says_of_itself(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, registrations_per_hour=3)
    statuses = [
        server.call(
            "POST",
            "/api/v1/auth/register",
            body={"email": f"user{number}@example.com", "tier": "free"},
            headers={"X-Forwarded-For": f"198.51.100.{number}", "X-Real-IP": f"198.51.100.{number}"},
            client="203.0.113.7",
        ).status_code
        for number in range(5)
    ]
    assert statuses == [201] * 3 + [429] * 2


# --- health behind the limiter ---------------------------------------------------------------------------------


def test_health_and_metrics_answer_whoever_has_used_up_everything(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, rate_limit_hourly=1, failed_logins_per_minute=1, registrations_per_hour=1)
    key = server.key("a@example.com")
    for _ in range(3):
        last = server.post("/api/v1/classify", {"ticket": "VPN down"}, key=key)
        wrong = server.post("/api/v1/classify", {"ticket": "VPN down"}, key="sk_live_0123456789abcdef0123")
        server.post("/api/v1/auth/register", {"email": f"{last.status_code}@example.com"})
    assert (last.status_code, wrong.status_code) == (429, 429)
    for given in ({}, {"key": key}, {"key": "sk_live_0123456789abcdef0123"}):
        for path in NOT_LIMITED:
            for _ in range(20):
                assert server.get(path, **given).status_code == 200


def test_an_operator_s_key_is_made_on_the_command_line_alone(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    operator = server.key("op@example.com", kind=KeyKind.OPERATOR, scope=Scope.OPERATE)
    body = {"email": "b@example.com", "name": "b", "tier": "free", "is_test": False, "scope": "operate"}
    made = server.post("/v1/keys/create", body, key=operator).json()["api_key"]
    assert not made.startswith(KeyKind.OPERATOR.value)
    assert server.post("/v1/keys/create", body, key=made).status_code == 403
