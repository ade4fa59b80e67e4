"""Small networks over the frozen table and the n-grams, taught by a large English encoder (for benchmarks only).

A teacher sees more than the student ever will: it reads whole sentences, and it labels text that nobody has labelled,
several altered copies of each training line. Student and teacher are both fitted on the training rows alone. The
method is the label distillation of Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network",
with temperature `HEAT`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

HEAT = 2.0
HARD_SHARE = 0.5
"""Weight of the true label beside the teacher's opinion, on rows that have one."""


@dataclass(frozen=True)
class Inputs:
    """Rows as the networks read them.

    Attributes:
        vectors: of the table or of an encoder, (n_rows, n_dimensions); None for the n-gram half alone.
        ngrams: of unit length, (n_rows, n_buckets); None for the embedding half alone.
    """

    vectors: Floats | None
    ngrams: csr_matrix | None

    def __len__(self) -> int:
        return (self.vectors if self.vectors is not None else self.ngrams).shape[0]

    def batch(self, rows: Labels) -> Tensor | csr_matrix:
        if self.vectors is not None:
            return torch.from_numpy(self.vectors[rows])
        assert self.ngrams is not None
        return self.ngrams[rows]


class _SparseProduct(torch.autograd.Function):
    """Sparse rows times dense weights, several times faster than torch's own on a processor."""

    @staticmethod
    def forward(context: Any, weights: Tensor, rows: csr_matrix) -> Tensor:
        context.rows = rows
        return torch.from_numpy(rows @ weights.detach().numpy())

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return torch.from_numpy(context.rows.T @ gradients[0].numpy()), None


class Network(nn.Module):
    """One hidden layer over vectors, or one linear layer over n-grams."""

    def __init__(self, inputs: Inputs, classes: int, *, hidden: int = 1024, drop: float = 0.2) -> None:
        super().__init__()
        self.over_vectors: nn.Module | None = None
        self.over_ngrams: nn.Parameter | None = None
        self.bias = nn.Parameter(torch.zeros(classes))
        self.scale = nn.Parameter(torch.tensor(10.0 if inputs.vectors is not None else 5.0))
        if inputs.vectors is not None:
            self.over_vectors = nn.Sequential(
                nn.Linear(inputs.vectors.shape[1], hidden), nn.ReLU(), nn.Dropout(drop), nn.Linear(hidden, classes)
            )
        elif inputs.ngrams is not None:
            self.over_ngrams = nn.Parameter(torch.zeros(inputs.ngrams.shape[1], classes))

    def forward(self, rows: Tensor | csr_matrix) -> Tensor:
        if self.over_vectors is not None:
            found: Tensor = self.over_vectors(rows * self.scale)
        else:
            found = _SparseProduct.apply(self.over_ngrams, rows) * self.scale
        return self.bias + found

    @torch.no_grad()
    def scores(self, inputs: Inputs) -> Floats:
        """Logits (n_rows, n_classes)."""
        self.eval()
        parts = np.array_split(np.arange(len(inputs)), max(len(inputs) // 1_000, 1))
        return np.concatenate([self(inputs.batch(part)).numpy() for part in parts])


def fit(
    inputs: Inputs,
    labels: Labels,
    classes: int,
    *,
    seed: int,
    opinions: Floats | None = None,
    epochs: int,
    batch: int,
    drop: float = 0.2,
) -> Network:
    """Train a network.

    Args:
        labels: of the first rows; those that follow have opinions alone.
        opinions: the teacher's log probabilities of every row; None trains on labels alone.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = Network(inputs, classes, drop=drop)
    rate = 5e-3 if network.over_ngrams is not None else 2e-3
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, fused=True)
    steps = epochs * -(-len(inputs) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    for _ in range(epochs):
        network.train()
        order = rng.permutation(len(inputs))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            logits = network(inputs.batch(rows))
            loss = _loss(logits, rows, labels, opinions)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network


def _loss(logits: Tensor, rows: Labels, labels: Labels, opinions: Floats | None) -> Tensor:
    if opinions is None:
        return functional.cross_entropy(logits, torch.from_numpy(labels[rows]))
    wanted = functional.softmax(torch.from_numpy(opinions[rows]) / HEAT, dim=1)
    losses = HEAT**2 * functional.kl_div(functional.log_softmax(logits / HEAT, dim=1), wanted, reduction="none").sum(1)
    known = rows < len(labels)
    if known.any():
        true = functional.cross_entropy(logits[known], torch.from_numpy(labels[rows[known]]), reduction="none")
        mask = torch.from_numpy(known)
        losses = losses.masked_scatter(mask, HARD_SHARE * true + (1 - HARD_SHARE) * losses[mask])
    return losses.mean()


def altered(texts: Sequence[str], labels: Labels, copies: int, rng: np.random.Generator) -> tuple[list[str], Labels]:
    """Altered copies of training rows: words dropped, two lines of a class spliced, two of any class mixed, a crop.

    Returns: texts that are no training row themselves, and the rows that each was made of, (n_texts, 2).
    """
    words = [text.split() for text in texts]
    same = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
    known = set(texts)
    found: dict[str, tuple[int, int]] = {}
    for _ in range(copies):
        for row, (line, label) in enumerate(zip(words, labels.tolist(), strict=True)):
            kind, other = rng.random(), row
            if kind < 0.35:
                made = [word for word in line if rng.random() > 0.2] or line
            elif kind < 0.65:
                other = int(rng.choice(same[label]))
                made = line[: rng.integers(1, len(line) + 1)] + words[other][rng.integers(0, len(words[other])) :]
            elif kind < 0.85:
                other = int(rng.integers(len(words)))
                made = line[: max(1, int(len(line) * 0.7))] + words[other][-max(1, int(len(words[other]) * 0.3)) :]
            else:
                start = int(rng.integers(0, max(1, len(line) // 3) + 1))
                made = line[start : start + max(3, int(len(line) * 0.7))]
            text = " ".join(made)
            if text and text not in known:
                found.setdefault(text, (row, other))
    return list(found), np.array(list(found.values()))
