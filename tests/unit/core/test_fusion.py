"""What a provider's opinion makes of a verdict: the category by Bayes' rule, everything else only upwards."""

from dataclasses import replace

import pytest

from firstline.core.asking import AskPolicy
from firstline.core.cascade import settle
from firstline.core.completion import Asked, Completion, Mode, Outcome
from firstline.core.fusion import wants_provider
from firstline.core.message import Facts
from firstline.core.policy import Policy, Threshold
from firstline.core.rules import Effects, Match
from firstline.core.taxonomy import FALLBACK_CATEGORY, Contract, Decision, Priority, Signal, UserPlan
from firstline.core.verdict import Abstention, Prediction, Source, Verdict

FACTS = Facts(Contract.DECISION, UserPlan.FREE, None, 80.0, False, 0)
POLICY = Policy()
UNSURE = Prediction(
    "m",
    {"Network Issue": 0.3, "Account Problem": 0.25, "Payment Issue": 0.2, "Feature Request": 0.05, "Other": 0.2},
    "en",
)
SURE = replace(
    UNSURE,
    probabilities={
        "Network Issue": 0.996,
        "Account Problem": 0.001,
        "Payment Issue": 0.001,
        "Feature Request": 0.001,
        "Other": 0.001,
    },
)


def says(category: str = "Payment Issue", **members: object) -> Asked:
    """A provider's valid answer."""
    completion = Completion(
        category, Priority.MEDIUM, Decision.STANDARD_RESPONSE, 0.1, "en", "Look it up.", "It says so."
    )
    return Asked(Outcome.ANSWERED, "gemini", "flash", replace(completion, **members))  # type: ignore[arg-type]  # of the test's choice


def settled(
    prediction: Prediction | None, asked: Asked | None, *, policy: Policy = POLICY, matches: tuple[Match, ...] = ()
) -> Verdict:
    return settle(FACTS, matches, prediction, policy, rules_hash="r", asked=asked)


def test_provider_decides_where_the_local_model_is_unsure() -> None:
    verdict = settled(UNSURE, says("Payment Issue"))
    assert (verdict.category, verdict.source) == ("Payment Issue", Source.PROVIDER)
    assert 0.85 < verdict.probability < 0.95


def test_provider_that_agrees_makes_the_category_surer() -> None:
    assert settled(UNSURE, says("Network Issue")).probability > 0.9 > settled(UNSURE, None).probability


def test_local_model_that_is_very_sure_outweighs_a_provider() -> None:
    verdict = settled(SURE, says("Payment Issue"))
    assert verdict.category == "Network Issue"
    assert verdict.probability < SURE.probabilities["Network Issue"]


@pytest.mark.parametrize("abstained", [Abstention.UNSUPPORTED_LANGUAGE, Abstention.NO_WORDS])
def test_where_the_local_model_knows_nothing_the_provider_is_believed_as_far_as_it_is_right(
    abstained: Abstention,
) -> None:
    verdict = settled(replace(SURE, abstained=abstained), says("Feature Request"))
    assert verdict.category == "Feature Request"
    assert verdict.probability == pytest.approx(POLICY.provider_accuracy)


def test_without_a_usable_model_a_provider_still_answers() -> None:
    assert settled(None, says("Account Problem")).category == "Account Problem"


def test_threshold_of_a_category_holds_for_the_probability_of_both() -> None:
    policy = replace(POLICY, thresholds=(Threshold("Payment Issue", None, 0.99),))
    verdict = settled(UNSURE, says("Payment Issue"), policy=policy)
    assert (verdict.category, verdict.needs_review) == (FALLBACK_CATEGORY, True)


def test_category_that_a_rule_sets_stays() -> None:
    matches = (Match("own/a", None, ((0, 3),), Effects(category="Account Problem")),)
    assert settled(UNSURE, says("Payment Issue"), matches=matches).category == "Account Problem"


def test_provider_raises_decision_and_priority_and_a_large_step_asks_for_a_person() -> None:
    step = settled(UNSURE, says(decision=Decision.PRIORITY_RESPONSE, priority=Priority.HIGH))
    leap = settled(SURE, says("Network Issue", decision=Decision.IMMEDIATE_ESCALATION, priority=Priority.CRITICAL))
    assert (step.decision, step.priority) == (Decision.PRIORITY_RESPONSE, Priority.HIGH)
    assert (leap.decision, leap.priority, leap.needs_review) == (
        Decision.IMMEDIATE_ESCALATION,
        Priority.CRITICAL,
        True,
    )


def test_provider_cannot_play_down_what_the_second_line_has_raised() -> None:
    prediction = replace(UNSURE, signals={Signal.SAFETY: 0.95})
    asked = says(
        "Network Issue", decision=Decision.IGNORE, priority=Priority.LOW, action="Thank the customer and wait."
    )
    alone, merged = settled(prediction, None), settled(prediction, asked)
    assert merged.decision is alone.decision is Decision.IMMEDIATE_ESCALATION
    assert merged.recommended_action == alone.recommended_action
    assert merged.needs_review


def test_suspicion_that_raises_nothing_does_not_change_the_action_either() -> None:
    prediction = replace(UNSURE, signals={Signal.CHURN: 0.6})
    alone, merged = settled(prediction, None), settled(prediction, says("Network Issue", action=""))
    assert merged.recommended_action == alone.recommended_action


def test_provider_s_action_is_shown_where_nothing_speaks_against_it() -> None:
    assert settled(UNSURE, says("Payment Issue")).recommended_action == "Look it up."


@pytest.mark.parametrize(
    ("mode", "prediction", "wanted"),
    [
        (Mode.UNCERTAIN, UNSURE, True),
        (Mode.UNCERTAIN, SURE, False),
        (Mode.ALWAYS, SURE, True),
        (Mode.NEVER, UNSURE, False),
        (Mode.UNCERTAIN, replace(SURE, abstained=Abstention.NO_WORDS), True),
        (Mode.UNCERTAIN, None, True),
    ],
)
def test_who_is_asked_about(mode: Mode, prediction: Prediction | None, wanted: bool) -> None:
    assert wants_provider(settled(prediction, None), AskPolicy(mode=mode)) is wanted


@pytest.mark.parametrize("mode", Mode)
def test_nobody_is_asked_about_what_a_terminal_rule_has_settled_or_what_is_ignored(mode: Mode) -> None:
    legal = (Match("en/legal", Signal.LEGAL, ((0, 3),)),)
    spam = (Match("en/spam", Signal.SPAM, ((0, 3),)),)
    for matches in (legal, spam):
        assert not wants_provider(settled(UNSURE, None, matches=matches), AskPolicy(mode=mode))
