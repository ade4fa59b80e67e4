"""Every example that the two contracts publish, through HTTP."""

import pytest
from asgi_server import Server

CATEGORIES = {
    "Network Issue": [
        "VPN not connecting",
        "Wi-Fi drops",
        "Cannot access internal sites",
        "Cannot connect to VPN",
        "VPN connection issue",
        "VPN not working",
    ],
    "Account Problem": [
        "Can't log in",
        "Password reset fails",
        "Account locked",
        "I cannot access my account",
        "Password reset",
        "Password reset needed",
    ],
    "Payment Issue": ["Refund request", "Invoice missing", "Payment failed"],
    "Feature Request": ["Add dark mode", "Need mobile app", "Export to CSV"],
    "Other": ["What are your opening hours?"],
}
PRIORITIES = {
    "Network Issue": "high",
    "Account Problem": "high",
    "Payment Issue": "high",
    "Feature Request": "low",
    "Other": "medium",
}
EXAMPLES = [(text, category) for category, texts in CATEGORIES.items() for text in texts]

DECISIONS = [
    pytest.param(
        {"message": "I will sue you", "user_plan": "enterprise"}, "immediate_escalation", "critical", id="sue"
    ),
    pytest.param(
        {
            "message": "This is unacceptable. I will contact my lawyer if not resolved.",
            "user_plan": "pro",
            "channel": "email",
        },
        "immediate_escalation",
        "critical",
        id="lawyer",
    ),
    pytest.param(
        {
            "message": "We are considering switching to a competitor. Service has been unreliable.",
            "user_plan": "enterprise",
            "channel": "email",
            "history": ["complaint 1", "complaint 2", "complaint 3"],
        },
        "priority_response",
        "high",
        id="competitor",
    ),
    pytest.param(
        {"message": "How do I reset my password?", "user_plan": "free", "channel": "chat"},
        "standard_response",
        "medium",
        id="question",
    ),
    pytest.param({"message": "Click here now!", "user_plan": "free", "channel": "social"}, "ignore", "low", id="spam"),
    pytest.param(
        {
            "message": "I'm extremely disappointed and considering legal action",
            "user_plan": "enterprise",
            "channel": "email",
            "history": ["previous complaint", "unresolved issue"],
        },
        "immediate_escalation",
        "critical",
        id="legal action",
    ),
    pytest.param({"message": "ok"}, "ignore", "low", id="short"),
    pytest.param({"message": "VPN down"}, "standard_response", None, id="short with a signal"),
    pytest.param({"message": "网络连不上了"}, "standard_response", None, id="six Chinese characters"),
    pytest.param({"message": "help me I want to die"}, "immediate_escalation", "critical", id="cry for help"),
    pytest.param({"message": "Congratulations! Act fast, buy now: limited offer"}, "ignore", "low", id="more spam"),
    pytest.param(
        {"message": "I want to cancel and get a refund", "user_plan": "enterprise"},
        "priority_response",
        "high",
        id="cancel",
    ),
    *[
        pytest.param({"message": text}, "immediate_escalation", "critical", id=text)
        for text in (
            "I am filing a lawsuit",
            "My attorney will write to you",
            "I am taking legal action",
            "We will see you in court",
            "This will end in litigation",
            "You will receive a subpoena",
            "This is defamation and I will act on it",
            "You are in breach of contract",
            "I will call my l4wyer",
            "I will s u e you",
            "I will suе you",
            "I will s\u200bue you",
        )
    ],
    *[
        pytest.param({"message": text}, "standard_response", None, id=text)
        for text in (
            "I have an issue with my printer",
            "Where can I buy tissue boxes in the shop?",
            "As a courtesy, could you look at this page?",
            "Sue from accounting will send you the form",
            "We are a law firm that wants 40 seats",
        )
    ],
]


@pytest.mark.parametrize(("text", "category"), EXAMPLES)
def test_a_published_ticket_has_its_category_and_priority(
    production: Server, key: str, text: str, category: str
) -> None:
    found = production.post("/api/v1/classify", {"ticket": text}, key=key).json()
    assert (found["category"], found["priority"]) == (category, PRIORITIES[category])


def test_a_batch_agrees_with_single_tickets(production: Server, key: str) -> None:
    found = production.post("/api/v1/batch", {"tickets": [text for text, _ in EXAMPLES]}, key=key).json()
    assert [item["category"] for item in found["results"]] == [category for _, category in EXAMPLES]
    for (text, _), item in zip(EXAMPLES, found["results"], strict=True):
        alone = production.post("/api/v1/classify", {"ticket": text}, key=key).json()
        assert item["confidence"] == pytest.approx(alone["confidence"], abs=2e-4)


@pytest.mark.parametrize(("body", "decision", "priority"), DECISIONS)
def test_a_published_message_has_its_decision(
    production: Server, key: str, body: dict[str, object], decision: str, priority: str | None
) -> None:
    found = production.post("/v1/decision", body, key=key).json()
    assert found["decision"] == decision
    assert priority in (None, found["priority"])


def test_who_considers_legal_action_is_likely_to_leave_and_the_legal_team_is_named(
    production: Server, key: str
) -> None:
    body = {
        "message": "I'm extremely disappointed and considering legal action",
        "user_plan": "enterprise",
        "channel": "email",
        "history": ["previous complaint", "unresolved issue"],
    }
    found = production.post("/v1/decision", body, key=key).json()
    assert found["churn_risk"] >= 0.7
    assert "legal team" in found["recommended_action"]


def test_a_threat_raises_the_priority_of_a_classified_ticket(production: Server, key: str) -> None:
    found = production.post("/api/v1/classify", {"ticket": "Refund me or I will sue you"}, key=key).json()
    assert found["priority"] == "critical"
