"""Recipe `hybrid.v1`: hashed n-grams and a static embedding table under the same linear heads.

The n-gram half knows the words that it was trained on, in every language. The embedding half knows what words mean:
its table was trained so that the mean of a text's rows is close to the sentence vector of a large English encoder;
other languages reach it through word lists. Both halves score every label; their scores are added, and divided by a
temperature that depends on whether the halves alone would have named the same label. Where they differ, the
probability is softened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firstline.core.taxonomy import Signal
from firstline.core.verdict import Opinion, Prediction
from firstline.learning.calibration import calibrate_one, sigmoid
from firstline.learning.features import MAX_CHARACTERS, bucket_blocks, buckets
from firstline.learning.vocabulary import Vocabulary

RECIPE: Final = "hybrid.v1"
LANGUAGE_PROBABILITY: Final = 0.4
"""Below it the language is not named."""

REPORTED: Final = 0.05
"""Signals less probable than this are left out of a prediction."""

_BATCH_CHARACTERS: Final = 60_000

Floats = NDArray[np.float32]


class Head(NamedTuple):
    """One question that the model answers.

    Attributes:
        labels: the possible answers, in the order of the columns.
        start: first column.
        temperature: of the scores where both halves name the same label, > 0.
        doubtful_temperature: where they do not; for independent labels (signals) it is not used.
    """

    labels: tuple[str, ...]
    start: int
    temperature: float
    doubtful_temperature: float

    @property
    def columns(self) -> slice:
        return slice(self.start, self.start + len(self.labels))


@dataclass(frozen=True, slots=True)
class Features:
    """What a text is to the model; made once and read by every head.

    Attributes:
        buckets: n-gram buckets, with repeats, (n_features,).
        language: code of the likeliest language, or None when none is likely.
        embedding: unit vector (n_dimensions,), or zeros when no word of the text is known.
    """

    buckets: NDArray[np.int64]
    language: str | None
    embedding: Floats


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of small integers with a scale each or per column, kept as they are stored.

    Attributes:
        values: int8 (n_rows, n_columns).
        scales: float32; one per row for the embedding, one per column for the n-grams.
    """

    values: NDArray[np.int8]
    scales: Floats


