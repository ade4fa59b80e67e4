"""Embeddings of many texts, exactly as the model makes them at run time."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from firstline.learning.hybrid_model import Table
from firstline.learning.vocabulary import Vocabulary


def embeddings_of(
    vocabulary: Vocabulary, table: Table, texts: Sequence[str], languages: Sequence[str]
) -> NDArray[np.float32]:
    """Unit vectors (n_texts, n_dimensions); zeros where no word is known."""
    found = np.zeros((len(texts), table.values.shape[1]), np.float32)
    for place, (text, language) in enumerate(zip(texts, languages, strict=True)):
        rows = vocabulary.rows(text, language=language)
        if rows:
            vector = table.scales.take(rows) @ table.values.take(rows, axis=0).astype(np.float32)
            found[place] = vector / max(float(vector @ vector) ** 0.5, 1e-9)
    return found
