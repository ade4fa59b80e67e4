"""Training the categories of an account.

Guarantees: training never runs in the event loop; one training at a time per account, and few at once in all, so that
answering messages goes on. What fails is one training; whatever was in force stays in force.
"""

from typing import Protocol

from firstline.core.categories import CategorySet
from firstline.learning.custom import Advice, CustomModel


class TrainingFailed(Exception):
    """The categories could not be trained; the message says why, without a word of them, for operators."""


class Trainer(Protocol):
    """Turns categories into bytes that can be stored, and those into a model that predicts."""

    async def train(self, account_id: str, categories: CategorySet) -> bytes:
        """Train categories that `core.categories.check` has accepted, on the model in use.

        Raises: TrainingFailed.
        """
        ...

    def load(self, trained: bytes) -> tuple[CustomModel, tuple[Advice, ...]]:
        """What was trained, and the advice given on it; blocks for some milliseconds.

        Raises: ValueError when the bytes are damaged or do not fit the model in use.
        """
        ...
