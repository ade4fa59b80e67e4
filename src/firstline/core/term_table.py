"""Terms packed into a few arrays, and the search for them.

Every term becomes a small graph of steps, all graphs together one array of numbers. A search walks the graph over the
places where an automaton has found words, so nothing is compiled when a text needs a term and nothing grows with the
texts. A step is taken at a place once at most: a search costs no more than the places times the steps of the term.

Words have numbers. The first ones are those by which terms are found: a term is searched only in a sentence that has a
word of the term's rarest group, and one of each of its other groups.
"""

import re
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Final, NamedTuple, TypeAlias

from firstline.core.literals import LiteralSet
from firstline.core.terms import Choice, Items, Maybe, Script, Word, beginnings, needs, words_in

Span: TypeAlias = tuple[int, int]

_ATTACHED: Final = frozenset(
    "".join(parts).encode() for parts in product(("", "و", "ف"), ("", "ب", "ل", "ك", "س"), ("", "ال", "ل"))
)
"""What may stand before an Arabic word: one of و ف, one of ب ل ك س, the article."""

_SPACES: Final = re.compile(b" ")
_SPACE: Final = ord(" ")

# Steps, as they stand in the array: the number of the kind, then what the kind needs. A step is known by its place;
# 0 is the place of the end.
_END, _ONE, _WORDS, _ANY, _SPLIT, _GAP = range(6)
# _ONE:   next, word
# _WORDS: next, the place of a group of words, the place of each among the alternatives
# _ANY:   count, the words in ascending order, the place of each among the alternatives, the next step of each
# _SPLIT: count, the next steps, the preferred one first
# _GAP:   next, how many words may be skipped or 0 for any number, whether to skip as many as can be
_WORDS_AT_ONCE: Final = 16
"""Words over which a gap of any length goes before it is a state anew."""

# How the place of a word follows from the place of its piece.
_BOTH_SPACES, _LEFT_SPACE, _RIGHT_SPACE, _NO_SPACE, _ARABIC_SPACE, _ARABIC_OPEN, _HANGUL, _HANGUL_ANYWHERE = range(8)


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
        self._steps = array("I", [_END])
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
                following = self._step(_ONE, following, self._number(item))
            elif isinstance(item, Choice):
                following = self._split(self._branches(item, following, greedy=greedy))
            elif isinstance(item, Maybe):
                following = self._split([*self._branches(item.body, following, greedy=greedy), following])
            else:
                following = self._step(_GAP, following, item.words or 0, greedy)
        return following

    def _split(self, branches: list[int]) -> int:
        return branches[0] if len(branches) == 1 else self._step(_SPLIT, len(branches), *branches)

    def _branches(self, choice: Choice, following: int, *, greedy: bool) -> list[int]:
        """First steps of the alternatives; those that begin with a word and stand side by side are one step."""
        branches: list[int] = []
        words: list[tuple[int, int]] = []

        def close() -> None:
            order = sorted(range(len(words)), key=lambda place: (words[place][0], place))
            ascending, after = tuple(words[place][0] for place in order), [words[place][1] for place in order]
            if len(words) == 1:
                branches.append(self._step(_ONE, after[0], ascending[0]))
            elif words and len(set(after)) == 1:
                branches.append(self._step(_WORDS, after[0], self._group(ascending), *order))
            elif words:
                branches.append(self._step(_ANY, len(words), *ascending, *order, *after))
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
        return _HANGUL
    if word.script is Script.HANGUL_ANYWHERE:
        return _HANGUL_ANYWHERE
    if word.script is Script.ARABIC:
        return _ARABIC_SPACE if word.piece.endswith(" ") else _ARABIC_OPEN
    if word.piece.startswith(" "):
        return _BOTH_SPACES if word.piece.endswith(" ") else _LEFT_SPACE
    return _RIGHT_SPACE if word.piece.endswith(" ") else _NO_SPACE


class Sentence:
    """A sentence among padded words, and what was found in it.

    Attributes:
        words: UTF-8 of all the words between single spaces, with one at each end; all places are places in it.
        bounds: byte range of the sentence with the spaces around it.
        found: numbers of the words that stand in the sentence.
    """

    __slots__ = ("_pieces", "_places", "bounds", "found", "words")

    def __init__(self, words: bytes, bounds: Span, pieces: list[tuple[int, int, int]]) -> None:
        self.words: Final = words
        self.bounds: Final = bounds
        self.found: Final = {piece[0] for piece in pieces}
        self._pieces: Final = pieces
        self._places: _Places | None = None

    def places(self, reaches: bytes) -> "_Places":
        """Where the words stand; worked out when it is first asked for."""
        if self._places is None:
            self._places = _Places(self.words, self.bounds, self._pieces, reaches)
        return self._places


