"""Whether a model's words repeat what the model was told.

Letters are compared by the distance of each to the next, so that neither spacing and case nor a shift of the alphabet
hides a run; mirrored text and a mirrored alphabet are read as well. What is paraphrased, translated or spelled by its
first letters is not found here.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

SHORTEST_RUN: Final = 13
"""Letters in a row that count for anything; no run of so many is missed."""

_TOLD_STEP: Final = 2
_TEXT_STEP: Final = 3
"""Places that are compared; the steps have no common divisor, so they meet in any six places."""

_GRAM: Final = SHORTEST_RUN - _TOLD_STEP * _TEXT_STEP
"""Distances in a row that are looked up at such a place."""

_PLACES: Final = 8
"""Kept of one such stretch, so that instructions that repeat themselves cost no more than others."""

_KEPT: Final = 256
"""Instructions whose index is kept, about 50 kB each at most."""

_MIRROR: Final = bytes((-distance) % 26 for distance in range(256))
"""Distances under an alphabet from z to a; backwards, those of mirrored text."""


def repeated(text: str, instructions: str) -> tuple[int, int]:
    """How much of a text stands in the instructions.

    Args:
        text: at most a few hundred characters; the time is linear in it.
    Returns: letters of the longest run, and of all runs of at least `SHORTEST_RUN` together, for the reading of the
        text that repeats most.
    """
    told, index = _indexed(instructions)
    forwards = _distances(text)
    mirrored = forwards.translate(_MIRROR)
    longest = altogether = 0
    for reading in (forwards, mirrored, mirrored[::-1]):
        covered = reached = 0
        for start, end in _runs(reading, told, index):
            longest = max(longest, end - start)
            covered += max(end - max(start, reached), 0)
            reached = max(reached, end)
        altogether = max(altogether, covered)
    return longest, altogether


def _runs(reading: bytes, told: bytes, index: Mapping[bytes, Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Half-open ranges of letters that both have; two runs may overlap."""
    at = 0
    while at + _GRAM <= len(reading):
        first = last = at
        for place in index.get(reading[at : at + _GRAM], ()):
            left, right = 0, _GRAM
            while at > left and place > left and reading[at - left - 1] == told[place - left - 1]:
                left += 1
            while reading[at + right : at + right + 1] == told[place + right : place + right + 1] != b"":
                right += 1
            if left + right > last - first:
                first, last = at - left, at + right
        if last - first + 1 >= SHORTEST_RUN:
            yield first, last + 1
        # A longer run may overlap the end of this one; what lies before is known.
        at = max(at + _TEXT_STEP, last - SHORTEST_RUN)


@lru_cache(maxsize=_KEPT)
def _indexed(instructions: str) -> tuple[bytes, Mapping[bytes, Sequence[int]]]:
    told = _distances(instructions)
    index: defaultdict[bytes, list[int]] = defaultdict(list)
    for place in range(0, len(told) - _GRAM + 1, _TOLD_STEP):
        places = index[told[place : place + _GRAM]]
        if len(places) < _PLACES:
            places.append(place)
    return told, dict(index)


def _distances(text: str) -> bytes:
    letters = [ord(character) for character in text.casefold() if character.isalnum()]
    return bytes([(after - before) % 26 for before, after in pairwise(letters)])
