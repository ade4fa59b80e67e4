"""The term language of rule packs, parsed into the words, choices and gaps that it stands for.

The language is defined in docs/rules.md. A term is folded like the text that it is matched on, so accents, case,
apostrophes and hyphens make no difference on either side. `term_table` packs parsed terms and searches for them.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final, TypeAlias

from firstline.core.folding import fold_characters, words_of

_SHORT_GAP: Final = 3
"""Words that `..` may skip."""

_LONGEST_JOINED_BYTES: Final = 12
"""Long words are rare enough alone, and each joined piece takes memory of its own."""

_TOKEN: Final = re.compile(r"\.\.\.|\.\.|…|[()\[\]|]|[^\s()\[\]|.…]+|\.")
_HANGUL: Final = re.compile(r"[\u1100-\u11ff\uac00-\ud7af]")
_ARABIC: Final = re.compile(r"[\u0600-\u06ff]")
_GAPS: Final = ("..", "...")


class TermInvalid(ValueError):
    """A term that the language does not allow; the message says what is wrong with it."""


class Script(IntEnum):
    """What besides its own letters a word may consist of."""

    PLAIN = 0
    """Nothing, except what a `*` allows."""
    ARABIC = 1
    """Attached letters and the article before it."""
    HANGUL = 2
    """Any particle or ending; the space after it may be missing."""
    HANGUL_ANYWHERE = 3
    """The same, and any beginning."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word, or several between which there can only be a space.

    Attributes:
        piece: plain text that stands wherever the word does; a space at its beginning or end says that no letter may
            stand there, none that any may.
        script: what else may stand before or after it.
    """

    piece: str
    script: Script = Script.PLAIN


@dataclass(frozen=True, slots=True)
class Gap:
    """Words that may be skipped: at most `words` of them, or any number in the same sentence when it is None."""

    words: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several, the first that fits."""

    branches: "tuple[Items, ...]"


@dataclass(frozen=True, slots=True)
class Maybe:
    """What may be missing; there if it can be."""

    body: Choice


Item: TypeAlias = Word | Gap | Choice | Maybe
Items: TypeAlias = tuple[Item, ...]
"""Items that follow each other."""


def parse_term(term: str) -> Items:
    """A term from its text.

    Raises: TermInvalid when brackets do not match, an alternative is empty, the term has no letter or digit, or it
        consists of optional words alone.
    """
    tokens = [("..." if token == "…" else token) for token in _TOKEN.findall(term)]
    if not any(character.isalnum() for character in term):
        raise TermInvalid("a term needs at least one letter or digit")
    if tokens[0] in _GAPS or tokens[-1] in _GAPS:
        raise TermInvalid("a term cannot begin or end with a gap")
    parser = _Parser(tokens)
    items = parser.sequence()
    if isinstance(items[0], Gap) or isinstance(items[-1], Gap):  # beside signs that are no words
        raise TermInvalid("a term cannot begin or end with a gap")
    if parser.rest():
        raise TermInvalid(f"unexpected '{parser.rest()[0]}'")
    if not needs(items, lambda _: 1.0):
        raise TermInvalid("a term needs at least one word that is not optional")
    return items


def needs(items: Items, frequency: Callable[[Word], float]) -> list[tuple[Word, ...]]:
    """Groups of words, the rarest in text first; what the items match holds at least one word of every group.

    Args:
        frequency: how often a word stands in text, in any unit.
    """
    groups: list[tuple[Word, ...]] = []
    for item in items:
        if isinstance(item, Word):
            groups.append((item,))
        elif isinstance(item, Choice):
            branches = [needs(branch, frequency) for branch in item.branches]
            if all(branches):
                groups.append(tuple(dict.fromkeys(word for branch in branches for word in branch[0])))
    return sorted(groups, key=lambda group: sum(map(frequency, group)))


def words_in(items: Items) -> Iterator[Word]:
    """All words of the items."""
    for item in items:
        if isinstance(item, Word):
            yield item
        elif not isinstance(item, Gap):
            for branch in item.branches if isinstance(item, Choice) else item.body.branches:
                yield from words_in(branch)


def beginnings(items: Items) -> tuple[Word, ...]:
    """The words with which what the items match can begin; none when it can begin with a gap, thus with any."""
    words: dict[Word, None] = {}
    for item in items:
        if isinstance(item, Gap):
            return ()
        if isinstance(item, Word):
            words[item] = None
            break
        for branch in item.branches if isinstance(item, Choice) else item.body.branches:
            found = beginnings(branch)
            if not found:
                return ()
            words |= dict.fromkeys(found)
        if isinstance(item, Choice):
            break
    return tuple(words)


def forget_words() -> None:
    """Free what parsing many terms has kept at hand; parsing more terms later works all the same."""
    _words.cache_clear()


class _Parser:
    """Recursive descent over the tokens of one term."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._position = 0

    def rest(self) -> list[str]:
        return self._tokens[self._position :]

    def sequence(self) -> Items:
        items: list[Item] = []
        words = 0
        while self._position < len(self._tokens) and self._tokens[self._position] not in ")]|":
            token = self._tokens[self._position]
            self._position += 1
            if token == "(":
                items.append(self._choice(")"))
                words += 1
            elif token == "[":
                items.append(Maybe(self._choice("]")))
            elif token in _GAPS:
                items.append(Gap(None if token == "..." else _SHORT_GAP))
            elif token != "." and (found := _words(token)):
                for word in found:
                    _append(items, word)
                words += 1
        if not words:
            raise TermInvalid("an alternative or a bracket is empty")
        return tuple(items)

    def _choice(self, closing: str) -> Choice:
        branches = [self.sequence()]
        while self._position < len(self._tokens) and self._tokens[self._position] == "|":
            self._position += 1
            branches.append(self.sequence())
        if self._position >= len(self._tokens) or self._tokens[self._position] != closing:
            raise TermInvalid(f"'{closing}' is missing")
        self._position += 1
        return Choice(tuple(branches))


def _append(items: list[Item], word: Word) -> None:
    """Add a word; short ones between which there can only be a space are one piece, which is rarer than each."""
    last = items[-1] if items else None
    if (
        isinstance(last, Word)
        and last.script is word.script is Script.PLAIN
        and last.piece.endswith(" ")
        and word.piece.startswith(" ")
        and len((last.piece + word.piece).encode()) <= _LONGEST_JOINED_BYTES
    ):
        items[-1] = Word(last.piece + word.piece[1:])
    else:
        items.append(word)


@lru_cache(maxsize=16_384)
def _words(token: str) -> tuple[Word, ...]:
    """The words of a token, with what may stand before and after them; none for punctuation alone."""
    any_beginning, any_ending = token.startswith("*"), token.endswith("*") and len(token) > 1
    core = token.strip("*")
    if "*" in core:
        raise TermInvalid(f"'{token}': * stands at the beginning or the end of a word")
    parts = [part for part in words_of(fold_characters(core)).split() if part != "."]
    return tuple(
        _word(part, beginning=any_beginning and number == 0, ending=any_ending and number == len(parts) - 1)
        for number, part in enumerate(parts)
    )


def _word(part: str, *, beginning: bool, ending: bool) -> Word:
    if _HANGUL.search(part):
        return Word(part, Script.HANGUL_ANYWHERE if beginning else Script.HANGUL)
    right = "" if ending else " "
    if _ARABIC.search(part):
        return Word(f"{part}{right}", Script.PLAIN if beginning else Script.ARABIC)
    left = "" if beginning else " "
    return Word(f"{left}{part}{right}")
