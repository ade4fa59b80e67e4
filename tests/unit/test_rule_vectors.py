"""The rule packs against their vectors, language by language; the SDKs read the same files."""

import json
from pathlib import Path

import pytest

from firstline.adapters.shipped_rules import shipped_rules
from firstline.core.message import Message, facts_of
from firstline.core.rules import RuleBook
from firstline.core.taxonomy import Contract

VECTORS = Path(__file__).parents[2] / "vectors" / "rules"
BOOK = RuleBook((), shipped_rules())


@pytest.mark.parametrize("language", sorted(path.stem for path in VECTORS.glob("*.json")))
def test_every_vector_fires_exactly_its_signals(language: str) -> None:
    wrong = []
    for vector in json.loads((VECTORS / f"{language}.json").read_text(encoding="utf-8")):
        text = vector["text"]
        matches = BOOK.evaluate(text, facts_of(Message(text, Contract.DECISION)))
        fired = sorted({str(match.signal) for match in matches})
        if fired != sorted(vector["signals"]):
            wrong.append((text, vector["signals"], fired, [match.rule for match in matches]))
    assert wrong == []
