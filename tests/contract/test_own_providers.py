"""When and how an account's messages go to providers, over HTTP."""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import httpx
import pytest
from asgi_server import PRODUCTION, START_US, Serve, Server

from firstline.bootstrap import App, Engine
from firstline.bootstrap_stores import DATABASE_NAME
from firstline.core.api_key import hash_of
from firstline.core.asking import MAX_ALLOWED, MAX_ALLOWED_LENGTH, MAX_BUDGET_USD, MAX_CHOICES, MAX_TOKENS
from firstline.core.doubt import ASSURANCE
from firstline.core.plans import Window, window_bounds
from firstline.core.taxonomy import Contract
from firstline.delivery.http import routes
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.providers_v1 import ProvidersV1

PATH = "/v1/providers"
DAY_US = 86_400 * 1_000_000
OWN: dict[str, Any] = {
    "mode": "always",
    "threshold": 0.9,
    "timeout_seconds": 1.5,
    "providers": [{"provider": "openai", "model": "gpt-small"}, {"provider": "gemini", "model": None}],
    "temperature": 0.5,
    "max_tokens": 300,
    "daily_budget_usd": 2.5,
    "monthly_budget_usd": 20.0,
    "allowed": ["support@example.com", "@example.org"],
}


class TwoProviders:
    """Offers two providers, of which one cannot be asked now."""

    def offered(self) -> Mapping[str, tuple[str, ...]]:
        return {"gemini": ("flash", "pro"), "openai": ("gpt-small",)}

    def state(self, provider: str) -> str:
        return {"gemini": "available"}.get(provider, "unavailable")


