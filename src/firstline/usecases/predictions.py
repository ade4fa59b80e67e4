"""The local model's predictions, asked for together by whoever asks at the same time."""

import asyncio
import contextlib

from firstline.core.verdict import Prediction
from firstline.learning.custom import CustomModel
from firstline.ports.classifier import Classifier


class Predictions:
    """Asks the model once for all texts that arrive in the same turn of the event loop.

    The model takes a quarter of the time per text when it is asked for several. A text that comes alone waits for
    nothing.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._waiting: list[tuple[str, CustomModel | None, asyncio.Future[Prediction]]] = []

    async def predict(self, text: str, categories: CustomModel | None) -> Prediction:
        """Raises: whatever the classifier raises for this text."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._answer)
        future: asyncio.Future[Prediction] = loop.create_future()
        self._waiting.append((text, categories, future))
        return await future

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        if len(waiting) > 1:
            with contextlib.suppress(Exception):  # each is then asked for alone, so that only the one at fault fails
                found = self._classifier.predict_many(
                    [text for text, _, _ in waiting], [categories for _, categories, _ in waiting]
                )
                for (_, _, future), prediction in zip(waiting, found, strict=True):
                    if not future.done():
                        future.set_result(prediction)
        for text, categories, future in waiting:
            if future.done():
                continue
            try:
                future.set_result(self._classifier.predict(text, categories))
            except Exception as error:  # handed to the one who waits for it
                future.set_exception(error)
