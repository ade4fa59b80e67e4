"""The term language, row by row as docs/rules.md defines it."""

import re
from time import process_time

import pytest

from firstline.core.message import Message, facts_of
from firstline.core.rules import Rule, RuleBook
from firstline.core.taxonomy import Contract, Signal
from firstline.core.terms import TermInvalid, parse_term


def found(term: str, text: str) -> list[str]:
    """The pieces of a text that a term matches."""
    book = RuleBook([Rule("t/t", Signal.LEGAL, (term,))])
    matches = book.evaluate(text, facts_of(Message(text, Contract.DECISION)))
    return [text[start:end] for match in matches for start, end in match.spans]


@pytest.mark.parametrize(
    ("term", "text", "piece"),
    [
        ("legal action", "We take LEGAL action!", "LEGAL action"),
        ("legal action", "a legal-action team", "legal-action"),
        ("i'll sue", "i ll sue", "i ll sue"),
        ("i ll sue", "Now I’ll sue", "I’ll sue"),
        ("e-mail", "an e mail", "e mail"),
        ("lawyer*", "two lawyers", "lawyers"),
        ("lawyer*", "a lawyer", "lawyer"),
        ("*anwalt", "Mein Rechtsanwalt", "Rechtsanwalt"),
        ("*anwalt", "Mein Anwalt", "Anwalt"),
        ("*anwalt*", "des Rechtsanwalts", "Rechtsanwalts"),
        ("(sue|take to court)", "I take to court", "take to court"),
        ("(sue|take to court) you", "sue you", "sue you"),
        ("[really] sue", "sue", "sue"),
        ("[really] sue", "really sue", "really sue"),
        ("will [really|surely] sue", "will surely sue", "will surely sue"),
        ("hire .. lawyer", "hire lawyer", "hire lawyer"),
        ("hire .. lawyer", "hire one good local lawyer", "hire one good local lawyer"),
        (
            "refund ... lawyer",
            "refund me or you shall hear from my lawyer",
            "refund me or you shall hear from my lawyer",
        ),
        ("refund … lawyer", "refund or lawyer", "refund or lawyer"),
        ("律师", "我要找律师", "律师"),
        ("律师", "找 律 师", "律 师"),
        ("起诉...法院", "起诉你到法院去", "起诉你到法院"),
        ("弁護士", "弁護士に相談", "弁護士"),
        ("법적 조치", "법적조치를 하겠다", "법적조치를"),
        ("법적 조치", "법적 조치", "법적 조치"),
        ("법적 адвокат", "법적адвокат", "법적адвокат"),
        ("адвокат 법적", "адвокат법적으로", "адвокат법적으로"),
        ("법적 ... محامي", "법적محامي", "법적محامي"),
        ("법적адвокат", "법적으로 адвокат", "법적으로 адвокат"),
        ("محامي", "والمحامي هنا", "والمحامي"),
        ("café", "CAFE", "CAFE"),
        ("cafe", "Café", "Café"),
        ("STRASSE", "die Straße", "Straße"),
        ("ёлка", "елка", "елка"),
    ],
)
def test_a_term_matches(term: str, text: str, piece: str) -> None:
    assert found(term, text) == [piece]


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("sue", "This issue, a tissue and some courtesy"),
        ("legal action", "action legal"),
        ("e-mail", "email"),
        ("lawyer*", "outlawyer"),
        ("*anwalt", "Anwaltskosten"),
        ("hire .. lawyer", "hire one good local honest lawyer"),
        ("hire .. lawyer", "We hire. Lawyer"),
        ("refund ... lawyer", "A refund. My lawyer is nice."),
        ("refund ... lawyer", "A refund\n\nlawyer"),
        ("(sue|take to court) you", "take to you"),
        ("법적", "불법적이다"),
        ("суд", "судьба"),
        ("rembours", "remboursé"),
    ],
)
def test_a_term_does_not_match(term: str, text: str) -> None:
    assert found(term, text) == []


@pytest.mark.parametrize(
    ("term", "problem"),
    [
        ("...", "at least one letter"),
        ("(|)", "at least one letter"),
        ("... sue", "cannot begin or end with a gap"),
        ("sue ..", "cannot begin or end with a gap"),
        ("(sue", "')' is missing"),
        ("[sue", "']' is missing"),
        ("(sue]", "')' is missing"),
        ("sue)", "unexpected ')'"),
        ("sue | court", "unexpected '|'"),
        ("(sue|)", "empty"),
        ("() sue", "empty"),
        ("[really]", "empty"),
        ("s*e", "beginning or the end"),
    ],
)
def test_a_term_that_cannot_be_meant_is_refused_with_a_reason(term: str, problem: str) -> None:
    with pytest.raises(TermInvalid, match=re.escape(problem)):
        parse_term(term)


@pytest.mark.parametrize(
    ("term", "text", "piece"),
    [
        ("(you|you all) ... court", "you all, in court", "you all, in court"),
        ("(you|you all) [in court]", "you all in court", "you"),
        ("(you all|you) [in court]", "you all in court", "you all in court"),
        ("sue (.. you|them)", "sue all of you", "sue all of you"),
        ("(.. sue|court) you", "I will sue you", "I will sue you"),
        ("([not] sue|court) you", "sue you", "sue you"),
        ("[not] [to|(never|not)] sue", "I sue", "sue"),
        ("hire .. .. lawyer", "hire one two three four five six lawyer", "hire one two three four five six lawyer"),
        ("sue ... ... you ... now", "sue and sue and you or now or now", "sue and sue and you or now"),
        (
            "a ... z",
            "a b c d e f g h i j k l m n o p q r s t u v w x y z",
            "a b c d e f g h i j k l m n o p q r s t u v w x y z",
        ),
        ("법적 .. 조치", "법적 책임과 조치를", "법적 책임과 조치를"),
        ("법적 대응 조치", "법적대응조치를 취함", "법적대응조치를"),
        ("*anwalt droht", "Rechtsanwalt droht", "Rechtsanwalt droht"),
        ("*anwalt* droht", "Fachanwältin droht", "Fachanwältin droht"),
        ("محكمة", "وبالمحكمة هنا", "وبالمحكمة"),
    ],
)
def test_of_several_ways_to_match_the_first_that_the_term_names_is_taken(term: str, text: str, piece: str) -> None:
    assert found(term, text)[:1] == [piece]


def test_a_long_text_that_repeats_a_term_without_its_end_costs_little() -> None:
    text = "sue or court " * 400
    began = process_time()
    assert found("(sue|sue or|court) ... [or] (sue|court) .. court ... (or|sue) ... never", text + "sue") == []
    assert found("(sue|court) .. (sue|court) ... (sue|court) ... never", text + "never")
    assert process_time() - began < 2.0
