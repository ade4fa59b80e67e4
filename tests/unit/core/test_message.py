"""A message's bounds and its length to a reader."""

import pytest

from firstline.core.message import MAX_HISTORY, Message, facts_of, reader_length, trimmed
from firstline.core.taxonomy import Channel, Contract, UserPlan


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("  hello\n", "hello"),
        ("\u200b\ufeff hello \u2060", "hello"),
        ("\u3000你好\u3000", "你好"),
        ("a  b", "a  b"),
        ("", ""),
        (" \t\n", ""),
        ("\u200b\u200d\ufe0f\u3164\u2800", ""),
        ("\ud800", ""),
        ("a\x00b", "a\ufffdb"),
        ("e\u0301", "e\u0301"),
    ],
)
def test_what_a_reader_does_not_see_is_trimmed_from_both_ends(text: str, kept: str) -> None:
    assert trimmed(text) == kept


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("VPN down", 8),
        ("a   b\n\nc", 5),
        ("我要起诉你们", 15),
        ("すぐに返金", 3 * 1.5 + 2 * 2.5),
        ("도와주세요", 5 * 1.75),
        ("e\u0301te\u0301", 3),
        ("été", 3),
        ("\u200bh\u200bi\u200b", 2),
        ("🇩🇪", 1),
        ("👍", 1),
        ("👍🏽", 1),
        ("👨\u200d👩\u200d👧", 1),
        ("❤️", 1),
        ("", 0),
    ],
)
def test_length_counts_what_a_reader_sees(text: str, length: float) -> None:
    assert reader_length(text) == length


def test_six_chinese_characters_are_a_sentence() -> None:
    assert reader_length("网络连不上了") >= 10


@pytest.mark.parametrize("text", ["why?", "为什么？", "لماذا؟", "¿por qué"])
def test_a_question_mark_of_any_script_is_one(text: str) -> None:
    assert facts_of(Message(text, Contract.DECISION)).has_question


def test_facts_hold_numbers_and_names_only() -> None:
    message = Message(
        "I am leaving", Contract.DECISION, UserPlan.PRO, Channel.CHAT, ("one",) * MAX_HISTORY, "customer", "ticket"
    )
    facts = facts_of(message)
    assert (facts.contract, facts.plan, facts.channel) == (Contract.DECISION, UserPlan.PRO, Channel.CHAT)
    assert (facts.length, facts.has_question, facts.history_count) == (12.0, False, MAX_HISTORY)
