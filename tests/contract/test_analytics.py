"""Counts of verdicts over HTTP: `/v1/analytics`."""

from typing import Any

import httpx
import pytest
from asgi_server import PRODUCTION, START_US, Serve, Server

from firstline.core.api_key import KeyKind, Scope
from firstline.core.plans import Window, window_bounds
from firstline.core.taxonomy import Contract
from firstline.delivery.http.classifier_v1 import iso

PATH = "/v1/analytics"
DAY_US = 86_400 * 1_000_000
NETWORK = "The VPN is down and I cannot connect to the network at all"
PAYMENT = "I was charged twice for my invoice, please refund the payment"


def decide(server: Server, key: str, text: str = NETWORK, **fields: Any) -> dict[str, Any]:
    """One verdict, and its count."""
    answer = server.post("/v1/decision", {"message": text, **fields}, key=key)
    assert answer.status_code == 200, answer.text
    server.run(server.app.analytics.fold())
    found: dict[str, Any] = answer.json()
    return found


def asked(server: Server, key: str, query: str = "") -> dict[str, Any]:
    answer = server.get(f"{PATH}{query}", key=key)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def at_fault(answer: httpx.Response, field: str) -> str:
    """What is said of a field at fault."""
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["code"], body["field"]) == ("validation_failed", field)
    assert body["detail"].startswith(f"{field}: ")
    return str(body["detail"])


@pytest.fixture(scope="module")
def key(production: Server) -> str:
    production.key("counted@example.com", plan="enterprise", catalogue=Contract.DECISION)
    return production.key("counted@example.com", plan="enterprise")


