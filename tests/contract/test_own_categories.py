"""An account's own categories and thresholds over HTTP."""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
from asgi_server import PRODUCTION, Serve, Server

from firstline.bootstrap import Engine
from firstline.bootstrap_stores import DATABASE_NAME
from firstline.core.categories import MAX_CATEGORIES, MAX_DESCRIPTION, MAX_EXAMPLE, MAX_EXAMPLES, MAX_NAME
from firstline.core.taxonomy import Contract
from firstline.ports.trainer import TrainingFailed
from firstline.usecases.access import DEMO_KEYS

SHOP = [
    {"name": "Delivery", "description": "Parcels that are late, lost or damaged", "priority": "high"},
    {"name": "Returns", "description": "Sending goods back", "priority": "low"},
    {"name": "Invoices", "description": "Bills, receipts and tax"},
]
LATE = "Where is my parcel? The delivery is late."
GARDEN = [
    "The hose in the garden leaks",
    "My lawn turned yellow this week",
    "When do you trim the hedge?",
    "The roses have black spots",
    "Can you water the plants on Friday?",
    "The sprinkler does not reach the flower bed",
]
PIANO = [
    "The piano is out of tune",
    "One key of the grand piano sticks",
    "Do you also tune upright pianos?",
    "The pedal of my piano squeaks",
    "Two strings inside the piano broke",
    "The lowest notes of the piano sound wrong",
]


def teams(blue: Sequence[str] = (), green: Sequence[str] = ()) -> list[dict[str, Any]]:
    return [{"name": "Team Blue", "examples": list(blue)}, {"name": "Team Green", "examples": list(green)}]


def account(server: Server, email: str) -> str:
    """A key with large plans in both catalogues."""
    server.key(email, plan="enterprise", catalogue=Contract.DECISION)
    return server.key(email, plan="enterprise")


def put(server: Server, key: str, categories: list[dict[str, Any]], **given: Any) -> dict[str, Any]:
    answer = server.put("/v1/categories", {"categories": categories}, key=key, **given)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def classify(server: Server, key: str, text: str) -> dict[str, Any]:
    answer = server.post("/api/v1/classify", {"ticket": text}, key=key)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(environment=PRODUCTION)


@pytest.fixture
def mine(server: Server) -> str:
    return account(server, "mine@example.com")


def test_before_any_change_the_five_default_categories_are_in_force(server: Server, mine: str) -> None:
    answer = server.get("/v1/categories", key=mine)
    found = answer.json()
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"default"'
    assert (found["version"], found["trained_at"], found["advice"], found["pending"]) == ("default", None, [], False)
    assert [(one["name"], one["priority"]) for one in found["categories"]] == [
        ("Network Issue", "high"),
        ("Account Problem", "high"),
        ("Payment Issue", "high"),
        ("Feature Request", "low"),
        ("Other", "medium"),
    ]


def test_categories_work_from_their_names_and_descriptions_in_the_next_request(server: Server, mine: str) -> None:
    assert classify(server, mine, LATE)["category"] not in {"Delivery", "Returns", "Invoices"}
    changed = put(server, mine, SHOP)
    found = classify(server, mine, LATE)
    assert (found["category"], found["priority"], found["needs_review"]) == ("Delivery", "high", False)
    assert f"custom+{changed['version']}" in found["reasons"][0]["text"]
    decided = server.post("/v1/decision", {"message": LATE}, key=mine).json()
    assert decided["category"] == "Delivery"
    batch = server.post("/api/v1/batch", {"tickets": [LATE, "A receipt for the tax office"]}, key=mine).json()
    assert [item["category"] for item in batch["results"]] == ["Delivery", "Invoices"]


