"""Whole short messages, in every language: a call for help is never noise, a greeting is."""

import pytest

from firstline.adapters.local_model import LocalModel
from firstline.core.cascade import settle
from firstline.core.message import Message, facts_of
from firstline.core.policy import Policy
from firstline.core.rules import RuleBook
from firstline.core.taxonomy import Contract, Decision, UserPlan
from firstline.core.verdict import Verdict

PLEAS = [
    "help", "Help!!", "SOS", "urgent", "Hilfe", "au secours", "À l'aide", "¡Ayúdame!", "socorro", "aiuto", "help mij",
    "ratunku", "помогите!", "imdat", "yardım edin", "救命", "帮帮我", "助けて", "도와주세요", "النجدة",
]  # fmt: skip


def decide(text: str, book: RuleBook, model: LocalModel, plan: UserPlan = UserPlan.FREE) -> Verdict:
    facts = facts_of(Message(text, Contract.DECISION, plan))
    return settle(facts, book.evaluate(text, facts), model.predict(text), Policy(), rules_hash="")


@pytest.mark.parametrize("text", PLEAS)
def test_a_short_call_for_help_is_never_ignored(text: str, book: RuleBook, model: LocalModel) -> None:
    assert decide(text, book, model).decision is not Decision.IGNORE


@pytest.mark.parametrize("text", ["hi", "ok", "asdf", "谢谢", "?", "👍"])
def test_a_short_message_that_wants_nothing_is_ignored(text: str, book: RuleBook, model: LocalModel) -> None:
    assert decide(text, book, model).decision is Decision.IGNORE


@pytest.mark.parametrize("text", ["cancel", "Please cancel", "unsubscribe", "refund", "Refund request", "money back!"])
def test_one_word_of_leaving_from_an_enterprise_customer_is_prioritised(
    text: str, book: RuleBook, model: LocalModel
) -> None:
    assert decide(text, book, model, UserPlan.ENTERPRISE).decision is Decision.PRIORITY_RESPONSE
