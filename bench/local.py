"""The local model and the rules by themselves, in this process."""

from collections.abc import Callable
from statistics import median
from time import perf_counter_ns, process_time

from rich.console import Console
from rich.table import Table

from bench.cores import Cores
from bench.texts import hostile_texts, tickets
from firstline.bootstrap import Engine, build_engine
from firstline.core.message import Message, facts_of
from firstline.core.taxonomy import Contract
from firstline.settings import load_settings

LENGTHS = (100, 400, 1_500)


def run_model(console: Console, cores: Cores, quick: bool) -> None:
    """Time the local model on single texts and in bulk."""
    model = _engine().classifier
    table = Table(title="Local model, one core, unseen text")
    for heading in ("characters", "single µs p50", "p99", "bulk texts/s"):
        table.add_column(heading, justify="right")
    count = 500 if quick else 4_000
    for length in LENGTHS:
        texts = tickets(count, length=length, seed=length)
        model.predict_many(texts[:100])
        spent = _each(model.predict, texts)
        many = tickets(count * 5 * 100 // length, length=length, seed=length + 1)
        began = process_time()
        model.predict_many(many)
        rate = len(many) / (process_time() - began)
        table.add_row(str(length), f"{median(spent):.0f}", f"{spent[int(0.99 * len(spent))]:.0f}", f"{rate:,.0f}")
    console.print(table)


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
