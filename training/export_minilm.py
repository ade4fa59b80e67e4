"""Build a model of recipe `minilm.v1`: `python training/export_minilm.py --data DIR --out FILE`.

The heads and the n-gram half are those of `hybrid.v1`, configuration and rows included. In place of the static table
stands the encoder that the table imitates, as an int8 ONNX graph. The heads are fitted on vectors of that very graph,
run as the server runs it, one text at a time. Temperatures are fitted on a quarter of the rows at a time, by heads
that had not seen it; with `--full` on left-out sources, as the shipped model's are.
"""

import argparse
import hashlib
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from custom import fit_curves
from encoder import small_encoder
from heads import Fitted, Halves, count_buckets, inverse_frequencies, weighed
from mimic import TEACHER
from numpy.typing import NDArray
from rows import OWN, Row, corpus_rows, lexicons, third_party_rows, wanted_mail
from train import (
    FILES,
    FOLDS,
    HERE,
    PROCESSES,
    Task,
    fit,
    judge,
    languages_of,
    left_out_scores,
    read,
    tasks_of,
    with_unknown,
)

from firstline.adapters.onnx_embedder import open_encoder
from firstline.learning.artifact import HEADS, dump, load_model, quantise_columns
from firstline.learning.embedding import Embedder, Encoder, Floats, SentenceEmbedder
from firstline.learning.hybrid_model import MINILM_RECIPE
from firstline.learning.vocabulary import Vocabulary
from firstline.learning.wordpiece import MAX_TOKENS, WordPieces

CHUNK = 500


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--out", type=Path, default=Path("minilm.safetensors"))
    arguments.add_argument("--full", action="store_true", help="temperatures on left-out sources; takes much longer")
    options = arguments.parse_args()
    config = tomllib.loads((HERE / "hybrid.v1.toml").read_text(encoding="utf-8"))
    config["recipe"] = MINILM_RECIPE
    del config["table"]
    rng = np.random.default_rng(config["seed"])
    rows = corpus_rows(config["corpus_weight"])
    rows += third_party_rows(options.data / "tickets_mapped.jsonl.gz", config, rng)
    rows += wanted_mail(options.data, config["wanted_mail"], rng)
    graph, pieces, words = small_encoder(TEACHER), encoder_pieces(), lexicons()
    print(f"{len(rows)} rows; the encoder has {len(graph)} bytes", flush=True)

    texts = [row.text for row in rows]
    counts = count_buckets(texts, config["bits"])
    idf = inverse_frequencies(counts)
    embedder = embedder_of(graph, pieces, words)
    features = Halves(
        weighed(counts, idf),
        encoded(embedder, texts, [row.language for row in rows]),
        languages_of(rows, config["languages"]),
    )
    tasks = tasks_of(rows, config)
    heat = dict.fromkeys(HEADS, (1.0, 1.0))
    shifts = dict.fromkeys(config["signals"], (1.0, 0.0))
    metrics: dict[str, float] = {}
    groups = np.array([row.source if row.source != OWN else f"own.{row.language}" for row in rows])
    unseen = left_out_scores(features, tasks, folds_of(rows, rng, by_source=options.full), config)
    judge(unseen, tasks, rows, groups, heat, shifts, metrics)

    ngrams, weights, bias = fitted_heads(features, tasks, config, shifts)
    parts: dict[str, Any] = {
        "ngrams": quantise_columns(ngrams),
        "idf": idf.astype(np.float16),
        "embeddings": graph,
        "weights": weights,
        "bias": bias,
        "pieces": pieces,
        "pairs": (),
        "lexicons": words,
    }
    card: dict[str, object] = {
        "recipe": MINILM_RECIPE,
        "bits": config["bits"],
        "heads": {
            name: {
                "labels": [label for task in tasks[name] for label in task.labels],
                "temperature": round(heat[name][0], 4),
                "doubtful_temperature": round(heat[name][1], 4),
            }
            for name in HEADS
        },
        "config": config,
        "encoder": {
            "name": "all-MiniLM-L6-v2",
            "weights_sha256": digest([TEACHER / "model.safetensors"]),
            "numbers": "int8 by channel; what goes through is quantised as it comes, one text at a time",
            "tokens": MAX_TOKENS,
        },
        "data": {
            "corpus_sha256": digest(sorted((HERE / "corpus").glob("*.jsonl"))),
            "lexicon_sha256": digest(sorted((HERE / "lexicon").glob("*.tsv"))),
            **{f"{name}_sha256": digest([options.data / f"{name}.jsonl.gz"]) for name in FILES},
            "rows": len(rows),
            "synthetic_rows": sum(row.source == OWN for row in rows),
        },
        "temperatures_from": "left-out sources" if options.full else "left-out quarters of the same sources",
        "metrics": metrics,
        "licence": "MIT for the heads; Apache-2.0 for the encoder; training text as named in NOTICE",
    }
    model = load_model(dump(**parts, card=card), Remembering.over)
    curves = fit_curves(model, read(options.data, "clinc150"), config["seed"])
    card["custom"] = {"temperatures": curves.temperatures, "none": curves.none}
    data = dump(**parts, card=card)
    name = load_model(data, open_encoder).name
    options.out.write_bytes(data)
    print(f"{name}, {len(data)} bytes written to {options.out}")