def test_a_change_answers_what_is_in_force_and_reading_it_adds_the_examples(server: Server, mine: str) -> None:
    changed = put(server, mine, teams(PIANO, GARDEN))
    read = server.get("/v1/categories", key=mine)
    assert read.headers["etag"] == f'"{changed["version"]}"'
    assert read.json() == {
        **changed,
        "categories": [
            {**entry, "examples": examples}
            for entry, examples in zip(changed["categories"], (PIANO, GARDEN), strict=True)
        ],
    }
    assert changed["categories"][0] == {
        "name": "Team Blue",
        "description": "",
        "priority": "medium",
        "examples_count": 6,
    }
    assert changed["model"].endswith(f",custom+{changed['version']}")
    assert changed["trained_at"].endswith("Z")


def test_examples_tell_apart_what_names_cannot(server: Server, mine: str) -> None:
    asked = {
        "A key on my piano makes no sound": "Team Blue",
        "The piano pedal is loose": "Team Blue",
        "The lawn needs water, the sprinkler is broken": "Team Green",
        "The hedge grows over the fence": "Team Green",
    }
    put(server, mine, teams())
    before = sum(classify(server, mine, text)["category"] == name for text, name in asked.items())
    put(server, mine, teams(PIANO, GARDEN))
    after = {text: classify(server, mine, text)["category"] for text in asked}
    assert before < len(asked)
    assert after == asked


def test_what_belongs_to_none_of_the_categories_is_other_and_for_a_person(server: Server, mine: str) -> None:
    put(server, mine, SHOP)
    found = classify(server, mine, "The violinist played a sonata in the old church")
    assert (found["category"], found["needs_review"]) == ("Other", True)
    assert "abstained" in {reason["code"] for reason in found["reasons"]}


def test_an_account_sees_and_is_answered_with_its_own_categories_alone(server: Server, mine: str) -> None:
    theirs = account(server, "theirs@example.com")
    put(server, mine, SHOP)
    put(server, theirs, teams(PIANO, GARDEN))
    assert [one["name"] for one in server.get("/v1/categories", key=mine).json()["categories"]] == [
        "Delivery",
        "Returns",
        "Invoices",
    ]
    assert classify(server, mine, LATE)["category"] == "Delivery"
    assert classify(server, theirs, PIANO[0])["category"] == "Team Blue"
    assert classify(server, account(server, "third@example.com"), "VPN not connecting")["category"] == "Network Issue"


def test_few_examples_and_overlapping_categories_are_advised_on(server: Server, mine: str) -> None:
    assert {advice["code"] for advice in put(server, mine, SHOP)["advice"]} == {"few_examples"}
    mixed = put(server, mine, teams(PIANO[:3] + GARDEN[:3], PIANO[3:] + GARDEN[3:]))
    overlap = [advice for advice in mixed["advice"] if advice["code"] == "overlap"]
    assert overlap[0]["categories"] == ["Team Blue", "Team Green"]
    assert server.get("/v1/categories", key=mine).json()["advice"] == mixed["advice"]
    assert not any(example in json.dumps(mixed["advice"]) for example in PIANO + GARDEN)


def test_an_empty_list_goes_back_to_the_default_categories(server: Server, mine: str) -> None:
    put(server, mine, SHOP)
    back = put(server, mine, [])
    assert back["version"] == "default"
    assert back["trained_at"] is not None
    assert len(back["categories"]) == 5
    assert classify(server, mine, "VPN not connecting")["category"] == "Network Issue"


