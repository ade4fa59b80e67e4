#!/usr/bin/env python3
"""Make the published calls against a running server and say what differs from what the contracts promise.

    python tools/smoke.py http://127.0.0.1:8000 [--key KEY]

Prints one line per call; exit code 1 when anything differs, 2 when the server cannot be reached. Registers a throw-away
account unless it is given a key. A production server refuses the published demo keys and calls without a key, as it
must; the decision calls are then made with the registered key. Needs Python alone.
"""

import argparse
import json
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

PRIORITIES = ("low", "medium", "high", "critical")
DECISIONS = ("ignore", "standard_response", "priority_response", "immediate_escalation")
DEMO_KEY = "sk_test_demo_pro_key_123456789012345678"
TIMEOUT_S = 30

Check = Callable[[Any], object]
"""Looks at a value; anything but True or None is what differs."""


@dataclass(frozen=True)
class Answer:
    """What a call was answered with."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def data(self) -> Any:
        """The body as JSON, or None when it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


@dataclass(frozen=True)
class Call:
    """One published call and what it promises."""

    name: str
    method: str
    path: str
    expects: Any
    body: Any = None
    key: str | None = None
    bearer: bool = False
    content_type: bool = True
    status: int = 200
    headers: tuple[str, ...] = field(default=())


def text(value: Any) -> object:
    """Any text with something in it."""
    return (isinstance(value, str) and bool(value)) or f"{value!r} is no text"


def whole(value: Any) -> object:
    """Any integer of at least 0."""
    return (isinstance(value, int) and not isinstance(value, bool) and value >= 0) or f"{value!r} is no count"


def number(value: Any) -> object:
    """Any number of at least 0."""
    return (isinstance(value, int | float) and not isinstance(value, bool) and value >= 0) or f"{value!r} is no number"


def share(value: Any) -> object:
    """A number from 0 to 1."""
    return (isinstance(value, int | float) and 0 <= value <= 1) or f"{value!r} is not between 0 and 1"


def one_of(*allowed: Any) -> Check:
    """One of some values."""
    return lambda value: value in allowed or f"{value!r} is none of {', '.join(map(repr, allowed))}"


def moment(value: Any) -> object:
    """A moment as ISO 8601 with Z, or nothing."""
    return (
        value is None or (isinstance(value, str) and value.endswith("Z") and "T" in value) or f"{value!r} is no moment"
    )


def starts(prefix: str) -> Check:
    """Text that begins with a prefix."""
    return lambda value: (isinstance(value, str) and value.startswith(prefix)) or f"does not begin with {prefix}"


def differences(expected: Any, found: Any, *, at: str = "body") -> list[str]:
    """Where a value differs from what is expected; members that are not expected are allowed."""
    if callable(expected):
        said = expected(found)
        return [] if said is True or said is None else [f"{at}: {said}"]
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return [f"{at} is no object"]
        problems = []
        for name, part in expected.items():
            if name not in found:
                problems.append(f"{at}.{name} is missing")
            else:
                problems += differences(part, found[name], at=f"{at}.{name}")
        return problems
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return [f"{at} is no list of {len(expected)}"]
        return [
            problem
            for index, part in enumerate(expected)
            for problem in differences(part, found[index], at=f"{at}[{index}]")
        ]
    return [] if expected == found else [f"{at} is {found!r}, not {expected!r}"]


def verdict(category: str) -> dict[str, Any]:
    """What the classifier answers."""
    return {
        "category": category,
        "confidence": share,
        "priority": one_of(*PRIORITIES),
        "provider": text,
        "processing_time": number,
    }


def decision(wanted: str, priority: str | None = None, action: Check = text) -> dict[str, Any]:
    """What the decision route answers."""
    return {
        "decision": wanted,
        "priority": priority or one_of(*PRIORITIES),
        "churn_risk": share,
        "confidence": share,
        "recommended_action": action,
    }


def item(category: str) -> dict[str, Any]:
    """One result of a batch."""
    return {"category": category, "confidence": share, "priority": one_of(*PRIORITIES)}


def has_metrics(value: Any) -> object:
    """The metrics that the contract names."""
    names = (
        "http_requests_total",
        "http_request_duration_seconds",
        "classification_requests_total",
        "provider_failures_total",
        "circuit_breaker_state",
    )
    missing = [name for name in names if name not in str(value)]
    return not missing or f"lacks {', '.join(missing)}"


