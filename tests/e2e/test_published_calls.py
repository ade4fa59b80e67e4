"""The published calls, pasted into a shell, and `tools/smoke.py` over the same ones."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from served import Served, environment

ROOT = Path(__file__).parents[2]
PRIORITIES = {"low", "medium", "high", "critical"}
DEMO = "Authorization: Bearer sk_test_demo_pro_key_123456789012345678"
JSON = '-H "Content-Type: application/json"'

HEALTH = "curl $URL/api/v1/health"
REGISTER = f'curl -X POST $URL/api/v1/auth/register {JSON} -d \'{{"email": "user@example.com", "tier": "free"}}\''
CLASSIFY_PLAIN = """curl -X POST $URL/api/v1/classify -H "X-API-Key: $KEY" -d '{"ticket": "Cannot connect to VPN"}'"""
CLASSIFY_TYPED = (
    f'curl -X POST $URL/api/v1/classify {JSON} -H "X-API-Key: $KEY" '
    """-d '{"ticket": "I cannot access my account"}'"""
)
BATCH = (
    'curl -X POST $URL/api/v1/batch -H "X-API-Key: $KEY" '
    """-d '{"tickets": ["VPN connection issue", "Password reset needed", "Refund request"]}'"""
)
USAGE = 'curl $URL/api/v1/auth/usage -H "X-API-Key: $KEY"'
METRICS = "curl $URL/metrics"
DEMO_DECISION = (
    f'curl -X POST $URL/v1/decision -H "{DEMO}" {JSON} '
    """-d '{"message": "I will sue you", "user_plan": "enterprise"}'"""
)
DEMO_USAGE = f'curl $URL/v1/usage -H "{DEMO}"'
PRICING = "curl $URL/v1/pricing"
KEYLESS = f"curl -X POST $URL/v1/decision {JSON} -d "
DECISIONS = [
    (DEMO_DECISION, "immediate_escalation", "critical"),
    (
        KEYLESS + """'{"message": "This is unacceptable. I will contact my lawyer if not resolved.", """
        """"user_plan": "pro", "channel": "email"}'""",
        "immediate_escalation",
        "critical",
    ),
    (
        KEYLESS + """'{"message": "We are considering switching to a competitor. Service has been unreliable.", """
        """"user_plan": "enterprise", "channel": "email", "history": ["complaint 1", "complaint 2", "complaint 3"]}'""",
        "priority_response",
        "high",
    ),
    (
        KEYLESS + """'{"message": "How do I reset my password?", "user_plan": "free", "channel": "chat"}'""",
        "standard_response",
        None,
    ),
    (
        KEYLESS + """'{"message": "Click here now!", "user_plan": "free", "channel": "social"}'""",
        "ignore",
        "low",
    ),
]

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def paste(command: str, server: Served, key: str = "") -> tuple[int, str, dict[str, str]]:
    """Run a command in a shell; status, body and headers of the answer."""
    done = subprocess.run(
        ["sh", "-c", f"{command} -s -i"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(URL=server.url, KEY=key, no_proxy="*"),
        check=True,
    )
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    lines = head.split("\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), body, headers


@pytest.fixture(scope="module")
def key(server: Served) -> str:
    """The key that the published registration gives."""
    status, body, _ = paste(REGISTER, server)
    assert status == 201
    registered = json.loads(body)
    assert registered["tier"] == "free"
    assert registered["rate_limits"] == {"hourly": 100, "daily": 1000}
    assert re.fullmatch(r"atc_[A-Za-z0-9_-]{20,}", registered["api_key"])
    return str(registered["api_key"])


def assert_verdict(found: dict[str, Any], category: str) -> None:
    assert found["category"] == category
    assert 0 <= found["confidence"] <= 1
    assert found["priority"] == "high"


def test_health_as_published(server: Served) -> None:
    status, body, headers = paste(HEALTH, server)
    found = json.loads(body)
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert "server" not in headers
    assert found["status"] == "healthy"
    assert found["provider_status"]["local"] == "available"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", found["timestamp"])


@pytest.mark.parametrize(
    ("command", "category"), [(CLASSIFY_PLAIN, "Network Issue"), (CLASSIFY_TYPED, "Account Problem")]
)
def test_classify_as_published(command: str, category: str, server: Served, key: str) -> None:
    status, body, headers = paste(command, server, key)
    found = json.loads(body)
    assert status == 200
    assert_verdict(found, category)
    assert found["processing_time"] >= 0
    assert found["provider"]
    assert int(headers["x-ratelimit-limit"]) == 100
    assert {"x-ratelimit-remaining", "x-ratelimit-reset"} <= headers.keys()


def test_batch_as_published(server: Served, key: str) -> None:
    status, body, _ = paste(BATCH, server, key)
    found = json.loads(body)
    assert status == 200
    assert (found["total"], found["successful"], found["failed"]) == (3, 3, 0)
    for result, category in zip(found["results"], ["Network Issue", "Account Problem", "Payment Issue"], strict=True):
        assert_verdict(result, category)


def test_usage_as_published(server: Served, key: str) -> None:
    status, body, _ = paste(USAGE, server, key)
    found = json.loads(body)
    assert status == 200
    assert found["tier"] == "free"
    limits = found["rate_limits"]
    assert limits["hourly_limit"] == 100
    assert 0 <= limits["hourly_remaining"] <= 100
    assert limits["daily_limit"] == 1000
    assert 0 <= limits["daily_remaining"] <= 1000


def test_metrics_as_published(server: Served) -> None:
    status, body, headers = paste(METRICS, server)
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    for name in ("http_requests_total", "http_request_duration_seconds_bucket", "circuit_breaker_state"):
        assert f"\n{name}" in body
    assert "classification_requests_total" in body
    assert "provider_failures_total" in body


@pytest.mark.parametrize(("command", "decision", "priority"), DECISIONS)
def test_decision_as_published(command: str, decision: str, priority: str | None, server: Served) -> None:
    status, body, headers = paste(command, server)
    found = json.loads(body)
    assert status == 200
    assert found["decision"] == decision
    assert found["priority"] == priority or (priority is None and found["priority"] in PRIORITIES)
    assert 0 <= found["churn_risk"] <= 1
    assert 0 <= found["confidence"] <= 1
    assert 1 <= len(found["recommended_action"]) <= 500
    assert {"x-ratelimit-limit-minute", "x-ratelimit-remaining-day", "x-ratelimit-tier"} <= headers.keys()


def test_legal_action_of_an_enterprise_names_the_legal_team(server: Served) -> None:
    message = {
        "message": "I'm extremely disappointed and considering legal action",
        "user_plan": "enterprise",
        "channel": "email",
        "history": ["previous complaint", "unresolved issue"],
    }
    found = server.request("POST", "/v1/decision", message).data
    assert (found["decision"], found["priority"]) == ("immediate_escalation", "critical")
    assert found["churn_risk"] >= 0.7
    assert "legal" in found["recommended_action"].lower()


def test_decision_usage_as_published(server: Served) -> None:
    status, body, _ = paste(DEMO_USAGE, server)
    found = json.loads(body)
    assert status == 200
    assert found["tier"] == "professional"
    assert found["limits"] == {"requests_per_day": 50_000, "requests_per_month": 1_000_000}
    assert found["usage"]["requests_today"] + found["remaining"]["today"] == 50_000
    assert found["estimated_cost_this_month"]["total_cost_usd"] == 99


def test_pricing_as_published(server: Served) -> None:
    status, body, _ = paste(PRICING, server)
    found = json.loads(body)
    assert status == 200
    assert found["currency"] == "USD"
    assert [(tier["tier"], tier["price_usd_per_month"]) for tier in found["tiers"]] == [
        ("free", 0),
        ("starter", 29),
        ("professional", 99),
        ("enterprise", 499),
    ]


def smoke(url: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "smoke.py"), url],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(no_proxy="*"),
        check=False,
    )


def test_smoke_finds_nothing_wrong_with_a_good_server(server: Served) -> None:
    done = smoke(server.url)
    assert done.returncode == 0, done.stdout
    assert "differs" not in done.stdout
    assert done.stdout.count("\nok ") >= 15


class _AlwaysFine(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "healthy"}')

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def impostor() -> Iterator[str]:
    """A server that answers every call with 200 and little else."""
    with HTTPServer(("127.0.0.1", 0), _AlwaysFine) as listening:
        thread = Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_smoke_says_what_differs_and_fails(impostor: str) -> None:
    done = smoke(impostor)
    assert done.returncode == 1
    assert "body.version is missing" in done.stdout
    assert "status 200, not 201" in done.stdout


def test_smoke_says_when_there_is_no_server() -> None:
    done = smoke("http://127.0.0.1:1")
    assert done.returncode == 2
    assert "cannot be reached" in done.stderr
