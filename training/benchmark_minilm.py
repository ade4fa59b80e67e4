"""Recipe `minilm.v1` on public benchmarks: `python training/benchmark_minilm.py MODEL FILE.jsonl.gz`.

Full data: logistic regression over the encoder's vectors and over n-grams, fitted apart, their log probabilities mixed
over their temperatures. Few examples and names alone: as the server trains an account's own categories. Splits and
figures are those of training/benchmark.py, which also has the baseline. The penalties were chosen on a fifth of
Banking77's training split; `--choose` shows it again and reads no test row.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from benchmark import THREADS, Benchmark, Figures, Floats, Labels, Split, Tuned, few, judge, shadow_split
from benchmark import read as read_benchmark
from export_minilm import Remembering
from heads import count_buckets, inverse_frequencies, weighed
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from firstline.adapters.language import ForeignLanguage
from firstline.adapters.local_model import LocalModel
from firstline.learning.artifact import load_model, read_card
from firstline.learning.custom import curves_from_card
from firstline.learning.linear import softmax

BITS = 14
ENCODER_C = 20.0
NGRAM_C = 30.0
TRIED = {"encoder": (5.0, 10.0, 20.0, 40.0), "n-grams": (30.0, 100.0)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--choose", action="store_true", help="try penalties on a fifth of the training split")
    options = arguments.parse_args()
    torch.set_num_threads(THREADS)
    data = options.model.read_bytes()
    model = LocalModel(load_model(data, Remembering.over), curves_from_card(read_card(data)), ForeignLanguage())
    benchmark = read_benchmark(options.file)
    if options.choose:
        choose(model, benchmark)
        return
    print(f"{options.file.name}, model {model.name}", flush=True)
    figures = Figures()
    full(model, benchmark, figures)
    few(benchmark, model, figures)
    figures.show()


def choose(model: LocalModel, data: Benchmark) -> None:
    """How right each half is on rows kept out, by penalty."""
    inside, out = shadow_split(data.train.labels)
    train, asked = data.train.part(inside), data.train.part(out)
    pairs = {
        "encoder": (vectors(model, train.texts), vectors(model, asked.texts)),
        "n-grams": (Spelling(train.texts)(train.texts), Spelling(train.texts)(asked.texts)),
    }
    for half, (known, unseen) in pairs.items():
        for c in TRIED[half]:
            found = logistic(known, train.labels, c).decision_function(unseen)
            print(f"{half:10} C={c:5g}: {(found.argmax(axis=1) == asked.labels).mean():.4f}", flush=True)


def full(model: LocalModel, data: Benchmark, figures: Figures) -> None:
    """The whole training split, with temperatures and the threshold from rows that the heads had not seen."""
    heads = Heads(model, data.train)
    if data.validation is None:
        inside, out = shadow_split(data.train.labels)
        tuned_on = data.train.part(out)
        unseen = Heads(model, data.train.part(inside)).halves(tuned_on.texts)
    else:
        tuned_on = data.validation
        unseen = heads.halves(tuned_on.texts)
    tuned = Tuned.on(unseen, tuned_on.labels)
    found = heads.halves(data.test.texts)
    for name, half, heat in zip(("the encoder", "n-grams"), found, (tuned.vectors, tuned.ngrams), strict=True):
        right = softmax(half / heat).argmax(axis=1) == data.test.labels
        figures.add(f"full data, {name} alone", "firstline", float(right.mean()))
    outside = tuned.scores(heads.halves(data.outside)) if data.outside else None
    judge("firstline", tuned.scores(found), data.test.labels, outside, tuned.threshold, figures)


class Heads:
    """Logistic regression over vectors and over n-grams, fitted apart."""

    def __init__(self, model: LocalModel, train: Split) -> None:
        self._model = model
        self._spelling = Spelling(train.texts)
        self._meant = logistic(vectors(model, train.texts), train.labels, ENCODER_C)
        self._spelled = logistic(self._spelling(train.texts), train.labels, NGRAM_C)

    def halves(self, texts: list[str]) -> tuple[Floats, Floats]:
        """Scores by each half, (n_texts, n_classes)."""
        return (
            self._meant.decision_function(vectors(self._model, texts)),
            self._spelled.decision_function(self._spelling(texts)),
        )


class Spelling:
    """N-grams as the recipe weighs them, with the frequencies of the training texts."""

    def __init__(self, texts: list[str]) -> None:
        self._idf = inverse_frequencies(count_buckets(texts, BITS))

    def __call__(self, texts: list[str]) -> csr_matrix:
        return weighed(count_buckets(texts, BITS), self._idf)


def vectors(model: LocalModel, texts: list[str]) -> NDArray[np.float32]:
    return np.stack([model.hybrid.embed(text, language="en") for text in texts])


def logistic(rows: NDArray[np.float32] | csr_matrix, labels: Labels, c: float) -> LogisticRegression:
    """Fitted until it is: with many labels every gradient is small, and the usual tolerance would stop at once."""
    return LogisticRegression(C=c, max_iter=500, tol=1e-5).fit(rows.astype(np.float64), labels)


if __name__ == "__main__":
    main()
