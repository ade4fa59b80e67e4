"""The local model and the rules by themselves, in this process."""

import json
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from statistics import median
from time import perf_counter_ns, process_time

from rich.console import Console
from rich.table import Table

from bench.cores import Cores
from bench.texts import hostile_texts, tickets
from firstline.adapters.local_model import load_local_model
from firstline.bootstrap import Engine, build_engine
from firstline.core.cascade import settle
from firstline.core.message import Message, facts_of
from firstline.core.policy import Policy
from firstline.core.taxonomy import Contract
from firstline.settings import load_settings

LENGTHS = (100, 400, 1_500)


def run_model(console: Console, cores: Cores, quick: bool) -> None:
    """Time whole verdicts, singly and in bulk, beside TF-IDF and logistic regression on the same texts."""
    began = perf_counter_ns()
    load_local_model()
    loaded = (perf_counter_ns() - began) / 1_000_000
    size = resources.files("firstline.data").joinpath("models", "default.safetensors").read_bytes()
    console.print(f"model file {len(size) / 1e6:.1f} MB (goal 12), loaded in {loaded:.0f} ms (goal 150)")
    engine = _engine()
    baseline = _baseline()
    policy = Policy()

    def verdict(text: str) -> object:
        facts = facts_of(Message(text, Contract.DECISION))
        prediction = engine.classifier.predict(text)
        matches = engine.book.evaluate(text, facts, language=prediction.language)
        return settle(facts, matches, prediction, policy, rules_hash="", policy_hash="")

    def verdicts(texts: Sequence[str]) -> None:
        for start in range(0, len(texts), 64):
            part = texts[start : start + 64]
            for text, prediction in zip(part, engine.classifier.predict_many(part), strict=True):
                facts = facts_of(Message(text, Contract.DECISION))
                matches = engine.book.evaluate(text, facts, language=prediction.language)
                settle(facts, matches, prediction, policy, rules_hash="", policy_hash="")

    table = Table(title="Local model, one core, unseen text; ratio: verdict to scikit-learn's TF-IDF")
    headings = ("characters", "model µs p50", "verdict µs p50", "p99", "TF-IDF µs p50", "ratio", "model texts/s")
    for heading in (*headings, "verdicts/s", "TF-IDF texts/s"):
        table.add_column(heading, justify="right")
    count = 300 if quick else 2_000
    for length in LENGTHS:
        texts = tickets(count, length=length, seed=length)
        verdicts(texts[:100])
        model = _each(engine.classifier.predict, texts)
        ours = _each(verdict, texts)
        many = tickets(count * 3 * 100 // length, length=length, seed=length + 1)
        rates = [_rate(engine.classifier.predict_many, many), _rate(verdicts, many)]
        row = [str(length), f"{median(model):.0f}", f"{median(ours):.0f}", f"{ours[int(0.99 * len(ours))]:.0f}"]
        if baseline is None:
            row += ["-", "-", f"{rates[0]:,.0f}", f"{rates[1]:,.0f}", "-"]
        else:
            one = _each(lambda text: baseline([text]), texts[: count // 4])
            row += [f"{median(one):.0f}", f"{median(ours) / median(one):.2f}", f"{rates[0]:,.0f}", f"{rates[1]:,.0f}"]
            row.append(f"{_rate(baseline, many):,.0f}")
        table.add_row(*row)
    console.print(table)
    if baseline is None:
        console.print("scikit-learn is not installed: no comparison. `make bench` installs it.")


def _baseline() -> Callable[[Sequence[str]], object] | None:
    """TF-IDF and logistic regression on our own English text, or None without scikit-learn."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline, make_union
    except ImportError:
        return None
    lines = [
        json.loads(line)
        for path in sorted(Path("training", "corpus").glob("en*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=3),
    )
    pipeline = make_pipeline(features, LogisticRegression(C=10, max_iter=50))
    pipeline.fit([line["text"] for line in lines], [line["category"] for line in lines])
    predict: Callable[[Sequence[str]], object] = pipeline.predict_proba
    return predict


def _rate(work: Callable[[Sequence[str]], object], texts: Sequence[str]) -> float:
    began = process_time()
    work(texts)
    return len(texts) / (process_time() - began)


def run_rules(console: Console, cores: Cores, quick: bool) -> None:
    """Time the rules on plain and on hostile text."""
    engine = _engine()

    def evaluate(text: str) -> object:
        return engine.book.evaluate(text, facts_of(Message(text, Contract.DECISION)), language="en")

    table = Table(title=f"Rules alone, {len(engine.book.rules)} rules")
    for heading in ("", "µs p50", "p99"):
        table.add_column(heading, justify="right" if heading else "left")
    count = 500 if quick else 4_000
    for text in tickets(200, seed=5):
        evaluate(text)
    for length in LENGTHS:
        texts = tickets(count, length=length, seed=length + 2)
        spent = _each(evaluate, texts)
        table.add_row(f"{length} characters, unseen", f"{median(spent):.0f}", f"{spent[int(0.99 * len(spent))]:.0f}")
        if length == LENGTHS[0]:
            again = _each(evaluate, texts[:20] * 50)
            table.add_row("  the same, seen before", f"{median(again):.0f}", f"{again[int(0.99 * len(again))]:.0f}")
    for name, text in hostile_texts().items():
        first = _each(evaluate, [text])[0]
        spent = _each(evaluate, [text] * (5 if quick else 20))
        table.add_row(f"5,000 hostile: {name}", f"{median(spent):.0f}", f"first time {first:.0f}")
    console.print(table)


def _engine() -> Engine:
    return build_engine(load_settings(env_file=None))


def _each(work: Callable[[str], object], texts: list[str]) -> list[float]:
    """Microseconds per text, ascending."""
    spent = []
    for text in texts:
        began = perf_counter_ns()
        work(text)
        spent.append((perf_counter_ns() - began) / 1_000)
    return sorted(spent)
