"""Who may do what: a key for every route that is not public, and nobody reaches what belongs to another account."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from asgi_server import PRODUCTION, Serve, Server

from firstline.bootstrap import Engine
from firstline.core.taxonomy import Contract

PUBLIC = {
    "GET /",
    "GET /api/v1/health",
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
    "GET /v1/pricing",
    "POST /api/v1/auth/register",
}
HOOK = {"url": "https://hooks.example.com/in", "events": ["ticket.classified"]}


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    secret = "0123456789abcdef0123456789abcdef"
    with Server(
        tmp_path_factory.mktemp("authorization"),
        engine,
        environment=PRODUCTION,
        secret_key=secret,
        job_processes=0,
        failed_logins_per_minute=100_000,
    ) as running:

        async def resolve(host: str, port: int) -> list[str]:
            return ["93.184.216.34"]

        running.app.hooks.outbound._resolve = resolve
        running.run(running.app.hooks.dispatcher.close())
        yield running


def keys(server: Server, email: str) -> str:
    server.key(email, plan="enterprise", catalogue=Contract.DECISION)
    return server.key(email, plan="enterprise")


def operations(server: Server) -> list[tuple[str, str]]:
    document = server.get("/openapi.json").json()
    return [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]


def test_every_route_asks_for_a_key_unless_it_is_public(server: Server) -> None:
    open_to_all = set()
    for method, path in operations(server):
        if f"{method} {path}" == "POST /api/v1/auth/register":
            open_to_all.add(f"{method} {path}")
            continue
        concrete = re.sub(r"\{[^}]*\}", "tkt_0123456789abcdef0123456789abcdef", path)
        statuses = {
            server.call(method, concrete, headers=headers).status_code
            for headers in ({}, {"X-API-Key": "sk_live_0123456789abcdef0123"}, {"Authorization": "Basic YTpi"})
        }
        if statuses != {401}:
            open_to_all.add(f"{method} {path}")
    assert open_to_all == PUBLIC


def ids_of(server: Server, key: str) -> dict[str, str]:
    """One of everything that an account can have, by the name of its parameter."""
    found = {"key_id": server.get("/api/v1/auth/keys", key=key).json()["keys"][0]["id"]}
    for name, path, body in (
        ("ticket_id", "/api/v1/classify", {"ticket": "Refund please", "customer_ref": "c-1"}),
        ("job_id", "/v1/jobs", {"tickets": ["VPN down"]}),
        ("webhook_id", "/v1/webhooks", HOOK),
        ("erasure_id", "/v1/erasures", {"customer_ref": "c-2"}),
    ):
        headers = {"Content-Type": "application/json"}
        answer = server.post(path, body, key=key, headers=headers)
        assert answer.status_code in {200, 201, 202}, answer.text
        found[name] = answer.json()["id"]
    return found


def test_nobody_reaches_what_belongs_to_another_account(server: Server) -> None:
    mine, theirs = keys(server, "mine@example.com"), keys(server, "theirs@example.com")
    ids = ids_of(server, theirs)
    before = everything(server, theirs)
    tried = set()
    for method, path in operations(server):
        names = re.findall(r"\{([^}]*)\}", path)
        if not names:
            continue
        concrete = path
        for name in names:
            concrete = concrete.replace(f"{{{name}}}", ids.get(name, "dlv_0123456789abcdef0123456789abcdef"))
        answer = server.call(method, concrete, key=mine, body={} if method in {"POST", "PATCH", "PUT"} else None)
        assert answer.status_code in {400, 403, 404, 422}, f"{method} {path}: {answer.status_code}"
        for theirs_alone in ids.values():
            assert theirs_alone not in answer.text
        tried.update(names)
    assert ids.keys() <= tried
    assert everything(server, theirs) == before


def everything(server: Server, key: str) -> list[Any]:
    paths = ("/v1/tickets", "/v1/jobs", "/v1/webhooks", "/api/v1/auth/keys")
    return [server.get(path, key=key).json() for path in paths]


def test_members_that_nobody_asked_for_change_nothing(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    wanted = {"plan": "enterprise", "plans": {"decision": "enterprise"}, "scope": "operate", "is_admin": True}
    body = {"email": "a@example.com", "tier": "free", "account_id": "acc_1", **wanted}
    key = server.post("/api/v1/auth/register", body).json()["api_key"]
    usage = server.get("/v1/usage", key=key)
    assert (usage.json()["tier"], usage.headers["x-ratelimit-tier"]) == ("free", "free")
    assert server.post("/v1/keys/create", {"email": "b@example.com"}, key=key).status_code == 403
    forged = {"source": "rule", "needs_review": False, "priority": "low", "account_id": "acc_1", "probability": 1}
    answer = server.post("/api/v1/classify", {"ticket": "I will sue you", **forged, **wanted}, key=key).json()
    assert answer["priority"] != "low"
    assert server.rows("SELECT count(DISTINCT account_id) FROM tickets") == [(1,)]
