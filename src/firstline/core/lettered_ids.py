"""Where numbers of persons that hold letters, or that are called by their name, are in a text."""

from collections.abc import Callable, Iterable
from typing import Final

from firstline.core.addresses import Span, separate
from firstline.core.expressions import Expression
from firstline.core.national_ids import is_resident_id, passes
from firstline.core.number_words import PERSON, PERSON_MARK, THING, words_before
from firstline.core.readable_view import BLANK, View

_FISCAL_DIGIT: Final = "[0-9LMNPQRSTUVlmnpqrstuv]"
_TAIWAN_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVXYWZIO"


def _is_taiwanese(number: str) -> bool:
    code = _TAIWAN_LETTERS.index(number[0].upper()) + 10
    total = code // 10 + code % 10 * 9 + sum(int(digit) * (8 - place) for place, digit in enumerate(number[1:9]))
    return (total + int(number[9])) % 10 == 0


def _is_nir(number: str) -> bool:
    return passes("nir", number.upper())


def _always(number: str) -> bool:
    return True


_SCHEMES: Final[tuple[tuple[str, Callable[[str], bool]], ...]] = (
    (
        rf"\b[A-Za-z]{{3}} ?[A-Za-z]{{3}} ?{_FISCAL_DIGIT}{{2}}[ABCDEHLMPRSTabcdehlmprst]{_FISCAL_DIGIT}{{2}} ?"
        rf"[A-Za-z]{_FISCAL_DIGIT}{{3}} ?[A-Za-z]\b",
        lambda number: passes("codice fiscale", number),
    ),
    (
        r"\b(?:[0-9]{8}|[0-9]{2}\.[0-9]{3}\.[0-9]{3})[ -]?[TRWAGMYFPDXBNJZSQVHLCKEtrwagmyfpdxbnjzsqvhlcke]\b",
        lambda number: passes("dni", number),
    ),
    (r"\b[XYZxyz][ -]?[0-9]{7}[ -]?[A-Za-z]\b", lambda number: passes("nie", number)),
    (
        r"\b[A-CEGHJ-PR-TW-Za-ceghj-pr-tw-z][A-CEGHJ-NPR-TW-Za-ceghj-npr-tw-z]"
        r" ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-Da-d]\b",
        _always,
    ),
    (r"\b[A-Z]{3}[ABCFGHLJPT][A-Z][0-9]{4}[A-Z]\b", _always),
    (r"\b[0-9]{6}[ -]?[0-9]{8}[ -]?[0-9]{3}[Xx]\b", is_resident_id),
    (r"\b[12] ?[0-9]{2} ?[01][0-9] ?2[ABab] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}\b", _is_nir),
    (r"\b[A-Z]{4}[0-9]{6}[HM][A-Z]{5}[0-9A-Z][0-9]\b", _always),
    (r"\b[A-Z][1289][0-9]{8}\b", _is_taiwanese),
)
LETTERED_MARKS: Final = tuple(pattern for pattern, _ in _SCHEMES)
"""One for each scheme; `find_lettered_ids` is told which of them are there."""

_EXPRESSIONS: Final = tuple(Expression(pattern) for pattern, _ in _SCHEMES)
_SAID: Final = Expression(PERSON_MARK)
_VALUE: Final = Expression(
    r"\b(?:[A-Za-z]{1,9}"
    r"|[A-Z]{1,3}[ -])?[0-9][0-9A-Za-z]*(?:[ ./-]{1,2}[0-9A-Za-z]*[0-9][0-9A-Za-z]*)*(?:[ -]?[A-Z]\b)?"
)
_REACH: Final = 32
_MOST_KEYWORDS: Final = 48
_CAPITALS: Final = tuple(bytes([code]) for code in range(65, 91))
_SIZES: Final = frozenset({6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 18})


def find_lettered_ids(view: View, *, schemes: Iterable[int]) -> list[Span]:
    """Half-open spans of numbers with letters, such as a codice fiscale; sorted and separate.

    Args:
        view: of the text.
        schemes: indices into `LETTERED_MARKS`.
    """
    found: list[Span] = []
    for scheme in schemes:
        check = _SCHEMES[scheme][1]
        for start, end in _EXPRESSIONS[scheme].spans(view.ascii):
            number = "".join(character for character in view.text[start:end] if character.isalnum())
            if (
                not _is_glued(view, start, end)
                and check(number)
                and (check is not _always or THING not in words_before(view.text, start, blank=BLANK))
            ):
                found.append((start, end))
    return separate(found)


def _is_glued(view: View, start: int, end: int) -> bool:
    before, after = view.ascii[max(0, start - 2) : start], view.ascii[end : end + 2]
    return (before[-1:] in {b"-", b"_"} and before[:1].isalnum()) or (after[:1] in {b"-", b"_"} and after[1:].isalnum())


def find_said_ids(view: View) -> list[Span]:
    """Half-open spans of numbers that follow words such as "passport number"; the check digits do not matter, for a
    mistyped number still tells much.
    """
    encoded = view.text.encode(errors="replace")
    found: list[Span] = []
    floor = 0
    for number, (_, end) in enumerate(view.code_points(encoded, _SAID.spans(encoded))):
        if end < floor:
            continue
        if number >= _MOST_KEYWORDS:
            place = end
            while place < len(view.text) and place < end + 24 and not view.text[place].isdigit():
                place += 1
            floor = place
            while floor < len(view.text) and floor < place + 24 and view.text[floor].isalnum():
                floor += 1
            if floor > place + 5:
                found.append((place, floor))
            continue
        window = view.ascii[end : end + _REACH + 40]
        window = window.split(b"\x00", 1)[0]
        for begin, stop in _VALUE.spans(window)[:2]:
            value = window[begin:stop]
            if begin > _REACH:
                break
            digits = sum(sign in b"0123456789" for sign in value)
            few = digits == 5 and sum(value.count(letter) for letter in _CAPITALS) >= 2
            if (digits not in _SIZES and not few) or _is_date(value):
                continue
            words = words_before(view.text, end + begin, blank=BLANK)
            if PERSON in words and THING not in words:
                found.append((end + begin, end + stop))
                floor = end + stop
                break
    return separate(found)


def _is_date(value: bytes) -> bool:
    parts = value.replace(b"/", b".").replace(b"-", b".").split(b".")
    return len(parts) == 3 and sorted(map(len, parts)) in ([1, 1, 4], [1, 2, 4], [2, 2, 4]) and len(parts[1]) <= 2
