"""Recipe `ngram.v1`: hashed n-grams under two linear heads, one for the category and one for the language.

Scores are the mean-free sum of a text's bucket weights over the Euclidean length of its feature vector; the category
scores are divided by a fitted temperature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firstline.core.verdict import Prediction
from firstline.learning.calibration import calibrate, calibrate_one
from firstline.learning.features import MAX_CHARACTERS, bucket_blocks, buckets

RECIPE: Final = "ngram.v1"
_BATCH_CHARACTERS: Final = 60_000
_LANGUAGE_TEMPERATURE: Final = 1.0
LANGUAGE_PROBABILITY: Final = 0.4
"""Below it the language is not named."""


@dataclass(frozen=True, slots=True)
class NgramModel:
    """A trained model, ready to predict.

    Attributes:
        name: recipe and content hash, such as `ngram.v1+3f2a9c01`.
        categories, languages: labels of the columns, in order.
        table: float32 (2**bits, n_categories + n_languages + 1); weights already times the inverse document
            frequency, whose square is the last column.
        bias: float32 (n_categories + n_languages,).
        temperature: of the category head, > 0.
        bits: log2 of the number of buckets.
    """

    name: str
    categories: tuple[str, ...]
    languages: tuple[str, ...]
    table: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: float
    bits: int

    def predict(self, text: str) -> Prediction:
        """Category probabilities and language of one text."""
        rows = self.table.take(buckets(text, bits=self.bits), axis=0)
        return self._prediction(np.ones(len(rows), np.float32) @ rows)

    def predict_many(self, texts: Sequence[str]) -> list[Prediction]:
        """The same for several texts, faster for each."""
        predictions: list[Prediction] = []
        start = 0
        while start < len(texts):
            end, characters = start, 0
            while end < len(texts) and (end == start or characters + len(texts[end]) < _BATCH_CHARACTERS):
                characters += min(len(texts[end]), MAX_CHARACTERS) + 3
                end += 1
            predictions.extend(self._predict_batch(texts[start:end]))
            start = end
        return predictions

    def _predict_batch(self, texts: Sequence[str]) -> list[Prediction]:
        sums = np.zeros((len(texts), self.table.shape[1]), np.float32)
        for ids, rows in bucket_blocks(texts, bits=self.bits):
            if len(ids):
                first = np.concatenate(([0], np.flatnonzero(rows[1:] != rows[:-1]) + 1))
                sums[rows[first]] += np.add.reduceat(self.table.take(ids, axis=0), first, axis=0)
        scores = sums[:, :-1] / np.sqrt(np.maximum(sums[:, -1:], 1e-6)) + self.bias
        count = len(self.categories)
        categories = calibrate(scores[:, :count].astype(np.float64), self.temperature).tolist()
        languages = calibrate(scores[:, count:].astype(np.float64), _LANGUAGE_TEMPERATURE)
        best = languages.argmax(axis=1).tolist()
        sure = (languages.max(axis=1) >= LANGUAGE_PROBABILITY).tolist()
        return [
            Prediction(
                self.name,
                dict(zip(self.categories, probabilities, strict=True)),
                self.languages[language] if named else None,
            )
            for probabilities, language, named in zip(categories, best, sure, strict=True)
        ]

    def _prediction(self, sums: NDArray[np.float32]) -> Prediction:
        scores: list[float] = (sums[:-1] / max(float(sums[-1]), 1e-6) ** 0.5 + self.bias).tolist()
        count = len(self.categories)
        category = calibrate_one(scores[:count], self.temperature)
        language = calibrate_one(scores[count:], _LANGUAGE_TEMPERATURE)
        likeliest = max(language)
        return Prediction(
            self.name,
            dict(zip(self.categories, category, strict=True)),
            self.languages[language.index(likeliest)] if likeliest >= LANGUAGE_PROBABILITY else None,
        )


def dequantise(weights: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """int8 (n_buckets, n_columns) times one scale per column."""
    values: NDArray[np.float32] = weights.astype(np.float32) * scales
    return values


def quantise(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The inverse of `dequantise`, within half a step of each column."""
    scales = np.maximum(np.abs(weights).max(axis=0), 1e-12).astype(np.float32) / np.float32(127)
    return np.rint(weights / scales).astype(np.int8), scales


def as_table(weights: NDArray[np.float32], idf: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (n_buckets, n_columns) and inverse document frequencies (n_buckets,) joined for one look-up."""
    return np.concatenate([weights * idf[:, None], (idf * idf)[:, None]], axis=1).astype(np.float32)
