"""Messages like those of customers: 14 languages, three words to five thousand characters, no two alike."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

CORPUS: Final = Path(__file__).parents[1] / "training" / "corpus"
MEDIAN_CHARACTERS: Final = 140
SPREAD: Final = 1.1
"""Standard deviation of the length's natural logarithm: one in ten has over 570 characters, one in a thousand 4,000."""

LONGEST: Final = 5_000
_ENGLISH: Final = 0.4
"""The share of English; the other languages have equal shares of the rest."""


class Messages:
    """Draws messages from synthetic texts that were written for this project.

    Args:
        texts: by language.
    """

    def __init__(self, texts: Mapping[str, Sequence[str]]) -> None:
        self._texts = texts
        self._others = sorted(set(texts) - {"en"})

    def one(self, draw: Random) -> str:
        """A message of 3 to 5,000 characters that was not drawn before; it ends in a reference number."""
        language = "en" if draw.random() < _ENGLISH or not self._others else draw.choice(self._others)
        texts = self._texts[language]
        length = min(int(math.exp(draw.gauss(math.log(MEDIAN_CHARACTERS), SPREAD))), LONGEST)
        text = draw.choice(texts)
        while len(text) < length:
            text = f"{text} {draw.choice(texts)}"
        return f"{text[: max(length, 3)].rstrip()} {draw.randrange(10**9)}"[:LONGEST]


def read_messages(folder: Path = CORPUS) -> Messages:
    """Read the texts of the training corpus; the language is in the file's name."""
    texts: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        texts.setdefault(path.stem.partition("-")[0], []).extend(json.loads(line)["text"] for line in lines)
    return Messages(texts)
