"""From text to rows of the embedding table: word pieces, frequent pairs of words, and word lists for other languages.

The table's vectors were learnt from an English teacher. Words of another language are read through a word list that
gives each an English gloss, so that "facture" finds the vectors of "invoice". Splitting a word follows the greedy
longest-match-first method of WordPiece (Devlin et al. 2018, "BERT", section 3; Song et al. 2021, "Fast WordPiece
Tokenization", section 2), over text without accents and in lower case.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

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


class _Gloss(NamedTuple):
    """What a surface form means.

    Attributes:
        english: its gloss.
        rows: of the gloss.
    """

    english: str
    rows: Ids


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
    """A word list of one language: folded surface forms to their glosses."""

    words: dict[str, _Gloss] = field(default_factory=dict)
    phrases: dict[str, list[tuple[tuple[str, ...], _Gloss]]] = field(default_factory=dict)
    longest: int = 1


def longest_pieces(word: str, pieces: Mapping[str, int], *, longest: int) -> Ids:
    """Numbers of the pieces of a word, the longest first at each place; none when some part of it is no piece.

    Args:
        pieces: to their numbers; one that continues a word begins with `##`.
        longest: characters of the longest piece that is worth looking for.
    """
    found: list[int] = []
    start, end = 0, len(word)
    while start < end:
        for stop in range(min(end, start + longest), start, -1):
            piece = pieces.get(word[start:stop] if start == 0 else "##" + word[start:stop])
            if piece is not None:
                found.append(piece)
                start = stop
                break
        else:
            return ()
    return tuple(found)


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
            return [row for gloss in self._glosses(words, str(language)) for row in gloss.rows]
        found: list[int] = []
        cache = self._cache
        for word in words:
            rows = cache.get(word)
            found += self._split(word) if rows is None else rows
        if self._pairs:
            pairs = self._pairs
            found += [pairs[pair] for pair in pairwise(words) if pair in pairs]
        return found

    def gloss(self, text: str, *, language: str) -> str:
        """A text of another language as English words, in its own order; empty when no word of it is in the list.

        Args:
            text: any text; its first `MAX_CHARACTERS` characters are read.
            language: one of `languages`.
        """
        return " ".join(found.english for found in self._glosses(words_of(text), language))

    def _split(self, word: str) -> Ids:
        found = longest_pieces(word, self._pieces, longest=_MAX_WORD) if len(word) <= _MAX_WORD else ()
        if len(self._cache) >= _MAX_CACHED:
            self._cache = {}
        self._cache[word] = found
        return found

    def _glosses(self, words: list[str], language: str) -> Iterator[_Gloss]:
        lexicon = self._lexicons.get(language)
        if lexicon is None:
            lexicon = self._lexicons[language] = self._read(self._lines[language])
        stem = _STEM.get(language, _USUAL_STEM)
        place = 0
        while place < len(words):
            word = words[place]
            for phrase, gloss in lexicon.phrases.get(word, ()):
                if tuple(words[place : place + len(phrase)]) == phrase:
                    yield gloss
                    place += len(phrase)
                    break
            else:
                place += 1
                if language in _UNSPACED and not word.isascii():
                    yield from _longest_matches(word, lexicon)
                elif (found := self._foreign_word(word, lexicon, stem)) is not None:
                    yield found

    def _foreign_word(self, word: str, lexicon: _Lexicon, stem: int) -> _Gloss | None:
        gloss = lexicon.words.get(word)
        if gloss is not None:
            return gloss
        for length in range(min(len(word) - 1, lexicon.longest), stem - 1, -1):
            gloss = lexicon.words.get(word[:length])
            if gloss is not None:
                return gloss
        # A name or a loan word that English has as a whole; pieces of foreign words would be noise.
        piece = self._pieces.get(word)
        return None if piece is None else _Gloss(word, (piece,))

    def _read(self, lines: str) -> _Lexicon:
        lexicon = _Lexicon()
        for line in lines.splitlines():
            surface, _, gloss = line.partition("\t")
            words = words_of(surface)
            rows = tuple(self.rows(gloss))
            if not words or not rows:
                continue
            meant = _Gloss(gloss, rows)
            if len(words) == 1:
                lexicon.words.setdefault(words[0], meant)
                lexicon.longest = max(lexicon.longest, len(words[0]))
            elif len(words) <= _LONGEST_PHRASE:
                lexicon.phrases.setdefault(words[0], []).append((tuple(words), meant))
        for phrases in lexicon.phrases.values():
            phrases.sort(key=lambda phrase: -len(phrase[0]))
        return lexicon


def _longest_matches(run: str, lexicon: _Lexicon) -> list[_Gloss]:
    """Glosses of a run of characters without spaces, cut by the longest entry at each place."""
    found: list[_Gloss] = []
    start = 0
    while start < len(run):
        for stop in range(min(len(run), start + lexicon.longest), start, -1):
            gloss = lexicon.words.get(run[start:stop])
            if gloss is not None:
                found.append(gloss)
                start = stop
                break
        else:
            start += 1
    return found
