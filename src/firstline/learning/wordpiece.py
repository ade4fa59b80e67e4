"""Text as the numbers that a BERT encoder without case reads (Devlin et al. 2018, "BERT", section 3 and appendix).

Control characters go, accents and case are folded, every punctuation mark and every Chinese character is a word of
its own, and words are cut into the longest pieces first. The result is that of the `tokenizers` package, except that
a marker such as "[SEP]" written in a text is read as the characters that it is.
"""

import unicodedata
from collections.abc import Sequence
from typing import Final

from firstline.learning.vocabulary import longest_pieces

MAX_TOKENS: Final = 128
"""Tokens of a text that the encoder reads, the two that frame it included."""

MAX_CHARACTERS: Final = 5_000
MARKERS: Final = ("[CLS]", "[SEP]", "[UNK]")

_MAX_WORD: Final = 100
_MAX_CACHED: Final = 20_000
_LEFT_OUT: Final = ("Cc", "Cf", "Co", "Cs")
_CHINESE: Final = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


class _Reading(dict[int, str]):
    """Code point to what the encoder reads of it; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        read = self[code] = _read(chr(code))
        return read


def _read(character: str) -> str:
    if character in "\t\n\r":
        return " "
    if unicodedata.category(character) in _LEFT_OUT or character == "\ufffd":
        return ""
    if character.isspace():
        return " "
    kept = []
    for part in unicodedata.normalize("NFD", character):
        kind = unicodedata.category(part)
        if kind == "Mn":
            continue
        marks = kind[0] == "P" or (part.isascii() and not part.isalnum() and part != " ")
        kept.append(f" {part} " if marks else part.lower())
    read = "".join(kept)
    return f" {read} " if any(first <= ord(character) <= last for first, last in _CHINESE) else read


_READING: Final = _Reading()


class WordPieces:
    """Reads text as numbers of word pieces. Safe to use from several threads, as `Vocabulary` is."""

    def __init__(self, pieces: Sequence[str]) -> None:
        """Args:
        pieces: in the order of their numbers; one that continues a word begins with `##`.

        Raises: ValueError when one of `MARKERS` is missing.
        """
        self._pieces: Final = {piece: number for number, piece in enumerate(pieces)}
        missing = [marker for marker in MARKERS if marker not in self._pieces]
        if missing:
            raise ValueError(f"the word pieces lack {missing[0]}")
        self._longest: Final = max(map(len, pieces))
        self._first, self._last, self._unknown = (self._pieces[marker] for marker in MARKERS)
        self._cache: dict[str, tuple[int, ...]] = {}

    def ids(self, text: str) -> list[int]:
        """Numbers of the pieces of a text between those of [CLS] and [SEP], at most `MAX_TOKENS`.

        Args:
            text: any text; its first `MAX_CHARACTERS` characters are read.
        """
        found = [self._first]
        cache = self._cache
        for word in text[:MAX_CHARACTERS].translate(_READING).split():
            pieces = cache.get(word)
            found += self._split(word) if pieces is None else pieces
            if len(found) >= MAX_TOKENS:
                break
        del found[MAX_TOKENS - 1 :]
        found.append(self._last)
        return found

    def _split(self, word: str) -> tuple[int, ...]:
        found = longest_pieces(word, self._pieces, longest=self._longest) if len(word) <= _MAX_WORD else ()
        if len(self._cache) >= _MAX_CACHED:
            self._cache = {}
        found = self._cache[word] = found or (self._unknown,)
        return found
