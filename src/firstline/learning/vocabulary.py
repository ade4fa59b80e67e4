"""From text to rows of the embedding table: word pieces, frequent pairs of words, and word lists for other languages.

The table's vectors were learnt from an English teacher. Words of another language are read through a word list that
gives each an English gloss, so that "facture" finds the vectors of "invoice". Splitting a word follows the greedy
longest-match-first method of WordPiece (Devlin et al. 2018, "BERT", section 3; Song et al. 2021, "Fast WordPiece
Tokenization", section 2), over text without accents and in lower case.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

MAX_CHARACTERS: Final = 2_000
"""Characters of a text that the embedding reads; the mean of more words says less, not more."""

_MAX_WORD: Final = 60
_MAX_CACHED: Final = 20_000
_WORDS: Final = re.compile(r"[^\W_]+|[^\w\s]|_")
_ASCII_WORDS: Final = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")
_LETTERS: Final = {"ß": "ss", "ł": "l", "ø": "o", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "ى": "ي", "ة": "ه"}
_STEM: Final = {"ko": 2, "ar": 5}
_USUAL_STEM: Final = 6
_UNSPACED: Final = ("zh", "ja")
_LONGEST_PHRASE: Final = 4

Ids = tuple[int, ...]


class _Folding(dict[int, str]):
    """Code point to what the vocabulary reads of it; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        folded = self[code] = _folded(chr(code))
        return folded


def _folded(character: str) -> str:
    lowered = character.lower()
    if lowered in _LETTERS:
        return _LETTERS[lowered]
    if "\u3040" <= character <= "\u30ff" or "\uac00" <= character <= "\ud7af":
        return character
    kept = []
    for part in unicodedata.normalize("NFKD", lowered):
        kind = unicodedata.category(part)
        if kind == "Mn" or (kind[0] == "C" and not part.isspace()):
            continue
        kept.append(_LETTERS.get(part, part))
    return "".join(kept)


_FOLDING: Final = _Folding()


def words_of(text: str) -> list[str]:
    """Words and punctuation marks in lower case and without accents, of the first `MAX_CHARACTERS` characters."""
    text = text[:MAX_CHARACTERS]
    if text.isascii():
        return _ASCII_WORDS.findall(text.lower())
    return _WORDS.findall(text.translate(_FOLDING))


@dataclass(slots=True)
class _Lexicon:
    """A word list of one language: folded surface forms to rows of the table."""

    words: dict[str, Ids] = field(default_factory=dict)
    phrases: dict[str, list[tuple[tuple[str, ...], Ids]]] = field(default_factory=dict)
    longest: int = 1


class Vocabulary:
    """Reads text as row numbers of an embedding table.

    Rows are numbered in the order of `pieces`, then `pairs`. Safe to use from several threads: a word may be split
    twice, with the same result.
    """

    def __init__(
        self, pieces: Sequence[str], pairs: Sequence[tuple[str, str]] = (), lexicons: Mapping[str, str] | None = None
    ) -> None:
        """Args:
        pieces: word pieces; one that continues a word begins with `##`.
        pairs: pairs of words that have a row of their own, beside those of the words.
        lexicons: by language code, lines of `surface form<TAB>English gloss`; read on first use of the language.
        """
        self._pieces: Final = {piece: row for row, piece in enumerate(pieces)}
        self._pairs: Final = {pair: len(pieces) + row for row, pair in enumerate(pairs)}
        self._lines: Final = dict(lexicons or {})
        self._lexicons: Final[dict[str, _Lexicon]] = {}
        self._cache: dict[str, Ids] = {}

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that a word list is there for."""
        return tuple(self._lines)

    def rows(self, text: str, *, language: str | None = None) -> list[int]:
        """Rows of a text, with repeats.

        Args:
            text: any text; its first `MAX_CHARACTERS` characters are read.
            language: of the text; one with a word list is read through it, any other as English.
        """
        words = words_of(text)
        if language in self._lines:
            return self._foreign_rows(words, str(language))
        found: list[int] = []
        cache = self._cache
        for word in words:
            rows = cache.get(word)
            found += self._split(word) if rows is None else rows
        if self._pairs:
            pairs = self._pairs
            found += [pairs[pair] for pair in pairwise(words) if pair in pairs]
        return found

    def _split(self, word: str) -> Ids:
        rows: list[int] = []
        start, end = 0, len(word)
        while start < end <= _MAX_WORD:
            for stop in range(end, start, -1):
                piece = self._pieces.get(word[start:stop] if start == 0 else "##" + word[start:stop])
                if piece is not None:
                    rows.append(piece)
                    start = stop
                    break
            else:
                rows = []
                break
        if len(self._cache) >= _MAX_CACHED:
            self._cache = {}
        found = self._cache[word] = tuple(rows)
        return found

    def _foreign_rows(self, words: list[str], language: str) -> list[int]:
        lexicon = self._lexicons.get(language)
        if lexicon is None:
            lexicon = self._lexicons[language] = self._read(self._lines[language])
        stem = _STEM.get(language, _USUAL_STEM)
        found: list[int] = []
        place = 0
        while place < len(words):
            word = words[place]
            for phrase, rows in lexicon.phrases.get(word, ()):
                if tuple(words[place : place + len(phrase)]) == phrase:
                    found += rows
                    place += len(phrase)
                    break
            else:
                place += 1
                if language in _UNSPACED and not word.isascii():
                    found += _longest_matches(word, lexicon)
                else:
                    found += self._foreign_word(word, lexicon, stem)
        return found

    def _foreign_word(self, word: str, lexicon: _Lexicon, stem: int) -> Iterable[int]:
        rows = lexicon.words.get(word)
        if rows is not None:
            return rows
        for length in range(min(len(word) - 1, lexicon.longest), stem - 1, -1):
            rows = lexicon.words.get(word[:length])
            if rows is not None:
                return rows
        # A name or a loan word that English has as a whole; pieces of foreign words would be noise.
        piece = self._pieces.get(word)
        return () if piece is None else (piece,)

    def _read(self, lines: str) -> _Lexicon:
        lexicon = _Lexicon()
        for line in lines.splitlines():
            surface, _, gloss = line.partition("\t")
            words = words_of(surface)
            rows = tuple(self.rows(gloss))
            if not words or not rows:
                continue
            if len(words) == 1:
                lexicon.words.setdefault(words[0], rows)
                lexicon.longest = max(lexicon.longest, len(words[0]))
            elif len(words) <= _LONGEST_PHRASE:
                lexicon.phrases.setdefault(words[0], []).append((tuple(words), rows))
        for phrases in lexicon.phrases.values():
            phrases.sort(key=lambda phrase: -len(phrase[0]))
        return lexicon


def _longest_matches(run: str, lexicon: _Lexicon) -> list[int]:
    """Rows of a run of characters without spaces, cut by the longest entry at each place."""
    found: list[int] = []
    start = 0
    while start < len(run):
        for stop in range(min(len(run), start + lexicon.longest), start, -1):
            rows = lexicon.words.get(run[start:stop])
            if rows is not None:
                found += rows
                start = stop
                break
        else:
            start += 1
    return found
