"""The search for packed terms in one sentence, for all places of the sentence at once.

A set of places is one number with a bit for each place, the last place lowest. For every step of a term's graph the
search works out once from which places the end of the term can be reached: a few shifts and bitwise operations. Steps
that terms share are worked out once for all of them. A match is then read off along such places alone, so that it
never turns out to be none. A sentence costs at most the steps of the terms that are asked for, each times the length
of such a number, and the length of the matches.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Final, TypeAlias

from firstline.core.term_arrays import (
    ARABIC_OPEN,
    ARABIC_SPACE,
    BOTH_SPACES,
    END,
    GAP,
    HANGUL,
    HANGUL_ANYWHERE,
    LEFT_SPACE,
    NO_SPACE,
    ONE,
    SPLIT,
    WORDS,
    TermArrays,
)

Span: TypeAlias = tuple[int, int]
_Moves: TypeAlias = dict[int, int]
"""How far something leads → the places from which it does.

The distance counts places. That of a Korean word is negative: from there on the word's ending may be as long as it
likes.
"""

_ATTACHED: Final = frozenset(
    "".join(parts).encode() for parts in product(("", "و", "ف"), ("", "ب", "ل", "ك", "س"), ("", "ال", "ل"))
)
"""What may stand before an Arabic word: one of و ف, one of ب ل ك س, the article."""

_SPACES: Final = re.compile(b" ")
_SPACE: Final = ord(" ")


class Sentence:
    """A sentence among padded words, what was found in it and what has been worked out about it; for one thread.

    Attributes:
        found: numbers of the words that stand in the sentence.
    """

    __slots__ = ("_arrays", "_bounds", "_pieces", "_search", "_text", "found")

    def __init__(self, text: bytes, bounds: Span, pieces: list[tuple[int, int, int]], arrays: TermArrays) -> None:
        """Args:
        text: UTF-8 of all the words between single spaces, with one at each end.
        bounds: byte range of the sentence with the spaces around it.
        pieces: numbers of the words in it, each with its byte range.
        """
        self.found: Final = {piece[0] for piece in pieces}
        self._text: Final = text
        self._bounds: Final = bounds
        self._pieces: Final = pieces
        self._arrays: Final = arrays
        self._search: _Search | None = None

    @property
    def steps_worked_out(self) -> int:
        """How many steps of terms have been worked out and walked so far; what a search costs, without a clock."""
        return self._search.work if self._search else 0

    def spans(self, entry: int) -> list[Span]:
        """Half-open byte ranges where the term with this first step stands, from left to right.

        The spaces around its words are included, and two ranges may share one. Of the ranges that begin at one place
        it is the first that the term's order of alternatives and the reach of its gaps lead to.
        """
        if self._search is None:
            self._search = _Search(self._text, self._bounds, self._pieces, self._arrays)
        return self._search.spans(entry)


class _Search:
    def __init__(self, text: bytes, bounds: Span, pieces: list[tuple[int, int, int]], arrays: TermArrays) -> None:
        self.work = 0
        self._text: Final = text
        self._steps: Final = arrays.steps
        self._groups: Final = arrays.groups
        self._reaches: Final = arrays.reaches
        places = [space.end() for space in _SPACES.finditer(text, *bounds)]
        self._pieces: Final[dict[int, list[Span]]] = {}
        inner = set()
        for word, start, end in pieces:
            if word in self._pieces:
                self._pieces[word].append((start, end))
            else:
                self._pieces[word] = [(start, end)]
            if self._reaches[word] >= HANGUL and text[start - 1] != _SPACE:
                inner.add(start)
        self._found: Final = self._pieces.keys()
        if inner:
            places = sorted(inner.union(places))
        count = len(places)
        self._places: Final = places
        self._bits: Final = dict(zip(places, range(count - 1, -1, -1), strict=True))
        self._every: Final = (1 << count) - 1
        self._inner: Final = _number(map(self._bits.__getitem__, inner))
        self._starts: Final = self._every ^ self._inner
        self._moves: Final[dict[int, _Moves]] = {}
        self._moves_of_group: Final[dict[int, _Moves]] = {}
        self._words: Final[dict[int, list[tuple[int, int]]]] = {}
        self._not_placed: Final[list[tuple[int, int, int]]] = []
        self._from: Final[dict[int, int]] = {END: self._every}

    def spans(self, entry: int) -> list[Span]:
        starts = self._work_out(entry) & self._starts
        places = self._places
        last = len(places) - 1
        found: list[Span] = []
        while starts:
            begin = starts.bit_length() - 1
            end = self._walk(entry, begin)
            found.append((places[last - begin] - 1, places[last - end]))
            starts &= (2 << min(end, begin - 1)) - 1
        return found

    def _work_out(self, entry: int) -> int:
        """The places from which the end can be reached by this step."""
        reached = self._from
        if entry in reached:
            return reached[entry]
        steps = self._steps
        waiting = [entry]
        ways: dict[int, list[tuple[int, _Moves]]] = {}
        while waiting:
            step = waiting[-1]
            kind = steps[step]
            if step in reached:
                waiting.pop()
                continue
            places = 0
            if kind in {ONE, WORDS}:
                word = steps[step + 2]
                moves = self._moves_of(word) if kind == ONE else self._moves_of_any(word)
                if moves:
                    targets = reached.get(steps[step + 1])
                    if targets is None:
                        waiting.append(steps[step + 1])
                        continue
                    if targets:
                        places = self._before(moves, targets)
            elif kind == GAP:
                targets = reached.get(steps[step + 1])
                if targets is None:
                    waiting.append(steps[step + 1])
                    continue
                places = self._before_gap(targets, steps[step + 2])
            elif kind == SPLIT:
                branches = steps[step + 2 : step + 2 + steps[step + 1]]
                missing = [branch for branch in branches if branch not in reached]
                if missing:
                    waiting += missing
                    continue
                for branch in branches:
                    places |= reached[branch]
            else:
                if step not in ways:
                    ways[step] = self._ways(step)
                missing = [following for following, _ in ways[step] if following not in reached]
                if missing:
                    waiting += missing
                    continue
                for following, moves in ways[step]:
                    if reached[following]:
                        places |= self._before(moves, reached[following])
            reached[waiting.pop()] = places
            self.work += 1
        return reached[entry]

    def _ways(self, step: int) -> list[tuple[int, _Moves]]:
        """Where the words of an `ANY` step lead that are there, each way with the next step."""
        steps = self._steps
        first, count = step + 2, steps[step + 1]
        ways = []
        for word in self._found & steps[first : first + count]:
            moves = self._moves_of(word)
            index = bisect_left(steps, word, first, first + count)
            while moves and index < first + count and steps[index] == word:
                ways.append((steps[index + 2 * count], moves))
                index += 1
        return ways

    def _moves_of_any(self, group: int) -> _Moves:
        """Where the words of a group lead, taken together."""
        together = self._moves_of_group.get(group)
        if together is None:
            together = self._moves_of_group[group] = {}
            groups = self._groups
            for word in self._found & groups[group + 1 : group + 1 + groups[group]]:
                for distance, places in self._moves_of(word).items():
                    together[distance] = together.get(distance, 0) | places
        return together

    def _moves_of(self, word: int) -> _Moves:
        """Where a word leads, from each place where it stands."""
        moves = self._moves.get(word)
        if moves is None:
            moves = self._moves[word] = {}
            if word in self._pieces:
                for place, distance in self._found_moves(word):
                    moves[distance] = moves.get(distance, 0) | 1 << place
                    self._not_placed.append((place, word, distance))
        return moves

    def _found_moves(self, word: int) -> Iterator[tuple[int, int]]:
        """The places where a word stands, each with how far it leads from there."""
        text, bits, places, reach = self._text, self._bits, self._places, self._reaches[word]
        for start, end in self._pieces[word]:
            if reach <= LEFT_SPACE:
                begin = bits[start + 1]
                yield begin, begin - bits[end if reach == BOTH_SPACES else text.find(b" ", end) + 1]
            elif reach >= HANGUL:
                following = bits[places[bisect_left(places, end)]]
                yield bits[start], following - bits[start]
                if reach == HANGUL_ANYWHERE and text[start - 1] != _SPACE:
                    begin = bits[text.rfind(b" ", 0, start) + 1]
                    yield begin, following - begin
            else:
                before = text.rfind(b" ", 0, start) + 1
                if reach < ARABIC_SPACE or text[before:start] in _ATTACHED:
                    open_end = reach in {NO_SPACE, ARABIC_OPEN}
                    yield bits[before], bits[before] - bits[text.find(b" ", end) + 1 if open_end else end]

    def _before(self, moves: _Moves, targets: int) -> int:
        """The places from which moves lead to some of the targets."""
        places = 0
        for distance, begins in moves.items():
            if distance > 0:
                places |= begins & targets << distance
            else:
                places |= begins & self._up_to(targets) << -distance
        return places

    def _up_to(self, targets: int) -> int:
        """The targets, and the places within a Korean word after which one follows in the word or right behind it."""
        inner = self._inner
        if not inner:
            return targets
        # A carry runs through all the places within the word.
        nearest = targets << 1 & inner
        return targets | ((inner + nearest ^ inner) | nearest) & inner

    def _before_gap(self, targets: int, most: int) -> int:
        """The places from which a gap leads to some of the targets: to itself, or to the beginning of a later word."""
        words = targets & self._starts
        if not words:
            return targets
        if not most:
            return targets | self._every & -(words & -words)
        places = targets
        for _ in range(most):
            # A carry runs through the places within a word to the beginning of the word.
            before = ((words << 1) + self._inner) & self._starts
            places |= before | (before - (words & self._every >> 1) << 1 & self._every if self._inner else 0)
            words = before
        return places

    def _walk(self, step: int, place: int) -> int:
        """Where the match ends that begins here with this step; only to be asked where there is one."""
        steps, reached = self._steps, self._from
        while step:
            self.work += 1
            kind = steps[step]
            if kind == GAP:
                following, most, greedy = steps[step + 1 : step + 4]
                place = self._skip(reached[following], place, most, greedy=bool(greedy))
                step = following
            elif kind == SPLIT:
                branches = steps[step + 2 : step + 2 + steps[step + 1]]
                step = next(branch for branch in branches if reached[branch] >> place & 1)
            elif kind == ONE and len(moves := self._moves[steps[step + 2]]) == 1 and next(iter(moves)) > 0:
                step, place = steps[step + 1], place - next(iter(moves))
            else:
                step, place = self._move(step, kind, place)
        return place

    def _move(self, step: int, kind: int, place: int) -> tuple[int, int]:
        """The next step and place after the first alternative by which the end can be reached."""
        best = (1 << 32, 0, 0)
        for word, distance in self._at(place):
            for rank, following in self._ranks(step, kind, word):
                if rank <= best[0]:
                    end = self._landing(self._from.get(following, 0), place, distance)
                    if end >= 0:
                        # Of equal words the one whose ending reaches farther; the last place is the lowest.
                        best = min(best, (rank, end, following))
        return best[2], best[1]

    def _ranks(self, step: int, kind: int, word: int) -> Iterator[tuple[int, int]]:
        """The places of a word among the alternatives of a step, each with its next step."""
        steps = self._steps
        if kind == ONE:
            if steps[step + 2] == word:
                yield 0, steps[step + 1]
        elif kind == WORDS:
            group = steps[step + 2]
            end = group + 1 + self._groups[group]
            index = bisect_left(self._groups, word, group + 1, end)
            if index < end and self._groups[index] == word:
                yield steps[step + 2 + index - group], steps[step + 1]
        else:
            count = steps[step + 1]
            end = step + 2 + count
            index = bisect_left(steps, word, step + 2, end)
            while index < end and steps[index] == word:
                yield steps[index + count], steps[index + 2 * count]
                index += 1

    def _landing(self, targets: int, place: int, distance: int) -> int:
        """The target to which a word leads, -1 for none; of several the last place, which is the lowest bit."""
        if distance > 0:
            end = place - distance
            return end if targets >> end & 1 else -1
        first = place + distance
        lowest = (self._starts & (1 << first + 1) - 1).bit_length() - 1
        inside = targets >> lowest & (2 << first - lowest) - 1
        return lowest + (inside & -inside).bit_length() - 1 if inside else -1

    def _skip(self, targets: int, place: int, most: int, *, greedy: bool) -> int:
        """The place to which a gap leads: the nearest target, or the farthest one for a greedy gap."""
        if not greedy and targets >> place & 1:
            return place
        later = self._starts & (1 << place) - 1
        words = targets & later
        if most:
            end = place
            for _ in range(most):
                end = (later & (1 << end) - 1).bit_length() - 1
                if end < 0:
                    break
            if end > 0:
                words = words >> end << end
        if not words:
            return place
        return (words & -words).bit_length() - 1 if greedy else words.bit_length() - 1

    def _at(self, place: int) -> list[tuple[int, int]]:
        """The words that stand at a place, each with how far it leads; only those that were asked for before."""
        for there, word, distance in self._not_placed:
            self._words.setdefault(there, []).append((word, distance))
        self._not_placed.clear()
        return self._words.get(place, [])


def _number(bits: Iterable[int]) -> int:
    """A number with these bits."""
    number = 0
    for bit in bits:
        number |= 1 << bit
    return number
