"""The shipped recipe on public benchmarks: `firstline eval benchmark banking77|clinc150 --data DIR`.

The table is the shipped one and stays frozen; what stands on it is trained on the public training split. Full data:
a network over the table and one over the n-grams (training/student.py), each taught by the large English encoder that
the table was made from, their log probabilities mixed. Few examples and names alone: as `learning/custom.py` trains an
account's own categories. Everything was chosen on a fifth of Banking77's training split and on CLINC150's validation
split; docs/quality.md says what was tried. Beside it, on the same rows: TF-IDF and logistic regression.
"""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from heads import count_buckets
from mimic import Teacher
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion
from student import Inputs, Network, altered, fit
from tokens import embeddings_of

from firstline.adapters.local_model import LocalModel, load_local_model
from firstline.core.categories import CategorySet, OwnCategory
from firstline.core.taxonomy import Priority
from firstline.learning.calibration import expected_calibration_error, fit_temperature
from firstline.learning.custom import C as CUSTOM_C
from firstline.learning.custom import fit_categories, joined
from firstline.learning.evaluation import auroc, coverage_at
from firstline.learning.linear import fit_softmax, softmax

SEEDS = 5
SHOTS = (5, 10)
THREADS = 1
"""More cost more than they bring: the networks are small."""

OUTSIDE = "oos"

BITS = 14
COPIES = 4
TEACHER_TOKENS = 64
TABLE_SHARE = 0.6
"""Of the network over vectors, in the teacher and in the student; the rest is the n-grams'."""

TEACHER_HEAT = (1.4, 0.8)
"""Temperatures of the teacher's networks over vectors and over n-grams."""

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Texts with the places of their labels."""

    texts: list[str]
    labels: Labels

    def part(self, rows: Labels) -> "Split":
        return Split([self.texts[row] for row in rows.tolist()], self.labels[rows])


@dataclass(frozen=True)
class Benchmark:
    """A public data set in its official splits; `validation` is None when it has none, `outside` fits no label."""

    names: list[str]
    train: Split
    test: Split
    validation: Split | None
    outside: list[str]


@dataclass
class Figures:
    """Values by figure and system, one for each seed, in the order in which they came."""

    values: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, figure: str, system: str, value: float) -> None:
        self.values.setdefault((figure, system), []).append(value)

    def show(self) -> None:
        figures = list(dict.fromkeys(figure for figure, _ in self.values))
        print(f"\n{'':52}{'firstline':>18}{'TF-IDF + LR':>18}")
        for figure in figures:
            cells = [_spread(self.values.get((figure, system), [])) for system in ("firstline", "tf-idf")]
            print(f"{figure:52}{cells[0]:>18}{cells[1]:>18}")


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def run(file: Path) -> None:
    """Print all figures of a benchmark: the mean of the seeds, and their standard deviation."""
    torch.set_num_threads(THREADS)
    data = read(file)
    model = load_local_model()
    print(
        f"{file.name}: {len(data.train.texts)} training rows, {len(data.test.texts)} test rows, {len(data.names)} names"
    )
    print(f"model {model.name}, {SEEDS} seeds", flush=True)
    figures = Figures()
    few(data, model, figures)
    full(data, model, figures)
    full_baseline(data, figures)
    figures.show()


def read(file: Path) -> Benchmark:
    """The official splits of a gzipped file of rows with text, label and split."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    names = sorted({row["label"] for row in rows} - {OUTSIDE})
    place = {name: number for number, name in enumerate(names)}

    def split(name: str) -> Split:
        chosen = [row for row in rows if row["split"] == name and row["label"] != OUTSIDE]
        return Split([row["text"] for row in chosen], np.array([place[row["label"]] for row in chosen], np.int64))

    validation = split("val")
    outside = [row["text"] for row in rows if row["split"] == "test" and row["label"] == OUTSIDE]
    return Benchmark(names, split("train"), split("test"), validation if validation.texts else None, outside)


