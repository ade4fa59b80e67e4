"""Feedback on verdicts over HTTP: what it changes, who sees it, what goes with it."""

import asyncio
import csv
import io
import json
from typing import Any

import httpx
import pyarrow.parquet
import pytest
from asgi_server import PRODUCTION, Serve, Server

from firstline.core.taxonomy import Contract

DECISION, TICKETS, FEEDBACK = "/v1/decision", "/v1/tickets", "/v1/feedback"
NOBODY = "tkt_" + "0" * 32
LAWYER = "This is unacceptable. I will contact my lawyer if not resolved."


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(environment=PRODUCTION)


@pytest.fixture
def api_key(server: Server) -> str:
    return big_key(server)


def big_key(server: Server, email: str = "someone@example.com") -> str:
    server.key(email, plan="enterprise", catalogue=Contract.DECISION)
    return server.key(email, plan="enterprise")


def tell(server: Server, key: str, message: str, **fields: Any) -> dict[str, Any]:
    """A message is decided on. A second passes."""
    answer = server.post(DECISION, {"message": message, **fields}, key=key)
    assert answer.status_code == 200, answer.text
    server.clock.advance(1)
    verdict: dict[str, Any] = answer.json()
    return verdict


def give(server: Server, key: str, ticket: str, body: Any = None, *, status: int = 201, **given: Any) -> dict[str, Any]:
    answer = server.post(f"{TICKETS}/{ticket}/feedback", body, key=key, **given)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def got(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_person_overrules_a_rule_and_the_ticket_says_so(server: Server, api_key: str) -> None:
    verdict = tell(server, api_key, LAWYER)
    assert verdict["source"] == "rule"
    right = {"category": "Payment Issue", "priority": "low", "decision": "standard_response"}
    said = give(server, api_key, verdict["id"], {**right, "source": "agent", "author": "a-17"})
    assert said["id"].startswith("fbk_")
    assert (said["ticket"], said["revision"], said["added_revision"]) == (verdict["id"], 1, 2)
    assert (said["correct"], said["category_correct"], said["newest"]) == (False, False, True)
    assert said["verdict"] == {
        "category": verdict["category"], "priority": "critical", "decision": "immediate_escalation",
        "probability": verdict["probability"], "source": "rule",
    }  # fmt: skip
    assert said["right"] == right
    ticket = got(server.get(f"{TICKETS}/{verdict['id']}", key=api_key))
    assert (ticket["revision"], ticket["source"], ticket["category"]) == (2, "person", "Payment Issue")
    assert (ticket["probability"], ticket["needs_review"], ticket["priority"]) == (1.0, False, "low")
    assert "legal" not in ticket["recommended_action"]
    first, second = ticket["revisions"]
    assert (first["source"], first["decision"]) == ("rule", "immediate_escalation")
    assert first["evidence"]["matches"]
    assert second["evidence"]["person"] == {"feedback": said["id"], "seen": 1, "source": "agent"}
    (reason,) = second["reasons"]
    assert reason["code"] == "person"
    assert "the category is Payment Issue, not" in reason["text"]
    assert [one["id"] for one in got(server.get(f"{TICKETS}?source=person", key=api_key))["tickets"]] == [verdict["id"]]


def test_a_confirmed_ticket_leaves_the_list_of_those_to_look_at(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, review_probability=1.0)
    api_key = big_key(server)
    verdict = tell(server, api_key, "I cannot log in to my account")
    assert verdict["needs_review"]
    waiting = f"{TICKETS}?needs_review=true"
    assert len(got(server.get(waiting, key=api_key))["tickets"]) == 1
    said = give(server, api_key, verdict["id"], {"correct": True})
    assert (said["correct"], said["added_revision"]) == (True, 2)
    assert got(server.get(waiting, key=api_key))["tickets"] == []


def test_wrong_alone_is_kept_and_changes_nothing(server: Server, api_key: str) -> None:
    verdict = tell(server, api_key, "I cannot log in to my account")
    said = give(server, api_key, verdict["id"], {"correct": False, "source": "customer"})
    assert (said["correct"], said["category_correct"], said["right"]) == (False, False, None)
    assert said["added_revision"] is None
    assert got(server.get(f"{TICKETS}/{verdict['id']}", key=api_key))["revision"] == 1


def test_the_same_again_is_answered_with_what_is_there(server: Server, api_key: str) -> None:
    ticket = tell(server, api_key, "I cannot log in to my account")["id"]
    first = give(server, api_key, ticket, {"category": "Payment Issue"})
    assert give(server, api_key, ticket, {"category": "Payment Issue"}, status=200) == first
    assert server.rows("SELECT count(*) FROM feedback") == [(1,)]


def test_a_request_sent_again_with_its_key_is_answered_the_same(server: Server, api_key: str) -> None:
    ticket = tell(server, api_key, "I cannot log in to my account")["id"]
    server.clock.advance(3 * 86_400)
    key = {"Idempotency-Key": "feedback-1"}
    first = give(server, api_key, ticket, {"correct": False}, headers=key)
    give(server, api_key, ticket, {"category": "Payment Issue"})
    again = server.post(f"{TICKETS}/{ticket}/feedback", {"correct": False}, key=api_key, headers=key)
    assert (again.status_code, again.json()) == (201, first)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert server.rows("SELECT count(*) FROM feedback") == [(2,)]
    other = server.post(f"{TICKETS}/{ticket}/feedback", {"correct": True}, key=api_key, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    erased = server.post("/v1/erasures", {"ticket": ticket}, key=api_key).json()["removed"]
    assert (erased["feedback"], erased["idempotent_answers"]) == (2, 1)
    assert server.rows("SELECT count(*) FROM idempotency") == [(0,)]


def test_nobody_else_can_see_or_judge(server: Server, api_key: str) -> None:
    ticket = tell(server, api_key, "I cannot log in to my account")["id"]
    give(server, api_key, ticket, {"correct": False, "author": "mine"})
    other = big_key(server, "other@example.com")
    path = f"{TICKETS}/{ticket}/feedback"
    for answer in (server.get(path, key=other), server.post(path, {"correct": True}, key=other)):
        assert (answer.status_code, answer.json()["code"]) == (404, "ticket_not_found")
    assert got(server.get(FEEDBACK, key=other)) == {"feedback": [], "next": None}
    assert got(server.get(f"{FEEDBACK}/summary", key=other))["totals"]["tickets"] == 0
    for wrong in (NOBODY, "tkt_1", "x" * 100):
        assert server.post(f"{TICKETS}/{wrong}/feedback", {"correct": True}, key=api_key).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{TICKETS}/{NOBODY}/feedback"),
        ("GET", f"{TICKETS}/{NOBODY}/feedback"),
        ("GET", FEEDBACK),
        ("GET", f"{FEEDBACK}/summary"),
    ],
)
def test_a_key_is_asked_for(server: Server, method: str, path: str) -> None:
    answer = server.call(method, path)
    assert (answer.status_code, answer.json()["code"]) == (401, "api_key_required")
    assert answer.headers["content-type"] == "application/problem+json"


