"""Recipes `hybrid.v1` and `minilm.v1`: hashed n-grams and embeddings of sentences under the same linear heads.

The n-gram half knows the words that it was trained on, in every language. The embedding half knows what words mean
(learning/embedding.py): in `hybrid.v1` through a static table, in `minilm.v1` through the English encoder that the
table imitates. Both halves score every label; their scores are added, and divided by a
temperature that depends on whether the halves alone would have named the same label. Where they differ, the
probability is softened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firstline.core.verdict import Prediction
from firstline.learning.embedding import Embedder, StaticEmbedder, Table
from firstline.learning.features import MAX_CHARACTERS, bucket_blocks, buckets
from firstline.learning.heads import Heads
from firstline.learning.vocabulary import Vocabulary

__all__ = ["MINILM_RECIPE", "RECIPE", "Features", "HybridModel", "Table"]

RECIPE: Final = "hybrid.v1"
MINILM_RECIPE: Final = "minilm.v1"
_BATCH_CHARACTERS: Final = 60_000

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Features:
    """What a text is to the model; made once and read by every head.

    Attributes:
        buckets: n-gram buckets, with repeats, (n_features,).
        language: code of the likeliest language, or None when none is likely.
        certainty: probability of the likeliest language among those that the model knows, 0–1.
        embedding: unit vector (n_dimensions,), or zeros when no word of the text is known.
    """

    buckets: NDArray[np.int64]
    language: str | None
    certainty: float
    embedding: Floats


@dataclass(frozen=True, slots=True)
class HybridModel:
    """A trained model, ready to predict; safe from any thread.

    Attributes:
        name: recipe and content hash, such as `hybrid.v1+3f2a9c01`.
        heads: the questions that it answers.
        ngrams: (2**bits, n_columns), scales per column.
        idf: inverse document frequencies, (2**bits,).
        embedder: makes vectors of n_dimensions.
        weights: of the embedding half, (n_dimensions, n_columns).
        bias: (n_languages + 1, n_columns); how common the answers are differs by language. The last row is for a text
            whose language is not known.
        bits: log2 of the number of buckets.
    """

    name: str
    heads: Heads
    ngrams: Table
    idf: Floats
    embedder: Embedder
    weights: Floats
    bias: Floats
    bits: int

    @property
    def categories(self) -> tuple[str, ...]:
        """Labels of the category head."""
        return self.heads.by_name["category"].labels

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that the model knows."""
        return self.heads.by_name["language"].labels

    @property
    def embeddings(self) -> Table:
        """The static table; for those who read it directly.

        Raises: TypeError when the model has an encoder in its place.
        """
        return self._static.table

    @property
    def vocabulary(self) -> Vocabulary:
        """Reads text as rows of `embeddings`.

        Raises: TypeError as `embeddings` does.
        """
        return self._static.vocabulary

    @property
    def _static(self) -> StaticEmbedder:
        if not isinstance(self.embedder, StaticEmbedder):
            raise TypeError(f"{self.name} has no static table")
        return self.embedder

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
        return self.embedder.embed(text, language=language)

    def _analyse_batch(self, texts: Sequence[str]) -> list[tuple[Prediction, Features]]:
        sums = np.zeros((len(texts), self.bias.shape[1]), np.float32)
        squares = np.zeros(len(texts), np.float32)
        blocks = bucket_blocks(texts, bits=self.bits)
        rows = np.concatenate([block_rows for _, block_rows in blocks])
        order = rows.argsort(kind="stable")
        ids = np.concatenate([block for block, _ in blocks])[order]
        parts = np.split(ids, np.bincount(rows, minlength=len(texts)).cumsum()[:-1])
        for row, own in enumerate(parts):
            idf = self.idf.take(own)
            sums[row] = idf @ self.ngrams.values.take(own, axis=0).astype(np.float32)
            squares[row] = idf @ idf
        return self._finish(texts, parts, sums, squares)

    def _finish(
        self, texts: Sequence[str], ids: Sequence[NDArray[np.int64]], sums: Floats, squares: Floats
    ) -> list[tuple[Prediction, Features]]:
        """Both halves into predictions.

        Args:
            sums: n-gram weights times idf, unscaled, (n_texts, n_columns).
            squares: summed squares of idf, (n_texts,).
        """
        spelled = sums * self.ngrams.scales / np.sqrt(np.maximum(squares, 1e-6))[:, None].astype(np.float64)
        found = self.heads.languages(spelled + self.bias[-1])
        languages = [language for language, _ in found]
        vectors = [self.embed(text, language=language) for text, language in zip(texts, languages, strict=True)]
        meant = (np.stack(vectors) @ self.weights).astype(np.float64)
        bias = self.bias[[self.languages.index(language) if language else -1 for language in languages]]
        predictions = self.heads.predictions(self.name, languages, spelled, meant, bias)
        return [
            (prediction, Features(own, language, certainty, vector))
            for prediction, own, (language, certainty), vector in zip(predictions, ids, found, vectors, strict=True)
        ]
