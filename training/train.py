"""Build the shipped model: `python training/train.py --data DIR [--out FILE]`; deterministic from its config.

DIR holds third-party rows (see training/README.md). The text of our own is read from training/corpus. Temperatures
are fitted on predictions for sources and lines that the predicting heads had not seen; figures for left-out sources
are printed and stored in the model card, beside those of TF-IDF and logistic regression on the same rows.
"""

import argparse
import gzip
import hashlib
import json
import random
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from custom import fit_curves
from heads import Fitted, Halves, count_buckets, fit_apart, fit_together, inverse_frequencies, weighed
from numpy.typing import NDArray
from rows import OWN, Row, corpus_rows, lexicons, near_duplicates, normal, sentences, third_party_rows, wanted_mail
from tokens import embeddings_of

from firstline.adapters.shipped_rules import shipped_rules
from firstline.core.message import Message, facts_of
from firstline.core.rules import RuleBook
from firstline.core.taxonomy import Contract
from firstline.learning.artifact import HEADS, dump, load_model, quantise_columns, quantise_rows
from firstline.learning.calibration import expected_calibration_error, fit_temperature
from firstline.learning.linear import softmax
from firstline.learning.vocabulary import Vocabulary

HERE = Path(__file__).parent
FILES = (
    "tickets_mapped",
    "banking77",
    "clinc150",
    "hwu64_fold1",
    "nlupp",
    "sms_spam",
    "spamassassin",
    "cfpb_narratives",
)
FOLDS = 4
PROCESSES = 2
SEVERAL = 4
"""A fold with fewer different answers says little about a head with more."""

QUIET_WEIGHT = 0.3
"""Weight of a line that nobody has looked at for signals, and in which no rule finds any."""


@dataclass(frozen=True)
class Task:
    """One head: which rows have an answer, and which.

    Attributes:
        labels: names of the answers, in the order of the columns.
        rows: places of the rows that have one.
        answers: of those rows.
        weights: of those rows.
    """

    name: str
    labels: tuple[str, ...]
    rows: NDArray[np.int64]
    answers: NDArray[np.int64]
    weights: NDArray[np.float64]


