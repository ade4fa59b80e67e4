"""Who answers, and why: `settle` over facts, matches and predictions made by hand."""

import itertools

import pytest

from firstline.core.cascade import emergency_verdict, settle
from firstline.core.message import Facts, Message, facts_of
from firstline.core.policy import Policy
from firstline.core.rules import Effects, Match
from firstline.core.taxonomy import (
    DECISION_RANK,
    PRIORITY_RANK,
    Channel,
    Contract,
    Decision,
    Priority,
    Signal,
    UserPlan,
)
from firstline.core.verdict import Prediction, Source, Verdict


def facts(
    text: str = "I cannot find the page that explains how exports work.",
    *,
    contract: Contract = Contract.DECISION,
    plan: UserPlan = UserPlan.FREE,
    history: int = 0,
) -> Facts:
    return facts_of(Message(text, contract, plan, Channel.EMAIL, ("earlier",) * history))


def hit(signal: Signal | None, **then: object) -> Match:
    return Match(f"en/{signal or 'own'}", signal, ((0, 1),), Effects(**then))  # type: ignore[arg-type]


def prediction(category: str = "Other", probability: float = 0.9) -> Prediction:
    rest = [name for name in ("Network Issue", "Payment Issue", "Other") if name != category]
    return Prediction("test", {category: probability, **{name: (1 - probability) / len(rest) for name in rest}}, "en")


def verdict(
    about: Facts, *matches: Match, predicted: Prediction | None = None, policy: Policy | None = None
) -> Verdict:
    return settle(about, matches, predicted or prediction(), policy or Policy(), rules_hash="r")


def outcome(given: Verdict) -> tuple[str, str]:
    return given.decision.value, given.priority.value


@pytest.mark.parametrize("signal", [Signal.LEGAL, Signal.SAFETY, Signal.SECURITY])
@pytest.mark.parametrize("plan", list(UserPlan))
def test_what_must_not_be_missed_escalates_at_once(signal: Signal, plan: UserPlan) -> None:
    given = verdict(facts(plan=plan), hit(signal))
    assert outcome(given) == ("immediate_escalation", "critical")
    assert given.source is Source.RULE
    assert given.confidence >= 0.8


def test_an_outage_of_a_paying_customer_escalates_and_of_a_free_one_is_prioritised() -> None:
    assert outcome(verdict(facts(plan=UserPlan.PRO), hit(Signal.OUTAGE))) == ("immediate_escalation", "critical")
    assert outcome(verdict(facts(), hit(Signal.OUTAGE))) == ("priority_response", "high")


def test_spam_is_ignored() -> None:
    given = verdict(facts(), hit(Signal.SPAM))
    assert outcome(given) == ("ignore", "low")
    assert given.source is Source.RULE


@pytest.mark.parametrize("signal", [signal for signal in Signal if signal is not Signal.SPAM])
def test_spam_wording_beside_another_signal_is_not_ignored(signal: Signal) -> None:
    given = verdict(facts(), hit(Signal.SPAM), hit(signal))
    assert given.decision is not Decision.IGNORE
    if signal in {Signal.CHURN, Signal.COMPLAINT}:
        assert given.needs_review


def test_the_first_terminal_match_wins_over_spam_and_shortness() -> None:
    assert outcome(verdict(facts("I sue"), hit(Signal.SPAM), hit(Signal.LEGAL))) == (
        "immediate_escalation",
        "critical",
    )


def test_an_unhappy_enterprise_customer_is_prioritised() -> None:
    for signal in (Signal.CHURN, Signal.COMPLAINT):
        given = verdict(facts(plan=UserPlan.ENTERPRISE), hit(signal))
        assert outcome(given) == ("priority_response", "high")
        assert {reason.code for reason in given.reasons} >= {"rule", "plan"}


def test_three_earlier_messages_strengthen_a_complaint() -> None:
    assert outcome(verdict(facts(history=2), hit(Signal.COMPLAINT))) == ("standard_response", "medium")
    given = verdict(facts(history=3), hit(Signal.COMPLAINT))
    assert outcome(given) == ("priority_response", "high")
    assert "history" in {reason.code for reason in given.reasons}


def test_a_normal_question_gets_the_standard_response() -> None:
    given = verdict(facts("How do I reset my password?"), predicted=prediction("Network Issue"))
    assert outcome(given) == ("standard_response", "medium")
    assert given.source is Source.LOCAL


def test_a_short_message_without_any_signal_is_ignored() -> None:
    given = verdict(facts("ok thx"))
    assert outcome(given) == ("ignore", "low")
    assert "short" in {reason.code for reason in given.reasons}


def test_a_short_message_with_a_signal_from_the_model_is_answered() -> None:
    assert verdict(facts("VPN down"), predicted=prediction("Network Issue", 0.6)).decision is not Decision.IGNORE
    assert verdict(facts("VPN down"), predicted=prediction("Network Issue", 0.4)).decision is Decision.IGNORE


