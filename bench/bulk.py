"""The bulk path on one core against TF-IDF and logistic regression on the same texts, in turns."""

import json
import os
import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench import texts
from bench.cores import Cores
from firstline.adapters.local_model import load_local_model
from firstline.core.taxonomy import Contract
from firstline.delivery.cli.bulk import RowDecider
from firstline.delivery.cli.triage import Task
from firstline.ports.bulk import Item
from firstline.settings import load_settings
from firstline.usecases.bulk import CHUNK_ROWS

TARGET: Final = 1.5
"""Times the texts per second and core of TF-IDF and logistic regression."""

_CORPUS: Final = Path(__file__).parents[1] / "training" / "corpus"
_SEED: Final = 7


def run(console: Console, cores: Cores, quick: bool) -> None:
    """Measure texts per second of CPU time: the whole verdict, the model, the rules, and scikit-learn."""
    if os.environ.setdefault("OPENBLAS_NUM_THREADS", "1") != "1":
        console.print("OPENBLAS_NUM_THREADS is set: CPU time may be that of several threads.")
    rounds, chunks = (3, 2) if quick else (5, 4)
    rows = _rows()
    random.Random(_SEED).shuffle(rows)
    training, measured = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    settings = load_settings(env_file=None)
    decide = RowDecider(settings, Task("-", Contract.CLASSIFIER))
    decide.load()
    ways: dict[str, Callable[[Sequence[str]], object]] = {
        "firstline: rows to verdicts": lambda part: decide([Item(text) for text in part]),
        "  its model alone": load_local_model(settings.model_file).predict_many,
    }
    baseline = "scikit-learn: TF-IDF + logistic regression"
    try:
        ways |= {
            baseline: _linear(training, words=(1, 2), letters=(2, 5)),
            "scikit-learn, words alone": _linear(training, words=(1, 2), letters=None),
        }
    except ImportError:
        console.print("scikit-learn is not installed here (make .venv/.train has it): no comparison.")
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, work in ways.items():
            part = [text for text, _ in _part(measured, number * chunks * CHUNK_ROWS, chunks * CHUNK_ROWS)]
            began = process_time()
            for start in range(0, len(part), CHUNK_ROWS):
                work(part[start : start + CHUNK_ROWS])
            if number:  # the first turn warms up
                spent[name].append((process_time() - began) / len(part) * 1e6)
    _print(console, spent, baseline, characters=sum(len(text) for text, _ in rows) / len(rows))


def _rows() -> list[tuple[str, str]]:
    """Texts of the training corpus with their categories; those of the other measurements where there is none."""
    found = [
        (row["text"], row.get("category") or "Other")
        for path in sorted(_CORPUS.glob("*.jsonl"))
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    ]
    return found or [(text, str(number % 5)) for number, text in enumerate(texts.tickets(20_000))]


def _part(rows: list[tuple[str, str]], start: int, count: int) -> list[tuple[str, str]]:
    return [rows[place % len(rows)] for place in range(start, start + count)]


def _linear(
    rows: list[tuple[str, str]], *, words: tuple[int, int], letters: tuple[int, int] | None
) -> Callable[[Sequence[str]], Any]:
    """A fitted pipeline; raises ImportError where scikit-learn is not installed."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    parts = [TfidfVectorizer(ngram_range=words, sublinear_tf=True)]
    if letters:
        parts.append(TfidfVectorizer(analyzer="char_wb", ngram_range=letters, sublinear_tf=True))
    pipeline = make_pipeline(make_union(*parts), LogisticRegression(C=10, max_iter=50))
    sample = rows[:4_000]  # how well it is fitted changes nothing about what a text costs
    with warnings.catch_warnings(action="ignore"):  # that it could be fitted better
        pipeline.fit([text for text, _ in sample], [label for _, label in sample])
    predict: Callable[[Sequence[str]], Any] = pipeline.predict_proba
    return predict


def _print(console: Console, spent: dict[str, list[float]], baseline: str, *, characters: float) -> None:
    table = Table(title=f"Bulk, one core, CPU time; texts of the corpus, {characters:.0f} characters on average")
    for heading in ("", "texts/s median", "min", "max", "x scikit-learn"):
        table.add_column(heading, justify="right" if heading else "left")
    base = median(spent[baseline]) if baseline in spent else None
    for number, (name, us) in enumerate(spent.items()):
        ratio = base / median(us) if base else None
        reached = f" ≥ {TARGET:g} {'reached' if ratio >= TARGET else 'MISSED'}" if ratio and number == 0 else ""
        table.add_row(
            name,
            f"{1e6 / median(us):,.0f}",
            f"{1e6 / max(us):,.0f}",
            f"{1e6 / min(us):,.0f}",
            f"{ratio:.2f}{reached}" if ratio else "",
        )
    console.print(table)
