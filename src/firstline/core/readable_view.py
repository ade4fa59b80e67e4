"""A text as the search for personal data reads it: one plain ASCII character for each that looks or counts like it.

Digits of every script become 0-9, full-width and styled Latin letters and signs plain ones, all dashes a hyphen, all
spaces a space. Characters that nobody sees are left out, and the way back to the original is kept.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

BLANK: Final = "\x00"
"""Stands for what is already found; no original character is read as it."""

_UNSEEN: Final = "\x01"
_KEPT_CONTROLS: Final = "\t\n\r"
_UNSEEN_LETTERS: Final = "\u034f\u115f\u1160\u17b4\u17b5\u20e3\u3164\uffa0"
_DASHES: Final = "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u30fc\ufe58\ufe63\uff0d\uff70"


class _PlainTable(dict[int, str]):
    """Code point → the one character that it is read as; worked out on first sight, bounded by Unicode itself."""

    def __missing__(self, code: int) -> str:
        plain = self[code] = _plain(chr(code))
        return plain


def _plain(character: str) -> str:
    if character in _KEPT_CONTROLS:
        return character
    if character in "\v\f\x85\u2028\u2029":
        return "\n"
    if character in _DASHES:
        return "-"
    category = unicodedata.category(character)
    if category in {"Cc", "Cf"} or character in _UNSEEN_LETTERS or "\ufe00" <= character <= "\ufe0f":
        return _UNSEEN
    if category == "Zs":
        return " "
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if character.isascii():
        return character
    compatible = unicodedata.normalize("NFKC", character)
    return compatible if len(compatible) == 1 and compatible.isascii() else character


_PLAIN: Final = _PlainTable()


def plain(text: str) -> str:
    """The text as it is read, without the way back; unseen characters are gone."""
    return text.translate(_PLAIN).replace(_UNSEEN, "")


_NO_WORD: Final = r"[\x00-/:-@\[-`{-~]"


def words_pattern(alternatives: str) -> str:
    r"""Alternatives of a pattern as a group that ignores case, as a text is read; `\b` holds beside every script.

    RE2 knows `\b` for ASCII only. Beside another letter it becomes a sign or the text's end, which is then part of
    the match; classes of all letters would make the automaton too large to be kept.
    """
    pieces = plain(alternatives).split(r"\b")
    pattern = pieces[0]
    for piece in pieces[1:]:
        if piece[:1].isalpha() and not piece[:1].isascii():
            pattern += rf"(?:^|{_NO_WORD})"
        elif pattern[-1:].isalpha() and not pattern[-1:].isascii():
            pattern += rf"(?:$|{_NO_WORD})"
        else:
            pattern += r"\b"
        pattern += piece
    return rf"(?i)(?:{pattern})"


@dataclass(frozen=True, slots=True)
class View:
    """One reading of a text.

    Attributes:
        text: what is read; `BLANK` where something is already found.
        ascii: the same with one byte for each character of `text`, `?` for those outside ASCII.
        places: index into the original for each character of `text`; None when both are aligned.
    """

    text: str
    ascii: bytes
    places: Sequence[int] | None

    def blanked(self, spans: Sequence[tuple[int, int]]) -> "View":
        """The view with sorted, separate spans made opaque."""
        pieces: list[str] = []
        position = 0
        for start, end in spans:
            pieces += self.text[position:start], BLANK * (end - start)
            position = end
        pieces.append(self.text[position:])
        text = "".join(pieces)
        return View(text, text.encode("ascii", "replace"), self.places)

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """A half-open span of `text`, not empty, as a span of the original."""
        if self.places is None:
            return start, end
        return self.places[start], self.places[end - 1] + 1

    def code_points(self, encoded: bytes, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Spans of `text` in UTF-8, sorted and separate, as spans of `text`; one pass."""
        if len(encoded) == len(self.text):
            return list(spans)
        found: list[tuple[int, int]] = []
        seen_bytes = seen = 0
        for start, end in spans:
            begin = seen + len(encoded[seen_bytes:start].decode(errors="replace"))
            seen = begin + len(encoded[start:end].decode(errors="replace"))
            seen_bytes = end
            found.append((begin, seen))
        return found


def view_of(text: str) -> View:
    """Read a text; linear."""
    read = text.translate(_PLAIN)
    places: list[int] | None = None
    if _UNSEEN in read:
        places = [place for place, character in enumerate(read) if character != _UNSEEN]
        read = read.replace(_UNSEEN, "")
    return View(read, read.encode("ascii", "replace"), places)
