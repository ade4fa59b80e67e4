"""What a judgement means, and what judgements together say about probabilities."""

import pytest

from firstline.core.feedback import (
    Answer,
    FeedbackInvalid,
    Judgement,
    Tally,
    band_name,
    band_of,
    calibration_error,
    right_answer,
    wilson,
)
from firstline.core.taxonomy import Decision, Priority

SEEN = Answer("Other", Priority.MEDIUM, Decision.STANDARD_RESPONSE)


def right(judgement: Judgement, *, by_person: bool = False) -> Answer | None:
    return right_answer(judgement, SEEN, revision=1, by_person=by_person)


def test_what_is_not_named_was_right() -> None:
    assert right(Judgement(category="Payment Issue")) == Answer("Payment Issue", SEEN.priority, SEEN.decision)
    assert right(Judgement(priority=Priority.LOW)) == Answer("Other", Priority.LOW, SEEN.decision)
    assert right(Judgement(correct=False, decision=Decision.IGNORE)) == Answer("Other", SEEN.priority, Decision.IGNORE)


def test_a_confirmation_makes_what_was_seen_right() -> None:
    assert right(Judgement(correct=True)) == SEEN
    assert right(Judgement(correct=True, category="Other", priority=Priority.MEDIUM)) == SEEN
    assert right(Judgement(category="Other")) == SEEN


def test_wrong_alone_does_not_say_what_is_right() -> None:
    assert right(Judgement(correct=False)) is None


@pytest.mark.parametrize(
    ("judgement", "by_person", "field", "said"),
    [
        (Judgement(), False, "body", "name the right category"),
        (Judgement(correct=True, category="Payment Issue"), False, "category", "although `correct` is true"),
        (Judgement(correct=True, priority=Priority.LOW), False, "priority", "revision 1"),
        (Judgement(correct=True, decision=Decision.IGNORE), False, "decision", "revision 1"),
        (Judgement(correct=False, category="Other"), False, "correct", "false, but everything"),
        (Judgement(correct=False), True, "correct", "a person's correction"),
    ],
)
def test_a_contradiction_is_named(judgement: Judgement, by_person: bool, field: str, said: str) -> None:
    with pytest.raises(FeedbackInvalid, match=said) as raised:
        right(judgement, by_person=by_person)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("probability", "band", "name"),
    [
        (0.0, 0, "0.0-0.1"),
        (0.09999, 0, "0.0-0.1"),
        (0.1, 1, "0.1-0.2"),
        (0.3, 3, "0.3-0.4"),
        (0.7, 7, "0.7-0.8"),
        (0.9, 9, "0.9-1.0"),
        (1.0, 9, "0.9-1.0"),
    ],
)
def test_a_probability_lies_in_one_band(probability: float, band: int, name: str) -> None:
    assert (band_of(probability), band_name(probability)) == (band, name)


def test_bounds_are_those_of_the_books() -> None:
    low, high = wilson(81, 263)  # Newcombe 1998, table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = wilson(0, 20)
    assert (low, round(high, 4)) == (0.0, 0.1611)
    low, high = wilson(1, 29)
    assert (round(low, 4), round(high, 4)) == (0.0061, 0.1718)
    assert wilson(20, 20)[1] == 1.0


def test_bounds_hold_the_share_and_narrow_with_more_tickets() -> None:
    for of in (1, 2, 7, 50, 5_000):
        for share in (0, of // 3, of):
            low, high = wilson(share, of)
            assert 0 <= low <= share / of <= high <= 1
    assert wilson(300, 1_000)[1] - wilson(300, 1_000)[0] < wilson(3, 10)[1] - wilson(3, 10)[0]


def test_calibration_error_weighs_gaps_by_their_tickets() -> None:
    kept = Tally(10, 9, 9.0)
    broken = Tally(30, 15, 24.0)
    assert calibration_error([kept, broken]) == pytest.approx(9 / 40)
    assert calibration_error([kept]) == pytest.approx(0.0)
    assert calibration_error([]) is None
    assert calibration_error([Tally()]) is None


def test_nothing_judged_has_no_share() -> None:
    nothing = Tally()
    assert (nothing.share, nothing.mean_probability, nothing.interval) == (None, None, None)
    both = Tally(1, 1, 0.5) + Tally(3, 0, 1.5)
    assert (both.share, both.mean_probability) == (0.25, 0.5)