class _Places:
    """The words of a sentence by the place where they begin.

    Attributes:
        words: place to the words there, each with the place after it and, for a Korean word whose ending may be the
            next word of a term, the first place within it where one stands, else 0.
        starts: places where words of the text begin, and the end, ascending.
        inside: place within a Korean word to the next such place or 0, and to the place after the word.
    """

    __slots__ = ("_places", "inside", "starts", "words")

    def __init__(self, text: bytes, bounds: Span, pieces: list[tuple[int, int, int]], reaches: bytes) -> None:
        words: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
        korean: list[tuple[int, int, int]] = []
        for word, start, end in pieces:
            reach = reaches[word]
            if reach == _BOTH_SPACES:
                words[start + 1].append((word, end, 0))
            elif reach == _LEFT_SPACE:
                words[start + 1].append((word, text.find(b" ", end) + 1, 0))
            elif reach >= _HANGUL:
                korean.append((word, start, end))
            else:
                begin = text.rfind(b" ", 0, start) + 1
                if reach < _ARABIC_SPACE or text[begin:start] in _ATTACHED:
                    open_end = reach in {_NO_SPACE, _ARABIC_OPEN}
                    words[begin].append((word, text.find(b" ", end) + 1 if open_end else end, 0))
        self.inside: Final[dict[int, tuple[int, int]]] = {}
        if korean:
            self._add_korean(text, korean, reaches, words)
        self._places: Final[dict[int, list[int]]] = {}
        self.starts: Final = [space.end() for space in _SPACES.finditer(text, *bounds)]
        self.words: Final[Mapping[int, list[tuple[int, int, int]]]] = dict(words)

    def of(self, word: int) -> list[int]:
        """The places of a word."""
        if not self._places:
            for place, here in self.words.items():
                for entry in here:
                    self._places.setdefault(entry[0], []).append(place)
        return self._places.get(word, [])

    def _add_korean(
        self,
        text: bytes,
        korean: list[tuple[int, int, int]],
        reaches: bytes,
        words: defaultdict[int, list[tuple[int, int, int]]],
    ) -> None:
        inner = sorted({start for _, start, _ in korean if text[start - 1] != _SPACE})
        following = 0
        for place in reversed(inner):
            after = text.find(b" ", place) + 1
            self.inside[place] = (following if following < after else 0, after)
            following = place
        for word, start, end in korean:
            after = text.find(b" ", end) + 1
            index = bisect_left(inner, end)
            entry = (word, after, inner[index] if index < len(inner) and inner[index] < after else 0)
            words[start].append(entry)
            if reaches[word] == _HANGUL_ANYWHERE and text[start - 1] != _SPACE:
                words[text.rfind(b" ", 0, start) + 1].append(entry)


