"""Packed terms that can be searched: which of them a sentence may hold, and where they stand in it."""

from array import array
from bisect import bisect_left
from typing import Final

from firstline.core.literals import LiteralSet
from firstline.core.term_arrays import BOTH_SPACES, TermArrays
from firstline.core.term_search import Sentence, Span


class TermTable:
    """Packed terms, ready to be searched; immutable and safe from any thread."""

    def __init__(self, arrays: TermArrays) -> None:
        self._arrays: Final = arrays._replace(pieces=b"")  # the automaton has its own
        pieces = arrays.pieces.split(b"\n") if arrays.pieces else []
        self._literals: Final = LiteralSet(pieces)
        self._first_guard: Final = arrays.first_guard[0]
        whole = (piece for piece, reach in zip(pieces, arrays.reaches, strict=True) if reach == BOTH_SPACES)
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
            return [Sentence(words, bounds[0], pieces, self._arrays)]
        sentences = []
        index = 0
        for begin, end in bounds:
            while index < len(pieces) and pieces[index][1] < begin:
                index += 1
            first = index
            while index < len(pieces) and pieces[index][2] <= end:
                index += 1
            sentences.append(Sentence(words, (begin, end), pieces[first:index], self._arrays))
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
        return sentence.spans(self._arrays.entries[term])

    def _candidates(self, found: set[int], terms: "array[int]", starts: "array[int]", first: int) -> set[int]:
        arrays = self._arrays
        groups, needed, need_starts = arrays.groups, arrays.needs, arrays.need_starts
        past = first + len(starts) - 1
        candidates = set()
        there: dict[int, bool] = {}
        for word in found:
            if first <= word < past:
                for term in terms[starts[word - first] : starts[word - first + 1]]:
                    for group in needed[need_starts[term] : need_starts[term + 1]]:
                        known = there.get(group)
                        if known is None:
                            size = groups[group]
                            words = groups[group + 1 : group + 1 + size]
                            known = there[group] = not size or not found.isdisjoint(words)
                        if not known:
                            break
                    else:
                        candidates.add(term)
        return candidates
