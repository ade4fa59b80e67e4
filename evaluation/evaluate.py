"""Figures on the held-out text: `python evaluation/evaluate.py`; nothing here is trained or tuned on.

Categories are judged by the shipped model's likeliest one, signals by whether a rule fired. The text is synthetic and
of our own (see evaluation/heldout/README.md).
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from firstline.adapters.local_model import load_local_model
from firstline.adapters.rule_files import builtin_rules
from firstline.core.message import Message, facts_of
from firstline.core.rules import RuleBook
from firstline.core.taxonomy import LANGUAGES, Contract, Signal
from firstline.learning.calibration import expected_calibration_error

HELD_OUT = Path(__file__).parent / "heldout"
SIGNALS = (Signal.LEGAL, Signal.SAFETY, Signal.SECURITY, Signal.OUTAGE, Signal.SPAM, Signal.CHURN)


def entries(language: str) -> Iterator[dict[str, object]]:
    for line in (HELD_OUT / f"{language}.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def main() -> None:
    model = load_local_model()
    book = RuleBook(builtin_rules())
    print(f"model {model.name}, {len(book.rules)} rules\n")
    header = "".join(f"{signal:>16}" for signal in SIGNALS)
    print(f"{'':4}{'category':>10}{'language':>10}{header}      (caught / left alone)")
    caught: dict[tuple[Signal, bool], list[bool]] = defaultdict(list)
    all_probabilities, all_labels = [], []
    for language in LANGUAGES:
        right, named = [], []
        here: dict[tuple[Signal, bool], list[bool]] = defaultdict(list)
        for entry in entries(language):
            text = str(entry["text"])
            if "category" in entry:
                prediction = model.predict(text)
                right.append(prediction.best[0] == entry["category"])
                named.append(prediction.language == language)
                all_probabilities.append([prediction.probabilities[name] for name in model.categories])
                all_labels.append(model.categories.index(str(entry["category"])))
            else:
                signal, expected = Signal(str(entry["signal"])), bool(entry["expected"])
                matches = book.evaluate(text, facts_of(Message(text, Contract.DECISION)))
                ok = any(match.signal is signal for match in matches) == expected
                here[signal, expected].append(ok)
                caught[signal, expected].append(ok)
        cells = "".join(f"{_pair(here, signal):>16}" for signal in SIGNALS)
        print(f"{language:4}{np.mean(right):10.2f}{np.mean(named):10.2f}{cells}")
    probabilities, labels = np.array(all_probabilities), np.array(all_labels)
    overall = float((probabilities.argmax(axis=1) == labels).mean())
    error = expected_calibration_error(probabilities, labels)
    print(f"{'all':4}{overall:10.2f}{'':10}" + "".join(f"{_pair(caught, signal):>16}" for signal in SIGNALS))
    print(f"\ncategory: {len(labels)} lines, accuracy {overall:.3f}, expected calibration error {error:.3f}")


def _pair(found: dict[tuple[Signal, bool], list[bool]], signal: Signal) -> str:
    return f"{np.mean(found[signal, True]):.2f} / {np.mean(found[signal, False]):.2f}"


if __name__ == "__main__":
    main()
