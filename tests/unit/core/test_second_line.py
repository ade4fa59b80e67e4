"""What the local model may raise on its own, and what it may not touch."""

from dataclasses import replace

import pytest

from firstline.core.cascade import settle
from firstline.core.churn import churn_risk
from firstline.core.message import Facts, Message, facts_of
from firstline.core.policy import Policy, Threshold
from firstline.core.rules import Match
from firstline.core.taxonomy import DECISION_RANK, PRIORITY_RANK, Contract, Decision, Priority, Signal, UserPlan
from firstline.core.verdict import Opinion, Prediction, Source, Verdict

TEXT = "Something happened at our place that you should know about, please read."
CALM = Prediction("test", {"Other": 0.9, "Payment Issue": 0.1}, "en")


def facts(plan: UserPlan = UserPlan.FREE, *, text: str = TEXT, contract: Contract = Contract.DECISION) -> Facts:
    return facts_of(Message(text, contract, plan))


def verdict(about: Facts, predicted: Prediction, *matches: Match, policy: Policy | None = None) -> Verdict:
    return settle(about, matches, predicted, policy or Policy(), rules_hash="r")


def suspecting(**chances: float) -> Prediction:
    return replace(CALM, signals={Signal(name): chance for name, chance in chances.items()})


def codes(given: Verdict) -> set[str]:
    return {reason.code for reason in given.reasons}


@pytest.mark.parametrize("signal", ["legal", "safety", "security", "outage"])
def test_a_suspected_danger_is_prioritised_and_flagged(signal: str) -> None:
    given = verdict(facts(), suspecting(**{signal: 0.6}))
    assert (given.decision, given.priority, given.needs_review) == (Decision.PRIORITY_RESPONSE, Priority.HIGH, True)
    assert given.source is Source.LOCAL
    assert "second_line" in codes(given)


@pytest.mark.parametrize("signal", ["legal", "safety", "security"])
def test_a_danger_that_the_model_is_sure_of_escalates(signal: str) -> None:
    given = verdict(facts(), suspecting(**{signal: 0.95}))
    assert (given.decision, given.priority, given.needs_review) == (
        Decision.IMMEDIATE_ESCALATION,
        Priority.CRITICAL,
        True,
    )


def test_a_faint_suspicion_changes_nothing() -> None:
    assert verdict(facts(), suspecting(legal=0.2)).decision is verdict(facts(), CALM).decision


def test_a_suspected_wish_to_leave_counts_where_a_rule_s_would() -> None:
    assert verdict(facts(), suspecting(churn=0.8)).decision is Decision.STANDARD_RESPONSE
    assert verdict(facts(UserPlan.ENTERPRISE), suspecting(churn=0.8)).decision is Decision.PRIORITY_RESPONSE


def test_churn_risk_grows_with_the_suspicion_and_stays_under_that_of_a_rule() -> None:
    risks = [churn_risk(facts(), frozenset(), {Signal.CHURN: chance}) for chance in (0.1, 0.5, 0.9)]
    assert risks == sorted(risks)
    assert risks[-1] < churn_risk(facts(), frozenset({Signal.CHURN}))


def test_spam_in_the_model_s_opinion_is_ignored_only_when_nothing_else_is_found() -> None:
    assert verdict(facts(), suspecting(spam=0.95)).decision is Decision.IGNORE
    assert verdict(facts(), suspecting(spam=0.95, churn=0.4)).decision is Decision.STANDARD_RESPONSE
    rule = Match("en/complaint.angry", Signal.COMPLAINT, ((0, 3),))
    assert verdict(facts(), suspecting(spam=0.95), rule).decision is not Decision.IGNORE


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.95, 1.0])
def test_the_model_never_lowers_what_a_rule_set(chance: float) -> None:
    rule = Match("en/legal.threat", Signal.LEGAL, ((0, 3),))
    calm = replace(CALM, signals={Signal.SPAM: chance}, urgency=Opinion("low", 1.0), decision=Opinion("ignore", 1.0))
    given = verdict(facts(), calm, rule)
    assert (given.decision, given.priority) == (Decision.IMMEDIATE_ESCALATION, Priority.CRITICAL)


def test_an_insistent_opinion_raises_to_high_and_no_further() -> None:
    urgent = replace(CALM, urgency=Opinion("critical", 0.95), decision=Opinion("immediate_escalation", 0.95))
    given = verdict(facts(), urgent)
    assert (given.decision, given.priority) == (Decision.PRIORITY_RESPONSE, Priority.HIGH)
    hesitant = replace(CALM, urgency=Opinion("critical", 0.6), decision=Opinion("priority_response", 0.6))
    assert verdict(facts(), hesitant).decision is Decision.STANDARD_RESPONSE


def test_more_suspicion_never_means_less_urgency() -> None:
    ladder = [verdict(facts(), suspecting(security=step / 20)) for step in range(21)]
    decisions = [DECISION_RANK[given.decision] for given in ladder]
    priorities = [PRIORITY_RANK[given.priority] for given in ladder]
    assert decisions == sorted(decisions)
    assert priorities == sorted(priorities)


def test_the_most_specific_threshold_applies() -> None:
    policy = Policy(
        thresholds=(
            Threshold(None, None, 0.1),
            Threshold(None, "de", 0.2),
            Threshold("Payment Issue", None, 0.3),
            Threshold("Payment Issue", "de", 0.4),
        )
    )
    asked = [("Other", "en"), ("Other", "de"), ("Payment Issue", "en"), ("Payment Issue", "de"), ("Other", None)]
    assert [policy.threshold_of(*about) for about in asked] == [0.1, 0.2, 0.3, 0.4, 0.1]
    assert Policy().threshold_of("Other", "en") == 0


@pytest.mark.parametrize("contract", list(Contract))
def test_under_its_threshold_a_category_gives_way_and_a_person_looks(contract: Contract) -> None:
    paying = replace(CALM, probabilities={"Payment Issue": 0.7, "Other": 0.3}, subcategory="refund")
    policy = Policy(thresholds=(Threshold("Payment Issue", None, 0.8),))
    given = verdict(facts(contract=contract), paying, policy=policy)
    assert (given.category, given.probability, given.needs_review) == ("Other", 0.3, True)
    assert given.subcategory is None
    assert "threshold" in codes(given)
    assert verdict(facts(contract=contract), paying).category == "Payment Issue"
