"""Thresholds of an account: the least probability at which a category is answered, by category and language."""

import hashlib
from collections.abc import Sequence
from typing import Final

import orjson

from firstline.core.policy import Threshold
from firstline.core.taxonomy import LANGUAGES
from firstline.ports.storage import DEFAULT_VERSION

MAX_THRESHOLDS: Final = 500


class ThresholdsInvalid(ValueError):
    """Thresholds that cannot be used.

    Attributes:
        field: what is at fault, such as `thresholds[3].category`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field


def check_thresholds(thresholds: Sequence[Threshold], *, categories: Sequence[str]) -> None:
    """Raises: ThresholdsInvalid at the first bound that they break.

    Args:
        categories: names in force.
    """
    if len(thresholds) > MAX_THRESHOLDS:
        raise ThresholdsInvalid("thresholds", f"must be at most {MAX_THRESHOLDS}; these are {len(thresholds)}")
    seen: set[tuple[str | None, str | None]] = set()
    for number, threshold in enumerate(thresholds):
        field = f"thresholds[{number}]"
        if threshold.category is not None and threshold.category not in categories:
            raise ThresholdsInvalid(f"{field}.category", "must be null or the name of a category in force")
        if threshold.language is not None and threshold.language not in LANGUAGES:
            raise ThresholdsInvalid(f"{field}.language", f"must be null or one of {', '.join(LANGUAGES)}")
        if not 0 <= threshold.probability <= 1:
            raise ThresholdsInvalid(f"{field}.probability", "must be between 0 and 1")
        place = (threshold.category, threshold.language)
        if place in seen:
            raise ThresholdsInvalid(field, "has the category and language of an earlier one")
        seen.add(place)


def thresholds_to_body(thresholds: Sequence[Threshold]) -> str:
    """As JSON, for the store."""
    return orjson.dumps(
        [
            {"category": threshold.category, "language": threshold.language, "probability": threshold.probability}
            for threshold in thresholds
        ]
    ).decode()


def thresholds_from_body(body: str) -> tuple[Threshold, ...]:
    """The inverse of `thresholds_to_body`."""
    return tuple(Threshold(**entry) for entry in orjson.loads(body))


def thresholds_version(thresholds: Sequence[Threshold]) -> str:
    """The first 16 hex digits of SHA-256 over the content; `DEFAULT_VERSION` when there are none."""
    if not thresholds:
        return DEFAULT_VERSION
    return hashlib.sha256(thresholds_to_body(thresholds).encode()).hexdigest()[:16]
