"""What browsers are told: which pages may call, what an answer may be used for, and that nothing of it is kept."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from asgi_server import PRODUCTION, Serve, Server

from firstline.bootstrap import Engine
from firstline.ports.storage import StorageUnavailable

APP = "https://app.example.com"
EVIL = "https://evil.example.com"
CONTENT = {"message": "How do I reset my password?"}


@pytest.fixture(scope="module")
def open_to_app(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A production server that the pages of one origin may call."""
    folder = tmp_path_factory.mktemp("open")
    with Server(folder, engine, environment=PRODUCTION, cors_origins=f"{APP}, http://localhost:3000") as server:
        yield server


def cors_of(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def answers_of_every_kind(server: Server, headers: Mapping[str, str]) -> dict[str, httpx.Response]:
    """Answers with and without a key, of both contracts, refused and failed ones."""
    key = server.key("browser@example.com", plan="enterprise")
    tight = server.key("tight@example.com")
    found = {
        "200": server.call("POST", "/api/v1/classify", key=key, body={"ticket": "VPN"}, headers=headers),
        "200 page": server.call("GET", "/", headers={**headers, "Accept": "text/html"}),
        "200 health": server.call("GET", "/health", headers=headers),
        "401": server.call("POST", "/v1/decision", body=CONTENT, headers=headers),
        "401 wrong": server.call("POST", "/api/v1/classify", key="wrong", body={"ticket": "a"}, headers=headers),
        "404": server.call("GET", "/nowhere", headers=headers),
        "405": server.call("DELETE", "/v1/decision", headers=headers),
        "413": server.call("POST", "/v1/decision", key=key, content=b" " * (2 << 20), headers=headers),
        "422": server.call("POST", "/v1/decision", key=key, content=b"{", headers=headers),
    }
    for _ in range(200):
        answer = server.call("POST", "/api/v1/classify", key=tight, body={"ticket": "VPN"}, headers=headers)
        if answer.status_code == 429:
            found["429"] = answer
            break
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.app.access, "authenticate", failing(StorageUnavailable("hush")))
        found["503"] = server.call("POST", "/v1/decision", key=key, body=CONTENT, headers=headers)
        patch.setattr(server.app.access, "authenticate", failing(RuntimeError("hush")))
        found["500"] = server.call("GET", "/v1/usage", key=key, headers=headers)
    for kind, answer in found.items():
        assert str(answer.status_code) == kind[:3]
    assert len(found) == 12
    return found


def inline_parts(page: str) -> list[tuple[str, str]]:
    """Scripts and styles that stand in a page, as a browser's parser finds them."""
    found: list[tuple[str, str]] = []

    class Parser(HTMLParser):
        inside = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.inside = tag if tag in {"script", "style"} else ""

        def handle_endtag(self, tag: str) -> None:
            self.inside = ""

        def handle_data(self, data: str) -> None:
            if self.inside:
                found.append((self.inside, data))

    Parser(convert_charrefs=False).feed(page)
    return found


def failing(error: Exception) -> object:
    async def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_answers_of_every_kind_may_be_read_by_the_pages_of_a_configured_origin(open_to_app: Server) -> None:
    for kind, answer in answers_of_every_kind(open_to_app, {"Origin": APP}).items():
        found = cors_of(answer)
        assert found["access-control-allow-origin"] == APP, kind
        assert {"X-RateLimit-Remaining", "Retry-After", "X-Request-ID"} <= set(
            found["access-control-expose-headers"].split(", ")
        )
        assert "access-control-allow-credentials" not in found
        assert "Origin" in answer.headers.get_list("vary", split_commas=True)


@pytest.mark.parametrize(
    "origin", [EVIL, "null", "", APP + "/", APP.upper(), APP + ".evil.example.com", "http://localhost", "*"]
)
def test_the_pages_of_another_origin_are_given_nothing_and_nothing_is_reflected(
    origin: str, open_to_app: Server
) -> None:
    for headers in ({"Origin": origin}, {"Origin": origin, "Access-Control-Request-Method": "POST"}):
        for method in ("GET", "OPTIONS"):
            answer = open_to_app.call(method, "/v1/pricing", headers=headers)
            assert cors_of(answer) == {}
            assert "Origin" in answer.headers.get_list("vary", split_commas=True)


def test_no_page_may_call_unless_that_is_configured(production: Server) -> None:
    for answer in answers_of_every_kind(production, {"Origin": EVIL}).values():
        assert cors_of(answer) == {}
    preflight = {"Origin": EVIL, "Access-Control-Request-Method": "POST"}
    answer = production.call("OPTIONS", "/v1/decision", headers=preflight)
    assert (answer.status_code, cors_of(answer)) == (405, {})


