"""Floors only ever raise."""

import itertools

import pytest

from firstline.core.policy import ESCALATE, NO_FLOOR, PRIORITISE, Floor, Policy, floor_of
from firstline.core.taxonomy import (
    DECISION_RANK,
    DEFAULT_CATEGORIES,
    PRIORITY_RANK,
    Category,
    Decision,
    Priority,
    Signal,
    UserPlan,
    higher_decision,
    higher_priority,
)


def rank(floor: Floor) -> tuple[int, int]:
    return DECISION_RANK[floor.decision], PRIORITY_RANK[floor.priority]


@pytest.mark.parametrize(("decision", "priority"), [*itertools.product([None, *Decision], [None, *Priority])])
def test_a_floor_is_raised_and_never_lowered(decision: Decision | None, priority: Priority | None) -> None:
    for floor in (NO_FLOOR, PRIORITISE, ESCALATE):
        raised = floor.raised(decision=decision, priority=priority)
        assert rank(raised) >= rank(floor)
        assert decision is None or DECISION_RANK[raised.decision] >= DECISION_RANK[decision]
        assert priority is None or PRIORITY_RANK[raised.priority] >= PRIORITY_RANK[priority]


@pytest.mark.parametrize(
    ("signal", "plan", "history", "floor"),
    [
        *[
            (signal, plan, 0, ESCALATE)
            for signal in (Signal.LEGAL, Signal.SAFETY, Signal.SECURITY)
            for plan in UserPlan
        ],
        (Signal.OUTAGE, UserPlan.FREE, 0, PRIORITISE),
        (Signal.OUTAGE, UserPlan.PRO, 0, ESCALATE),
        (Signal.OUTAGE, UserPlan.ENTERPRISE, 0, ESCALATE),
        (Signal.CHURN, UserPlan.FREE, 2, NO_FLOOR),
        (Signal.CHURN, UserPlan.FREE, 3, PRIORITISE),
        (Signal.CHURN, UserPlan.ENTERPRISE, 0, PRIORITISE),
        (Signal.COMPLAINT, UserPlan.PRO, 0, NO_FLOOR),
        (Signal.COMPLAINT, UserPlan.PRO, 3, PRIORITISE),
        (Signal.COMPLAINT, UserPlan.ENTERPRISE, 0, PRIORITISE),
        (Signal.SPAM, UserPlan.ENTERPRISE, 9, NO_FLOOR),
    ],
)
def test_a_signal_sets_its_floor(signal: Signal, plan: UserPlan, history: int, floor: Floor) -> None:
    assert floor_of(frozenset({signal}), plan=plan, history_count=history) == floor


def test_a_further_signal_never_lowers_the_floor() -> None:
    for plan, history in itertools.product(UserPlan, (0, 3)):
        for first, second in itertools.product(Signal, Signal):
            alone = floor_of(frozenset({first}), plan=plan, history_count=history)
            both = floor_of(frozenset({first, second}), plan=plan, history_count=history)
            assert rank(both) >= rank(alone)


def test_the_higher_of_two_wins_whatever_their_order() -> None:
    for left, right in itertools.combinations(Priority, 2):
        assert higher_priority(left, right) == higher_priority(right, left) == right
    for low, high in itertools.combinations(Decision, 2):
        assert higher_decision(low, high) == higher_decision(high, low) == high


def test_categories_start_at_their_published_priorities() -> None:
    policy = Policy()
    assert {category.name: str(policy.priority_of(category.name)) for category in DEFAULT_CATEGORIES} == {
        "Network Issue": "high",
        "Account Problem": "high",
        "Payment Issue": "high",
        "Feature Request": "low",
        "Other": "medium",
    }


def test_an_unknown_category_starts_where_the_fallback_does() -> None:
    assert Policy().priority_of("Billing") is Priority.MEDIUM
    assert Policy(categories=(Category("Other", Priority.HIGH),)).priority_of("Billing") is Priority.HIGH


def test_the_content_hash_names_the_values() -> None:
    assert Policy().content_hash == Policy(low_confidence=0.4).content_hash
    assert Policy().content_hash != Policy(low_confidence=0.41).content_hash
