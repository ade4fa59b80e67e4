"""Evidence: settling it again gives the stored verdict exactly, and it holds no word of the message."""

import json
import re
from pathlib import Path

import orjson
import pytest

from firstline.adapters.local_model import LocalModel
from firstline.core.cascade import settle
from firstline.core.message import Message, facts_of
from firstline.core.policy import Policy
from firstline.core.rules import RuleBook
from firstline.core.taxonomy import (
    DEFAULT_CATEGORIES,
    LANGUAGES,
    Channel,
    Contract,
    Decision,
    Priority,
    Signal,
    UserPlan,
)
from firstline.core.verdict import Abstention, Source, Verdict, evidence_from_data, evidence_to_data
from firstline.usecases.records import reason_to_data

VECTORS = Path(__file__).parents[2] / "vectors" / "rules"
PLANS = list(UserPlan)
CHANNELS = [None, *Channel]
_WORD = re.compile(r"[^\W\d_]{4,}")


def texts(language: str) -> list[str]:
    return [entry["text"] for entry in json.loads((VECTORS / f"{language}.json").read_text(encoding="utf-8"))]


def verdicts(language: str, book: RuleBook, model: LocalModel, policy: Policy) -> list[tuple[Message, Verdict]]:
    """A verdict on every text of a language's vectors, under plans, channels and histories in turn."""
    found = []
    for number, text in enumerate(texts(language)):
        message = Message(
            text,
            list(Contract)[number % 2],
            PLANS[number % 3],
            CHANNELS[number % 5],
            ("Earlier words of the same person.",) * (number % 7),
            "customer-reference",
            "external-number",
        )
        facts, predicted = facts_of(message), model.predict(text)
        matches = book.evaluate(text, facts, language=predicted.language)
        found.append((message, settle(facts, matches, predicted, policy, rules_hash=book.content_hash)))
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_settling_stored_evidence_again_gives_the_same_verdict(
    language: str, book: RuleBook, model: LocalModel
) -> None:
    policy = Policy()
    for _, verdict in verdicts(language, book, model, policy):
        assert verdict.evidence is not None
        stored = orjson.dumps(evidence_to_data(verdict.evidence))
        evidence = evidence_from_data(json.loads(stored))
        again = settle(evidence.facts, evidence.matches, evidence.prediction, policy, rules_hash=evidence.rules)
        assert again == verdict
        assert orjson.dumps(evidence_to_data(again.evidence)) == stored  # type: ignore[arg-type]


@pytest.mark.parametrize("language", LANGUAGES)
def test_evidence_and_reasons_hold_no_word_of_the_message(language: str, book: RuleBook, model: LocalModel) -> None:
    own = _own_words(book, model)
    for message, verdict in verdicts(language, book, model, Policy()):
        assert verdict.evidence is not None
        stored = orjson.dumps(
            [evidence_to_data(verdict.evidence), [reason_to_data(reason) for reason in verdict.reasons]]
        ).decode()
        told = set(_WORD.findall(stored.casefold()))
        assert told - own == set(), "a word that firstline does not use itself"
        assert "customer-reference" not in stored
        assert message.text not in stored


def _own_words(book: RuleBook, model: LocalModel) -> set[str]:
    """Every word that evidence and reasons may use: names of firstline's own, and its sentences."""
    names = [str(name) for kind in (Contract, Decision, Priority, Signal, UserPlan, Channel, Source) for name in kind]
    names += [category.name for category in DEFAULT_CATEGORIES] + [rule.id for rule in book.rules]
    names += ["facts thresholds policy rules matches prediction low_confidence review_probability"]
    names += [label for head in model.hybrid.heads.by_name.values() for label in head.labels] + list(Abstention)
    names += ["suspects no rule found it second_line category abstained in a language knows word message"]
    names += ["spam takes for is that does not know no"]
    names += ["and nothing else was found agreed urgency threshold its has probability"]
    names += ["code text rule spans reasons model short plan history low_probability true false null"]
    names += ["Rule matched. The local model says with probability. Under characters and nothing in it says what it"]
    names += ["wants. The customer pays. earlier messages strengthen the complaint. The score is under the threshold"]
    names += ["of. The category's probability is under.", model.name, book.content_hash, Policy().content_hash]
    return {word for name in names for word in _WORD.findall(name.casefold())}


def test_a_rule_s_own_effects_survive_the_store() -> None:
    from firstline.core.rules import Effects, Match

    match = Match("own/x", None, ((0, 3),), Effects(Decision.IGNORE, Priority.LOW, "Other", "Do.", terminal=True))
    facts = facts_of(Message("abc", Contract.DECISION))
    verdict = settle(facts, (match,), None, Policy(), rules_hash="r")
    assert verdict.evidence is not None
    assert evidence_from_data(json.loads(orjson.dumps(evidence_to_data(verdict.evidence)))) == verdict.evidence


def test_evidence_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 99"):
        evidence_from_data({"v": 99})