@pytest.mark.parametrize(
    ("categories", "field", "bound"),
    [
        ([{"name": "One"}], "categories", "2 to 50"),
        ([{"name": f"Name {number}"} for number in range(MAX_CATEGORIES + 1)], "categories", "2 to 50"),
        ([{"name": "One"}, {"name": "x" * (MAX_NAME + 1)}], "categories[1].name", "1 to 64"),
        ([{"name": "One"}, {"name": "  "}], "categories[1].name", "1 to 64"),
        ([{"name": "One"}, {"name": "ONE "}], "categories[1].name", "twice"),
        ([{"name": "One"}, {"name": "other"}], "categories[1].name", "Other"),
        ([{"name": "One"}, {"name": 2}], "categories[1].name", "string"),
        ([{"name": "One"}, {}], "categories[1].name", "required"),
        ([{"name": "One"}, {"name": "Two", "priority": "soon"}], "categories[1].priority", "'low'"),
        (
            [{"name": "One", "description": "x" * (MAX_DESCRIPTION + 1)}, {"name": "Two"}],
            "categories[0].description",
            "1000",
        ),
        ([{"name": "One", "examples": ["x"] * (MAX_EXAMPLES + 1)}, {"name": "Two"}], "categories[0].examples", "200"),
        (
            [{"name": "One", "examples": ["fine", "x" * (MAX_EXAMPLE + 1)]}, {"name": "Two"}],
            "categories[0].examples[1]",
            "5000",
        ),
        ([{"name": "One", "examples": ["\u200b "]}, {"name": "Two"}], "categories[0].examples[0]", "1 to 5000"),
        (
            [{"name": f"Name {number}", "examples": ["x"] * 200} for number in range(26)],
            "categories",
            "at most 5000 examples",
        ),
        ("none", "categories", "list"),
    ],
)
def test_a_bound_that_is_broken_is_named_with_its_field(
    production: Server, key: str, categories: Any, field: str, bound: str
) -> None:
    answer = production.put("/v1/categories", {"categories": categories}, key=key)
    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["code"], problem["field"]) == ("validation_failed", field)
    assert field in problem["detail"]
    assert bound in problem["detail"]
    assert production.get("/v1/categories", key=key).json()["version"] == "default"


@pytest.mark.parametrize("path", ["/v1/categories", "/v1/thresholds"])
def test_faults_of_a_request_are_problems(production: Server, key: str, path: str) -> None:
    broken = production.call("PUT", path, key=key, content="{")
    assert (broken.status_code, broken.json()["code"]) == (400, "malformed_json")
    array = production.call("PUT", path, key=key, content="[]")
    assert (array.status_code, array.json()["field"]) == (422, "body")
    for method in ("GET", "PUT"):
        nobody = production.call(method, path, content="{}")
        assert (nobody.status_code, nobody.json()["code"]) == (401, "api_key_required")
        assert nobody.headers["content-type"] == "application/problem+json"
    assert production.call("PUT", path, key=key, content=b" " * ((8 << 20) + 1)).status_code == 413


def test_a_change_made_for_another_version_is_refused(server: Server, mine: str) -> None:
    first = put(server, mine, SHOP, headers={"If-Match": '"default"'})
    for given in ('"default"', "nonsense"):
        answer = server.put("/v1/categories", {"categories": teams()}, key=mine, headers={"If-Match": given})
        assert (answer.status_code, answer.json()["code"]) == (412, "version_changed")
    assert server.get("/v1/categories", key=mine).json()["version"] == first["version"]
    second = put(server, mine, teams(), headers={"If-Match": f'"old", "{first["version"]}"'})
    put(server, mine, SHOP, headers={"If-Match": "*"})
    assert put(server, mine, teams())["version"] == second["version"]
    thresholds = {"thresholds": [{"probability": 0.5}]}
    assert (
        server.put("/v1/thresholds", thresholds, key=mine, headers={"If-Match": f'"{second["version"]}"'}).status_code
        == 412
    )
    assert server.put("/v1/thresholds", thresholds, key=mine, headers={"If-Match": '"default"'}).status_code == 200


def test_of_two_changes_made_at_once_for_the_same_version_one_wins(server: Server, mine: str) -> None:
    async def both() -> list[int]:
        calls = [
            server.send(
                "PUT", "/v1/categories", key=mine, body={"categories": wanted}, headers={"If-Match": '"default"'}
            )
            for wanted in (SHOP, teams(), teams(PIANO, GARDEN))
        ]
        return sorted(answer.status_code for answer in await asyncio.gather(*calls))

    assert server.run(both()) == [200, 412, 412]
    assert len(server.rows("SELECT version FROM account_categories")) == 1