@pytest.mark.parametrize("match", [hit(Signal.COMPLAINT), hit(Signal.CHURN), hit(None, category="Payment Issue")])
def test_a_short_message_with_a_signal_from_a_rule_is_answered(match: Match) -> None:
    assert verdict(facts("bad"), match).decision is not Decision.IGNORE


def test_six_chinese_characters_are_not_short() -> None:
    assert verdict(facts("网络连不上了")).decision is not Decision.IGNORE


def test_without_a_model_the_rules_still_decide() -> None:
    given = settle(facts(), (hit(Signal.LEGAL),), None, Policy(), rules_hash="r")
    assert outcome(given) == ("immediate_escalation", "critical")
    assert (given.category, given.probability, given.language) == ("Other", 0.0, None)
    assert settle(facts("hm"), (), None, Policy(), rules_hash="r").decision is Decision.IGNORE


def test_an_own_rule_sets_floors_category_and_action() -> None:
    own = hit(
        None,
        decision=Decision.PRIORITY_RESPONSE,
        priority=Priority.CRITICAL,
        category="Payment Issue",
        action="Call Ms Lee.",
    )
    given = verdict(facts(), own)
    assert outcome(given) == ("priority_response", "critical")
    assert (given.category, given.recommended_action) == ("Payment Issue", "Call Ms Lee.")


def test_a_terminal_rule_of_one_s_own_answers_alone() -> None:
    given = verdict(facts(), hit(None, terminal=True, category="Payment Issue"), predicted=prediction(probability=0.34))
    assert given.source is Source.RULE
    assert not given.needs_review


def test_a_rule_of_one_s_own_may_ignore_but_never_a_threat() -> None:
    ignore = hit(None, decision=Decision.IGNORE, terminal=True)
    assert outcome(verdict(facts(), ignore)) == ("ignore", "low")
    assert outcome(verdict(facts(), ignore, hit(Signal.LEGAL))) == ("immediate_escalation", "critical")
    assert verdict(facts(), ignore, hit(Signal.COMPLAINT)).decision is not Decision.IGNORE


def test_a_score_under_the_threshold_lifts_the_decision_by_one_step_and_asks_for_a_review() -> None:
    strict = Policy(low_confidence=0.95)
    short = verdict(facts("ok thx"), policy=strict)
    assert short.decision is Decision.STANDARD_RESPONSE
    assert short.needs_review
    assert verdict(facts(), policy=strict).decision is Decision.PRIORITY_RESPONSE
    assert verdict(facts(plan=UserPlan.ENTERPRISE), hit(Signal.CHURN), policy=strict).decision is (
        Decision.PRIORITY_RESPONSE
    )
    assert verdict(facts(), hit(Signal.LEGAL), policy=strict).decision is Decision.IMMEDIATE_ESCALATION


def test_a_score_at_the_threshold_stands() -> None:
    given = verdict(facts("I cannot find the page"), policy=Policy(low_confidence=0.5))
    assert (given.confidence, given.decision, given.needs_review) == (0.5, Decision.STANDARD_RESPONSE, False)


def test_an_improbable_category_is_flagged_for_review_and_changes_nothing_else() -> None:
    sure, unsure = verdict(facts()), verdict(facts(), predicted=prediction(probability=0.4))
    assert not sure.needs_review
    assert unsure.needs_review
    assert outcome(sure) == outcome(unsure)


@pytest.mark.parametrize(
    ("category", "priority"),
    [("Network Issue", "high"), ("Payment Issue", "high"), ("Other", "medium"), ("Something new", "medium")],
)
def test_the_classifier_contract_starts_from_the_category(category: str, priority: str) -> None:
    about = facts(contract=Contract.CLASSIFIER)
    given = verdict(about, hit(None, category=category))
    assert given.priority == priority


def test_a_rule_that_escalates_raises_the_classifier_s_priority() -> None:
    about = facts(contract=Contract.CLASSIFIER)
    assert verdict(about, hit(Signal.LEGAL)).priority is Priority.CRITICAL


def test_no_prediction_lowers_what_a_rule_has_set() -> None:
    for signal, plan, category, contract in itertools.product(
        (Signal.LEGAL, Signal.SAFETY, Signal.SECURITY),
        UserPlan,
        ("Network Issue", "Payment Issue", "Other"),
        Contract,
    ):
        alone = settle(facts(contract=contract, plan=plan), (hit(signal),), None, Policy(), rules_hash="r")
        merged = verdict(facts(contract=contract, plan=plan), hit(signal), predicted=prediction(category))
        assert DECISION_RANK[merged.decision] >= DECISION_RANK[alone.decision]
        assert PRIORITY_RANK[merged.priority] >= PRIORITY_RANK[alone.priority]


def test_the_emergency_verdict_is_escalated_and_flagged() -> None:
    given = emergency_verdict()
    assert outcome(given) == ("priority_response", "high")
    assert given.needs_review
    assert given.source is Source.EMERGENCY
    assert given.evidence is None
