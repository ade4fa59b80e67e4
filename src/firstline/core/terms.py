"""The term language of rule packs, turned into RE2 patterns over `folding.View.words`.

The language is defined in docs/rules.md. A term is folded like the text that it is matched on, so accents, case,
apostrophes and hyphens make no difference on either side.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from firstline.core.folding import fold_characters, words_of

_TOKEN: Final = re.compile(r"\.\.\.|\.\.|…|[()\[\]|]|[^\s()\[\]|.…]+|\.")
_HANGUL: Final = re.compile(r"[\u1100-\u11ff\uac00-\ud7af]")
_ARABIC: Final = re.compile(r"[\u0600-\u06ff]")
_GAPS: Final = ("..", "...")
_ANY_LETTERS: Final = "[^ .]*"
_ARABIC_ATTACHED: Final = "(?:[وف])?(?:[بلكس])?(?:ال|ل)?"


class TermInvalid(ValueError):
    """A term that the language does not allow; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Term:
    """A term, ready to be searched.

    Attributes:
        pattern: RE2 pattern over padded words.
        anchors: groups of pieces of plain text; a text that the pattern matches holds at least one piece of every
            group. The group that is rarest in text comes first.
    """

    pattern: str
    anchors: tuple[tuple[str, ...], ...]


def compile_term(term: str, *, greedy: bool = False) -> Term:
    """A term from its text.

    Args:
        greedy: whether gaps reach as far as they can, as a guard's should; a hit's reach no farther than needed.
    Raises: TermInvalid when brackets do not match, an alternative is empty, the term has no letter or digit, or it
        consists of optional words alone.
    """
    tokens = [("..." if token == "…" else token) for token in _TOKEN.findall(term)]
    if not any(character.isalnum() for character in term):
        raise TermInvalid("a term needs at least one letter or digit")
    if tokens[0] in _GAPS or tokens[-1] in _GAPS:
        raise TermInvalid("a term cannot begin or end with a gap")
    parser = _Parser(tokens, greedy=greedy)
    found = parser.sequence(outermost=True)
    if parser.rest():
        raise TermInvalid(f"unexpected '{parser.rest()[0]}'")
    if not found.anchors:
        raise TermInvalid("a term needs at least one word that is not optional")
    return Term(f" {found.pattern}", found.anchors)


def forget_words() -> None:
    """Free what compiling many terms has kept at hand; compiling more terms later works all the same."""
    _word.cache_clear()


class _Parser:
    """Recursive descent over the tokens of one term.

    Every item is compiled with the space after it, so that optional words and gaps need no special case: the
    pattern is `" " + items`, and the last item's space is the closing boundary.
    """

    def __init__(self, tokens: list[str], *, greedy: bool) -> None:
        self._tokens = tokens
        self._position = 0
        self._lazy = "" if greedy else "?"

    def rest(self) -> list[str]:
        return self._tokens[self._position :]

    def sequence(self, *, outermost: bool = False) -> Term:
        items: list[Term] = []
        words = 0
        while self._position < len(self._tokens) and self._tokens[self._position] not in ")]|":
            token = self._tokens[self._position]
            self._position += 1
            if token == "(":
                items.append(self._group(")"))
                words += 1
            elif token == "[":
                items.append(Term(self._group("]").pattern + "?", ()))
            elif token == "...":
                items.append(Term(f"(?:[^.]*{self._lazy} )?{self._lazy}", ()))
            elif token == "..":
                items.append(Term(f"(?:[^ .]+ ){{0,3}}{self._lazy}", ()))
            elif token != "." and (word := _word(token)) is not None:
                items.append(word)
                words += 1
        if not words:
            raise TermInvalid("an alternative or a bracket is empty")
        if len(items) == 1:
            return items[0]
        return Term("".join(item.pattern for item in items), _join_anchors(items))

    def _group(self, closing: str) -> Term:
        branches = [self.sequence()]
        while self._position < len(self._tokens) and self._tokens[self._position] == "|":
            self._position += 1
            branches.append(self.sequence())
        if self._position >= len(self._tokens) or self._tokens[self._position] != closing:
            raise TermInvalid(f"'{closing}' is missing")
        self._position += 1
        pattern = f"(?:{'|'.join(branch.pattern for branch in branches)})"
        if not all(branch.anchors for branch in branches):
            return Term(pattern, ())
        return Term(pattern, (tuple(dict.fromkeys(piece for branch in branches for piece in branch.anchors[0])),))


def _join_anchors(items: list[Term]) -> tuple[tuple[str, ...], ...]:
    """The anchors of all items, rarest first: the group whose shortest piece is longest.

    Words that follow each other are one piece together where the space between them is certain.
    """
    groups: list[tuple[str, ...]] = []
    joinable = False
    for item in items:
        single = item.anchors[0][0] if len(item.anchors) == 1 and len(item.anchors[0]) == 1 else None
        if single is not None and joinable and groups[-1][0].endswith(" ") and single.startswith(" "):
            groups[-1] = (groups[-1][0] + single[1:],)
        else:
            groups.extend(item.anchors)
        joinable = single is not None
    return tuple(sorted(groups, key=lambda group: (-min(map(len, group)), len(group))))


@lru_cache(maxsize=100_000)
def _word(token: str) -> Term | None:
    """One word of a term, with what may stand before and after it; None for punctuation alone."""
    any_beginning, any_ending = token.startswith("*"), token.endswith("*") and len(token) > 1
    core = token.strip("*")
    if "*" in core:
        raise TermInvalid(f"'{token}': * stands at the beginning or the end of a word")
    parts = [part for part in words_of(fold_characters(core)).split() if part != "."]
    if not parts:
        return None
    if len(parts) == 1:
        return _part(parts[0], beginning=any_beginning, ending=any_ending)
    terms = [
        _part(part, beginning=any_beginning and number == 0, ending=any_ending and number == len(parts) - 1)
        for number, part in enumerate(parts)
    ]
    return Term("".join(term.pattern for term in terms), _join_anchors(terms))


def _part(part: str, *, beginning: bool, ending: bool) -> Term:
    if _HANGUL.search(part):
        return Term(f"{_ANY_LETTERS if beginning else ''}{part}{_ANY_LETTERS} ?", ((part,),))
    right = "" if ending else " "
    after = _ANY_LETTERS if ending else ""
    if _ARABIC.search(part):
        return Term(f"{_ANY_LETTERS if beginning else _ARABIC_ATTACHED}{part}{after} ", ((f"{part}{right}",),))
    left = "" if beginning else " "
    return Term(f"{_ANY_LETTERS if beginning else ''}{part}{after} ", ((f"{left}{part}{right}",),))