def test_feedback_costs_no_quota(server: Server) -> None:
    key = server.key("free@example.com")
    ticket = server.post("/api/v1/classify", {"ticket": "Cannot connect to VPN"}, key=key).json()["id"]
    used = got(server.get("/api/v1/auth/usage", key=key))
    for body in ({"correct": True}, {"correct": False}, {"category": "Other"}):
        give(server, key, ticket, body)
    assert got(server.get("/api/v1/auth/usage", key=key)) == used


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ("{}", 422, "body"),
        ("[]", 422, "body"),
        ('{"correct": null}', 422, "body"),
        ('{"correct": "yes"}', 422, "correct"),
        ('{"correct": 1}', 422, "correct"),
        ('{"correct": true, "category": "Payment Issue"}', 422, "category"),
        ('{"correct": true, "decision": "ignore"}', 422, "decision"),
        ('{"correct": false, "category": "Account Problem"}', 422, "correct"),
        ('{"category": "Payments"}', 422, "category"),
        ('{"category": ""}', 422, "category"),
        ('{"category": ["Other"]}', 422, "category"),
        ('{"category": "account problem"}', 422, "category"),
        ('{"priority": "urgent"}', 422, "priority"),
        ('{"decision": 3}', 422, "decision"),
        ('{"correct": true, "revision": 0}', 422, "revision"),
        ('{"correct": true, "revision": 2}', 422, "revision"),
        ('{"correct": true, "revision": 1.5}', 422, "revision"),
        ('{"correct": true, "revision": "1"}', 422, "revision"),
        ('{"correct": true, "source": "robot"}', 422, "source"),
        ('{"correct": true, "author": ""}', 422, "author"),
        ('{"correct": true, "author": "  "}', 422, "author"),
        ('{"correct": true, "author": "a\\u200bb"}', 422, "author"),
        ('{"correct": true, "author": "\\u3164"}', 422, "author"),
        ('{"correct": true, "author": "a\\u0000"}', 422, "author"),
        ('{"correct": true, "author": "' + "x" * 101 + '"}', 422, "author"),
        ('{"correct": true, "author": {"name": "x"}}', 422, "author"),
        ('{"correct": true, "correct": false}', 400, None),
        ('{"correct": NaN}', 400, None),
        ('{"correct": true, "author": "\\ud800"}', 400, None),
        ("", 400, None),
    ],
)
def test_a_body_at_fault_is_named_and_stores_nothing(
    server: Server, api_key: str, body: str, status: int, field: str | None
) -> None:
    verdict = tell(server, api_key, "I cannot log in to my account")
    assert verdict["category"] == "Account Problem"
    answer = server.post(f"{TICKETS}/{verdict['id']}/feedback", key=api_key, content=body)
    assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text
    assert "Payments" not in answer.text
    assert got(server.get(f"{TICKETS}/{verdict['id']}/feedback", key=api_key)) == {"feedback": []}


