"""The local model."""

from collections.abc import Sequence
from typing import Protocol

from firstline.core.verdict import Prediction


class Classifier(Protocol):
    """Predicts a category; pure, and safe from any thread."""

    @property
    def name(self) -> str:
        """Recipe and content hash."""
        ...

    def predict(self, text: str) -> Prediction:
        """One text of at most 5,000 characters."""
        ...

    def predict_many(self, texts: Sequence[str]) -> list[Prediction]:
        """Several texts, in order."""
        ...
