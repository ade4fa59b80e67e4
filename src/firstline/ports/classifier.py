"""The local model."""

from collections.abc import Sequence
from typing import Protocol

from firstline.core.verdict import Prediction
from firstline.learning.custom import CustomModel


class Classifier(Protocol):
    """Predicts a category; pure, and safe from any thread."""

    @property
    def name(self) -> str:
        """Recipe and content hash."""
        ...

    def predict(self, text: str, categories: CustomModel | None = None) -> Prediction:
        """One text of at most 5,000 characters.

        Args:
            categories: of an account's own, in place of the default ones.
        """
        ...

    def predict_many(
        self, texts: Sequence[str], categories: Sequence[CustomModel | None] | None = None
    ) -> list[Prediction]:
        """Several texts, in order, with the categories of each."""
        ...