def test_own_categories_may_be_named_and_others_may_not(server: Server, api_key: str) -> None:
    before = tell(server, api_key, "I cannot log in to my account")
    own = [{"name": "Invoices", "description": "invoices and tax"}, {"name": "Deliveries", "description": "parcels"}]
    assert server.put("/v1/categories", {"categories": own}, key=api_key).status_code == 200
    give(server, api_key, before["id"], {"category": "Payment Issue"}, status=422)
    assert give(server, api_key, before["id"], {"category": "Invoices"})["right"]["category"] == "Invoices"
    # What the verdict said then may be said again, although the category is gone.
    assert give(server, api_key, before["id"], {"category": before["category"]})["category_correct"]


def test_webhooks_are_told_of_a_correction_in_the_same_commit(server: Server, api_key: str) -> None:
    async def nobody_delivers() -> None:
        await server.app.hooks.dispatcher.close()

    async def everything(_account_id: str) -> frozenset[str]:
        return frozenset({"ticket.revised", "ticket.escalated", "ticket.needs_review"})

    server.run(nobody_delivers())
    ticket = tell(server, api_key, "I cannot log in to my account")["id"]
    assert server.app.feedback.events is not None
    server.app.feedback.events.wanted = everything  # type: ignore[method-assign]
    give(server, api_key, ticket, {"decision": "immediate_escalation", "priority": "critical", "author": "a-17"})
    told = {kind: json.loads(payload) for kind, payload in server.rows("SELECT kind, payload FROM outbox")}
    assert set(told) == {"ticket.revised", "ticket.escalated"}
    revised = told["ticket.revised"]
    assert (revised["ticket"], revised["revision"]) == (ticket, 2)
    assert (revised["before"]["source"], revised["after"]["source"]) == ("local", "person")
    assert revised["after"]["decision"] == "immediate_escalation"
    assert "a-17" not in json.dumps(told)


def test_two_corrections_at_once_give_two_revisions(server: Server, api_key: str) -> None:
    ticket = tell(server, api_key, "I cannot log in to my account")["id"]
    path = f"{TICKETS}/{ticket}/feedback"

    async def both() -> list[httpx.Response]:
        bodies = [{"category": "Payment Issue"}, {"category": "Network Issue"}]
        return await asyncio.gather(*(server.send("POST", path, key=api_key, body=body) for body in bodies))

    answers = [answer.json() for answer in server.run(both())]
    assert sorted(answer["added_revision"] for answer in answers) == [2, 3]
    last = max(answers, key=lambda answer: int(answer["added_revision"]))
    shown = got(server.get(f"{TICKETS}/{ticket}", key=api_key))
    assert (shown["revision"], shown["category"]) == (3, last["right"]["category"])
    assert [one["newest"] for one in got(server.get(path, key=api_key))["feedback"]] == [True, False]