def encoder_pieces() -> list[str]:
    """The encoder's word pieces, all of them and in its order."""
    return (TEACHER / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")


def embedder_of(graph: bytes, pieces: Sequence[str], words: dict[str, str]) -> SentenceEmbedder:
    """Makes vectors as the model will."""
    return SentenceEmbedder(open_encoder(graph, len(pieces)), WordPieces(pieces), Vocabulary(pieces, (), words))


_embedder: Embedder


def _encode(part: list[tuple[str, str]]) -> Floats:
    return np.stack([_embedder.embed(text, language=language) for text, language in part])


def encoded(embedder: Embedder, texts: Sequence[str], languages: Sequence[str]) -> Floats:
    """Unit vectors (n_texts, n_dimensions); zeros where nothing is known."""
    global _embedder  # inherited by the forked workers
    _embedder = embedder
    pairs = list(zip(texts, languages, strict=True))
    parts = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    started = time.monotonic()
    found = []
    with get_context("fork").Pool(PROCESSES) as pool:
        for done, vectors in enumerate(pool.imap(_encode, parts), 1):
            found.append(vectors)
            if done % 20 == 0 or done == len(parts):
                print(f"{done * CHUNK} texts encoded, {time.monotonic() - started:.0f} s", flush=True)
    return np.concatenate(found)


@dataclass(slots=True)
class Remembering:
    """An encoder that reads a text once, for measurements that ask again and again."""

    encoder: Encoder
    known: dict[tuple[int, ...], Floats] = field(default_factory=dict)

    @classmethod
    def over(cls, graph: bytes, pieces: int) -> "Remembering":
        return cls(open_encoder(graph, pieces))

    @property
    def dimensions(self) -> int:
        return self.encoder.dimensions

    def encode(self, ids: list[int]) -> Floats:
        key = tuple(ids)
        if key not in self.known:
            self.known[key] = self.encoder.encode(ids)
        return self.known[key]


def folds_of(rows: Sequence[Row], rng: np.random.Generator, *, by_source: bool) -> list[NDArray[np.bool_]]:
    """Parts of the rows to leave out: quarters; with `by_source` each public source, and quarters of our own lines."""
    sources = np.array([row.source for row in rows])
    found = []
    split = np.arange(len(rows))
    if by_source:
        found = [sources == name for name in sorted(set(sources.tolist()) - {OWN})]
        split = np.flatnonzero(sources == OWN)
    for part in np.array_split(rng.permutation(split), FOLDS):
        fold = np.zeros(len(rows), bool)
        fold[part] = True
        found.append(fold)
    return found


def fitted_heads(
    features: Halves, tasks: dict[str, list[Task]], config: dict[str, Any], shifts: dict[str, tuple[float, float]]
) -> tuple[Floats, Floats, Floats]:
    """Weights of the n-grams, weights of the embeddings and biases of all heads, fitted on every row."""
    columns: list[Fitted] = []
    for name in HEADS:
        for task in tasks[name]:
            fitted = fit(features[task.rows], task.answers, task.weights, config["heads"][name])
            slope, offset = (np.float32(value) for value in shifts.get(task.name, (1.0, 0.0)))
            columns.append(Fitted(fitted.ngrams * slope, fitted.embeddings * slope, fitted.bias * slope + offset))
        print(f"head {name} fitted", flush=True)
    return (
        np.concatenate([part.ngrams for part in columns], axis=1),
        np.concatenate([part.embeddings for part in columns], axis=1),
        with_unknown(np.concatenate([part.bias for part in columns], axis=1)),
    )


def digest(paths: Sequence[Path]) -> str:
    """SHA-256 of files, one after the other."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    main()