def test_demo_keys_have_categories_of_their_own_in_development(serve: Serve) -> None:
    server = serve()
    first, second = list(DEMO_KEYS)[:2]
    put(server, first, SHOP)
    assert classify(server, first, LATE)["category"] == "Delivery"
    assert server.get("/v1/categories", key=second).json()["version"] == "default"
    assert server.post("/v1/decision", {"message": LATE}).json()["category"] != "Delivery"


def test_below_its_threshold_a_category_gives_way_to_the_fallback_in_both_contracts(server: Server, mine: str) -> None:
    put(server, mine, SHOP)
    wanted = {
        "thresholds": [
            {"category": "Delivery", "language": None, "probability": 0.999},
            {"category": "Delivery", "language": "nl", "probability": 0.2},
        ]
    }
    changed = server.put("/v1/thresholds", wanted, key=mine)
    assert changed.status_code == 200
    assert changed.json()["thresholds"] == wanted["thresholds"]
    assert server.get("/v1/thresholds", key=mine).json() == changed.json()
    decided = server.post("/v1/decision", {"message": LATE}, key=mine).json()
    for found in (classify(server, mine, LATE), decided):
        assert (found["category"], found["needs_review"]) == ("Other", True)
        assert "threshold" in {reason["code"] for reason in found["reasons"]}
    dutch = classify(server, mine, "Mijn pakket is nog niet aangekomen, waar blijft de bezorging?")
    assert (dutch["language"], dutch["category"]) == ("nl", "Delivery")
    removed = server.put("/v1/thresholds", {"thresholds": []}, key=mine).json()
    assert (removed["version"], removed["thresholds"]) == ("default", [])
    assert classify(server, mine, LATE)["category"] == "Delivery"


def test_thresholds_work_on_the_default_categories_too(server: Server, mine: str) -> None:
    server.put("/v1/thresholds", {"thresholds": [{"category": "Network Issue", "probability": 1}]}, key=mine)
    found = classify(server, mine, "VPN not connecting")
    assert (found["category"], found["needs_review"]) == ("Other", True)


@pytest.mark.parametrize(
    ("thresholds", "field", "bound"),
    [
        ([{"category": "Delivery", "probability": 0.5}], "thresholds[0].category", "in force"),
        ([{"language": "xx", "probability": 0.5}], "thresholds[0].language", "en, de"),
        ([{"probability": 1.5}], "thresholds[0].probability", "between 0 and 1"),
        ([{"probability": "much"}], "thresholds[0].probability", "number"),
        ([{}], "thresholds[0].probability", "required"),
        ([{"probability": 0.5}, {"category": None, "probability": 0.6}], "thresholds[1]", "earlier one"),
        ([{"probability": 0.5}] * 501, "thresholds", "at most 500"),
    ],
)
def test_a_bound_of_thresholds_is_named_with_its_field(
    production: Server, key: str, thresholds: Any, field: str, bound: str
) -> None:
    answer = production.put("/v1/thresholds", {"thresholds": thresholds}, key=key)
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (422, field)
    assert bound in problem["detail"]


def test_a_threshold_whose_category_is_gone_is_said(server: Server, mine: str) -> None:
    put(server, mine, SHOP)
    server.put("/v1/thresholds", {"thresholds": [{"category": "Returns", "probability": 0.5}]}, key=mine)
    advice = put(server, mine, teams(PIANO, GARDEN))["advice"]
    assert [(one["code"], one["categories"]) for one in advice] == [("unused_threshold", ["Returns"])]


