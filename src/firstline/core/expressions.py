"""The one place that touches RE2: linear-time expressions and sets of them, typed.

RE2 never backtracks, so a pattern or a text written to hurt costs no more than its length. Patterns are compiled
when they are added; matching is safe from any thread.
"""

from collections.abc import Sequence
from typing import Any, Final

import re2

_SET_MEMORY_BYTES: Final = 64 << 20
_EXPRESSION_MEMORY_BYTES: Final = (2 << 20, 32 << 20)
"""What one expression's automaton may take; the larger bound is for patterns that the smaller one cannot hold."""


class ExpressionInvalid(ValueError):
    """A pattern that RE2 refuses; the message is RE2's own reason and holds nothing but the pattern."""


def _options(memory_bytes: int) -> Any:
    options = re2.Options()
    options.max_mem = memory_bytes
    options.log_errors = False
    options.never_capture = True
    return options


class Expression:
    """One compiled pattern."""

    __slots__ = ("_compiled",)

    def __init__(self, pattern: str) -> None:
        """Raises: ExpressionInvalid when RE2 cannot compile the pattern."""
        self._compiled: Any = _compile(pattern)

    def spans(self, text: bytes, *, overlap: int = 0) -> list[tuple[int, int]]:
        """Half-open byte ranges of the matches in UTF-8 text, left to right.

        Args:
            text: what to search; bytes, because the binding works out the place of every character of a str.
            overlap: how many bytes at the end of a match may begin the next one; 1 lets two words share the space
                between them.
        """
        found: list[tuple[int, int]] = []
        position = 0
        while position <= len(text):
            match = self._compiled.search(text, position)
            if match is None:
                break
            start, end = match.span()
            found.append((start, end))
            position = max(end - overlap, start + 1)
        return found


def _compile(pattern: str) -> Any:
    reason: Any = "not compiled"
    for memory_bytes in _EXPRESSION_MEMORY_BYTES:
        try:
            return re2.compile(pattern, options=_options(memory_bytes))
        except re2.error as error:
            reason = error.args[0] if error.args else error
    raise ExpressionInvalid(reason.decode() if isinstance(reason, bytes) else str(reason))


class ExpressionSet:
    """Many patterns, matched in one pass over the text."""

    __slots__ = ("_compiled", "_size")

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises: ExpressionInvalid when a pattern is invalid or the set is too large to compile."""
        self._size = len(patterns)
        self._compiled: Any = re2.Set.SearchSet(_options(_SET_MEMORY_BYTES))
        for pattern in patterns:
            try:
                self._compiled.Add(pattern)
            except re2.error as error:
                raise ExpressionInvalid(str(error)) from None
        if patterns:
            try:
                self._compiled.Compile()
            except re2.error as error:
                raise ExpressionInvalid(str(error)) from None

    def match(self, text: bytes) -> Sequence[int]:
        """Indices of the patterns found somewhere in UTF-8 text; unordered."""
        if not self._size:
            return ()
        found: Sequence[int] | None = self._compiled.Match(text)
        return found or ()