@pytest.fixture(autouse=True)
def offers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every server of this module offers two providers, whatever its settings say."""

    def offering(app: App, callers: Callers, **_: object) -> ProvidersV1:
        return ProvidersV1(app, callers, offers=TwoProviders())

    monkeypatch.setattr(routes, "ProvidersV1", offering)


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(environment=PRODUCTION)


@pytest.fixture
def mine(server: Server) -> str:
    return account(server, "mine@example.com")


def account(server: Server, email: str) -> str:
    """A key with large plans in both catalogues."""
    server.key(email, plan="enterprise", catalogue=Contract.DECISION)
    return server.key(email, plan="enterprise")


def put(server: Server, key: str, body: Any, **given: Any) -> dict[str, Any]:
    answer = server.put(PATH, body, key=key, **given)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def settable(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in OWN}


def spend(server: Server, key: str, *, at_us: int, model: str = "flash", micros: int) -> None:
    """Add one call of a provider to the day of an account that a moment lies in."""
    found = server.run(server.app.storage.find_key(hash_of(key)))
    assert found is not None
    day = window_bounds(Window.DAY, at_us)[0]
    row = (found[1].id, day, "gemini", model, 2, 1, 500, 40, micros)
    with closing(sqlite3.connect(server.settings.data_dir / DATABASE_NAME)) as connection, connection:
        connection.execute("INSERT INTO provider_spend VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


def test_before_any_change_the_server_s_defaults_are_in_force(server: Server, mine: str) -> None:
    answer = server.get(PATH, key=mine)
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"default"'
    assert answer.json() == {
        "version": "default",
        "mode": "uncertain",
        "threshold": ASSURANCE,
        "timeout_seconds": 10.0,
        "providers": [],
        "temperature": 0.2,
        "max_tokens": 500,
        "daily_budget_usd": None,
        "monthly_budget_usd": None,
        "allowed": [],
        "changed_at": None,
        "offered": [
            {"provider": "gemini", "models": ["flash", "pro"], "default": "flash", "state": "available"},
            {"provider": "openai", "models": ["gpt-small"], "default": "gpt-small", "state": "unavailable"},
        ],
        "spent": {"today_usd": 0.0, "this_month_usd": 0.0, "by_provider": []},
    }


def test_what_an_account_sets_is_in_force_and_shown_with_its_version(server: Server, mine: str) -> None:
    changed = put(server, mine, OWN)
    assert settable(changed) == OWN
    assert changed["changed_at"] == server.get(PATH, key=mine).json()["changed_at"]
    read = server.get(PATH, key=mine)
    assert read.json() == changed
    assert read.headers["etag"] == f'"{changed["version"]}"'


def test_an_answer_can_be_sent_back_as_it_is(server: Server, mine: str) -> None:
    changed = put(server, mine, OWN)
    again = put(server, mine, server.get(PATH, key=mine).json())
    assert (settable(again), again["version"]) == (OWN, changed["version"])


def test_what_is_left_out_or_null_is_the_server_s_default(server: Server, mine: str) -> None:
    default = settable(server.get(PATH, key=mine).json())
    put(server, mine, OWN)
    assert settable(put(server, mine, {"mode": "never"})) == {**default, "mode": "never"}
    nulls = put(server, mine, {**dict.fromkeys(OWN), "threshold": 0})
    assert settable(nulls) == {**default, "threshold": 0}


@pytest.mark.parametrize("body", [{}, dict.fromkeys(OWN)], ids=["nothing", "null everywhere"])
def test_saying_nothing_goes_back_to_the_defaults(server: Server, mine: str, body: dict[str, Any]) -> None:
    before = server.get(PATH, key=mine).json()
    put(server, mine, OWN)
    back = put(server, mine, body)
    assert back["version"] == "default"
    assert settable(back) == settable(before)
    assert back["changed_at"] is not None


def test_an_account_sees_and_sets_its_own_policy_alone(server: Server, mine: str) -> None:
    theirs = account(server, "theirs@example.com")
    put(server, mine, OWN)
    assert server.get(PATH, key=theirs).json()["version"] == "default"
    assert "example.org" not in server.get(PATH, key=theirs).text


@pytest.mark.parametrize(
    ("body", "field", "bound"),
    [
        ({"mode": "sometimes"}, "mode", "'never', 'uncertain' or 'always'"),
        ({"threshold": 1.01}, "threshold", "between 0 and 1"),
        ({"threshold": "0.5"}, "threshold", "number"),
        ({"threshold": True}, "threshold", "number"),
        ({"timeout_seconds": 0.04}, "timeout_seconds", "between 0.05 and 10"),
        ({"timeout_seconds": 10.5}, "timeout_seconds", "between 0.05 and 10"),
        ({"temperature": 2.1}, "temperature", "between 0 and 2"),
        ({"max_tokens": 15}, "max_tokens", f"between 16 and {MAX_TOKENS}"),
        ({"max_tokens": 20.5}, "max_tokens", "integer"),
        ({"daily_budget_usd": -0.01}, "daily_budget_usd", "between 0 and"),
        ({"monthly_budget_usd": 2 * MAX_BUDGET_USD}, "monthly_budget_usd", "between 0 and"),
        ({"providers": {}}, "providers", "list"),
        ({"providers": [{}]}, "providers[0].provider", "required"),
        ({"providers": [{"provider": "other"}]}, "providers[0].provider", "gemini, openai"),
        (
            {"providers": [{"provider": "gemini"}, {"provider": "openai", "model": "flash"}]},
            "providers[1].model",
            "gpt-small",
        ),
        ({"providers": [{"provider": "gemini"}] * 2}, "providers[1]", "twice"),
        ({"providers": [{"provider": "gemini"}] * (MAX_CHOICES + 1)}, "providers", f"at most {MAX_CHOICES}"),
        ({"allowed": ["fine", " "]}, "allowed[1]", f"1 to {MAX_ALLOWED_LENGTH}"),
        ({"allowed": ["x" * (MAX_ALLOWED_LENGTH + 1)]}, "allowed[0]", f"1 to {MAX_ALLOWED_LENGTH}"),
        ({"allowed": ["x"] * (MAX_ALLOWED + 1)}, "allowed", f"at most {MAX_ALLOWED}"),
        ({"allowed": ["fine", "?!"]}, "allowed[1]", "letter or a digit"),
        ({"allowed": [7]}, "allowed[0]", "string"),
    ],
)
def test_a_bound_that_is_broken_is_named_with_its_field_and_changes_nothing(
    serve: Serve, body: dict[str, Any], field: str, bound: str
) -> None:
    server = serve(environment=PRODUCTION)
    mine = account(server, "mine@example.com")
    version = put(server, mine, OWN)["version"]
    answer = server.put(PATH, body, key=mine)
    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["code"], problem["field"]) == ("validation_failed", field)
    assert problem["detail"].startswith(field)
    assert bound in problem["detail"]
    assert server.get(PATH, key=mine).json()["version"] == version


def test_faults_of_a_request_are_problems(server: Server, mine: str) -> None:
    def told(answer: httpx.Response) -> tuple[int, str]:
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code, answer.json()["code"]

    assert told(server.call("PUT", PATH, key=mine, content="{")) == (400, "malformed_json")
    assert told(server.call("PUT", PATH, key=mine, content="[]")) == (422, "validation_failed")
    assert told(server.call("PUT", PATH, key=mine, content=b" " * ((1 << 20) + 1))) == (413, "body_too_large")
    for method in ("GET", "PUT"):
        assert told(server.call(method, PATH, content="{}")) == (401, "api_key_required")


def test_a_change_made_for_another_version_is_refused(server: Server, mine: str) -> None:
    first = put(server, mine, OWN, headers={"If-Match": '"default"'})
    for given in ('"default"', "nonsense"):
        answer = server.put(PATH, {"mode": "never"}, key=mine, headers={"If-Match": given})
        assert (answer.status_code, answer.json()["code"]) == (412, "version_changed")
    assert server.get(PATH, key=mine).json()["version"] == first["version"]
    put(server, mine, {"mode": "never"}, headers={"If-Match": f'"old", "{first["version"]}"'})
    put(server, mine, {}, headers={"If-Match": "*"})


def test_of_changes_made_at_once_for_the_same_version_one_wins(server: Server, mine: str) -> None:
    async def all_of_them() -> list[int]:
        calls = [
            server.send("PUT", PATH, key=mine, body={"mode": mode}, headers={"If-Match": '"default"'})
            for mode in ("never", "uncertain", "always")
        ]
        return sorted(answer.status_code for answer in await asyncio.gather(*calls))

    assert server.run(all_of_them()) == [200, 412, 412]
    assert len(server.rows("SELECT version FROM account_asking")) == 1


def test_every_change_is_audited_without_the_values_of_the_allow_list(server: Server, mine: str) -> None:
    version = put(server, mine, OWN)["version"]
    put(server, mine, {})
    rows = server.rows("SELECT target, actor, detail FROM audit WHERE action = 'providers.change' ORDER BY id")
    assert [target for target, _, _ in rows] == [version, "default"]
    assert all(actor.startswith("key_") for _, actor, _ in rows)
    assert json.loads(rows[0][2]) == {**OWN, "allowed": 2}
    assert "example" not in rows[0][2]
    assert len(server.rows("SELECT version FROM account_asking")) == 2


def test_what_is_in_force_survives_a_restart(engine: Engine, server: Server, mine: str) -> None:
    changed = put(server, mine, OWN)
    server.close()
    with Server(server.settings.data_dir, engine, environment=PRODUCTION) as again:
        assert again.get(PATH, key=mine).json() == changed


def test_a_change_by_another_process_is_in_force_without_a_restart(
    server: Server, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(server, mine, OWN)
    forgot = threading.Event()
    forget = server.app.categories.in_force.forget

    def told() -> None:
        forget()
        forgot.set()

    monkeypatch.setattr(server.app.categories.in_force, "forget", told)
    with closing(sqlite3.connect(server.settings.data_dir / DATABASE_NAME)) as connection, connection:
        connection.execute("UPDATE account_asking SET version = 'default', body = 'null'")
    assert forgot.wait(30)
    assert server.get(PATH, key=mine).json()["mode"] == "uncertain"


def test_what_was_spent_is_shown_for_the_day_and_the_month(server: Server, mine: str) -> None:
    theirs = account(server, "theirs@example.com")
    last_month_us = window_bounds(Window.MONTH, START_US)[0] - 1
    spend(server, mine, at_us=START_US, micros=1_250_000)
    spend(server, mine, at_us=START_US, model="pro", micros=1)
    spend(server, mine, at_us=START_US - DAY_US, micros=500_000)
    spend(server, mine, at_us=last_month_us, micros=70_000_000)
    spend(server, theirs, at_us=START_US, micros=9_000_000)
    assert server.get(PATH, key=mine).json()["spent"] == {
        "today_usd": 1.250001,
        "this_month_usd": 1.750001,
        "by_provider": [
            {
                "provider": "gemini",
                "model": "flash",
                "calls": 4,
                "failures": 2,
                "input_tokens": 1_000,
                "output_tokens": 80,
                "cost_usd": 1.75,
            },
            {
                "provider": "gemini",
                "model": "pro",
                "calls": 2,
                "failures": 1,
                "input_tokens": 500,
                "output_tokens": 40,
                "cost_usd": 0.000001,
            },
        ],
    }


def test_a_server_without_providers_offers_none_and_takes_what_needs_none(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TwoProviders, "offered", lambda _: {})
    server = serve(environment=PRODUCTION)
    mine = account(server, "mine@example.com")
    assert put(server, mine, {"mode": "never"})["offered"] == []
    problem = server.put(PATH, {"providers": [{"provider": "gemini"}]}, key=mine).json()
    assert "none here" in problem["detail"]


def test_providers_cost_no_quota_and_work_without_any_left(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, rate_limit_hourly=1)
    key = server.key("free@example.com")
    for status in (200, 429):
        assert server.post("/api/v1/classify", {"ticket": "VPN not connecting"}, key=key).status_code == status
    assert put(server, key, {"mode": "never"})["mode"] == "never"
    assert server.get(PATH, key=key).status_code == 200
