"""Linear heads over both halves of the features, and predictions for rows that the predicting head had not seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression

from firstline.learning.features import buckets

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Halves:
    """Features of all rows.

    Attributes:
        ngrams: weighed and of unit length, sparse (n_rows, 2**bits).
        embeddings: unit vectors, (n_rows, n_dimensions).
        languages: 1 at the language of each row, (n_rows, n_languages).
    """

    ngrams: csr_matrix
    embeddings: Floats
    languages: Floats

    def __getitem__(self, chosen: NDArray[np.bool_] | Labels) -> "Halves":
        return Halves(self.ngrams[chosen], self.embeddings[chosen], self.languages[chosen])


@dataclass(frozen=True)
class Fitted:
    """Weights of one head, by half; scores are the sum of both halves and the bias of the language.

    Attributes:
        bias: (n_languages, n_labels).
    """

    ngrams: Floats
    embeddings: Floats
    bias: Floats

    def halves(self, features: Halves) -> tuple[Floats, Floats]:
        """Scores by each half, (n_rows, n_labels); the bias is in neither."""
        return np.asarray(features.ngrams @ self.ngrams), features.embeddings @ self.embeddings

    def scores(self, features: Halves) -> Floats:
        spelled, meant = self.halves(features)
        found: Floats = spelled + meant + features.languages @ self.bias
        return found


def count_buckets(texts: Sequence[str], bits: int) -> csr_matrix:
    """How often each text has each n-gram bucket."""
    ids = [buckets(text, bits=bits) for text in texts]
    indptr = np.concatenate(([0], np.cumsum([len(found) for found in ids])))
    matrix = csr_matrix((np.ones(indptr[-1], np.float32), np.concatenate(ids), indptr), shape=(len(texts), 1 << bits))
    matrix.sum_duplicates()
    return matrix


def inverse_frequencies(matrix: csr_matrix) -> Floats:
    """Smoothed, rounded as the artefact holds them."""
    documents = np.bincount(matrix.indices, minlength=matrix.shape[1])
    found = np.log((1 + matrix.shape[0]) / (1 + documents)) / 4
    return found.astype(np.float16).astype(np.float32)


def weighed(matrix: csr_matrix, idf: Floats) -> csr_matrix:
    """Counts times idf, each row divided by the root of the sum of count times idf squared, as at run time."""
    lengths = np.sqrt(np.maximum(matrix @ (idf * idf), 1e-6))
    return csr_matrix(matrix.multiply(idf[None, :]).multiply(1.0 / lengths[:, None]), dtype=np.float32)


def fit_apart(
    features: Halves,
    labels: Labels,
    weights: NDArray[np.float64],
    *,
    c: float,
    embedding_c: float,
    embedding_share: float,
) -> Fitted:
    """Multinomial logistic regression over each half alone; the scores are mixed in fixed shares.

    Args:
        c, embedding_c: inverse strengths of the penalty of the n-gram and of the embedding half.
        embedding_share: 0–1; of the embedding half in the mix. At 0 it is left out, and so are the biases of the
            languages: the head that names the language must not be told it.
    """
    told = features.languages if embedding_share else np.zeros_like(features.languages)
    spelled, spelled_bias = _fit(features.ngrams, told, labels, weights, c)
    if not embedding_share:
        return Fitted(spelled, np.zeros((features.embeddings.shape[1], spelled.shape[1]), np.float32), spelled_bias)
    meant, meant_bias = _fit(csr_matrix(features.embeddings), features.languages, labels, weights, embedding_c)
    mine, other = np.float32(1 - embedding_share), np.float32(embedding_share)
    return Fitted(spelled * mine, meant * other, spelled_bias * mine + meant_bias * other)


def fit_together(features: Halves, labels: Labels, weights: NDArray[np.float64], *, c: float, balance: float) -> Fitted:
    """Logistic regression of one yes-or-no answer over both halves at once.

    Args:
        labels: 0 or 1.
        c: inverse strength of the penalty.
        balance: 0–1; how far the weight of the rarer answer is raised to that of the other.
    """
    yes = labels == 1
    rare = weights[yes].sum()
    lifted = np.where(yes, weights * (weights[~yes].sum() / rare) ** balance, weights)
    matrix = hstack([csr_matrix(features.embeddings), features.ngrams]).tocsr()
    found, bias = _fit(matrix, features.languages, labels, lifted, c)
    dimensions = features.embeddings.shape[1]
    return Fitted(found[dimensions:], found[:dimensions], bias)


def _fit(
    matrix: csr_matrix, languages: Floats, labels: Labels, weights: NDArray[np.float64], c: float
) -> tuple[Floats, Floats]:
    """Weights, and a bias for each language: how common the answers are differs by where the rows come from."""
    model = LogisticRegression(C=c, max_iter=150, tol=1e-3)
    model.fit(hstack([matrix, csr_matrix(languages)]).tocsr(), labels, sample_weight=weights)
    found = model.coef_.T.astype(np.float32)
    width = matrix.shape[1]
    return found[:width], found[width:] + model.intercept_.astype(np.float32)