@dataclass(frozen=True, slots=True)
class HybridModel:
    """A trained model, ready to predict; safe from any thread.

    Attributes:
        name: recipe and content hash, such as `hybrid.v1+3f2a9c01`.
        heads: by name: `category`, `language`, `subcategory`, `urgency`, `decision`, `signals`. A label of
            `subcategory` is `category/subcategory`.
        ngrams: (2**bits, n_columns), scales per column.
        idf: inverse document frequencies, (2**bits,).
        embeddings: (n_vocabulary, n_dimensions), scales per row.
        weights: of the embedding half, (n_dimensions, n_columns).
        bias: (n_columns,).
        vocabulary: reads text as rows of `embeddings`.
        bits: log2 of the number of buckets.
    """

    name: str
    heads: Mapping[str, Head]
    ngrams: Table
    idf: Floats
    embeddings: Table
    weights: Floats
    bias: Floats
    vocabulary: Vocabulary
    bits: int

    @property
    def categories(self) -> tuple[str, ...]:
        """Labels of the category head."""
        return self.heads["category"].labels

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that the model knows."""
        return self.heads["language"].labels

    def predict(self, text: str) -> Prediction:
        """Everything that the model says about one text."""
        return self.analyse(text)[0]

    def predict_many(self, texts: Sequence[str]) -> list[Prediction]:
        """The same for several texts, faster for each."""
        return [prediction for prediction, _ in self.analyse_many(texts)]

    def analyse(self, text: str) -> tuple[Prediction, Features]:
        """The prediction for one text, and the features for further heads."""
        ids = buckets(text, bits=self.bits)
        idf = self.idf.take(ids)
        sums = idf @ self.ngrams.values.take(ids, axis=0).astype(np.float32)
        return self._finish(text, ids, sums, float(idf @ idf))

    def analyse_many(self, texts: Sequence[str]) -> list[tuple[Prediction, Features]]:
        """The same for several texts."""
        found: list[tuple[Prediction, Features]] = []
        start = 0
        while start < len(texts):
            end, characters = start, 0
            while end < len(texts) and (end == start or characters + len(texts[end]) < _BATCH_CHARACTERS):
                characters += min(len(texts[end]), MAX_CHARACTERS) + 3
                end += 1
            found.extend(self._analyse_batch(texts[start:end]))
            start = end
        return found

    def embed(self, text: str, *, language: str | None = None) -> Floats:
        """Unit vector (n_dimensions,) of a text, or zeros when no word of it is known."""
        rows = self.vocabulary.rows(text, language=language)
        if not rows:
            return np.zeros(self.embeddings.values.shape[1], np.float32)
        vector: Floats = self.embeddings.scales.take(rows) @ self.embeddings.values.take(rows, axis=0).astype(
            np.float32
        )
        return vector / np.float32(max(float(vector @ vector) ** 0.5, 1e-9))

    def _analyse_batch(self, texts: Sequence[str]) -> list[tuple[Prediction, Features]]:
        sums = np.zeros((len(texts), len(self.bias)), np.float32)
        squares = np.zeros(len(texts), np.float32)
        parts: list[list[NDArray[np.int64]]] = [[] for _ in texts]
        for ids, rows in bucket_blocks(texts, bits=self.bits):
            if not len(ids):
                continue
            first = np.concatenate(([0], np.flatnonzero(rows[1:] != rows[:-1]) + 1))
            idf = self.idf.take(ids)
            weighted = self.ngrams.values.take(ids, axis=0) * idf[:, None]
            sums[rows[first]] += np.add.reduceat(weighted, first, axis=0)
            squares[rows[first]] += np.add.reduceat(idf * idf, first)
            for row, part in zip(rows[first].tolist(), np.split(ids, first[1:]), strict=True):
                parts[row].append(part)
        return [
            self._finish(text, np.concatenate(own) if own else np.zeros(0, np.int64), sums[row], float(squares[row]))
            for row, (text, own) in enumerate(zip(texts, parts, strict=True))
        ]

    def _finish(self, text: str, ids: NDArray[np.int64], sums: Floats, square: float) -> tuple[Prediction, Features]:
        spelled = sums * (self.ngrams.scales / np.float32(max(square, 1e-6) ** 0.5))
        language = self._language(
            (spelled[self.heads["language"].columns] + self.bias[self.heads["language"].columns]).tolist()
        )
        embedding = self.embed(text, language=language)
        meant = embedding @ self.weights
        return (
            self._prediction(language, spelled.tolist(), meant.tolist(), (spelled + meant + self.bias).tolist()),
            Features(ids, language, embedding),
        )

    def _language(self, scores: list[float]) -> str | None:
        head = self.heads["language"]
        probabilities = calibrate_one(scores, head.temperature)
        best = max(probabilities)
        return head.labels[probabilities.index(best)] if best >= LANGUAGE_PROBABILITY else None

    def _prediction(
        self, language: str | None, spelled: list[float], meant: list[float], scores: list[float]
    ) -> Prediction:
        category, agree = _answers(self.heads["category"], spelled, meant, scores)
        best = max(category, key=category.__getitem__)
        signals = self.heads["signals"]
        chances = {
            Signal(label): round(chance, 4)
            for label, score in zip(signals.labels, scores[signals.columns], strict=True)
            if (chance := sigmoid(score / signals.temperature)) >= REPORTED
        }
        return Prediction(
            model=self.name,
            probabilities=category,
            language=language,
            subcategory=self._subcategory(best, scores),
            signals=chances,
            urgency=_opinion(_answers(self.heads["urgency"], spelled, meant, scores)[0]),
            decision=_opinion(_answers(self.heads["decision"], spelled, meant, scores)[0]),
            agreed=agree,
        )

    def _subcategory(self, category: str, scores: list[float]) -> str | None:
        head = self.heads["subcategory"]
        inside = [
            (score, label)
            for score, label in zip(scores[head.columns], head.labels, strict=True)
            if label.startswith(f"{category}/")
        ]
        return max(inside)[1].partition("/")[2] if inside else None


def _answers(
    head: Head, spelled: list[float], meant: list[float], scores: list[float]
) -> tuple[dict[str, float], bool]:
    """Probabilities by label, and whether both halves name the same one."""
    one, other = spelled[head.columns], meant[head.columns]
    agree = one.index(max(one)) == other.index(max(other))
    temperature = head.temperature if agree else head.doubtful_temperature
    return dict(zip(head.labels, calibrate_one(scores[head.columns], temperature), strict=True)), agree


def _opinion(probabilities: Mapping[str, float]) -> Opinion:
    """The highest level that is reached more likely than not; levels ascend."""
    levels = list(probabilities)
    level, reached = levels[-1], 0.0
    while reached < 0.5 and levels:
        level = levels.pop()
        reached += probabilities[level]
    return Opinion(level, round(min(reached, 1.0), 4))
