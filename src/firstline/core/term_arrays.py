"""Terms packed into a few arrays of numbers.

Every term becomes a small graph of steps, all graphs together one array. Terms that end alike share the steps of their
ends; a step leads only to steps that stand before it in the array.

Words have numbers. The first ones are those by which terms are found: a term is searched only in a sentence that has a
word of the term's rarest group, and one of each of its other groups.
"""

import sys
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from firstline.core.terms import Choice, Items, Maybe, Script, Word, beginnings, needs, words_in

# Steps, as they stand in the array: the number of the kind, then what the kind needs. A step is known by its place;
# 0 is the place of the end.
END, ONE, WORDS, ANY, SPLIT, GAP = range(6)
# ONE:   next, word
# WORDS: next, the place of a group of words, the place of each among the alternatives
# ANY:   count, the words in ascending order, the place of each among the alternatives, the next step of each
# SPLIT: count, the next steps, the preferred one first
# GAP:   next, how many words may be skipped or 0 for any number, whether to skip as many as can be

# How the place of a word follows from the place of its piece.
BOTH_SPACES, LEFT_SPACE, RIGHT_SPACE, NO_SPACE, ARABIC_SPACE, ARABIC_OPEN, HANGUL, HANGUL_ANYWHERE = range(8)


class PackedTerm(NamedTuple):
    """A term to be packed.

    Attributes:
        owner: number by which a hit is told.
        items: the parsed term.
        guard: whether it cancels hits; its gaps reach as far as they can, those of others no farther than needed.
    """

    owner: int
    items: Items
    guard: bool = False


class TermArrays(NamedTuple):
    """What a `TermTable` is made of; may be stored and read again.

    Attributes:
        pieces: UTF-8 text of the words, one to a line, in the order of their numbers.
        reaches: for each word how its place follows from its piece's.
        steps: the graphs of all terms.
        entries: first step of each term.
        owners: owner of each term.
        groups: groups of words, each with its size before it.
        needs: for each term where in `groups` the groups are of which it needs a word, but the rarest; then where the
            words are with which it can begin, a group of none when it can begin with any.
        need_starts: where in `needs` those of a term begin; one more than there are terms.
        hits, guards: terms by the words of their rarest group.
        hit_starts, guard_starts: where in `hits` and `guards` those of a word begin; one more than there are words
            that find one, counted from `first_guard` for guards.
        first_guard: number of the first word that finds a guard, as the only entry.
    """

    pieces: bytes
    reaches: bytes
    steps: "array[int]"
    entries: "array[int]"
    owners: "array[int]"
    groups: "array[int]"
    needs: "array[int]"
    need_starts: "array[int]"
    hits: "array[int]"
    hit_starts: "array[int]"
    guards: "array[int]"
    guard_starts: "array[int]"
    first_guard: "array[int]"

    def dump(self) -> list[bytes]:
        """The fields as bytes, numbers in little-endian order."""
        return [part if isinstance(part, bytes) else _little_endian(part).tobytes() for part in self]

    @classmethod
    def load(cls, parts: Iterable[bytes | memoryview]) -> "TermArrays":
        """The opposite of `dump`."""
        pieces, reaches, *numbers = parts
        arrays = []
        for part in numbers:
            read = array("I")
            read.frombytes(part)
            arrays.append(_little_endian(read))
        return cls(bytes(pieces), bytes(reaches), *arrays)


def _little_endian(numbers: "array[int]") -> "array[int]":
    if sys.byteorder == "little":
        return numbers
    swapped = numbers[:]
    swapped.byteswap()
    return swapped


def pack_terms(terms: Iterable[PackedTerm]) -> TermArrays:
    """Terms as arrays, in the order in which they are given."""
    return _Packer(list(terms)).pack()