class TermTable:
    """Packed terms, ready to be searched; immutable and safe from any thread."""

    def __init__(self, arrays: TermArrays) -> None:
        self._arrays: Final = arrays._replace(pieces=b"")  # the automaton has its own
        pieces = arrays.pieces.split(b"\n") if arrays.pieces else []
        self._literals: Final = LiteralSet(pieces)
        self._first_guard: Final = arrays.first_guard[0]
        whole = (piece for piece, reach in zip(pieces, arrays.reaches, strict=True) if reach == _BOTH_SPACES)
        words = b"".join(whole).decode().split()
        self._whole_words: Final = array("q", sorted({hash(word) for word in words if word.isalpha()}))

    def __contains__(self, word: object) -> bool:
        """Whether a term has this word, with no `*`. Of 10^14 other words one is held for it."""
        key = hash(word)
        index = bisect_left(self._whole_words, key)
        return index < len(self._whole_words) and self._whole_words[index] == key

    def sentences(self, words: bytes, bounds: list[Span]) -> list[Sentence]:
        """Sentences of padded words, to be searched by this table alone.

        Args:
            bounds: byte ranges of the sentences with the spaces around them, from left to right.
        """
        pieces = self._literals.find(words)
        if bounds == [(0, len(words))]:
            return [Sentence(words, bounds[0], pieces)]
        sentences = []
        index = 0
        for begin, end in bounds:
            while index < len(pieces) and pieces[index][1] < begin:
                index += 1
            first = index
            while index < len(pieces) and pieces[index][2] <= end:
                index += 1
            sentences.append(Sentence(words, (begin, end), pieces[first:index]))
        return sentences

    def candidates(self, sentence: Sentence) -> set[int]:
        """Terms that may hit: all that do, and some that do not. What a sentence has, the text around it has."""
        arrays = self._arrays
        return self._candidates(sentence.found, arrays.hits, arrays.hit_starts, 0)

    def guards(self, sentence: Sentence) -> set[int]:
        """Guards that may match: all that do, and some that do not."""
        arrays = self._arrays
        return self._candidates(sentence.found, arrays.guards, arrays.guard_starts, self._first_guard)

    def owner(self, term: int) -> int:
        """Whose term it is."""
        return self._arrays.owners[term]

    def spans(self, term: int, sentence: Sentence) -> list[Span]:
        """Half-open byte ranges where a term stands, from left to right, the spaces around its words included.

        Two ranges may share a space. Of the ranges that begin at one place it is the first that the term's order of
        alternatives and the reach of its gaps lead to.
        """
        arrays = self._arrays
        places = sentence.places(arrays.reaches)
        group = arrays.needs[arrays.need_starts[term + 1] - 1]
        size = arrays.groups[group]
        if size:
            first = sentence.found.intersection(arrays.groups[group + 1 : group + 1 + size])
            starts = [place for word in first for place in places.of(word)]
        else:
            starts = places.starts
        seen: set[tuple[int, int]] = set()
        found: list[Span] = []
        least = 0
        for start in sorted(starts):
            if start >= least and sentence.words[start - 1] == _SPACE:
                end = self._walk(arrays.entries[term], start, places, seen)
                if end:
                    found.append((start - 1, end))
                    least = max(end, start + 1)
        return found

    def _candidates(self, found: set[int], terms: "array[int]", starts: "array[int]", first: int) -> set[int]:
        arrays = self._arrays
        groups, needed, need_starts = arrays.groups, arrays.needs, arrays.need_starts
        past = first + len(starts) - 1
        candidates = set()
        there: dict[int, bool] = {}
        for word in found:
            if first <= word < past:
                for term in terms[starts[word - first] : starts[word - first + 1]]:
                    place = need_starts[term]
                    end = need_starts[term + 1]
                    while place < end:
                        group = needed[place]
                        known = there.get(group)
                        if known is None:
                            size = groups[group]
                            words = groups[group + 1 : group + 1 + size]
                            known = there[group] = not size or not found.isdisjoint(words)
                        if not known:
                            break
                        place += 1
                    else:
                        candidates.add(term)
        return candidates

    def _walk(self, step: int, place: int, places: _Places, seen: set[tuple[int, int]]) -> int:
        """The place after a match that begins here, or 0.

        Args:
            seen: steps with places from which no match was reached; more are added. A match leads through earlier
                places only than those where the search for the next one begins.
        """
        steps = self._arrays.steps
        ahead = [(step, place)]  # what to try, the preferred one last
        while ahead:
            state = step, place = ahead.pop()
            if not step:
                return place
            if state in seen:
                continue
            seen.add(state)
            if step < 0:  # within a Korean word, on the way to the step -step
                following, after = places.inside[place]
                ahead += ((-step, place), (step, following) if following else (-step, after))
                continue
            kind = steps[step]
            if kind == _ONE:
                following, wanted = steps[step + 1], steps[step + 2]
                for word, end, inside in places.words.get(place, ()):
                    if word == wanted:
                        ahead.append(_after(following, end, inside))
            elif kind == _GAP:
                ahead += self._skipped(step, place, places)
            elif kind == _SPLIT:
                ahead += [(branch, place) for branch in reversed(steps[step + 2 : step + 2 + steps[step + 1]])]
            elif place in places.words:
                ahead += self._branches(step, kind, places.words[place])
        return 0

    def _branches(self, step: int, kind: int, here: Iterable[tuple[int, int, int]]) -> list[tuple[int, int]]:
        """Where the words that stand here lead from a step, the preferred one last."""
        steps = self._arrays.steps
        ranked = []
        if kind == _WORDS:
            following, group = steps[step + 1], steps[step + 2]
            groups = self._arrays.groups
            end = group + 1 + groups[group]
            for word, after, inside in here:
                index = bisect_left(groups, word, group + 1, end)
                if index < end and groups[index] == word:
                    ranked.append((-steps[step + 2 + index - group], _after(following, after, inside)))
        else:
            count = steps[step + 1]
            end = step + 2 + count
            for word, after, inside in here:
                index = bisect_left(steps, word, step + 2, end)
                while index < end and steps[index] == word:
                    ranked.append((-steps[index + count], _after(steps[index + 2 * count], after, inside)))
                    index += 1
        if len(ranked) > 1:
            ranked.sort()
        return [state for _, state in ranked]

    def _skipped(self, step: int, place: int, places: _Places) -> list[tuple[int, int]]:
        """Where a gap leads, the preferred one last."""
        following, most, greedy = self._arrays.steps[step + 1 : step + 4]
        index = bisect_right(places.starts, place)
        onward = [place, *places.starts[index : index + (most or _WORDS_AT_ONCE)]]
        rest = [] if most or len(onward) <= _WORDS_AT_ONCE else [(step, onward.pop())]
        if self._arrays.steps[following] in {_ONE, _WORDS, _ANY}:
            onward = [there for there in onward if there in places.words]
        states = [(following, there) for there in onward] + rest
        if not greedy:
            states.reverse()
        return states


def _after(step: int, end: int, inside: int) -> tuple[int, int]:
    """The state after a word that ends in two ways when another may begin inside it."""
    return (-step, inside) if inside and step else (step, end)