def test_what_is_in_force_survives_a_restart(engine: Engine, server: Server, mine: str) -> None:
    version = put(server, mine, SHOP)["version"]
    server.put("/v1/thresholds", {"thresholds": [{"category": "Returns", "probability": 0.9}]}, key=mine)
    server.close()
    with Server(server.settings.data_dir, engine, environment=PRODUCTION) as again:
        assert again.get("/v1/categories", key=mine).json()["version"] == version
        assert again.get("/v1/thresholds", key=mine).json()["thresholds"][0]["category"] == "Returns"
        assert classify(again, mine, LATE)["category"] == "Delivery"


def test_a_change_by_another_process_is_in_force_without_a_restart(
    server: Server, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(server, mine, SHOP)
    assert classify(server, mine, LATE)["category"] == "Delivery"
    forgot = threading.Event()
    forget = server.app.categories.in_force.forget

    def told() -> None:
        forget()
        forgot.set()

    monkeypatch.setattr(server.app.categories.in_force, "forget", told)
    with closing(sqlite3.connect(server.settings.data_dir / DATABASE_NAME)) as connection, connection:
        connection.execute("UPDATE account_categories SET version = 'default', body = '[]', trained = x'', model = ''")
    assert forgot.wait(30)
    assert server.get("/v1/categories", key=mine).json()["version"] == "default"
    assert classify(server, mine, LATE)["category"] != "Delivery"


def test_evidence_names_the_policy_of_the_account_which_is_kept(server: Server, mine: str) -> None:
    put(server, mine, SHOP)
    ticket = classify(server, mine, LATE)["id"].removeprefix("tkt_")
    [(evidence,)] = server.rows(f"SELECT evidence FROM verdicts WHERE ticket_id = '{ticket}'")
    policy = json.loads(evidence)["policy"]
    assert policy != server.app.triage.policy.content_hash
    [(body,)] = server.rows(f"SELECT body FROM versions WHERE kind = 'policy' AND content_hash = '{policy}'")
    assert "Delivery" in body
    changes = server.rows("SELECT action, target FROM audit WHERE action LIKE '%.change' AND account_id IS NOT NULL")
    assert [action for action, _ in changes] == ["categories.change", "policy.change"]


def test_own_settings_spend_no_quota_and_work_without_any_left(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, rate_limit_hourly=1)
    key = server.key("free@example.com")
    put(server, key, SHOP)
    assert server.get("/api/v1/auth/usage", key=key).json()["rate_limits"]["hourly_remaining"] == 1
    classify(server, key, LATE)
    assert server.post("/api/v1/classify", {"ticket": LATE}, key=key).status_code == 429
    put(server, key, teams())
    assert server.get("/v1/thresholds", key=key).status_code == 200


def test_the_burst_limit_holds_and_says_when_to_come_back(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key("free@example.com")
    answers = [server.get("/v1/thresholds", key=key) for _ in range(601)]
    assert [answer.status_code for answer in answers] == [200] * 600 + [429]
    problem = answers[-1]
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["code"] == "rate_limited"
    assert 1 <= int(problem.headers["retry-after"]) <= 60


def test_a_training_that_fails_leaves_in_force_what_was(
    server: Server, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = put(server, mine, SHOP)["version"]

    async def fails(*_: object) -> bytes:
        raise TrainingFailed("exit code 1")

    monkeypatch.setattr(server.app.categories.trainer, "train", fails)
    answer = server.put("/v1/categories", {"categories": teams()}, key=mine)
    assert (answer.status_code, answer.json()["code"]) == (503, "training_failed")
    assert "exit code" not in answer.text
    assert server.get("/v1/categories", key=mine).json()["version"] == before
    assert classify(server, mine, LATE)["category"] == "Delivery"


def test_categories_of_accounts_make_no_labels_of_metrics(server: Server, mine: str) -> None:
    put(server, mine, SHOP)
    classify(server, mine, LATE)
    metrics = server.get("/metrics").text
    assert "Delivery" not in metrics
    assert 'category="custom"' in metrics