def test_a_store_that_fails_stores_nothing_and_says_so(
    server: Server, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = tell(server, api_key, "I cannot log in to my account")["id"]
    with monkeypatch.context() as patch:
        patch.setattr("firstline.adapters.sql.sql_feedback.rollup_deltas", None)  # fails after half of the rows
        answer = server.post(f"{TICKETS}/{ticket}/feedback", {"category": "Other"}, key=api_key)
    assert answer.status_code == 500
    assert server.rows("SELECT count(*) FROM feedback") == [(0,)]
    assert server.rows("SELECT count(*) FROM verdicts") == [(1,)]
    server.app.feedback.is_spooling = lambda: True
    answer = server.post(f"{TICKETS}/{ticket}/feedback", {"category": "Other"}, key=api_key)
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


def test_thousands_are_paged_in_the_order_in_which_they_were_given(server: Server, api_key: str) -> None:
    tickets = [tell(server, api_key, f"I cannot log in to my account {number}")["id"] for number in range(40)]

    async def many() -> None:
        for number in range(1_200):
            body = {"correct": False, "author": f"a-{number // 40}"}
            path = f"{TICKETS}/{tickets[number % 40]}/feedback"
            answer = await server.send("POST", path, key=api_key, body=body)
            assert answer.status_code == 201
            if number % 100 == 99:
                server.clock.advance(60)

    server.run(many())
    found: list[tuple[str, str]] = []
    query = "limit=1000"
    while query:
        page = got(server.get(f"{FEEDBACK}?{query}", key=api_key))
        found += [(one["ticket"], one["author"]) for one in page["feedback"]]
        query = f"limit=150&cursor={page['next']}" if page["next"] else ""
    assert found == [(tickets[number % 40], f"a-{number // 40}") for number in range(1_200)]
    last = got(server.get(f"{FEEDBACK}?limit=1000", key=api_key))["feedback"][-1]["given_at"]
    since = got(server.get(f"{FEEDBACK}?limit=1000&since={last}", key=api_key))["feedback"]
    assert 1 <= len(since) <= 300
    assert got(server.get(f"{FEEDBACK}?since=2099-01-01", key=api_key)) == {"feedback": [], "next": None}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (f"{FEEDBACK}?limit=0", "limit"),
        (f"{FEEDBACK}?limit=1001", "limit"),
        (f"{FEEDBACK}?cursor=abc", "cursor"),
        (f"{FEEDBACK}?cursor=" + "_" * 11 + "=", "cursor"),
        (f"{FEEDBACK}?since=yesterday", "since"),
        (f"{FEEDBACK}?from=2026-01-01", "from"),
        (f"{FEEDBACK}/summary?from=2026-01-02&to=2026-01-01", "from"),
        (f"{FEEDBACK}/summary?from=2024-01-01&to=2026-01-01", "from"),
        (f"{FEEDBACK}/summary?to=1969-01-01", "to"),
        (f"{FEEDBACK}/summary?to=9999-12-31", "to"),
        (f"{FEEDBACK}/summary?from=1960-01-01&to=1970-12-01", "from"),
        (f"{FEEDBACK}/summary?by=category", "by"),
        (f"{FEEDBACK}/summary?from=2026-01-01&from=2026-01-02", "from"),
    ],
)
def test_a_parameter_at_fault_is_named(server: Server, api_key: str, path: str, field: str) -> None:
    answer = server.get(path, key=api_key)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "validation_failed", field)


@pytest.mark.parametrize("plus", ["+", "%2B"])
def test_the_offset_of_a_moment_may_be_written_as_it_is(server: Server, api_key: str, plus: str) -> None:
    found = got(server.get(f"{FEEDBACK}/summary?from=2026-11-01T02:00:00{plus}02:00&to=2026-11-02", key=api_key))
    assert (found["from"], found["to"]) == ("2026-11-01T00:00:00.000Z", "2026-11-02T00:00:00.000Z")


def test_the_summary_holds_promises_against_what_was_right(server: Server, api_key: str) -> None:
    empty = got(server.get(f"{FEEDBACK}/summary", key=api_key))
    assert empty["totals"] == {
        "tickets": 0, "right": 0, "share": None, "interval": None, "mean_probability": None, "calibration_error": None,
    }  # fmt: skip
    verdicts = [tell(server, api_key, f"I cannot log in to my account {number}") for number in range(4)]
    for verdict in verdicts:
        give(server, api_key, verdict["id"], {"correct": True})
    give(server, api_key, verdicts[0]["id"], {"category": "Payment Issue"})
    give(server, api_key, verdicts[1]["id"], {"priority": "low"})
    found = got(server.get(f"{FEEDBACK}/summary", key=api_key))
    mean = sum(verdict["probability"] for verdict in verdicts) / 4
    assert (found["totals"]["tickets"], found["totals"]["right"], found["totals"]["share"]) == (4, 3, 0.75)
    assert found["totals"]["interval"] == [0.3006, 0.9544]
    assert found["totals"]["mean_probability"] == pytest.approx(mean, abs=2e-4)
    assert found["totals"]["calibration_error"] == pytest.approx(abs(0.75 - mean), abs=2e-4)
    assert [(band["from"], band["to"]) for band in found["bands"]] == [(n / 10, (n + 1) / 10) for n in range(10)]
    assert sum(band["tickets"] for band in found["bands"]) == 4
    (category,) = found["categories"]
    assert (category["category"], category["tickets"], category["right"]) == ("Account Problem", 4, 3)
    server.clock.advance(31 * 86_400)
    assert got(server.get(f"{FEEDBACK}/summary", key=api_key))["totals"]["tickets"] == 0
    assert got(server.get(f"{FEEDBACK}/summary?from=2026-11-01&to=2026-12-31", key=api_key))["totals"]["tickets"] == 4


