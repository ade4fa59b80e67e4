"""Build the shipped model: `python training/train.py --data DIR [--out FILE]`; deterministic from its config.

DIR holds `tickets_mapped.jsonl.gz` (third-party rows, see training/README.md). The text of our own is read from
training/corpus. The temperature is fitted on predictions for sources and lines that the predicting model had not
seen; figures for left-out sources are printed and stored in the model card.
"""

import argparse
import gzip
import hashlib
import json
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from firstline.learning.artifact import dump, load_model
from firstline.learning.calibration import calibrate, expected_calibration_error, fit_temperature
from firstline.learning.features import buckets
from firstline.learning.ngram_model import quantise

HERE = Path(__file__).parent
MAX_TEXT = 1_500
FOLDS = 4


@dataclass(frozen=True)
class Row:
    text: str
    category: str
    language: str
    source: str
    weight: float


def corpus_rows(weight: float) -> list[Row]:
    rows = []
    for path in sorted((HERE / "corpus").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            rows.append(Row(entry["text"], entry["category"], path.stem.partition("-")[0], "corpus", weight))
    return rows


def third_party_rows(path: Path, config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    by_group: dict[tuple[str, str], list[Row]] = defaultdict(list)
    seen = set()
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            key = " ".join(entry["text"].lower().split())[:200]
            if key in seen:
                continue
            seen.add(key)
            category = config["mapped_categories"].get(entry["category"], entry["category"])
            by_group[entry["source"], category].append(
                Row(entry["text"][:MAX_TEXT], category, "en", entry["source"], 1.0)
            )
    rows = []
    for group in sorted(by_group):
        found = by_group[group]
        chosen = rng.permutation(len(found))[: config["rows_per_source_and_category"]]
        rows.extend(found[index] for index in sorted(chosen.tolist()))
    return rows


def features(rows: list[Row], bits: int) -> csr_matrix:
    ids = [buckets(row.text, bits=bits) for row in rows]
    indptr = np.concatenate(([0], np.cumsum([len(found) for found in ids])))
    matrix = csr_matrix((np.ones(indptr[-1], np.float32), np.concatenate(ids), indptr), shape=(len(rows), 1 << bits))
    matrix.sum_duplicates()
    return matrix


def weighed(matrix: csr_matrix, idf: NDArray[np.float32]) -> csr_matrix:
    """Counts times idf, each row divided by the root of the sum of count times idf squared, as at run time."""
    lengths = np.sqrt(np.maximum(matrix @ (idf * idf), 1e-6))
    scaled = matrix.multiply(idf[None, :]).multiply(1.0 / lengths[:, None])
    return csr_matrix(scaled, dtype=np.float32)


def inverse_frequencies(matrix: csr_matrix) -> NDArray[np.float32]:
    documents = np.bincount(matrix.indices, minlength=matrix.shape[1])
    idf = np.log((1 + matrix.shape[0]) / (1 + documents)) / 4
    return idf.astype(np.float16).astype(np.float32)


def fit_head(
    matrix: csr_matrix, labels: NDArray[np.int64], weights: NDArray[np.float64], c: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    model = LogisticRegression(C=c, max_iter=150, tol=1e-3)
    model.fit(matrix, labels, sample_weight=weights)
    return model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--config", type=Path, default=HERE / "ngram.v1.toml")
    arguments.add_argument("--out", type=Path, default=HERE.parent / "src/firstline/data/models/default.safetensors")
    options = arguments.parse_args()
    config = tomllib.loads(options.config.read_text(encoding="utf-8"))
    rng = np.random.default_rng(config["seed"])
    source_file = options.data / "tickets_mapped.jsonl.gz"
    rows = corpus_rows(config["corpus_weight"]) + third_party_rows(source_file, config, rng)
    bits = config["bits"]
    counts = features(rows, bits)
    idf = inverse_frequencies(counts)
    matrix = weighed(counts, idf)
    categories, languages = list(config["categories"]), list(config["languages"])
    y = np.array([categories.index(row.category) for row in rows], np.int64)
    language = np.array([languages.index(row.language) for row in rows], np.int64)
    weights = np.array([row.weight for row in rows])
    print(f"{len(rows)} rows, {(weights > 1).sum()} of our own")

    # Predictions for rows that the model had not seen: our own lines by fifths, other sources one at a time.
    sources = np.array([row.source for row in rows])
    folds = [sources == name for name in sorted(set(sources.tolist()) - {"corpus"})]
    places = rng.permutation(np.flatnonzero(sources == "corpus"))
    for part in np.array_split(places, FOLDS):
        fold = np.zeros(len(rows), bool)
        fold[part] = True
        folds.append(fold)
    unseen = np.zeros((len(rows), len(categories)))
    for fold in folds:
        coefficients, bias = fit_head(matrix[~fold], y[~fold], weights[~fold], config["category_c"])
        unseen[fold] = matrix[fold] @ coefficients + bias
        print(f"fold of {fold.sum()} rows predicted", flush=True)
    own = sources == "corpus"
    temperature = fit_temperature(unseen, y)
    probabilities = calibrate(unseen, temperature)
    right = probabilities.argmax(axis=1) == y
    metrics: dict[str, float] = {}

    def report(name: str, mask: NDArray[np.bool_]) -> None:
        metrics[f"{name}.accuracy"] = round(float(right[mask].mean()), 4)
        metrics[f"{name}.ece"] = round(expected_calibration_error(probabilities[mask], y[mask]), 4)
        print(f"{name:32} n={mask.sum():6} accuracy {right[mask].mean():.3f}  ece {metrics[f'{name}.ece']:.3f}")

    for name in sorted(set(sources.tolist()) - {"corpus"}):
        report(f"left_out_source.{name}", sources == name)
    report("own_lines", own)
    for number, name in enumerate(languages):
        report(f"own_lines.{name}", own & (language == number))

    category_weights, category_bias = fit_head(matrix, y, weights, config["category_c"])
    language_weights, language_bias = fit_head(matrix, language, np.ones(len(rows)), config["language_c"])
    table, scales = quantise(np.concatenate([category_weights, language_weights], axis=1))
    corpus_hash = hashlib.sha256()
    for path in sorted((HERE / "corpus").glob("*.jsonl")):
        corpus_hash.update(path.read_bytes())
    data = dump(
        weights=table,
        scales=scales,
        idf=idf.astype(np.float16),
        bias=np.concatenate([category_bias, language_bias]),
        card={
            "recipe": config["recipe"],
            "bits": bits,
            "categories": categories,
            "languages": languages,
            "temperature": round(temperature, 4),
            "config": config,
            "data": {
                "corpus_sha256": corpus_hash.hexdigest(),
                "tickets_mapped_sha256": hashlib.sha256(source_file.read_bytes()).hexdigest(),
                "rows": len(rows),
                "synthetic_rows": int(own.sum()),
            },
            "metrics": metrics,
            "licence": "MIT for the weights; training text as named in NOTICE",
        },
    )
    model = load_model(data)
    options.out.write_bytes(data)
    print(f"temperature {temperature:.3f}; {model.name}, {len(data)} bytes written")


if __name__ == "__main__":
    main()
