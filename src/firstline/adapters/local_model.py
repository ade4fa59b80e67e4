"""The local model from its file, beside the recogniser of languages that it does not know."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Final

from firstline.adapters.language import ForeignLanguage
from firstline.adapters.onnx_embedder import open_encoder
from firstline.core.verdict import Abstention, Prediction
from firstline.learning.artifact import load_model, read_card
from firstline.learning.custom import Curves, CustomModel, curves_from_card
from firstline.learning.hybrid_model import Features, HybridModel

MAX_FILE_BYTES: Final = 256 << 20

_CERTAIN: Final = 0.995
"""Where the model is so sure of the language, nobody else is asked: foreign text in Latin letters does not reach it."""

_SHARED_SCRIPTS: Final = frozenset({"ru", "ar"})
"""Languages that unsupported ones share a script with, and are taken for with certainty."""


class ModelUnusable(ValueError):
    """A model file that cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """The classifier in use: a model, and what it must not be asked about."""

    hybrid: HybridModel
    curves: Curves
    foreign: ForeignLanguage

    @property
    def name(self) -> str:
        return self.hybrid.name

    def predict(self, text: str, categories: CustomModel | None = None) -> Prediction:
        """Everything about one text; with `categories`, those take the place of the default ones."""
        return self._reviewed(text, self.hybrid.analyse(text), categories)

    def predict_many(
        self, texts: Sequence[str], categories: Sequence[CustomModel | None] | None = None
    ) -> list[Prediction]:
        """The same for several texts, with the categories of each."""
        chosen = categories or [None] * len(texts)
        found = self.hybrid.analyse_many(texts)
        return [self._reviewed(text, analysed, own) for text, analysed, own in zip(texts, found, chosen, strict=True)]

    def _reviewed(self, text: str, analysed: tuple[Prediction, Features], categories: CustomModel | None) -> Prediction:
        prediction, features = analysed
        certain = features.certainty >= _CERTAIN and features.language not in _SHARED_SCRIPTS
        if not certain and self.foreign.found_in(text) is not None:
            return replace(prediction, language=None, abstained=Abstention.UNSUPPORTED_LANGUAGE)
        if categories is not None:
            return categories.predict(prediction, features)
        if not any(map(str.isalpha, text)):
            return replace(prediction, abstained=Abstention.NO_WORDS)
        return prediction


def load_local_model(path: Path | None = None) -> LocalModel:
    """The shipped model, or the one in a file.

    Raises: ModelUnusable.
    """
    name = str(path) if path else "the shipped model"
    try:
        if path is None:
            data = resources.files("firstline.data").joinpath("models", "default.safetensors").read_bytes()
        else:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ModelUnusable(f"{name}: larger than {MAX_FILE_BYTES >> 20} MiB")
            data = path.read_bytes()
        return LocalModel(load_model(data, open_encoder), curves_from_card(read_card(data)), ForeignLanguage())
    except OSError as error:
        raise ModelUnusable(f"{name}: {error.strerror or error}") from None
    except ValueError as error:
        raise ModelUnusable(f"{name}: {error}") from None
