"""Churn risk and the recommended action, over every combination of what they depend on."""

import itertools

import pytest

from firstline.core.actions import recommended_action
from firstline.core.churn import churn_risk
from firstline.core.message import Facts
from firstline.core.rules import Effects, Match
from firstline.core.taxonomy import DEFAULT_CATEGORIES, Contract, Decision, Signal, UserPlan

SETS = [frozenset(signals) for size in range(len(Signal) + 1) for signals in itertools.combinations(Signal, size)]


def facts(*, plan: UserPlan = UserPlan.FREE, history: int = 0) -> Facts:
    return Facts(Contract.DECISION, plan, None, 50, False, history)


def test_risk_stays_between_0_and_1_and_in_hundredths() -> None:
    for signals, plan, history in itertools.product(SETS, UserPlan, (0, 1, 5, 50)):
        risk = churn_risk(facts(plan=plan, history=history), signals)
        assert 0 <= risk < 1
        assert risk == round(risk, 2)


def test_more_signs_of_leaving_never_lower_the_risk() -> None:
    for signals, plan, history in itertools.product(SETS, UserPlan, (0, 4)):
        now = churn_risk(facts(plan=plan, history=history), signals)
        assert churn_risk(facts(plan=plan, history=history + 1), signals) >= now
        assert churn_risk(facts(plan=UserPlan.ENTERPRISE, history=history), signals) >= now
        for further in set(Signal) - {Signal.SPAM}:
            assert churn_risk(facts(plan=plan, history=history), signals | {further}) >= now


def test_a_long_conversation_alone_is_no_complaint() -> None:
    assert churn_risk(facts(history=50), frozenset()) == churn_risk(facts(), frozenset())


def test_the_risk_of_who_threatens_to_leave_is_high_and_of_spam_none() -> None:
    assert churn_risk(facts(plan=UserPlan.ENTERPRISE, history=3), frozenset({Signal.CHURN})) >= 0.7
    assert churn_risk(facts(), frozenset({Signal.SPAM})) == 0


@pytest.mark.parametrize("decision", list(Decision))
def test_every_action_has_1_to_500_characters(decision: Decision) -> None:
    names = [category.name for category in DEFAULT_CATEGORIES] + ["Something new"]
    for name, signals in itertools.product(names, SETS):
        matches = tuple(Match(f"p/{signal}", signal, ((0, 1),)) for signal in signals)
        assert 1 <= len(recommended_action(decision, name, signals, matches)) <= 500


def test_a_threat_is_handed_to_the_legal_team() -> None:
    action = recommended_action(Decision.IMMEDIATE_ESCALATION, "Other", frozenset({Signal.LEGAL, Signal.COMPLAINT}), ())
    assert "legal team" in action


def test_a_rule_s_own_action_comes_before_the_category_s() -> None:
    match = Match("own/x", None, ((0, 1),), Effects(action="Call Ms Lee."))
    assert recommended_action(Decision.STANDARD_RESPONSE, "Other", frozenset(), (match,)) == "Call Ms Lee."


@pytest.mark.parametrize("signal", [Signal.LEGAL, Signal.SAFETY, Signal.SECURITY])
def test_a_rule_s_own_action_never_hides_what_must_not_be_missed(signal: Signal) -> None:
    matches = (
        Match("own/x", None, ((0, 1),), Effects(action="Ignore it.")),
        Match("en/y", signal, ((0, 1),)),
    )
    action = recommended_action(Decision.IMMEDIATE_ESCALATION, "Other", frozenset({signal}), matches)
    assert action != "Ignore it."


@pytest.mark.parametrize("category", ["Other", "Something new", "Account Problem"])
def test_what_is_escalated_by_no_signal_goes_to_a_person_now(category: str) -> None:
    action = recommended_action(Decision.IMMEDIATE_ESCALATION, category, frozenset(), ())
    assert "person on duty now" in action
    assert "self-service" not in action


def test_priority_response_is_never_told_to_wait_in_the_normal_queue() -> None:
    for category in ("Other", "Something new", "Payment Issue"):
        assert recommended_action(Decision.PRIORITY_RESPONSE, category, frozenset(), ()).startswith("Answer ahead of")
    assert "billing" in recommended_action(Decision.PRIORITY_RESPONSE, "Payment Issue", frozenset(), ())
