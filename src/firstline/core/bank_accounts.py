"""Where international bank account numbers (ISO 13616) are in a text."""

from typing import Final

from firstline.core.addresses import Span
from firstline.core.expressions import Expression
from firstline.core.readable_view import View

_LENGTHS: Final = {
    entry[:2]: int(entry[2:])
    for entry in (  # noqa: SIM905  # reads better than a column of quotes
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
        "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SN28 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 "
        "XK20 YE30"
    ).split()
}
IBAN_MARK: Final = (
    r"[A-Za-z][ .-]?[A-Za-z][ .-]?[0-9][ .-]?[0-9][ \t\r\n._/-]{0,3}[0-9A-Za-z]{1,4}[ \t\r\n._/-]{0,3}[0-9A-Za-z]{2}"
)
_BEGIN: Final = Expression(r"\b[A-Za-z][ .-]?[A-Za-z][ .-]?[0-9][ .-]?[0-9]")
_GAPS: Final = frozenset(" \t\r\n._/-")
_WIDEST_GAP: Final = 3
_LETTERS_AS_NUMBERS: Final = {ord(letter): str(int(letter, 36)) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_NAME: Final = Expression(r"(?i)iban[^0-9\x00]{0,20}$")


def find_ibans(view: View) -> list[Span]:
    """Half-open spans of account numbers whose length fits their country and whose check digits are right, or that
    are said to be an IBAN.
    """
    text = view.text
    found: list[Span] = []
    floor = 0
    for start, _ in _BEGIN.spans(view.ascii):
        if start < floor:
            continue
        span = _at(view, text, start)
        if span is not None:
            found.append(span)
            floor = span[1]
    return found


def _at(view: View, text: str, start: int) -> Span | None:
    country = text[start : start + 2].upper()
    if not country.isalpha():
        country = country[0] + text[start + 2].upper()
    length = _LENGTHS.get(country)
    if length is None:
        return None
    prose = text[start : start + 2].islower() and not text[start + 2].isdigit()
    if prose and not _NAME.spans(view.ascii[max(0, start - 26) : start]):
        return None
    place = start + length + (length - 1) // 4
    number = text[start:place].replace(" ", "")
    if (
        place > len(text)
        or text[place - 1] == " "
        or len(number) != length
        or not (number.isascii() and number.isalnum())
    ):
        gathered = _gather(text, start, length)
        if gathered is None:
            return None
        number, place = gathered
    if view.ascii[place : place + 1].isalnum():
        return None
    number = number.upper()
    if not number[2:4].isdigit() or len(number.strip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")) < 4:
        return None
    if not _is_right(number) and not _NAME.spans(view.ascii[max(0, start - 26) : start]):
        return None
    return start, place


def _gather(text: str, start: int, length: int) -> tuple[str, int] | None:
    """The next signs of a number over any light separators, and where they end."""
    signs: list[str] = []
    gap = 0
    place = start
    while place < len(text) and len(signs) < length:
        character = text[place]
        if character.isascii() and character.isalnum():
            signs.append(character)
            gap = 0
        elif character in _GAPS and gap < _WIDEST_GAP:
            gap += 1
        else:
            return None
        place += 1
    return ("".join(signs), place) if len(signs) == length else None


def _is_right(number: str) -> bool:
    """ISO 7064, modulo 97."""
    return int((number[4:] + number[:4]).translate(_LETTERS_AS_NUMBERS)) % 97 == 1
