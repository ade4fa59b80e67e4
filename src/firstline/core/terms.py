"""The term language of rule packs, turned into RE2 patterns over `folding.View.words`.

The language is defined in docs/rules.md. A term is folded like the text that it is matched on, so accents, case,
apostrophes and hyphens make no difference on either side.
"""

import re
from collections.abc import Iterator
from typing import Final

from firstline.core.folding import fold, words_of

_TOKEN: Final = re.compile(r"\.\.\.|\.\.|…|[()\[\]|]|[^\s()\[\]|.…]+|\.")
_HANGUL: Final = re.compile(r"[\u1100-\u11ff\uac00-\ud7af]")
_ARABIC: Final = re.compile(r"[\u0600-\u06ff]")
_ANY_LETTERS: Final = "[^ .]*"
_ARABIC_ATTACHED: Final = "(?:[وف])?(?:[بلكس])?(?:ال|ل)?"
_GAP_WORDS: Final = "(?:[^ .]+ ){0,3}"
_GAP_SENTENCE: Final = "(?:[^.]* )?"


class TermInvalid(ValueError):
    """A term that the language does not allow; the message says what is wrong with it."""


def pattern_of(term: str) -> str:
    """The RE2 pattern of a term, over padded words.

    Raises: TermInvalid when brackets do not match, an alternative is empty or the term has no letter or digit.
    """
    tokens = [("..." if token == "…" else token) for token in _TOKEN.findall(term)]
    if not any(character.isalnum() for character in term):
        raise TermInvalid("a term needs at least one letter or digit")
    parser = _Parser(tokens)
    pattern = parser.sequence(outermost=True)
    if parser.rest():
        raise TermInvalid(f"unexpected '{parser.rest()[0]}'")
    return pattern


def words_in(term: str) -> Iterator[str]:
    """The plain words of a term, folded; used to read letters written one by one."""
    for token in _TOKEN.findall(term):
        if token[0] not in "()[]|." and "*" not in token:
            yield from words_of(fold(token)).split()


class _Parser:
    """Recursive descent over the tokens of one term.

    Every item is compiled with the space after it, so that optional words and gaps need no special case: the
    pattern is `" " + items`, and the last item's space is the closing boundary.
    """

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._position = 0

    def rest(self) -> list[str]:
        return self._tokens[self._position :]

    def sequence(self, *, outermost: bool = False) -> str:
        items: list[str] = []
        words = 0
        while self._position < len(self._tokens) and self._tokens[self._position] not in ")]|":
            token = self._tokens[self._position]
            self._position += 1
            if token == "(":
                items.append(self._group(")"))
                words += 1
            elif token == "[":
                items.append(self._group("]") + "?")
            elif token == "...":
                items.append(_GAP_SENTENCE)
            elif token == "..":
                items.append(_GAP_WORDS)
            elif token != ".":
                word = _word(token)
                items.append(word)
                words += bool(word)
        if not words:
            raise TermInvalid("an alternative or a bracket is empty")
        if outermost and items and items[0] in (_GAP_SENTENCE, _GAP_WORDS):
            raise TermInvalid("a term cannot begin with a gap")
        if outermost and items[-1] in (_GAP_SENTENCE, _GAP_WORDS):
            raise TermInvalid("a term cannot end with a gap")
        pattern = "".join(items)
        return f" {pattern}" if outermost else pattern

    def _group(self, closing: str) -> str:
        branches = [self.sequence()]
        while self._position < len(self._tokens) and self._tokens[self._position] == "|":
            self._position += 1
            branches.append(self.sequence())
        if self._position >= len(self._tokens) or self._tokens[self._position] != closing:
            raise TermInvalid(f"'{closing}' is missing")
        self._position += 1
        return f"(?:{'|'.join(branches)})"


def _word(token: str) -> str:
    """One word of a term, with what may stand before and after it; ends in the space behind it."""
    any_beginning, any_ending = token.startswith("*"), token.endswith("*") and len(token) > 1
    core = token.strip("*")
    if "*" in core:
        raise TermInvalid(f"'{token}': * stands at the beginning or the end of a word")
    parts = [part for part in words_of(fold(core)).split() if part != "."]
    return "".join(
        _part(part, beginning=any_beginning and number == 0, ending=any_ending and number == len(parts) - 1)
        for number, part in enumerate(parts)
    )


def _part(part: str, *, beginning: bool, ending: bool) -> str:
    if _HANGUL.search(part):
        return f"{_ANY_LETTERS if beginning else ''}{part}{_ANY_LETTERS} ?"
    if _ARABIC.search(part):
        return f"{_ANY_LETTERS if beginning else _ARABIC_ATTACHED}{part}{_ANY_LETTERS if ending else ''} "
    return f"{_ANY_LETTERS if beginning else ''}{part}{_ANY_LETTERS if ending else ''} "
