"""What is read of a provider's answer, and what is refused."""

import json
from typing import Any

import pytest

from firstline.core.completion import (
    ECHO,
    LEAK,
    MAX_ANSWER,
    Asked,
    Completion,
    CompletionInvalid,
    FailureKind,
    Outcome,
    answer_schema,
    parse_completion,
)
from firstline.core.prompt import instructions
from firstline.core.taxonomy import DEFAULT_CATEGORIES, Decision, Priority

NAMES = [category.name for category in DEFAULT_CATEGORIES]
TOLD = instructions(DEFAULT_CATEGORIES)
GOOD: dict[str, Any] = {
    "category": "Payment Issue",
    "priority": "high",
    "decision": "standard_response",
    "churn_risk": 0.25,
    "language": "de",
    "action": "Check the last charge and tell the customer.",
    "reason": "The customer was charged twice.",
}


def answer(**changes: Any) -> str:
    return json.dumps({**GOOD, **changes})


def parsed(text: str, *, told: str = TOLD) -> Completion:
    return parse_completion(text, categories=NAMES, instructions=told)


def refusal(text: str) -> FailureKind:
    with pytest.raises(CompletionInvalid) as refused:
        parsed(text)
    return refused.value.kind


def test_good_answer_is_read_whole() -> None:
    assert parsed(answer()) == Completion(
        "Payment Issue",
        Priority.HIGH,
        Decision.STANDARD_RESPONSE,
        0.25,
        "de",
        "Check the last charge and tell the customer.",
        "The customer was charged twice.",
    )


def test_one_code_fence_around_the_answer_is_taken_off() -> None:
    assert parsed(f"```json\n{answer()}\n```") == parsed(f"  ```\n{answer()}```") == parsed(answer())


def test_members_that_nobody_asked_for_are_left_alone() -> None:
    assert parsed(answer(confidence=0.99, note="x" * 500)) == parsed(answer())


def test_answer_has_what_the_schema_asks_for() -> None:
    schema = answer_schema(NAMES)
    assert set(schema["required"]) == set(GOOD)
    assert schema["properties"]["category"]["enum"] == NAMES


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", FailureKind.EMPTY),
        (" \n", FailureKind.EMPTY),
        ("x" * (MAX_ANSWER + 1), FailureKind.TOO_LARGE),
        ("I think that it is a payment issue.", FailureKind.BAD_JSON),
        (f"Here you are: {answer()}", FailureKind.BAD_JSON),
        (answer() + answer(category="Other"), FailureKind.BAD_JSON),
        (answer()[:-1], FailureKind.BAD_JSON),
        (answer()[:-1] + ', "priority": "low"}', FailureKind.BAD_JSON),
        (answer(churn_risk=float("nan")), FailureKind.BAD_JSON),
        (answer(churn_risk=float("inf")), FailureKind.BAD_JSON),
        ("[" * 10_000, FailureKind.BAD_JSON),
        ("[]", FailureKind.BAD_SCHEMA),
        ('"Payment Issue"', FailureKind.BAD_SCHEMA),
        ("{}", FailureKind.BAD_SCHEMA),
        (answer(category="payment issue"), FailureKind.BAD_SCHEMA),
        (answer(category="Somebody else's"), FailureKind.BAD_SCHEMA),
        (answer(category=["Other"]), FailureKind.BAD_SCHEMA),
        (answer(priority="lowest"), FailureKind.BAD_SCHEMA),
        (answer(decision="delete"), FailureKind.BAD_SCHEMA),
        (answer(churn_risk=-0.01), FailureKind.BAD_SCHEMA),
        (answer(churn_risk=1.01), FailureKind.BAD_SCHEMA),
        (answer(churn_risk="0.5"), FailureKind.BAD_SCHEMA),
        (answer(churn_risk=True), FailureKind.BAD_SCHEMA),
        (answer(churn_risk=None), FailureKind.BAD_SCHEMA),
        (answer(language=None), FailureKind.BAD_SCHEMA),
        (answer(action={"text": "x"}), FailureKind.BAD_SCHEMA),
        (answer(reason=7), FailureKind.BAD_SCHEMA),
    ],
)
def test_answer_that_does_not_fit_is_refused_by_kind(text: str, kind: FailureKind) -> None:
    assert refusal(text) is kind


def test_refusal_quotes_nothing_of_the_answer() -> None:
    with pytest.raises(CompletionInvalid) as refused:
        parsed(answer(category="hunter2"))
    assert str(refused.value) == "bad_schema"
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(("said", "read"), [("EN-us", "en"), (" pt_BR", "pt"), ("sv", None), ("", None), ("<b>", None)])
def test_language_is_one_of_ours_or_none(said: str, read: str | None) -> None:
    assert parsed(answer(language=said)).language == read


def test_text_that_is_not_fit_to_be_shown_is_withheld_and_the_opinion_stays() -> None:
    found = parsed(answer(action="See https://evil.example now.", reason="<b>It</b> says so."))
    assert (found.action, found.reason) == ("", "")
    assert (found.category, found.priority) == ("Payment Issue", Priority.HIGH)


def test_step_that_goes_with_ignoring_a_message_is_withheld() -> None:
    assert parsed(answer(decision="ignore")).action == ""
    assert parsed(answer(decision="ignore")).reason == GOOD["reason"]


def _letters_of_told(count: int) -> str:
    """A piece of the instructions with so many letters in it."""
    start = TOLD.index("Its strings were")
    for end in range(start, len(TOLD)):
        if sum(sign.isalnum() for sign in TOLD[start:end]) == count:
            return TOLD[start:end]
    raise AssertionError


def test_answer_that_repeats_its_instructions_is_refused() -> None:
    piece = _letters_of_told(LEAK)
    for form in (piece, piece.upper(), piece[::-1], "-".join(piece), "\n".join(piece)):
        assert refusal(answer(reason=form)) is FailureKind.LEAK
        assert refusal(answer(action=form)) is FailureKind.LEAK


def test_instructions_in_many_short_pieces_are_a_leak_too() -> None:
    letters = "".join(TOLD.split())
    pieces = [letters[start : start + 20] for start in range(0, 300, 20)]
    assert refusal(answer(reason=" +++ ".join(pieces))) is FailureKind.LEAK


def test_phrase_of_the_instructions_costs_the_texts_and_no_more() -> None:
    found = parsed(answer(reason=f"The customer says {_letters_of_told(ECHO)}"))
    assert (found.action, found.reason) == ("", "")
    assert found.category == "Payment Issue"


def test_few_words_that_the_instructions_have_too_are_shown() -> None:
    reason = "The writer cannot work and is about to leave."
    assert parsed(answer(reason=reason)).reason == reason


def test_only_what_is_shown_counts_as_a_leak() -> None:
    assert parsed(answer(reason=GOOD["reason"], note=TOLD)) == parsed(answer())


@pytest.mark.parametrize("outcome", list(Outcome))
def test_spent_budget_and_an_answer_are_no_failure(outcome: Outcome) -> None:
    assert Asked(outcome).failed is (outcome not in {Outcome.ANSWERED, Outcome.BUDGET})
