"""What guides promise and their blocks do not show; `tests/docs` runs the blocks themselves."""

import re
from pathlib import Path

from served import Served, serve

from firstline.core.completion import FailureKind

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def test_every_kind_of_failure_is_in_the_guide_to_providers() -> None:
    text = (GUIDES / "providers.md").read_text(encoding="utf-8")
    table = text.split("## When a call fails")[1].split("After failures")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {kind.value for kind in FailureKind}


def test_own_categories_are_trained_apart_and_survive_the_end_of_the_process(tmp_path: Path) -> None:
    wanted = {"categories": [{"name": "Delivery", "description": "Late parcels"}, {"name": "Invoices"}]}
    with serve(tmp_path / "data") as server:
        registered = server.request("POST", "/api/v1/auth/register", {"email": "own@example.com", "tier": "free"})
        key = registered.data["api_key"]
        changed = server.request("PUT", "/v1/categories", wanted, key=key)
        assert changed.status == 200
        server.kill()
    with serve(tmp_path / "data") as server:
        assert server.request("GET", "/v1/categories", key=key).data["version"] == changed.data["version"]
        found = server.request("POST", "/api/v1/classify", {"ticket": "Where is my late parcel?"}, key=key)
        assert found.data["category"] == "Delivery"


def test_own_categories_never_hold_back_an_escalation(server: Served) -> None:
    registered = server.request("POST", "/api/v1/auth/register", {"email": "legal@example.com", "tier": "free"})
    key = registered.data["api_key"]
    wanted = {"categories": [{"name": "Sales", "priority": "low"}, {"name": "Praise", "priority": "low"}]}
    assert server.request("PUT", "/v1/categories", wanted, key=key).status == 200
    assert server.request("PUT", "/v1/thresholds", {"thresholds": [{"probability": 1}]}, key=key).status == 200
    for text in ("I will sue you", "We have been hacked, customer data is leaking"):
        found = server.request("POST", "/v1/decision", {"message": text}, key=key).data
        assert (found["decision"], found["priority"]) == ("immediate_escalation", "critical")