def four_tiers(value: Any) -> object:
    """The published plans of the decision contract."""
    limits = {"requests_per_minute": whole, "requests_per_day": whole, "requests_per_month": whole}
    names = ("free", "starter", "professional", "enterprise")
    prices = (0, 29, 99, 499)
    expected = [
        {"tier": name, "price_usd_per_month": price, "limits": limits}
        for name, price in zip(names, prices, strict=True)
    ]
    return "; ".join(differences(expected, value, at="tiers")) or True


HEALTH = {"status": "healthy", "version": text, "timestamp": moment, "provider_status": {"local": "available"}}
REGISTERED = {"api_key": starts("atc_"), "tier": "free", "rate_limits": {"hourly": whole, "daily": whole}}
LIMITS = dict.fromkeys(("hourly_limit", "hourly_remaining", "daily_limit", "daily_remaining"), whole)
DECISION_USAGE = {
    "tier": text,
    "usage": {"requests_today": whole, "requests_this_month": whole, "last_request_at": moment},
    "limits": {"requests_per_day": whole, "requests_per_month": whole},
    "remaining": {"today": whole, "this_month": whole},
    "estimated_cost_this_month": {
        "included_requests": whole,
        "overage_requests": whole,
        "overage_cost_usd": number,
        "total_cost_usd": number,
    },
}
CLASSIFIER_LIMITS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
DECISION_LIMITS = (
    "X-RateLimit-Limit-Minute",
    "X-RateLimit-Remaining-Minute",
    "X-RateLimit-Limit-Day",
    "X-RateLimit-Remaining-Day",
    "X-RateLimit-Reset",
    "X-RateLimit-Tier",
)
PUBLISHED_DECISIONS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    (
        {
            "message": "This is unacceptable. I will contact my lawyer if not resolved.",
            "user_plan": "pro",
            "channel": "email",
        },
        decision("immediate_escalation", "critical"),
    ),
    (
        {
            "message": "We are considering switching to a competitor. Service has been unreliable.",
            "user_plan": "enterprise",
            "channel": "email",
            "history": ["complaint 1", "complaint 2", "complaint 3"],
        },
        decision("priority_response", "high"),
    ),
    (
        {"message": "How do I reset my password?", "user_plan": "free", "channel": "chat"},
        decision("standard_response"),
    ),
    ({"message": "Click here now!", "user_plan": "free", "channel": "social"}, decision("ignore", "low")),
)


def request(url: str, call: Call) -> Answer:
    """Make one call.

    Raises: OSError when the server cannot be reached.
    """
    data = None if call.body is None else json.dumps(call.body).encode()
    headers = {}
    if call.key:
        headers.update({"Authorization": f"Bearer {call.key}"} if call.bearer else {"X-API-Key": call.key})
    if data is not None:
        # urllib sends the form type when none is given, as curl does.
        headers["Content-Type"] = "application/json" if call.content_type else "application/x-www-form-urlencoded"
    made = urllib.request.Request(url + call.path, data, headers, method=call.method)
    try:
        with urllib.request.urlopen(made, timeout=TIMEOUT_S) as response:
            return Answer(response.status, response.headers, response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read().decode())


def problems_of(call: Call, answer: Answer) -> list[str]:
    """How an answer differs from what its call promises."""
    if answer.status != call.status:
        return [f"status {answer.status}, not {call.status}: {answer.text[:200]}"]
    found = answer.text if callable(call.expects) else answer.data
    missing = [f"header {name} is missing" for name in call.headers if name not in answer.headers]
    return differences(call.expects, found) + missing


