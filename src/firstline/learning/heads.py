"""The questions that a model answers: scores of both halves into calibrated answers, for many texts at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firstline.core.doubt import BIAS_SHARE, support_of
from firstline.core.taxonomy import Signal
from firstline.core.verdict import Opinion, Prediction

REPORTED: Final = 0.05
"""Signals less probable than this are left out of a prediction."""

LANGUAGE_PROBABILITY: Final = 0.4
"""Below it the language is not named."""

_MIXED: Final = ("category", "subcategory", "urgency", "decision")
"""Heads whose probabilities sum to 1 and are softened where the halves differ."""

_Scores = NDArray[np.float64]


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
        """Places of the labels among the columns."""
        return slice(self.start, self.start + len(self.labels))


@dataclass(frozen=True)
class Heads:
    """All heads of a model.

    Attributes:
        by_name: `category`, `language`, `subcategory`, `urgency`, `decision` and `signals`. A label of `subcategory`
            is `category/subcategory`; levels of `urgency` and `decision` ascend.
    """

    by_name: Mapping[str, Head]

    @cached_property
    def _inside(self) -> NDArray[np.float64]:
        """1 where a subcategory belongs to a category, (n_categories, n_subcategories)."""
        subcategories = self.by_name["subcategory"].labels
        return np.array(
            [
                [float(label.startswith(f"{name}/")) for label in subcategories]
                for name in self.by_name["category"].labels
            ]
        )

    @cached_property
    def _subcategories(self) -> list[str]:
        return [label.partition("/")[2] for label in self.by_name["subcategory"].labels]

    @cached_property
    def _signals(self) -> list[Signal]:
        return [Signal(label) for label in self.by_name["signals"].labels]

    def languages(self, scores: _Scores) -> list[tuple[str | None, float]]:
        """The likeliest language of each text, or None where none is likely, and its probability.

        Args:
            scores: of the n-gram half with the bias, (n_texts, n_columns).
        """
        head = self.by_name["language"]
        chances = _softmax(scores[:, head.columns] / head.temperature)
        best, sure = chances.argmax(axis=1).tolist(), chances.max(axis=1).tolist()
        return [
            (head.labels[place] if chance >= LANGUAGE_PROBABILITY else None, chance)
            for place, chance in zip(best, sure, strict=True)
        ]

    def predictions(
        self, model: str, languages: list[str | None], spelled: _Scores, meant: _Scores, bias: NDArray[np.float32]
    ) -> list[Prediction]:
        """Everything that the model says about each text.

        Args:
            model: name of the model.
            languages: of the texts.
            spelled, meant: scores of the n-gram and of the embedding half, (n_texts, n_columns).
            bias: in neither half, (n_texts, n_columns).
        """
        scores = spelled + meant + bias
        chances: dict[str, _Scores] = {}
        agreed = np.ones(len(languages), bool)
        for name in _MIXED:
            head = self.by_name[name]
            columns = head.columns
            same = spelled[:, columns].argmax(axis=1) == meant[:, columns].argmax(axis=1)
            heat = np.where(same, head.temperature, head.doubtful_temperature)
            chances[name] = _softmax(scores[:, columns] / heat[:, None])
            if name == "category":
                agreed = same
        signals = self.by_name["signals"]
        suspected = 1.0 / (1.0 + np.exp(np.clip(-scores[:, signals.columns] / signals.temperature, -60.0, 60.0)))
        likeliest = chances["category"].argmax(axis=1)
        category, inner = self.by_name["category"].columns, self.by_name["subcategory"].columns
        kinds = np.where(self._inside[None] > 0, scores[:, None, inner], -np.inf).max(axis=2)
        meaning = _ahead(meant[:, category] + BIAS_SHARE * bias[:, category], likeliest)
        borne_out = np.nan_to_num(_ahead(kinds, likeliest), nan=0.0, posinf=0.0, neginf=0.0)
        finer = (chances["subcategory"] * self._inside[likeliest] - (self._inside[likeliest] == 0)).argmax(axis=1)
        reported: list[dict[Signal, float]] = [{} for _ in languages]
        rows, found = np.nonzero(suspected >= REPORTED)
        for row, place, chance in zip(
            rows.tolist(), found.tolist(), suspected[rows, found].round(4).tolist(), strict=True
        ):
            reported[row][self._signals[place]] = chance
        names = self.by_name["category"].labels
        return [
            Prediction(
                model,
                dict(zip(names, row, strict=True)),
                language,
                self._subcategories[place],
                own,
                urgency,
                decision,
                same,
                support=round(support_of(ahead, finer), 4),
            )
            for row, language, place, own, urgency, decision, same, ahead, finer in zip(
                chances["category"].tolist(),
                languages,
                finer.tolist(),
                reported,
                _opinions(self.by_name["urgency"], chances["urgency"]),
                _opinions(self.by_name["decision"], chances["decision"]),
                agreed.tolist(),
                meaning.tolist(),
                borne_out.tolist(),
                strict=True,
            )
        ]


def _softmax(scores: _Scores) -> _Scores:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: _Scores = exponentials / exponentials.sum(axis=1, keepdims=True)
    return found


def _ahead(scores: _Scores, answers: NDArray[np.int64]) -> _Scores:
    """How far the answer's score of each row is above the best other one; NaN where neither has one."""
    rows = np.arange(len(scores))
    others = scores.copy()
    others[rows, answers] = -np.inf
    found: _Scores = scores[rows, answers] - others.max(axis=1)
    return found


def _opinions(head: Head, chances: _Scores) -> list[Opinion]:
    """The highest level that is reached more likely than not, of each text."""
    reached = np.minimum(chances[:, ::-1].cumsum(axis=1)[:, ::-1], 1.0)
    reached[:, 0] = 1.0
    levels = (reached >= 0.5).sum(axis=1) - 1
    sure = reached[np.arange(len(levels)), levels].round(4).tolist()
    return [Opinion(head.labels[level], chance) for level, chance in zip(levels.tolist(), sure, strict=True)]