def few(data: Benchmark, model: LocalModel, figures: Figures) -> None:
    """Names alone, and five or ten examples of each, as an account's own categories are trained."""
    found = model.hybrid.analyse_many(data.test.texts)
    asked = np.stack([joined(features, model.hybrid.idf) for _, features in found]).astype(np.float64)
    spoken = [name.replace("_", " ").replace("?", "") for name in data.names]

    def with_names(examples: Sequence[Sequence[str]]) -> float:
        rows = zip(spoken, examples, strict=True)
        own = CategorySet(tuple(OwnCategory(name, "", Priority.MEDIUM, tuple(texts)) for name, texts in rows))
        trained = fit_categories(model.hybrid, own, model.curves)
        return _accuracy(asked @ trained.weights + trained.bias, data.test.labels)

    figures.add("names alone", "firstline", with_names([()] * len(spoken)))
    for shots in SHOTS:
        for seed in range(SEEDS):
            rng = np.random.default_rng(seed)
            places = [np.flatnonzero(data.train.labels == label) for label in range(len(data.names))]
            chosen = data.train.part(np.concatenate([rng.choice(own, shots, replace=False) for own in places]))
            features = [features for _, features in model.hybrid.analyse_many(chosen.texts)]
            matrix = np.stack([joined(own, model.hybrid.idf) for own in features]).astype(np.float64)
            weights, bias = fit_softmax(matrix, chosen.labels, len(data.names), c=CUSTOM_C)
            figures.add(f"{shots} examples", "firstline", _accuracy(asked @ weights + bias, data.test.labels))
            figures.add(f"{shots} examples", "tf-idf", _accuracy(tf_idf(chosen)(data.test.texts), data.test.labels))
            examples = np.array_split(np.array(chosen.texts, object), len(data.names))
            named = with_names([own.tolist() for own in examples])
            figures.add(f"{shots} examples and the name", "firstline", named)
        print(f"{shots} examples: done", flush=True)


def full(data: Benchmark, model: LocalModel, figures: Figures) -> None:
    """The whole training split, with temperatures and the threshold from rows that the networks had not seen."""
    lesson = Lesson.on(data.train, model, Teacher())
    if data.validation is None:
        inside, held_out = shadow_split(data.train.labels)
        shadow = Pupil.taught(lesson, inside, len(data.names), model, seeds=1)
        tuned = Tuned.on(shadow.halves(data.train.part(held_out).texts, seed=0), data.train.labels[held_out])
    pupil = Pupil.taught(lesson, np.arange(len(data.train.labels)), len(data.names), model, seeds=SEEDS)
    for seed in range(SEEDS):
        if data.validation is not None:
            tuned = Tuned.on(pupil.halves(data.validation.texts, seed=seed), data.validation.labels)
        scores = tuned.scores(pupil.halves(data.test.texts, seed=seed))
        outside = tuned.scores(pupil.halves(data.outside, seed=seed)) if data.outside else None
        judge("firstline", scores, data.test.labels, outside, tuned.threshold, figures)


def full_baseline(data: Benchmark, figures: Figures) -> None:
    """TF-IDF and logistic regression on the same rows, its temperature and threshold found in the same way."""
    scored = tf_idf(data.train)
    if data.validation is None:
        inside, held_out = shadow_split(data.train.labels)
        unseen, labels = tf_idf(data.train.part(inside))(data.train.part(held_out).texts), data.train.labels[held_out]
    else:
        unseen, labels = scored(data.validation.texts), data.validation.labels
    heat = fit_temperature(unseen, labels)
    outside = scored(data.outside) / heat if data.outside else None
    judge(
        "tf-idf", scored(data.test.texts) / heat, data.test.labels, outside, sure_from(unseen / heat, labels), figures
    )