def test_the_metric_counts_by_band_and_names_nobody(server: Server, api_key: str) -> None:
    verdict = tell(server, api_key, "I cannot log in to my account")
    low = int(verdict["probability"] * 10) / 10
    for body in ({"correct": True, "author": "a-17"}, {"correct": True, "author": "a-17"}, {"category": "Other"}):
        server.post(f"{TICKETS}/{verdict['id']}/feedback", body, key=api_key)
    text = server.get("/metrics").text
    for correct in ("yes", "no"):
        label = f'{{correct="{correct}",probability="{low:.1f}-{low + 0.1:.1f}"}}'
        assert f"firstline_feedback_total{label} 1.0" in text
    assert "a-17" not in text


def test_exports_bring_feedback_along(server: Server, api_key: str) -> None:
    first, second = (tell(server, api_key, f"I cannot log in to my account {number}")["id"] for number in range(2))
    give(server, api_key, first, {"correct": False})
    said = give(server, api_key, first, {"category": "Payment Issue", "author": "=cmd()"})
    path = f"{TICKETS}/export?format="
    lines = [json.loads(line) for line in server.get(f"{path}ndjson", key=api_key).text.splitlines()]
    feedback = {line["id"]: line["feedback"] for line in lines}
    assert feedback[second] == []
    assert feedback[first][0] == said
    assert [one["newest"] for one in feedback[first]] == [True, False]
    rows = list(csv.DictReader(io.StringIO(server.get(f"{path}csv", key=api_key).text)))
    assert {row["id"]: json.loads(row["feedback"]) for row in rows} == feedback
    table = pyarrow.parquet.read_table(io.BytesIO(server.get(f"{path}parquet", key=api_key).content))
    assert {row["id"]: json.loads(row["feedback"]) for row in table.to_pylist()} == feedback


def test_feedback_is_kept_and_erased_with_its_ticket(
    server: Server, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tell(server, api_key, "I cannot log in to my account")["id"]
    give(server, api_key, old, {"category": "Other", "author": "needle-in-the-hay"})
    server.clock.advance(10 * 86_400)
    kept = tell(server, api_key, "I cannot log in to my account", customer_ref="c-1")["id"]
    give(server, api_key, kept, {"category": "Other", "author": "needle-in-the-hay"})
    server.put("/v1/retention", {"days": 5}, key=api_key)
    assert server.run(server.app.history.expire()) == 1
    assert [one["ticket"] for one in got(server.get(FEEDBACK, key=api_key))["feedback"]] == [kept]
    removed = server.post("/v1/erasures", {"customer_ref": "c-1"}, key=api_key).json()["removed"]
    assert (removed["feedback"], removed["verdicts"]) == (1, 2)
    assert got(server.get(FEEDBACK, key=api_key))["feedback"] == []
    assert server.get(f"{TICKETS}/{kept}/feedback", key=api_key).status_code == 404
    server.close()
    left = b"".join(path.read_bytes() for path in server.settings.data_dir.rglob("firstline.db") if path.is_file())
    assert b"needle-in-the-hay" not in left


def test_history_is_erased_whole_or_not_at_all_with_feedback(server: Server, api_key: str) -> None:
    for number in range(3):
        give(server, api_key, tell(server, api_key, f"Cannot log in {number}")["id"], {"correct": False})
    removed = server.post("/v1/erasures", {"account": True}, key=api_key).json()["removed"]
    assert (removed["feedback"], removed["tickets"]) == (3, 3)
    assert server.rows("SELECT count(*) FROM feedback") == [(0,)]
