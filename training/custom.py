"""How far custom categories can be believed: curves fitted once, on taxonomies drawn from CLINC150's training intents.

Each draw takes some intents as an account's categories, with few or many examples of each, and asks about other
messages of theirs and of intents outside. Two curves come out: the temperature by the number of examples, and the
weights of the chance that a message belongs to none of the categories.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from firstline.core.categories import CategorySet, OwnCategory
from firstline.core.taxonomy import Priority
from firstline.learning.calibration import fit_temperature
from firstline.learning.custom import DEFAULT_CURVES, Curves, fit_categories, joined
from firstline.learning.hybrid_model import HybridModel
from firstline.learning.linear import softmax

EXAMPLES = (0, 1, 2, 5, 10, 20)
DRAWS = 12
SIZES = (4, 8, 15, 30)
ASKED = 15
OUTSIDE_SHARE = 0.5


def fit_curves(model: HybridModel, entries: Iterable[dict[str, Any]], seed: int) -> Curves:
    """The curves of a model, from CLINC150's training split."""
    rng = np.random.default_rng(seed)
    by_intent: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if entry["split"] == "train":
            by_intent[entry["label"]].append(entry["text"])
    oos = by_intent.pop("oos", [])
    intents = sorted(by_intent)
    temperatures: list[tuple[float, float]] = []
    drawn = []
    for examples in EXAMPLES:
        scored: list[NDArray[np.float64]] = []
        logits, answers = [], []
        for draw in range(DRAWS):
            chosen = rng.permutation(intents)[: SIZES[draw % len(SIZES)]].tolist()
            mixed = {intent: rng.permutation(by_intent[intent]).tolist() for intent in chosen}
            categories = CategorySet(
                tuple(
                    OwnCategory(intent.replace("_", " "), "", Priority.MEDIUM, tuple(mixed[intent][:examples]))
                    for intent in chosen
                )
            )
            trained = fit_categories(model, categories, DEFAULT_CURVES)
            inside = [(text, place) for place, intent in enumerate(chosen) for text in mixed[intent][-ASKED:]]
            others = [intent for intent in intents if intent not in mixed]
            outside = [str(rng.choice(by_intent[str(rng.choice(others))])) for _ in range(len(inside) * 3 // 4)]
            outside += rng.permutation(oos)[: len(inside) // 4].tolist()
            features = [found for _, found in model.analyse_many([text for text, _ in inside] + outside)]
            vectors = np.stack([joined(found, model.idf) for found in features])
            scores = (vectors @ trained.weights + trained.bias).astype(np.float64)
            close = (np.stack([found.embedding for found in features]) @ trained.anchors.T).max(axis=1)
            width = max(SIZES)
            padded = np.full((len(inside), width), -1e9)
            padded[:, : len(chosen)] = scores[: len(inside)]
            logits.append(padded)
            answers.append(np.array([place for _, place in inside]))
            scored.append(np.column_stack([close, np.arange(len(features)) >= len(inside)]))
            drawn.append((examples, scores, scored[-1]))
        temperatures.append(
            (float(examples), round(fit_temperature(np.concatenate(logits), np.concatenate(answers)), 4))
        )
        print(f"{examples:3} examples: temperature {temperatures[-1][1]}", flush=True)
    heat = dict(temperatures)
    inputs, outside_flags = [], []
    for examples, scores, table in drawn:
        top = softmax(scores / heat[float(examples)]).max(axis=1)
        inputs.append(np.column_stack([table[:, 0], top, np.full(len(top), np.log1p(examples))]))
        outside_flags.append(table[:, 1])
    fitted = LogisticRegression(C=100.0).fit(np.concatenate(inputs), np.concatenate(outside_flags))
    chance = fitted.predict_proba(np.concatenate(inputs))[:, 1]
    truth = np.concatenate(outside_flags) == 1
    print(f"none of these: right {((chance >= 0.5) == truth).mean():.3f} of half outside messages")
    bias, (near, sure, many) = float(fitted.intercept_[0]), fitted.coef_[0].tolist()
    return Curves(tuple(temperatures), (round(bias, 4), round(near, 4), round(sure, 4), round(many, 4)))