def calls(key: str, *, production: bool) -> list[Call]:
    """The published calls but for the registration, in their order.

    Args:
        production: whether demo keys and calls without a key are refused, as they should be there.
    """
    classify, batch, decide = "/api/v1/classify", "/api/v1/batch", "/v1/decision"
    network, account, payment = "Network Issue", "Account Problem", "Payment Issue"
    three = ["VPN connection issue", "Password reset needed", "Refund request"]
    results = [item(network), item(account), item(payment)]
    summary = {"total": 3, "successful": 3, "failed": 0, "processing_time": number, "results": results}
    demo = key if production else DEMO_KEY
    threat = {"message": "I will sue you", "user_plan": "enterprise"}
    legal = {
        "message": "I'm extremely disappointed and considering legal action",
        "user_plan": "enterprise",
        "channel": "email",
        "history": ["previous complaint", "unresolved issue"],
    }
    names_legal: Check = lambda value: "legal" in str(value).lower() or f"{value!r} does not name the legal team"  # noqa: E731
    found = [
        Call("health", "GET", "/api/v1/health", HEALTH),
        Call(
            "classify, no content type", "POST", classify, verdict(network), {"ticket": "Cannot connect to VPN"}, key,
            content_type=False, headers=CLASSIFIER_LIMITS,
        ),
        Call(
            "classify", "POST", classify, verdict(account), {"ticket": "I cannot access my account"}, key,
            headers=CLASSIFIER_LIMITS,
        ),
        Call(
            "batch", "POST", batch, summary, {"tickets": three}, key, content_type=False, headers=CLASSIFIER_LIMITS
        ),
        Call(
            "usage", "GET", "/api/v1/auth/usage", {"tier": text, "rate_limits": LIMITS}, key=key,
            headers=CLASSIFIER_LIMITS,
        ),
        Call("metrics", "GET", "/metrics", has_metrics),
        Call(
            "decision, demo key", "POST", decide, decision("immediate_escalation", "critical"), threat, demo,
            bearer=True, headers=DECISION_LIMITS,
        ),
        Call("decision usage", "GET", "/v1/usage", DECISION_USAGE, key=demo, bearer=True, headers=DECISION_LIMITS),
        Call("pricing", "GET", "/v1/pricing", {"currency": "USD", "tiers": four_tiers, "notes": lambda _: None}),
    ]  # fmt: skip
    for number_, (body, expects) in enumerate(PUBLISHED_DECISIONS, 1):
        found.append(
            Call(f"decision {number_}", "POST", decide, expects, body, key if production else None,
                 headers=DECISION_LIMITS)
        )  # fmt: skip
    escalated = decision("immediate_escalation", "critical", names_legal)
    found.append(Call("decision, legal action", "POST", decide, escalated, legal, key if production else None))
    found.append(
        Call("decision, invalid", "POST", decide, {"detail": lambda _: None}, {"message": ""},
             key if production else None, status=422)
    )  # fmt: skip
    found.append(Call("no key", "POST", classify, {"error": "API key required", "message": text}, {}, status=401))
    return found


def report(call: Call, problems: list[str]) -> bool:
    """Print a call's line; whether it was as promised."""
    print(f"{'differs' if problems else 'ok':8}{call.method:5}{call.path:24}{call.name}")
    for problem in problems:
        print(f"        {problem}")
    return not problems


def smoke(url: str, key: str | None) -> int:
    """Make the calls; how many differ from what is promised.

    Raises: OSError when the server cannot be reached.
    """
    wrong = 0
    if key is None:
        email = f"smoke-{secrets.token_hex(8)}@example.com"
        register = Call(
            "register", "POST", "/api/v1/auth/register", REGISTERED, {"email": email, "tier": "free"}, status=201
        )
        answer = request(url, register)
        wrong += not report(register, problems_of(register, answer))
        if answer.status == 429:
            print("        this address has registered too often for now; give a key with --key")
        data = answer.data
        key = str(data.get("api_key", "")) if isinstance(data, dict) else ""
    keyless = Call("", "POST", "/v1/decision", None, {"message": "Hello, is anybody there?"})
    production = request(url, keyless).status == 401
    if production:
        print("a production server: demo keys and calls without a key are refused; decisions use the registered key")
    for call in calls(key, production=production):
        wrong += not report(call, problems_of(call, request(url, call)))
    return wrong


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Make the published calls and print what differs.")
    parser.add_argument("url", help="address of the server, such as http://127.0.0.1:8000")
    parser.add_argument("--key", help="a key to use instead of registering an account")
    options = parser.parse_args()
    try:
        wrong = smoke(options.url.rstrip("/"), options.key)
    except (OSError, ValueError) as error:
        print(f"{options.url} cannot be reached: {error}", file=sys.stderr)
        return 2
    print(f"{wrong} of the calls differ." if wrong else "All calls are as published.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
