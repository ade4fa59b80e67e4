"""The one place that touches the Aho–Corasick automaton: many pieces of plain text, found in one pass.

The automaton is built once and never grows, and a pass costs no more than the text's length and the pieces found,
whatever the text. Safe from any thread.
"""

from collections.abc import Sequence
from typing import Final

from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind


class LiteralSet:
    """Pieces of UTF-8 text, each known by its place in the given order."""

    __slots__ = ("_automaton",)

    def __init__(self, pieces: Sequence[bytes]) -> None:
        """Args:
        pieces: none of them empty; equal ones are all found.
        """
        self._automaton: Final = BytesAhoCorasick(
            pieces,
            matchkind=MatchKind.Standard,
            implementation=Implementation.ContiguousNFA,
        )

    def find(self, text: bytes) -> list[tuple[int, int, int]]:
        """Every piece in UTF-8 text with the byte range where it stands, overlapping ones included."""
        return self._automaton.find_matches_as_indexes(text, overlapping=True)
