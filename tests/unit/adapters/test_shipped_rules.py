"""The file of packed rules against the packs that it is made from."""

from importlib import resources

import pytest

from firstline.adapters import shipped_rules as subject
from firstline.adapters.rule_files import builtin_rules
from firstline.core.message import Message, facts_of
from firstline.core.rules import RuleBook
from firstline.core.taxonomy import Contract

PACKED = resources.files("firstline.data").joinpath("rules", subject.PACKED_NAME)


def test_the_packed_rules_are_those_of_the_packs() -> None:
    assert PACKED.read_bytes() == subject.packed_rules(), "run: python tools/pack_rules.py"
    assert subject.shipped_rules().rules == builtin_rules()


@pytest.mark.parametrize("name", ["missing.bin", "en.yaml"])
def test_without_a_usable_file_the_packs_are_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    few = builtin_rules()[:3]
    monkeypatch.setattr(subject, "PACKED_NAME", name)
    monkeypatch.setattr(subject, "builtin_rules", lambda: few)
    text = "I will sue you"
    shipped, own = subject.shipped_rules(), RuleBook(few)
    assert shipped.rules == few
    facts = facts_of(Message(text, Contract.DECISION))
    assert RuleBook((), shipped).evaluate(text, facts) == own.evaluate(text, facts)