def read(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def unlabelled(folder: Path, own: Sequence[Row]) -> list[str]:
    """Sentences for the table: neither Banking77 nor what CLINC150 keeps for judging is among them."""
    clinc = list(read(folder, "clinc150"))
    kept_out = {normal(entry["text"]) for entry in read(folder, "banking77")}
    kept_out |= {normal(entry["text"]) for entry in clinc if entry["split"] != "train"}
    texts = [entry["text"] for entry in clinc if entry["split"] == "train"]
    for name in ("hwu64_fold1", "nlupp", "sms_spam"):
        texts += [entry["text"] for entry in read(folder, name)]
    texts += [entry["text"] for entry in read(folder, "tickets_mapped") if entry["source"] != "banking77"]
    texts += sentences((entry["text"] for entry in read(folder, "cfpb_narratives")), 9)
    texts += sentences((entry["text"] for entry in read(folder, "spamassassin")), 6)
    texts += [row.text for row in own if row.language == "en"]
    found = sorted({text[:400] for text in texts if len(text) > 8 and normal(text) not in kept_out})
    random.Random(0).shuffle(found)
    return found


def tasks_of(rows: Sequence[Row], config: dict[str, Any]) -> dict[str, list[Task]]:
    """The heads by name; `signals` has a task for each signal."""
    weights = np.array([row.weight for row in rows])

    def task(name: str, labels: Sequence[str], answers: Sequence[str | None]) -> Task:
        places = np.array([place for place, answer in enumerate(answers) if answer is not None])
        return Task(
            name,
            tuple(labels),
            places,
            np.array([labels.index(answer) for answer in answers if answer is not None]),
            weights[places],
        )

    quiet = _quiet(rows)
    signals = []
    for signal in config["signals"]:
        places, answers, counted = [], [], []
        for place, row in enumerate(rows):
            known = row.spam if signal == "spam" else None
            if row.signals is not None:
                known = signal in row.signals
            elif known is None and quiet[place]:
                known = False
            if known is not None:
                places.append(place)
                answers.append(int(known))
                counted.append(row.weight * (QUIET_WEIGHT if row.signals is None else 1.0))
        signals.append(Task(signal, (signal,), np.array(places), np.array(answers), np.array(counted)))
    return {
        "category": [task("category", config["categories"], [row.category for row in rows])],
        "language": [task("language", config["languages"], [row.language for row in rows])],
        "subcategory": [task("subcategory", config["subcategories"], [_full(row) for row in rows])],
        "urgency": [task("urgency", config["urgencies"], [row.urgency for row in rows])],
        "decision": [task("decision", config["decisions"], [row.decision for row in rows])],
        "signals": signals,
    }


def _full(row: Row) -> str | None:
    if row.subcategory is None or "/" in row.subcategory:
        return row.subcategory
    return f"{row.category}/{row.subcategory}"


def _quiet(rows: Sequence[Row]) -> list[bool]:
    book = RuleBook((), shipped_rules())
    found = []
    for row in rows:
        asked = row.signals is None and row.source not in {
            "cfpb",
            "urr_app_reviews",
            "spamassassin",
            "sms_spam",
            "youtube_spam_psy",
        }
        facts = facts_of(Message(row.text, Contract.DECISION))
        found.append(asked and not book.evaluate(row.text, facts))
    return found


@dataclass(frozen=True)
class Job:
    """Fit one head without one fold, and score the fold."""

    key: tuple[str, int, int]
    task: Task
    out: NDArray[np.bool_]
    settings: dict[str, float]


def fit(
    features: Halves, answers: NDArray[np.int64], weights: NDArray[np.float64], settings: dict[str, float]
) -> Fitted:
    """One head as its configuration says."""
    if "balance" in settings:
        return fit_together(features, answers, weights, **settings)
    return fit_apart(features, answers, weights, **settings)


_features: Halves


def _score(job: Job) -> tuple[tuple[str, int, int], NDArray[np.int64], Any]:
    task = job.task
    inside = ~job.out[task.rows]
    fitted = fit(_features[task.rows[inside]], task.answers[inside], task.weights[inside], job.settings)
    asked = task.rows[~inside]
    spelled, meant = fitted.halves(_features[asked])
    return job.key, asked, (spelled, meant, _features.languages[asked] @ fitted.bias)


def _answers_differ(task: Task, fold: NDArray[np.bool_]) -> bool:
    """Whether a fold can say how good a head is: it has rows with different answers, or spam."""
    answers = task.answers[fold[task.rows]]
    return len(np.unique(answers)) >= min(len(task.labels) + 1, SEVERAL) or bool(task.name == "spam" and answers.any())


def left_out_scores(
    features: Halves, tasks: dict[str, list[Task]], folds: list[NDArray[np.bool_]], config: dict[str, Any]
) -> dict[tuple[str, int], tuple[Any, Any, Any]]:
    """Scores (both halves, and their sum with the bias) of rows by heads that had not seen their fold; else NaN."""
    global _features  # inherited by the forked workers
    _features = features
    jobs = [
        Job((name, number, place), task, fold, config["heads"][name])
        for name, group in tasks.items()
        if name != "language"
        for number, task in enumerate(group)
        for place, fold in enumerate(folds)
        if name == "category" or _answers_differ(task, fold)
    ]
    size = features.embeddings.shape[0]
    found: dict[tuple[str, int], tuple[Any, Any, Any]] = {}
    started = time.monotonic()
    with get_context("fork").Pool(PROCESSES) as pool:
        for done, (key, asked, (spelled, meant, bias)) in enumerate(pool.imap_unordered(_score, jobs), 1):
            name, number, _ = key
            if (name, number) not in found:
                found[name, number] = tuple(np.full((size, spelled.shape[1]), np.nan) for _ in range(3))  # type: ignore[assignment]
            for table, values in zip(found[name, number], (spelled, meant, spelled + meant + bias), strict=True):
                table[asked] = values
            if done % 10 == 0 or done == len(jobs):
                print(f"{done} of {len(jobs)} folds, {time.monotonic() - started:.0f} s", flush=True)
    return found


def temperatures(
    spelled: Any, meant: Any, scores: Any, answers: NDArray[np.int64], groups: NDArray[Any]
) -> tuple[float, float, NDArray[np.bool_]]:
    """Where both halves name the same label, and where not; every group of rows counts the same."""
    agree = spelled.argmax(axis=1) == meant.argmax(axis=1)
    counts = {name: int((groups == name).sum()) for name in set(groups.tolist())}
    weights = np.array([1.0 / counts[name] for name in groups.tolist()])
    return (
        fit_temperature(scores[agree], answers[agree], weights=weights[agree]),
        fit_temperature(scores[~agree], answers[~agree], weights=weights[~agree]) if (~agree).sum() > 50 else 1.0,
        agree,
    )


def platt(scores: NDArray[np.float64], answers: NDArray[np.int64]) -> tuple[float, float]:
    """Slope and offset that turn scores into the logits of calibrated probabilities (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1e3).fit(scores[:, None], answers)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--config", type=Path, default=HERE / "hybrid.v1.toml")
    arguments.add_argument("--out", type=Path, default=HERE.parent / "src/firstline/data/models/default.safetensors")
    arguments.add_argument("--table", type=Path, help="keep the trained table here, and use it when it is there")
    arguments.add_argument("--quick", action="store_true", help="leave nothing out: no figures, temperatures of 1")
    options = arguments.parse_args()
    config = tomllib.loads(options.config.read_text(encoding="utf-8"))
    rng = np.random.default_rng(config["seed"])
    own_rows = corpus_rows(config["corpus_weight"])
    similar = near_duplicates(own_rows)
    if similar:
        for first, second, share in similar:
            print(f"{first.place} and {second.place} are too similar ({share:.2f}): {second.text[:60]!r}")
        sys.exit(f"{len(similar)} pairs of lines of one class share 60 % of their 3-grams or more; remove one of each.")
    rows = own_rows + third_party_rows(options.data / "tickets_mapped.jsonl.gz", config, rng)
    rows += wanted_mail(options.data, config["wanted_mail"], rng)
    print(f"{len(rows)} rows, {len(own_rows)} of our own")

    pieces, pairs, table = the_table(options, config, own_rows)
    embeddings = quantise_rows(table)
    words = lexicons()
    vocabulary = Vocabulary(pieces, pairs, words)
    texts = [row.text for row in rows]
    counts = count_buckets(texts, config["bits"])
    idf = inverse_frequencies(counts)
    features = Halves(
        weighed(counts, idf),
        embeddings_of(vocabulary, embeddings, texts, [row.language for row in rows]),
        languages_of(rows, config["languages"]),
    )
    tasks = tasks_of(rows, config)
    sources = np.array([row.source for row in rows])
    groups = np.array([row.source if row.source != OWN else f"own.{row.language}" for row in rows])
    folds = [sources == name for name in sorted(set(sources.tolist()) - {OWN})]
    for part in np.array_split(rng.permutation(np.flatnonzero(sources == OWN)), FOLDS):
        fold = np.zeros(len(rows), bool)
        fold[part] = True
        folds.append(fold)

    heat = dict.fromkeys(HEADS, (1.0, 1.0))
    shifts = dict.fromkeys(config["signals"], (1.0, 0.0))
    metrics: dict[str, float] = {}
    if not options.quick:
        unseen = left_out_scores(features, tasks, folds, config)
        judge(unseen, tasks, rows, groups, heat, shifts, metrics)

    weights, ngrams, biases = [], [], []
    cards: dict[str, dict[str, object]] = {}
    for name in HEADS:
        columns: list[Fitted] = []
        for task in tasks[name]:
            fitted = fit(features[task.rows], task.answers, task.weights, config["heads"][name])
            slope, offset = shifts[task.name] if name == "signals" else (1.0, 0.0)
            columns.append(
                Fitted(fitted.ngrams * slope, fitted.embeddings * slope, fitted.bias * slope + np.float32(offset))
            )
        ngrams.append(np.concatenate([part.ngrams for part in columns], axis=1))
        weights.append(np.concatenate([part.embeddings for part in columns], axis=1))
        biases.append(np.concatenate([part.bias for part in columns], axis=1))
        cards[name] = {
            "labels": [label for task in tasks[name] for label in task.labels],
            "temperature": round(heat[name][0], 4),
            "doubtful_temperature": round(heat[name][1], 4),
        }
        print(f"head {name} fitted", flush=True)
    parts: dict[str, Any] = {
        "ngrams": quantise_columns(np.concatenate(ngrams, axis=1)),
        "idf": idf.astype(np.float16),
        "embeddings": embeddings,
        "weights": np.concatenate(weights, axis=1),
        "bias": with_unknown(np.concatenate(biases, axis=1)),
        "pieces": pieces,
        "pairs": pairs,
        "lexicons": words,
    }
    card: dict[str, object] = {
        "recipe": config["recipe"],
        "bits": config["bits"],
        "heads": cards,
        "config": config,
        "data": {
            "corpus_sha256": _digest(sorted((HERE / "corpus").glob("*.jsonl"))),
            "lexicon_sha256": _digest(sorted((HERE / "lexicon").glob("*.tsv"))),
            **{f"{name}_sha256": _digest([options.data / f"{name}.jsonl.gz"]) for name in FILES},
            "rows": len(rows),
            "synthetic_rows": len(own_rows),
        },
        "metrics": metrics,
        "licence": "MIT for the weights; training text as named in NOTICE",
    }
    if not options.quick:
        curves = fit_curves(load_model(dump(**parts, card=card)), read(options.data, "clinc150"), config["seed"])
        card["custom"] = {"temperatures": curves.temperatures, "none": curves.none}
    data = dump(**parts, card=card)
    model = load_model(data)
    options.out.write_bytes(data)
    print(f"{model.name}, {len(data)} bytes written")


def languages_of(rows: Sequence[Row], languages: Sequence[str]) -> NDArray[np.float32]:
    """1 at the language of each row, (n_rows, n_languages)."""
    return np.array([[float(row.language == language) for language in languages] for row in rows], np.float32)


def with_unknown(bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """A last row for texts whose language is not known: the mean of the others."""
    return np.concatenate([bias, bias.mean(axis=0, keepdims=True)])


def the_table(
    options: argparse.Namespace, config: dict[str, Any], own_rows: Sequence[Row]
) -> tuple[list[str], list[tuple[str, str]], NDArray[np.float32]]:
    if options.table and options.table.exists():
        stored = np.load(options.table)
        pairs = [(first, second) for first, second in (pair.split(" ") for pair in stored["pairs"].tolist())]
        return stored["pieces"].tolist(), pairs, stored["table"]
    from mimic import phrases, train_table  # torch is imported only when it is needed

    texts = unlabelled(options.data, own_rows)
    extra = phrases(texts, config["table"]["phrases"], random.Random(config["table"]["seed"]))
    print(f"table: {len(texts)} sentences, {len(extra)} phrases", flush=True)
    table, pieces, pairs = train_table(texts, extra, config["table"])
    if options.table:
        np.savez(
            options.table, table=table, pieces=np.array(pieces), pairs=np.array([" ".join(pair) for pair in pairs])
        )
    return pieces, pairs, table


def judge(
    unseen: dict[tuple[str, int], tuple[Any, Any, Any]],
    tasks: dict[str, list[Task]],
    rows: Sequence[Row],
    groups: NDArray[Any],
    heat: dict[str, tuple[float, float]],
    shifts: dict[str, tuple[float, float]],
    metrics: dict[str, float],
) -> None:
    """Fit temperatures and slopes on rows that the scoring heads had not seen, and report how good they are."""
    for name in ("category", "subcategory", "urgency", "decision"):
        task = tasks[name][0]
        predicted = ~np.isnan(unseen[name, 0][2][task.rows, 0])
        places = task.rows[predicted]
        spelled, meant, scores = (table[places] for table in unseen[name, 0])
        spam = np.array([bool(rows[place].spam) for place in places]) & (name == "category")
        truth = task.answers[predicted]
        calm, doubtful, agree = temperatures(
            spelled[~spam], meant[~spam], scores[~spam], truth[~spam], groups[places][~spam]
        )
        heat[name] = (calm, doubtful)
        kept = places[~spam]
        probabilities = softmax(scores[~spam] / np.where(agree, calm, doubtful)[:, None])
        answers = truth[~spam]
        right = probabilities.argmax(axis=1) == answers
        print(f"\n{name}: temperature {calm:.3f} where the halves agree ({agree.mean():.2f}), else {doubtful:.3f}")
        for group in sorted(set(groups[kept].tolist())):
            mask = groups[kept] == group
            error = expected_calibration_error(probabilities[mask], answers[mask])
            metrics[f"{name}.{group}.accuracy"] = round(float(right[mask].mean()), 4)
            metrics[f"{name}.{group}.ece"] = round(error, 4)
            print(
                f"  {group:20} n={mask.sum():5} accuracy {right[mask].mean():.3f}  ece {error:.3f}  "
                f"agree {agree[mask].mean():.2f}"
            )
    for number, task in enumerate(tasks["signals"]):
        scores = unseen["signals", number][2][task.rows][:, 0]
        looked = ~np.isnan(scores)
        shifts[task.name] = platt(scores[looked], task.answers[looked])
        slope, offset = shifts[task.name]
        chance = 1 / (1 + np.exp(-(slope * scores + offset)))
        line = f"signal {task.name:10}"
        for threshold in (0.5, 0.9):
            raised = chance[looked] >= threshold
            truth = task.answers[looked] == 1
            recall, precision = (raised & truth).sum() / truth.sum(), (raised & truth).sum() / max(raised.sum(), 1)
            metrics[f"signals.{task.name}.recall_at_{threshold}"] = round(float(recall), 4)
            metrics[f"signals.{task.name}.precision_at_{threshold}"] = round(float(precision), 4)
            line += f"  at {threshold}: recall {recall:.3f} precision {precision:.3f}"
        print(line)


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
