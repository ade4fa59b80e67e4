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
from firstline.learning.calibration import calibrate
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
        return self._finish([text], [ids], sums[None], np.array([idf @ idf], np.float32))[0]

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
        found = self.embeddings.values.take(rows, axis=0).astype(np.float32)
        vector: Floats = self.embeddings.scales.take(rows) @ found
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
            last = [*first[1:].tolist(), len(ids)]
            for row, begin, end in zip(rows[first].tolist(), first.tolist(), last, strict=True):
                own = ids[begin:end]
                sums[row] += idf[begin:end] @ self.ngrams.values.take(own, axis=0).astype(np.float32)
                parts[row].append(own)
            squares[rows[first]] += np.add.reduceat(idf * idf, first)
        ids_of = [np.concatenate(own) if own else np.zeros(0, np.int64) for own in parts]
        return self._finish(texts, ids_of, sums, squares)

    def _finish(
        self, texts: Sequence[str], ids: Sequence[NDArray[np.int64]], sums: Floats, squares: Floats
    ) -> list[tuple[Prediction, Features]]:
        """Both halves into predictions.

        Args:
            sums: n-gram weights times idf, unscaled, (n_texts, n_columns).
            squares: summed squares of idf, (n_texts,).
        """
        spelled = sums * self.ngrams.scales / np.sqrt(np.maximum(squares, 1e-6))[:, None]
        languages = self._languages(spelled)
        vectors = [self.embed(text, language=language) for text, language in zip(texts, languages, strict=True)]
        meant = np.stack(vectors) @ self.weights
        agreed = np.empty((len(texts), len(_MIXED)), bool)
        scores = spelled + meant + self.bias
        for place, name in enumerate(_MIXED):
            head = self.heads[name]
            columns = head.columns
            same = spelled[:, columns].argmax(axis=1) == meant[:, columns].argmax(axis=1)
            agreed[:, place] = same
            scores[:, columns] /= np.where(same, head.temperature, head.doubtful_temperature)[:, None]
            scores[:, columns] -= scores[:, columns].max(axis=1, keepdims=True)
        signals = self.heads["signals"]
        scores[:, signals.columns] /= signals.temperature
        chances = np.exp(np.clip(scores, -60.0, 60.0)).astype(np.float64)
        chances[:, signals.columns] /= 1.0 + chances[:, signals.columns]
        for name in _MIXED:
            columns = self.heads[name].columns
            chances[:, columns] /= chances[:, columns].sum(axis=1, keepdims=True)
        return [
            (self._prediction(language, row, together), Features(own, language, vector))
            for language, row, together, own, vector in zip(
                languages, chances.tolist(), agreed[:, 0].tolist(), ids, vectors, strict=True
            )
        ]

    def _languages(self, spelled: NDArray[np.floating]) -> list[str | None]:
        head = self.heads["language"]
        scores = (spelled[:, head.columns] + self.bias[head.columns]).astype(np.float64)
        probabilities = calibrate(scores, head.temperature)
        best, sure = probabilities.argmax(axis=1).tolist(), probabilities.max(axis=1).tolist()
        return [
            head.labels[place] if chance >= LANGUAGE_PROBABILITY else None
            for place, chance in zip(best, sure, strict=True)
        ]

    def _prediction(self, language: str | None, chances: list[float], agreed: bool) -> Prediction:
        categories = self.heads["category"]
        likely = chances[categories.columns]
        signals = self.heads["signals"]
        return Prediction(
            model=self.name,
            probabilities=dict(zip(categories.labels, likely, strict=True)),
            language=language,
            subcategory=self._subcategory(categories.labels[likely.index(max(likely))], chances),
            signals={
                Signal(label): round(chance, 4)
                for label, chance in zip(signals.labels, chances[signals.columns], strict=True)
                if chance >= REPORTED
            },
            urgency=_opinion(self.heads["urgency"], chances),
            decision=_opinion(self.heads["decision"], chances),
            agreed=agreed,
        )

    def _subcategory(self, category: str, chances: list[float]) -> str | None:
        head = self.heads["subcategory"]
        inside = [
            (chance, label)
            for chance, label in zip(chances[head.columns], head.labels, strict=True)
            if label.startswith(category)
        ]
        return max(inside)[1].partition("/")[2] if inside else None


_MIXED: Final = ("category", "subcategory", "urgency", "decision")
"""Heads whose probabilities sum to 1 and are softened where the halves differ; `agreed` is said of the first."""


def _opinion(head: Head, chances: list[float]) -> Opinion:
    """The highest level that is reached more likely than not; levels ascend."""
    reached = 0.0
    for label, chance in zip(reversed(head.labels), reversed(chances[head.columns]), strict=True):
        reached += chance
        if reached >= 0.5:
            return Opinion(label, round(min(reached, 1.0), 4))
    return Opinion(head.labels[0], 1.0)
