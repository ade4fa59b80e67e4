"""API keys: their shape, and what is stored of them.

A key is shown once, when it is made; the store holds its SHA-256. Keys are drawn from 24 random bytes, so a plain
hash suffices: there is nothing to guess.
"""

import hashlib
import re
from enum import StrEnum
from typing import Final

KEY_BYTES: Final = 24
MAX_KEY_LENGTH: Final = 128
MAX_NAME_LENGTH: Final = 100

_SHAPE: Final = re.compile(r"(?:atc_|sk_live_|sk_test_|op_)[A-Za-z0-9_-]{16,100}\Z")


class KeyKind(StrEnum):
    """What a key's prefix says."""

    CLASSIFIER = "atc_"
    LIVE = "sk_live_"
    TEST = "sk_test_"
    OPERATOR = "op_"


class Scope(StrEnum):
    """What a key may do."""

    TRIAGE = "triage"
    OPERATE = "operate"


def format_key(kind: KeyKind, random_text: str) -> str:
    """A key from its kind and URL-safe random text of at least 16 characters."""
    return f"{kind}{random_text}"


def looks_like_key(text: str) -> bool:
    """Whether a text has the shape of a key at all; cheap enough to ask before any look-up."""
    return len(text) <= MAX_KEY_LENGTH and _SHAPE.match(text) is not None


def hash_of(key: str) -> str:
    """Hex SHA-256 of a key; the only form in which it is stored."""
    return hashlib.sha256(key.encode()).hexdigest()


def hint_of(key: str) -> str:
    """What may be shown of a key later: its prefix and last four characters."""
    for kind in KeyKind:
        if key.startswith(kind):
            return f"{kind}…{key[-4:]}"
    return "…"
