"""Which numbers are those of persons: lengths, shapes and check digits by country.

Check digits are left to `python-stdnum`, which is loaded on first use (some 50 ms) or by `load_checks`. The law in
Korea has done away with the check digit of new numbers, so there a date of birth is enough.
"""

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Final

Shape = tuple[int, ...]

_MODULES: Final = {
    "aadhaar": "stdnum.in_.aadhaar",
    "cnpj": "stdnum.br.cnpj",
    "codice fiscale": "stdnum.it.codicefiscale",
    "cpf": "stdnum.br.cpf",
    "dni": "stdnum.es.dni",
    "idnr": "stdnum.de.idnr",
    "nie": "stdnum.es.nie",
    "nir": "stdnum.fr.nir",
    "pesel": "stdnum.pl.pesel",
    "tckn": "stdnum.tr.tckimlik",
    "ahv": "stdnum.ch.ssn",
}
_EIGHTEEN_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


@lru_cache(maxsize=1)
def load_checks() -> dict[str, Callable[[str], bool]]:
    """Load the check digits' rules; once per process."""
    return {name: import_module(module).is_valid for name, module in _MODULES.items()}


def passes(name: str, number: str) -> bool:
    """Whether a number without separators has the check digits of the scheme."""
    return load_checks()[name](number)


_BY_SHAPE: Final[dict[Shape, tuple[str, ...]]] = {
    (3, 2, 4): ("ssn",),
    (11,): ("pesel", "tckn", "idnr", "cpf"),
    (2, 3, 3, 3): ("idnr",),
    (3, 3, 3, 2): ("cpf", "snils", "tckn"),
    (4, 4, 4): ("aadhaar",),
    (2, 3, 3, 4, 2): ("cnpj",),
    (6, 7): ("rrn",),
    (13,): ("rrn checked",),
    (15,): ("nir",),
    (1, 2, 2, 2, 3, 3, 2): ("nir",),
    (1, 2, 2, 2, 3, 3): ("nir short",),
    (18,): ("resident",),
    (6, 8, 4): ("resident",),
    (3, 4, 4, 2): ("ahv",),
    (1, 4, 5, 2, 1): ("thai",),
    (6, 4): ("personnummer",),
    (8, 4): ("personnummer",),
}
DIGITS: Final = frozenset({9, 10, 11, 12, 13, 14, 15, 18})
"""How many digits a number of these schemes may have."""


def schemes(shape: Shape) -> tuple[str, ...]:
    """Names of the schemes whose numbers are written in groups of these lengths."""
    return _BY_SHAPE.get(shape, ())


def is_national_id(name: str, digits: str, separator: str) -> bool:
    """Whether digits written in a scheme's shape are a number of a person.

    Args:
        name: one of `schemes`.
        digits: ASCII, without separators.
        separator: the first one between the groups; empty if there is one group.
    """
    own = _OWN.get(name)
    if own is not None:
        return own(digits, separator)
    return passes(name, digits)


def _is_ssn(digits: str, separator: str) -> bool:
    return separator in {"-", " "} and digits[:3] not in {"000", "666"} and digits[3:5] != "00" and digits[5:] != "0000"


def _is_snils(digits: str, separator: str) -> bool:
    total = sum((9 - place) * int(digit) for place, digit in enumerate(digits[:9])) % 101 % 100
    return separator == "-" and total == int(digits[9:])


def _is_aadhaar(digits: str, separator: str) -> bool:
    return separator == " " and passes("aadhaar", digits)


def _is_rrn(digits: str, separator: str) -> bool:
    return separator == "-" and digits[6] in "12345678" and _is_date(digits[2:4], digits[4:6])


def _is_checked_rrn(digits: str, separator: str) -> bool:
    total = sum(
        int(digit) * weight for digit, weight in zip(digits[:12], (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=True)
    )
    return digits[6] in "12345678" and _is_date(digits[2:4], digits[4:6]) and (11 - total % 11) % 10 == int(digits[12])


def _is_short_nir(digits: str, separator: str) -> bool:
    return digits[0] in "1278" and digits[3:5] <= "12"


def _is_nir(digits: str, separator: str) -> bool:
    return digits[0] in "1278" and 97 - int(digits[:13]) % 97 == int(digits[13:])


def _is_thai(digits: str, separator: str) -> bool:
    total = sum((13 - place) * int(digit) for place, digit in enumerate(digits[:12]))
    return (11 - total % 11) % 10 == int(digits[12])


def _is_personnummer(digits: str, separator: str) -> bool:
    short = digits[-10:]
    doubled = (int(digit) * (2 - place % 2) for place, digit in enumerate(short))
    return (
        separator in {"-", "+"}
        and _is_date(short[2:4], short[4:6])
        and sum(value // 10 + value % 10 for value in doubled) % 10 == 0
    )


def is_resident_id(number: str, separator: str = "") -> bool:
    """Whether 17 digits and a digit or X are a number of a resident of China."""
    if not ("18" <= number[6:8] <= "21" and _is_date(number[10:12], number[12:14])):
        return False
    total = sum(int(digit) * weight for digit, weight in zip(number[:17], _EIGHTEEN_WEIGHTS, strict=True))
    return "10X98765432"[total % 11] == number[17].upper()


def _is_date(month: str, day: str) -> bool:
    return "01" <= month <= "12" and "01" <= day <= "31"


_OWN: Final[dict[str, Callable[[str, str], bool]]] = {
    "ssn": _is_ssn,
    "snils": _is_snils,
    "aadhaar": _is_aadhaar,
    "rrn": _is_rrn,
    "rrn checked": _is_checked_rrn,
    "nir": _is_nir,
    "nir short": _is_short_nir,
    "thai": _is_thai,
    "personnummer": _is_personnummer,
    "resident": is_resident_id,
}