def test_every_origin_can_be_allowed_and_even_then_without_credentials(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, cors_origins="*")
    for origin in (EVIL, "null"):
        found = cors_of(server.call("POST", "/v1/decision", body=CONTENT, headers={"Origin": origin}))
        assert found["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in found


def test_a_browser_that_asks_first_needs_no_key_and_spends_no_limit(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, cors_origins=APP, failed_logins_per_minute=1, registrations_per_hour=1)
    headers = {"Origin": APP, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    for path in ("/v1/decision", "/api/v1/classify", "/api/v1/auth/register", "/v1/jobs") * 10:
        answer = server.call("OPTIONS", path, headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")
        found = cors_of(answer)
        assert found["access-control-allow-origin"] == APP
        assert "POST" in found["access-control-allow-methods"].split(", ")
        assert {"X-API-Key", "Authorization", "Content-Type", "Idempotency-Key"} <= set(
            found["access-control-allow-headers"].split(", ")
        )
        assert found["access-control-max-age"] == "600"
    answer = server.call("POST", "/v1/keys/create", body={"email": "a@example.com"}, headers={"Origin": APP})
    assert answer.status_code != 429
    metrics = server.call("GET", "/metrics").text
    assert 'http_requests_total{method="OPTIONS",route="preflight",status="204"} 40.0' in metrics


def test_every_answer_is_inert_for_browsers_and_kept_by_nobody(production: Server) -> None:
    for kind, answer in answers_of_every_kind(production, {}).items():
        assert answer.headers["x-content-type-options"] == "nosniff", kind
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "strict-transport-security" not in answer.headers  # TLS is somebody else's here
        assert "server" not in answer.headers
        assert "x-powered-by" not in answer.headers


def test_a_new_key_is_kept_by_nobody(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    answer = server.call("POST", "/api/v1/auth/register", body={"email": "a@example.com", "tier": "free"})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/docs/errors", "/docs/errors/rate_limited"])
def test_pages_run_only_what_this_server_has_put_into_them(path: str, production: Server) -> None:
    answer = production.call("GET", path, headers={"Accept": "text/html"})
    assert answer.headers["content-type"].startswith("text/html")
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in policy["script-src"]
    assert not re.search(r"https?:|\*", answer.headers["content-security-policy"])
    for kind, text in inline_parts(answer.text):
        rule = policy[f"{kind}-src"]
        allowed = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in rule
        assert allowed or (kind == "style" and "'unsafe-inline'" in rule)
    for address in re.findall(r'(?:src|href)="([^"]*)"', answer.text):
        assert address.startswith("/"), f"{path} loads {address} from elsewhere"


def test_files_of_the_pages_may_be_kept(production: Server) -> None:
    assert production.call("GET", "/docs/assets/swagger-ui.css").headers["cache-control"] == "public, max-age=86400"


def test_a_name_in_the_host_header_cannot_put_markup_into_the_page(production: Server) -> None:
    hosts = ["evil.example.com", '"><script>alert(1)</script>', "a b", "{version}", "x" * 5_000]
    for host in hosts:
        answer = production.call("GET", "/", headers={"Host": host, "Accept": "text/html"})
        assert "<script" not in answer.text
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("headers", "served"),
    [
        ({}, True),
        ({"Origin": "http://127.0.0.1:8000", "Host": "127.0.0.1:8000"}, True),
        ({"Origin": "http://[::1]:8000", "Host": "[::1]:8000"}, True),
        ({"Origin": "http://localhost:3000", "Host": "127.0.0.1:8000"}, True),
        ({"Host": "evil.example.com"}, False),
        ({"Host": "evil.example.com:8000", "Origin": "http://evil.example.com:8000"}, False),
        ({"Host": "localhost:8000", "Origin": EVIL}, False),
        ({"Host": "localhost:8000", "Origin": "null"}, False),
        ({"Host": "localhost:8000", "Origin": "http://localhost:9000"}, False),
        ({"Host": "127.0.0.1.evil.example.com"}, False),
        ({"Host": "[::1].evil.example.com"}, False),
        ({"Host": "testserver"}, False),
    ],
)
def test_in_development_pages_of_others_get_no_verdict_without_a_key(
    headers: dict[str, str], served: bool, serve: Serve
) -> None:
    server = serve(cors_origins="http://localhost:3000")
    answer = server.call("POST", "/v1/decision", body=CONTENT, headers=headers)
    assert answer.status_code == (200 if served else 401)
    demo = server.call("POST", "/v1/decision", body=CONTENT, headers=headers, key="sk_live_demo")
    assert (demo.status_code == 200) <= served


def test_a_mistake_in_the_origins_stops_the_start(tmp_path: Path, engine: Engine) -> None:
    from firstline.settings import SettingsInvalid, load_settings

    with pytest.raises(SettingsInvalid, match=r"FIRSTLINE_CORS_ORIGINS: https://\*\.example\.com is no origin"):
        load_settings(env_file=None, cors_origins="https://*.example.com")
