"""Figures on the held-out text: `python evaluation/evaluate.py`; nothing here is trained or tuned on.

Categories are judged by the shipped model's likeliest one; signals by whether a rule fired, and by whether rules and
the model's second line together raised the message. The text is synthetic and of our own (see
evaluation/heldout/README.md).
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from firstline.adapters.local_model import LocalModel, load_local_model
from firstline.adapters.shipped_rules import shipped_rules
from firstline.core.cascade import settle
from firstline.core.message import Message, facts_of
from firstline.core.policy import Policy
from firstline.core.rules import RuleBook
from firstline.core.taxonomy import FALLBACK_CATEGORY, LANGUAGES, Contract, Decision, Signal
from firstline.core.verdict import Verdict
from firstline.learning.calibration import expected_calibration_error

HELD_OUT = Path(__file__).parent / "heldout"
SIGNALS = (Signal.LEGAL, Signal.SAFETY, Signal.SECURITY, Signal.OUTAGE, Signal.SPAM, Signal.CHURN)
SURE = 0.98


def entries(name: str) -> Iterator[dict[str, Any]]:
    for line in (HELD_OUT / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def decide(text: str, model: LocalModel, book: RuleBook, policy: Policy) -> Verdict:
    facts = facts_of(Message(text, Contract.DECISION))
    prediction = model.predict(text)
    matches = book.evaluate(text, facts, language=prediction.language)
    return settle(facts, matches, prediction, policy, rules_hash="")


def found_by(verdict: Verdict, signal: Signal) -> tuple[bool, bool]:
    """Whether a rule has found a signal, and whether rules and model together have."""
    assert verdict.evidence is not None
    assert verdict.evidence.prediction is not None
    ruled = any(match.signal is signal for match in verdict.evidence.matches)
    if signal is Signal.SPAM:
        return ruled, ruled or verdict.decision is Decision.IGNORE
    suspected = f"suspects {signal} " in " ".join(reason.text for reason in verdict.reasons)
    return ruled, ruled or suspected


def main() -> None:
    model, book, policy = load_local_model(), RuleBook((), shipped_rules()), Policy()
    print(f"model {model.name}, {len(book.rules)} rules\n")
    caught: dict[tuple[Signal, bool, int], list[bool]] = defaultdict(list)
    all_probabilities, all_labels, all_languages = [], [], []
    in_scope_abstained = []
    for language in LANGUAGES:
        for entry in entries(language):
            text = str(entry["text"])
            verdict = decide(text, model, book, policy)
            if "category" in entry:
                assert verdict.evidence is not None
                prediction = verdict.evidence.prediction
                assert prediction is not None
                in_scope_abstained.append(prediction.abstained is not None)
                all_probabilities.append([prediction.probabilities[name] for name in model.hybrid.categories])
                all_labels.append(model.hybrid.categories.index(str(entry["category"])))
                all_languages.append((language, prediction.language))
            else:
                signal, expected = Signal(str(entry["signal"])), bool(entry["expected"])
                for who, found in enumerate(found_by(verdict, signal)):
                    caught[signal, expected, who].append(found == expected)
    probabilities, labels = np.array(all_probabilities), np.array(all_labels)
    expected_languages = np.array([language for language, _ in all_languages])
    named = np.array([named == language for language, named in all_languages])
    print(f"{'':10}{'n':>5}{'category':>10}{'ECE':>7}{'language':>10}{f'coverage at {SURE:.0%}':>18}")
    for language in (*LANGUAGES, "all"):
        mask = np.ones(len(labels), bool) if language == "all" else expected_languages == language
        right = probabilities[mask].argmax(axis=1) == labels[mask]
        error = expected_calibration_error(probabilities[mask], labels[mask])
        share = _coverage(probabilities[mask].max(axis=1), right)
        print(f"{language:10}{mask.sum():5}{right.mean():10.3f}{error:7.3f}{named[mask].mean():10.3f}{share:18.2f}")
    print(f"\n{'signal':10}{'rules: caught / left alone':>30}{'with the second line':>30}")
    for signal in SIGNALS:
        cells = [
            f"{np.mean(caught[signal, True, who]):.2f} / {np.mean(caught[signal, False, who]):.2f}" for who in (0, 1)
        ]
        print(f"{signal:10}{cells[0]:>30}{cells[1]:>30}")
    outside = [decide(entry["text"], model, book, policy) for entry in entries("out-of-scope")]
    good = np.mean([verdict.category == FALLBACK_CATEGORY for verdict in outside])
    foreign = [model.predict(entry["text"]).abstained is not None for entry in entries("unsupported")]
    print(f"\nout of scope: {len(outside)} messages, {good:.3f} abstained or {FALLBACK_CATEGORY}")
    print(f"unsupported languages: {len(foreign)} messages, {np.mean(foreign):.3f} said to be unsupported")
    print(f"false abstentions in scope: {np.mean(in_scope_abstained):.4f}")


def _coverage(sure: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    """Largest share of messages, the surest first, of which 98 % are right."""
    accuracy = np.cumsum(right[np.argsort(-sure, kind="stable")]) / np.arange(1, len(right) + 1)
    reached = np.flatnonzero(accuracy >= SURE)
    return float((reached[-1] + 1) / len(right)) if len(reached) else 0.0


if __name__ == "__main__":
    main()