def test_an_account_without_verdicts_has_nothing_to_divide_by(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    found = asked(server, server.key())
    assert found["groups"] == []
    assert found["totals"] == {
        "tickets": 0,
        "reviews": 0,
        "review_rate": None,
        "sources": {"rule": 0, "local": 0, "provider": 0, "emergency": 0, "person": 0},
        "latency": {"mean_ms": None, "p50_ms": None, "p95_ms": None},
        "cost_usd": 0.0,
    }


def test_without_parameters_the_last_30_days_are_cut_by_day(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key("a@example.com", plan="enterprise", catalogue=Contract.DECISION)
    given = decide(server, key)
    found = asked(server, key)
    today, tomorrow = window_bounds(Window.DAY, START_US)
    assert (found["from"], found["to"]) == (iso(tomorrow - 30 * DAY_US), iso(tomorrow))
    assert (found["step"], found["by"]) == ("day", [])
    (day,) = found["groups"]
    assert (day["starts_at"], day["tickets"], day["share"]) == (iso(today), 1, 1.0)
    assert day["sources"][given["source"]] == 1
    assert day["reviews"] == int(given["needs_review"])
    assert found["totals"] == {name: day[name] for name in found["totals"]}


def test_verdicts_of_both_contracts_and_of_batches_are_counted_where_they_belong(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    server.key("a@example.com", plan="enterprise", catalogue=Contract.DECISION)
    key = server.key("a@example.com", plan="enterprise")
    decided = decide(server, key, NETWORK, channel="chat")
    single = server.post("/api/v1/classify", {"ticket": PAYMENT}, key=key).json()
    batch = server.post("/api/v1/batch", {"tickets": [NETWORK, PAYMENT]}, key=key)
    assert batch.status_code == 200, batch.text
    server.run(server.app.analytics.fold())
    found = asked(server, key, "?by=category,channel&step=all")
    assert found["totals"]["tickets"] == 4
    groups = {(group["category"], group["channel"]): group["tickets"] for group in found["groups"]}
    assert sum(groups.values()) == 4
    assert groups[decided["category"], "chat"] == 1
    rest = asked(server, key, "?by=category")["groups"]
    assert {group["category"] for group in rest} >= {decided["category"]}
    assert sum(group["share"] for group in rest) == pytest.approx(1)
    assert single["category"] in {group["category"] for group in rest}


def test_groups_come_by_time_and_the_largest_first(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key("a@example.com", plan="enterprise", catalogue=Contract.DECISION)
    decide(server, key, channel="chat")
    for _ in range(2):
        decide(server, key, channel="email")
    server.clock.advance(3_600)
    decide(server, key, channel="review")
    found = asked(server, key, "?by=channel&step=hour")["groups"]
    assert [(group["channel"], group["tickets"]) for group in found] == [("email", 2), ("chat", 1), ("review", 1)]
    assert [group["share"] for group in found] == [0.666667, 0.333333, 1.0]
    assert found[0]["starts_at"] < found[2]["starts_at"]


def test_a_ticket_counts_in_the_hour_in_which_it_was_received(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key("a@example.com", plan="enterprise", catalogue=Contract.DECISION)
    decide(server, key)
    server.clock.advance(48 * 3_600)
    decide(server, key)
    hour = window_bounds(Window.HOUR, START_US)
    found = asked(server, key, f"?step=hour&from={iso(hour[0])}&to={iso(hour[1])}")
    assert [(group["starts_at"], group["tickets"]) for group in found["groups"]] == [(iso(hour[0]), 1)]
    assert asked(server, key, f"?step=hour&from={iso(hour[1])}&to={iso(hour[1] + DAY_US)}")["groups"] == []
    assert asked(server, key, "?step=all")["totals"]["tickets"] == 2


def test_a_range_is_widened_to_whole_steps(production: Server, key: str) -> None:
    found = asked(production, key, "?from=2026-11-02T11:30:00Z&to=2026-11-03T00:00:01Z&step=day")
    assert (found["from"], found["to"]) == ("2026-11-02T00:00:00.000Z", "2026-11-04T00:00:00.000Z")
    found = asked(production, key, "?from=2026-11-02&to=2026-11-03&step=month")
    assert (found["from"], found["to"]) == ("2026-11-01T00:00:00.000Z", "2026-12-01T00:00:00.000Z")


def test_an_offset_is_read_and_without_one_a_moment_is_utc(production: Server, key: str) -> None:
    found = asked(production, key, "?from=2026-11-02T01:00:00%2B02:00&to=2026-11-02T05:00:00&step=hour")
    assert (found["from"], found["to"]) == ("2026-11-01T23:00:00.000Z", "2026-11-02T05:00:00.000Z")


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("by=colour", "by", "must be of category"),
        ("by=category,", "by", "must be of category"),
        ("by=category,priority,decision,language", "by", "at most 3 of them; these are 4"),
        ("by=category,category", "by", "each at most once"),
        ("by=category&by=source", "by", "given twice"),
        ("step=week", "step", "'hour', 'day', 'month' or 'all'"),
        ("from=yesterday", "from", "no moment such as"),
        ("to=2026-13-01", "to", "no moment such as"),
        ("from=2026-11-03&to=2026-11-02", "from", "must be before `to`"),
        ("from=2026-11-02&to=2026-11-02", "from", "must be before `to`"),
        ("from=2025-11-01&to=2026-11-03", "from", "at most 366 days before `to` with the step day"),
        ("from=2026-10-01&to=2026-11-02&step=hour", "from", "at most 31 days"),
        ("from=2010-01-01&to=2026-11-02&step=month", "from", "at most 3,660 days"),
        ("from=2010-01-01&to=2026-11-02&step=all", "from", "at most 3,660 days"),
        ("from=2026-08-01&to=2026-08-02&step=hour", "from", "kept for 93 days; ask by day"),
        ("from=1969-12-31&to=1970-01-02", "from", "not before 1970"),
        ("to=9999-12-31", "to", "before 9999"),
        ("to=0001-01-01", "to", "after 1970"),
        ("colour=red", "colour", "no parameter of this route; there are from, to, step, by"),
    ],
)
def test_a_question_that_cannot_be_answered_names_field_and_bound(
    production: Server, key: str, query: str, field: str, says: str
) -> None:
    assert says in at_fault(production.get(f"{PATH}?{query}", key=key), field)


@pytest.mark.parametrize(
    "query", ["from=2025-11-21&to=2026-11-22", "from=2026-10-22&to=2026-11-22&step=hour", "to=9998-12-31&by=source"]
)
def test_the_longest_ranges_are_answered(production: Server, key: str, query: str) -> None:
    assert asked(production, key, f"?{query}")["groups"] is not None


@pytest.mark.parametrize("query", ["by=account", "account=all", f"account=acc_{'0' * 32}", "by=category&account=all"])
def test_other_accounts_are_for_operators(production: Server, key: str, query: str) -> None:
    answer = production.get(f"{PATH}?{query}", key=key)
    assert (answer.status_code, answer.json()["code"]) == (403, "operator_required")


def test_an_operator_sees_every_account_or_one_of_them(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    keys = [
        server.key(f"{name}@example.com", plan="enterprise", catalogue=Contract.DECISION) for name in ("one", "two")
    ]
    operator = server.key("boss@example.com", kind=KeyKind.OPERATOR, scope=Scope.OPERATE)
    decide(server, keys[0])
    for _ in range(2):
        decide(server, keys[1])
    assert asked(server, operator)["totals"]["tickets"] == 0
    assert asked(server, operator, "?account=all")["totals"]["tickets"] == 3
    found = asked(server, operator, "?by=account&step=all")["groups"]
    assert [group["tickets"] for group in found] == [2, 1]
    assert [group["cost_usd"] for group in found] == [0.0, 0.0]
    second = found[0]["account"]
    assert second.startswith("acc_")
    assert asked(server, operator, f"?account={second}")["totals"]["tickets"] == 2
    assert asked(server, keys[0])["totals"]["tickets"] == 1


def test_account_must_be_one(production: Server) -> None:
    operator = production.key("boss2@example.com", kind=KeyKind.OPERATOR, scope=Scope.OPERATE)
    assert "the id of an account" in at_fault(production.get(f"{PATH}?account=me", key=operator), "account")


def test_what_providers_cost_is_known_by_day_and_not_by_category_or_hour(serve: Serve) -> None:
    from firstline.ports.provider import Tokens

    server = serve(environment=PRODUCTION)
    key = server.key("a@example.com", plan="enterprise", catalogue=Contract.DECISION)
    account = server.run(server.app.storage.find_account("a@example.com"))
    assert account is not None

    async def spend() -> None:
        server.app.spending.cost_of = lambda provider, model, tokens: 1_500
        server.app.spending.add(account.id, "gemini", "small", Tokens(10, 10), failed=False)

    server.run(spend())
    decide(server, key)  # takes the cost along
    found = asked(server, key)
    assert (found["totals"]["cost_usd"], found["groups"][0]["cost_usd"]) == (0.0015, 0.0015)
    for query in ("?step=month", "?step=all"):
        assert asked(server, key, query)["groups"][0]["cost_usd"] == 0.0015
    found = asked(server, key, "?by=category")
    assert (found["totals"]["cost_usd"], found["groups"][0]["cost_usd"]) == (0.0015, None)
    assert asked(server, key, "?step=hour")["totals"]["cost_usd"] is None


def test_without_a_key_nothing_is_told(production: Server) -> None:
    assert production.get(PATH).status_code == 401


def test_without_a_history_nothing_is_counted(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, history=False)
    key = server.key("a@example.com", plan="enterprise", catalogue=Contract.DECISION)
    decide(server, key)
    assert asked(server, key)["totals"]["tickets"] == 0