class _Packer:
    def __init__(self, terms: list[PackedTerm]) -> None:
        self._terms = terms
        self._counts = Counter(part for term in terms for word in words_in(term.items) for part in word.piece.split())
        self._needs = [needs(term.items, self._frequency) for term in terms]
        self._steps = array("I", [END])
        self._places: dict[tuple[int, ...], int] = {}
        self._groups = array("I")
        self._group_places: dict[tuple[int, ...], int] = {}
        rarest: dict[bool, dict[Word, list[int]]] = {False: {}, True: {}}
        for number, (term, groups) in enumerate(zip(terms, self._needs, strict=True)):
            for word in groups[0]:
                rarest[term.guard].setdefault(word, []).append(number)
        self._hits, self._guards = rarest[False], rarest[True]
        ordered = [word for word in self._hits if word not in self._guards]
        self._first_guard = len(ordered)
        ordered += [word for word in self._hits if word in self._guards]
        ordered += [word for word in self._guards if word not in self._hits]
        self._numbers = {word: number for number, word in enumerate(ordered)}

    def pack(self) -> TermArrays:
        entries = array("I", [self._sequence(term.items, 0, greedy=term.guard) for term in self._terms])
        needed, need_starts = array("I"), array("I", [0])
        for term, groups in zip(self._terms, self._needs, strict=True):
            for group in (*groups[1:], beginnings(term.items)):
                needed.append(self._group(tuple(sorted(map(self._number, group)))))
            need_starts.append(len(needed))
        words = list(self._numbers)
        with_hits = [self._hits[word] for word in words[: len(self._hits)]]
        with_guards = [self._guards[word] for word in words[self._first_guard :][: len(self._guards)]]
        return TermArrays(
            b"\n".join(word.piece.encode() for word in words),
            bytes(_reach(word) for word in words),
            self._steps,
            entries,
            array("I", [term.owner for term in self._terms]),
            self._groups,
            needed,
            need_starts,
            *_rows(with_hits),
            *_rows(with_guards),
            array("I", [self._first_guard]),
        )

    def _number(self, word: Word) -> int:
        return self._numbers.setdefault(word, len(self._numbers))

    def _frequency(self, word: Word) -> float:
        """Long words are rare in text, and so are those that stand in few terms."""
        return min(self._counts[part] for part in word.piece.split()) * 2.0 ** -len(word.piece.encode())

    def _group(self, numbers: tuple[int, ...]) -> int:
        place = self._group_places.setdefault(numbers, len(self._groups))
        if place == len(self._groups):
            self._groups.append(len(numbers))
            self._groups.extend(numbers)
        return place

    def _step(self, *numbers: int) -> int:
        place = self._places.setdefault(numbers, len(self._steps))
        if place == len(self._steps):
            self._steps.extend(numbers)
        return place

    def _sequence(self, items: Items, following: int, *, greedy: bool) -> int:
        for item in reversed(items):
            if isinstance(item, Word):
                following = self._step(ONE, following, self._number(item))
            elif isinstance(item, Choice):
                following = self._split(self._branches(item, following, greedy=greedy))
            elif isinstance(item, Maybe):
                following = self._split([*self._branches(item.body, following, greedy=greedy), following])
            else:
                following = self._step(GAP, following, item.words or 0, greedy)
        return following

    def _split(self, branches: list[int]) -> int:
        return branches[0] if len(branches) == 1 else self._step(SPLIT, len(branches), *branches)

    def _branches(self, choice: Choice, following: int, *, greedy: bool) -> list[int]:
        """First steps of the alternatives; those that begin with a word and stand side by side are one step."""
        branches: list[int] = []
        words: list[tuple[int, int]] = []

        def close() -> None:
            order = sorted(range(len(words)), key=lambda place: (words[place][0], place))
            ascending, after = tuple(words[place][0] for place in order), [words[place][1] for place in order]
            if len(words) == 1:
                branches.append(self._step(ONE, after[0], ascending[0]))
            elif words and len(set(after)) == 1:
                branches.append(self._step(WORDS, after[0], self._group(ascending), *order))
            elif words:
                branches.append(self._step(ANY, len(words), *ascending, *order, *after))
            words.clear()

        for branch in choice.branches:
            first, *rest = branch
            if isinstance(first, Word):
                entry = (self._number(first), self._sequence(tuple(rest), following, greedy=greedy))
                if entry not in words:
                    words.append(entry)
            else:
                close()
                branches.append(self._sequence(branch, following, greedy=greedy))
        close()
        return branches


def _rows(lists: list[list[int]]) -> "tuple[array[int], array[int]]":
    """Lists one after the other, and where each begins."""
    values, starts = array("I"), array("I", [0])
    for entries in lists:
        values.extend(entries)
        starts.append(len(values))
    return values, starts


def _reach(word: Word) -> int:
    if word.script is Script.HANGUL:
        return HANGUL
    if word.script is Script.HANGUL_ANYWHERE:
        return HANGUL_ANYWHERE
    if word.script is Script.ARABIC:
        return ARABIC_SPACE if word.piece.endswith(" ") else ARABIC_OPEN
    if word.piece.startswith(" "):
        return BOTH_SPACES if word.piece.endswith(" ") else LEFT_SPACE
    return RIGHT_SPACE if word.piece.endswith(" ") else NO_SPACE