def judge(
    system: str, scores: Floats, labels: Labels, outside: Floats | None, threshold: float, figures: Figures
) -> None:
    """Add all figures of one trained system; the scores have had their temperature."""
    probabilities = softmax(scores)
    stated, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    figures.add("full data", system, float(right.mean()))
    figures.add("full data: calibration error", system, expected_calibration_error(probabilities, labels))
    best = coverage_at(stated, right)
    figures.add("full data: answerable at 98 % right, best threshold", system, best.share if best else 0.0)
    answered = stated >= threshold
    figures.add("  threshold from rows kept for tuning: answered", system, float(answered.mean()))
    figures.add("  and right", system, float(right[answered].mean()))
    if outside is not None:
        figures.add("out of scope, AUROC by probability", system, auroc(stated, softmax(outside).max(axis=1)))
        figures.add("out of scope, AUROC by energy", system, auroc(energy(scores), energy(outside)))


def energy(scores: Floats) -> Floats:
    """How much evidence for any label there is (Liu et al. 2020, "Energy-based Out-of-distribution Detection")."""
    highest = scores.max(axis=1)
    found: Floats = highest + np.log(np.exp(scores - highest[:, None]).sum(axis=1))
    return found


def shadow_split(labels: Labels) -> tuple[Labels, Labels]:
    """Four fifths of the rows of each label, and the fifth."""
    rng = np.random.default_rng(7)
    out = np.zeros(len(labels), bool)
    for label in range(int(labels.max()) + 1):
        places = np.flatnonzero(labels == label)
        out[rng.permutation(places)[: max(3, len(places) // 5)]] = True
    return np.flatnonzero(~out), np.flatnonzero(out)


def sure_from(scores: Floats, labels: Labels) -> float:
    """The least probability at which 98 % of these rows are right."""
    probabilities = softmax(scores)
    found = coverage_at(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
    return found.threshold if found else 1.0


def tf_idf(train: Split) -> Callable[[Sequence[str]], Floats]:
    """The usual baseline: words and pairs of words beside runs of two to five characters, logistic regression."""
    features = FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)),
            ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)),
        ]
    )
    fitted = LogisticRegression(C=10.0, max_iter=200, tol=1e-3).fit(features.fit_transform(train.texts), train.labels)
    return lambda texts: np.asarray(fitted.decision_function(features.transform(list(texts))))


@dataclass(frozen=True)
class Tuned:
    """Temperatures of both halves and of their mix, and the probability from which 98 % are right."""

    vectors: float
    ngrams: float
    mix: float
    threshold: float

    @classmethod
    def on(cls, halves: tuple[Floats, Floats], labels: Labels) -> "Tuned":
        """Fitted on rows that the networks had not seen."""
        apart = (fit_temperature(halves[0], labels), fit_temperature(halves[1], labels))
        mixed = mix(halves, apart)
        together = fit_temperature(mixed, labels)
        shown = ", ".join(f"{_accuracy(scores, labels):.4f}" for scores in (*halves, mixed))
        print(f"on rows kept for tuning: table, n-grams, both: {shown}", flush=True)
        return cls(*apart, together, sure_from(mixed / together, labels))

    def scores(self, halves: tuple[Floats, Floats]) -> Floats:
        return mix(halves, (self.vectors, self.ngrams)) / self.mix


def mix(halves: tuple[Floats, Floats], heat: tuple[float, float]) -> Floats:
    """Scores of both halves in fixed shares, each over its temperature.

    Up to a number per row these are the mixed log probabilities; that number is what the energy is made of.
    """
    return TABLE_SHARE * halves[0] / heat[0] + (1 - TABLE_SHARE) * halves[1] / heat[1]


