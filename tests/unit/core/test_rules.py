"""Matching: guards, conditions, spans, and how packs work together."""

import pytest

from firstline.core.expressions import ExpressionInvalid
from firstline.core.message import Message, facts_of
from firstline.core.rules import MAX_SPANS, Conditions, Effects, Match, Rule, RuleBook, compile_rules
from firstline.core.taxonomy import Channel, Contract, Decision, Priority, Signal, UserPlan
from firstline.core.terms import TermInvalid


def evaluate(rules: list[Rule], text: str, *, language: str | None = None, **fields: object) -> tuple[Match, ...]:
    message = Message(text, Contract.DECISION, **fields)  # type: ignore[arg-type]
    return RuleBook(rules).evaluate(text, facts_of(message), language=language)


SUE = Rule("a/sue", Signal.LEGAL, ("sue",), ("sue from accounting",))


def test_a_guard_cancels_the_hit_that_it_overlaps() -> None:
    assert evaluate([SUE], "Ask Sue from accounting") == ()


def test_a_guard_leaves_the_other_hits_of_the_same_rule() -> None:
    text = "Ask Sue from accounting. I will sue you"
    (match,) = evaluate([SUE], text)
    assert [text[start:end] for start, end in match.spans] == ["sue"]


def test_a_guard_leaves_a_hit_beside_it_in_the_same_sentence() -> None:
    text = "sue Sue from accounting"
    (match,) = evaluate([SUE], text)
    assert match.spans == ((0, 3),)


def test_guards_of_rules_with_one_name_work_together_across_packs() -> None:
    own = Rule("own/sue", None, ("nothing here",), ("sue the dinosaur",), then=Effects(priority=Priority.HIGH))
    assert evaluate([SUE], "We love Sue the dinosaur") != ()
    assert evaluate([own, SUE], "We love Sue the dinosaur") == ()


def test_own_rules_come_before_the_shipped_ones_and_guard_them() -> None:
    own = Rule("own/sue", None, ("you",), ("sue the dinosaur",), then=Effects(priority=Priority.HIGH))
    book, together = RuleBook([own], compile_rules([SUE])), RuleBook([own, SUE])
    for text in ("We love Sue the dinosaur", "I sue you", "I s-u-e the dinosaur", "You! I w i l l s u e y o u"):
        facts = facts_of(Message(text, Contract.DECISION))
        assert book.evaluate(text, facts) == together.evaluate(text, facts)
    facts = facts_of(Message("I sue you", Contract.DECISION))
    assert [match.rule for match in book.evaluate("I sue you", facts)] == ["own/sue", "a/sue"]
    assert book.content_hash != RuleBook([SUE]).content_hash


def test_letters_one_by_one_spell_the_words_of_a_term() -> None:
    assert evaluate([Rule("a/x", Signal.LEGAL, ("i sue you",))], "I s u e y o u") != ()


def test_guards_of_a_rule_with_another_name_do_not_count() -> None:
    other = Rule("own/other", None, ("nothing here",), ("sue the dinosaur",))
    assert evaluate([other, SUE], "We love Sue the dinosaur") != ()


def test_a_guard_counts_in_a_reading_that_joined_its_words() -> None:
    assert evaluate([Rule("a/x", Signal.LEGAL, ("courtdate",), ("court date",))], "a court-date for us") == ()


def test_an_expression_is_guarded_by_expressions() -> None:
    rule = Rule("a/code", Signal.OUTAGE, patterns=(r"err-\d{4}",), guard_patterns=(r"err-0000",))
    assert evaluate([rule], "ERR-0000") == ()
    assert evaluate([rule], "See ERR-1234!")[0].spans == ((4, 12),)


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        (Conditions(), True),
        (Conditions(plans=(UserPlan.ENTERPRISE, UserPlan.PRO)), True),
        (Conditions(plans=(UserPlan.FREE,)), False),
        (Conditions(channels=(Channel.CHAT,)), True),
        (Conditions(channels=(Channel.EMAIL,)), False),
        (Conditions(languages=("en", "de")), True),
        (Conditions(languages=("de",)), False),
        (Conditions(history_min=2), True),
        (Conditions(history_min=3), False),
        (Conditions(plans=(UserPlan.PRO,), channels=(Channel.EMAIL,)), False),
    ],
)
def test_a_rule_applies_when_all_its_conditions_hold(when: Conditions, holds: bool) -> None:
    rule = Rule("a/x", Signal.LEGAL, ("sue",), when=when)
    found = evaluate([rule], "sue", language="en", plan=UserPlan.PRO, channel=Channel.CHAT, history=("one", "two"))
    assert bool(found) is holds


def test_a_rule_for_a_language_does_not_apply_when_none_was_detected() -> None:
    rule = Rule("a/x", Signal.LEGAL, ("sue",), when=Conditions(languages=("en",)))
    assert evaluate([rule], "sue", language=None) == ()


def test_matches_come_in_the_order_of_the_packs_with_their_effects() -> None:
    then = Effects(decision=Decision.PRIORITY_RESPONSE, action="Call.")
    rules = [Rule("b/2", Signal.LEGAL, ("you",)), Rule("a/1", None, ("sue",), then=then)]
    assert evaluate(rules, "sue you") == (
        Match("b/2", Signal.LEGAL, ((4, 7),)),
        Match("a/1", None, ((0, 3),), then),
    )


def test_spans_of_one_rule_are_bounded_and_ascend() -> None:
    (match,) = evaluate([SUE], "sue " * 500)
    assert len(match.spans) == MAX_SPANS
    assert list(match.spans) == sorted(match.spans)


def test_neighbouring_hits_share_the_space_between_them() -> None:
    (match,) = evaluate([SUE], "sue sue")
    assert match.spans == ((0, 3), (4, 7))


def test_the_content_hash_names_the_rules() -> None:
    assert RuleBook([SUE]).content_hash == RuleBook([SUE]).content_hash
    assert RuleBook([SUE]).content_hash != RuleBook([Rule("a/sue", Signal.LEGAL, ("sue",))]).content_hash


def test_a_rule_that_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(TermInvalid):
        RuleBook([Rule("a/x", Signal.LEGAL, ("(sue",))])
    with pytest.raises(ExpressionInvalid):
        RuleBook([Rule("a/x", Signal.LEGAL, patterns=("(",))])


def test_an_empty_book_matches_nothing() -> None:
    assert evaluate([], "I will sue you") == ()


@pytest.mark.parametrize(
    "text",
    [
        "This issue is urgent",
        "I need a tissue",
        "As a courtesy, please call",
        "Sue from accounting will call you",
        "We are a law firm that wants 40 seats",
        "Can I change my court booking for tennis?",
        "Is there an attorney discount?",
    ],
)
def test_words_that_only_look_like_a_threat_are_none(book: RuleBook, text: str) -> None:
    matches = book.evaluate(text, facts_of(Message(text, Contract.DECISION)))
    assert [match.rule for match in matches if match.signal is Signal.LEGAL] == []


@pytest.mark.parametrize(
    "text",
    [
        "I will talk to my l4wyer",
        "I will s u e you",
        "I will suе you",
        "I will s\u200bue you",
        "I w i l l s u e y o u",
        "I WILL SUE YOU",
        "This is a lawsuit",
        "Legal action follows",
        "See you in court!",
        "You are in breach of contract",
    ],
)
def test_a_threat_is_one_however_it_is_written(book: RuleBook, text: str) -> None:
    matches = book.evaluate(text, facts_of(Message(text, Contract.DECISION)))
    assert Signal.LEGAL in {match.signal for match in matches}
