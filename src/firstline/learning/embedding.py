"""What a text means, as a vector of unit length.

Two ways. The table has a row for each word piece, trained so that the mean of a text's rows is close to the sentence
vector of an English encoder; it costs some ten microseconds. The encoder itself reads the words in their order and
costs a hundred times that. Both know English; other languages are read through word lists (learning/vocabulary.py).
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from firstline.learning.vocabulary import Vocabulary
from firstline.learning.wordpiece import WordPieces

ENGLISH: Final = "en"

Floats = NDArray[np.float32]


class Embedder(Protocol):
    """Makes vectors of texts; safe from any thread, and alike whatever else is asked at the same time."""

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        ...

    def embed(self, text: str, *, language: str | None) -> Floats:
        """Unit vector (n_dimensions,) of a text, or zeros when nothing in it is known.

        Args:
            language: of the text; None is read as English.
        """
        ...


class Encoder(Protocol):
    """Makes vectors of numbered word pieces; safe from any thread."""

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        ...

    def encode(self, ids: list[int]) -> Floats:
        """Unit vector (n_dimensions,) of one text.

        Args:
            ids: of its word pieces, with those that frame a text, 2 to `MAX_TOKENS`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of small integers with a scale each or per column, kept as they are stored.

    Attributes:
        values: int8 (n_rows, n_columns).
        scales: float32; one per row for embeddings, one per column for n-grams.
    """

    values: NDArray[np.int8]
    scales: Floats


@dataclass(frozen=True, slots=True)
class StaticEmbedder:
    """The mean of a text's rows in a table.

    Attributes:
        table: (n_vocabulary, n_dimensions), scales per row.
        vocabulary: reads text as rows of the table.
    """

    table: Table
    vocabulary: Vocabulary

    @property
    def dimensions(self) -> int:
        return int(self.table.values.shape[1])

    def embed(self, text: str, *, language: str | None) -> Floats:
        """See `Embedder`."""
        rows = self.vocabulary.rows(text, language=language)
        if not rows:
            return np.zeros(self.dimensions, np.float32)
        found = self.table.values.take(rows, axis=0).astype(np.float32)
        vector: Floats = self.table.scales.take(rows) @ found
        return vector / np.float32(max(float(vector @ vector) ** 0.5, 1e-9))


@dataclass(frozen=True, slots=True)
class SentenceEmbedder:
    """An English encoder; what is written in another language it is given as the English glosses of its words.

    Attributes:
        words: the encoder's own word pieces.
        vocabulary: knows the word lists.
    """

    encoder: Encoder
    words: WordPieces
    vocabulary: Vocabulary

    @property
    def dimensions(self) -> int:
        return self.encoder.dimensions

    def embed(self, text: str, *, language: str | None) -> Floats:
        """See `Embedder`."""
        if language not in (None, ENGLISH):
            known = language in self.vocabulary.languages
            text = self.vocabulary.gloss(text, language=str(language)) if known else ""
        ids = self.words.ids(text)
        if len(ids) == _FRAME:
            return np.zeros(self.dimensions, np.float32)
        return self.encoder.encode(ids)


_FRAME: Final = 2
"""Tokens of a text without words."""