@dataclass(frozen=True)
class Lesson:
    """Training rows and altered copies of them, read once by everything that reads them.

    Attributes:
        labels: of the training rows, which come first.
        parents: of the copies: places of the two rows that each was made of, (n_copies, 2).
        encoded: by the large encoder.
        embedded: by the frozen table.
        counts: n-grams.
    """

    labels: Labels
    parents: Labels
    encoded: NDArray[np.float32]
    embedded: NDArray[np.float32]
    counts: csr_matrix

    @classmethod
    def on(cls, train: Split, model: LocalModel, teacher: Teacher) -> "Lesson":
        copies, parents = altered(train.texts, train.labels, COPIES, np.random.default_rng(0))
        texts = train.texts + copies
        encoded = teacher.encode(texts, tokens=TEACHER_TOKENS)
        return cls(train.labels, parents, encoded, _embedded(model, texts), count_buckets(texts, BITS))


@dataclass(frozen=True)
class Pupil:
    """Networks over the frozen table and over the n-grams, a pair for each seed."""

    model: LocalModel
    idf: NDArray[np.float32]
    networks: list[tuple[Network, Network]]

    @classmethod
    def taught(cls, lesson: Lesson, rows: Labels, classes: int, model: LocalModel, *, seeds: int) -> "Pupil":
        """Fit a teacher on some training rows, let it label copies of them, and teach a pair of networks by seed."""
        labels = lesson.labels[rows]
        copies = np.flatnonzero(np.isin(lesson.parents, rows).all(axis=1)) + len(lesson.labels)
        chosen, first = np.concatenate([rows, copies]), np.arange(len(rows))
        idf = _idf(lesson.counts[rows])
        ngrams, encoded = _weighed(lesson.counts[chosen], idf), lesson.encoded[chosen]
        large = fit(Inputs(encoded[first], None), labels, classes, seed=0, epochs=20, batch=64, drop=0.4)
        small = fit(Inputs(None, ngrams[first]), labels, classes, seed=0, epochs=10, batch=64)
        said = mix((large.scores(Inputs(encoded, None)), small.scores(Inputs(None, ngrams))), TEACHER_HEAT)
        opinions = np.log(np.maximum(softmax(said), 1e-9)).astype(np.float32)
        print(f"a teacher has labelled {len(copies)} copies of {len(rows)} rows", flush=True)
        halves = (Inputs(lesson.embedded[chosen], None), Inputs(None, ngrams))
        networks = []
        for seed in range(seeds):
            meant, spelled = (
                fit(half, labels, classes, seed=seed, opinions=opinions, epochs=10, batch=256) for half in halves
            )
            networks.append((meant, spelled))
            print(f"seed {seed}: taught", flush=True)
        return cls(model, idf, networks)

    def halves(self, texts: Sequence[str], *, seed: int) -> tuple[Floats, Floats]:
        """Scores by each half, (n_texts, n_classes)."""
        over_vectors, over_ngrams = self.networks[seed]
        counts = _weighed(count_buckets(texts, BITS), self.idf)
        return (
            over_vectors.scores(Inputs(_embedded(self.model, texts), None)).astype(np.float64),
            over_ngrams.scores(Inputs(None, counts)).astype(np.float64),
        )


def _embedded(model: LocalModel, texts: Sequence[str]) -> NDArray[np.float32]:
    return embeddings_of(model.hybrid.vocabulary, model.hybrid.embeddings, texts, ["en"] * len(texts))


def _idf(counts: csr_matrix) -> NDArray[np.float32]:
    documents = np.bincount(counts.indices, minlength=counts.shape[1])
    found: NDArray[np.float32] = (np.log((1 + counts.shape[0]) / (1 + documents)) + 1).astype(np.float32)
    return found


def _weighed(counts: csr_matrix, idf: NDArray[np.float32]) -> csr_matrix:
    """One plus the logarithm of each count, times idf; rows of unit length."""
    found = counts.copy()
    found.data = (1 + np.log(found.data)) * idf[found.indices]
    lengths = np.sqrt(np.maximum(np.asarray(found.multiply(found).sum(axis=1)).ravel(), 1e-9))
    return csr_matrix(diags(1 / lengths) @ found, dtype=np.float32)


def _accuracy(scores: Floats, labels: Labels) -> float:
    return float((scores.argmax(axis=1) == labels).mean())
