"""The guides that can be pasted into a shell, on a server as an operator starts it."""

import json
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from served import CLIENT_S, Served, environment, serve, until

from firstline.core.completion import FailureKind
from firstline.delivery.fake_provider import FakeProvider

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
DEFAULT_URL = "http://127.0.0.1:8000"
FAKE_URL = "http://127.0.0.1:9100"


def answers_of(guide: str, url: str, *, fake_url: str = FAKE_URL) -> list[Any]:
    """What every call of a guide answers, in order."""
    text = (GUIDES / guide).read_text(encoding="utf-8").replace(DEFAULT_URL, url).replace(FAKE_URL, fake_url)
    script = "\n" + "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    script = script.replace("\ncurl ", "\necho; curl -s ")
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, timeout=4 * CLIENT_S, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line]


def test_the_guide_to_own_categories_works_as_pasted(server: Served) -> None:
    first, late, dutch, violin, teams, hedge, read, *_, back = answers_of("own-categories.md", server.url)
    assert [one["name"] for one in first["categories"]] == ["Delivery", "Returns", "Invoices"]
    assert [late["category"], dutch["category"], violin["category"]] == ["Delivery", "Delivery", "Other"]
    assert violin["needs_review"]
    assert (teams["advice"], hedge["category"]) == ([], "Team Green")
    assert len(read["categories"][0]["examples"]) == 6
    assert back["version"] == "default"


def test_the_guide_to_thresholds_works_as_pasted(server: Served) -> None:
    changed, doubtful, read, removed = answers_of("thresholds.md", server.url)
    assert read == changed
    assert len(changed["thresholds"]) == 3
    assert (doubtful["category"], doubtful["needs_review"]) == ("Other", True)
    assert removed["thresholds"] == []


def exports_of(guide: str, fake_url: str) -> dict[str, Any]:
    """The variables that a guide exports before it starts the server."""
    text = (GUIDES / guide).read_text(encoding="utf-8").replace(FAKE_URL, fake_url)
    lines = re.findall(r"^export (.*)$", text, re.MULTILINE)
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(lines)))


def test_the_guide_to_providers_works_as_pasted(tmp_path: Path) -> None:
    guide = "providers.md"
    with FakeProvider() as fake, serve(tmp_path / "data", **exports_of(guide, fake.base_url)) as server:
        answers = answers_of(guide, server.url, fake_url=fake.base_url)
        first, _, sent, policy, asked, read, back, _, fallback, _, _, late, *_ = answers
        assert (first["category"], first["source"], first["provider"]) == ("Payment Issue", "provider", "gemini")
        assert sent["message"].endswith("Mail [EMAIL_1] or call [PHONE_1]")
        assert [choice["provider"] for choice in policy["providers"]] == ["openai", "gemini"]
        assert (asked["provider"], read["spent"]["by_provider"][0]["provider"]) == ("openai", "openai")
        assert (read["version"], back["version"]) == (policy["version"], "default")
        assert fallback["provider"] == "openai"
        assert (late["source"], late["provider"], late["category"]) == ("local", "timeout", "Account Problem")
        assert "provider_timeout" in {reason["code"] for reason in late["reasons"]}
        assert until(lambda: verdicts_of(server, late["id"]) == ["Account Problem", "Payment Issue"], within_s=CLIENT_S)


def test_every_kind_of_failure_is_in_the_guide_to_providers() -> None:
    text = (GUIDES / "providers.md").read_text(encoding="utf-8")
    table = text.split("## When a call fails")[1].split("After failures")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {kind.value for kind in FailureKind}


def verdicts_of(server: Served, ticket_id: str) -> list[str]:
    """The categories of a ticket's verdicts, by revision."""
    with closing(sqlite3.connect(server.data_dir / "firstline.db", timeout=CLIENT_S)) as database:
        query = "SELECT category FROM verdicts WHERE ticket_id = ? ORDER BY revision"
        return [row[0] for row in database.execute(query, (ticket_id.removeprefix("tkt_"),))]


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
