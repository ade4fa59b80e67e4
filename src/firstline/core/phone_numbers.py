"""Which strings of digits are telephone numbers: the numbering plans of `phonenumbers`, matched by RE2.

The plans are loaded on first use (some 100 ms) or by `load_plans`. Asking `phonenumbers` itself takes 30 µs a number;
its patterns in one set take 2.
"""

from functools import lru_cache
from typing import Any, Final

from firstline.core.expressions import ExpressionSet

_REGIONS: Final = (  # noqa: SIM905  # reads better than a column of quotes
    "US CA GB IE AU NZ DE AT CH FR BE LU ES MX AR CO CL PE IT PT BR NL PL RU UA KZ TR CN TW HK SG JP KR "
    "SA AE EG MA JO KW QA IQ DZ TN LB IN PK ZA SE NO DK FI CZ GR RO HU IL"
).split()
_TRUNK: Final = {
    "US": "1?",
    "CA": "1?",
    "RU": "[78]",
    "KZ": "[78]",
    "HU": "(?:06)?",
    "MX": "1?",
    "CN": "0?",
} | dict.fromkeys(("BR", "IN", "AR", "TR"), "0?")
_NO_TRUNK: Final = frozenset("ES MX IT PT PL HK SG KW QA TN NO DK CZ GR CO CL".split())  # noqa: SIM905  # reads better than a column of quotes


class _Plans:
    def __init__(self) -> None:
        from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

        self._codes: dict[int, tuple[str, ...]] = COUNTRY_CODE_TO_REGION_CODE
        self._metadata: Any = PhoneMetadata
        mobile: list[str] = []
        fixed: list[str] = []
        for region in _REGIONS:
            plan = PhoneMetadata.metadata_for_region(region)
            if plan is None:
                continue
            trunk = _TRUNK.get(region, "" if region in _NO_TRUNK else "0")
            if plan.mobile is not None and plan.mobile.national_number_pattern:
                mobile.append(f"^{trunk}(?:{plan.mobile.national_number_pattern})$")
            fixed += [
                f"^{trunk}(?:{kind.national_number_pattern})$"
                for kind in (plan.fixed_line, plan.toll_free)
                if kind is not None and kind.national_number_pattern
            ]
        self._mobile = ExpressionSet(mobile)
        self._fixed = ExpressionSet(fixed)

    def is_mobile(self, digits: str) -> bool:
        return bool(self._mobile.match(digits.encode()))

    def is_fixed(self, digits: str) -> bool:
        return bool(self._fixed.match(digits.encode()))

    def lengths(self, digits: str) -> tuple[int, ...]:
        for size in (1, 2, 3):
            regions = self._codes.get(int(digits[:size] or 0))
            if regions:
                return tuple(size + length for length in _lengths(self._metadata, regions[0], int(digits[:size])))
        return ()


@lru_cache(maxsize=512)
def _lengths(metadata: Any, region: str, code: int) -> tuple[int, ...]:
    found = metadata.metadata_for_region_or_calling_code(code, region)
    lengths: tuple[int, ...] = found.general_desc.possible_length if found is not None else ()
    return lengths or (7, 8, 9, 10, 11)


@lru_cache(maxsize=1)
def load_plans() -> _Plans:
    """Load the numbering plans; once per process."""
    return _Plans()


def is_mobile(digits: str) -> bool:
    """Whether digits as dialled within a country are a mobile number of one of the larger countries."""
    return load_plans().is_mobile(digits)


def is_national(digits: str) -> bool:
    """Whether digits as dialled within a country are a number of one of the larger countries."""
    plans = load_plans()
    return plans.is_mobile(digits) or plans.is_fixed(digits)


def international_lengths(digits: str) -> tuple[int, ...]:
    """How many digits a number with this calling code may have, the code included; empty for no such code.

    Args:
        digits: without "+" or "00".
    """
    return load_plans().lengths(digits)
