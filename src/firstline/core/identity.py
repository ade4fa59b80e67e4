"""Ids: UUIDv7 made by the caller and handed in, shown with a prefix that says what they name."""

from typing import Final

TICKET: Final = "tkt_"
KEY: Final = "key_"
ACCOUNT: Final = "acc_"
EVENT: Final = "evt_"
JOB: Final = "job_"
ERASURE: Final = "era_"
FEEDBACK: Final = "fbk_"

_HEX_LENGTH: Final = 32


def uuid7_hex(*, milliseconds: int, random: bytes) -> str:
    """A UUIDv7 as 32 hexadecimal digits; sorts by time.

    Args:
        milliseconds: since 1970 UTC, 48 bits.
        random: 10 random bytes.
    Raises: ValueError when there are not exactly 10 bytes.
    Source: RFC 9562, section 5.7.
    """
    if len(random) != 10:
        raise ValueError("a UUIDv7 takes 10 random bytes")
    tail = int.from_bytes(random, "big")
    high = (tail >> 68) & 0xFFF
    low = (tail & ((1 << 62) - 1)) | (2 << 62)
    return f"{milliseconds & 0xFFFFFFFFFFFF:012x}7{high:03x}{low:016x}"


def bare(text: str, *, prefix: str) -> str | None:
    """The 32 digits of a prefixed id, or None when the text is none."""
    digits = text.removeprefix(prefix)
    if len(digits) != _HEX_LENGTH or not text.startswith(prefix):
        return None
    if any(character not in "0123456789abcdef" for character in digits):
        return None
    return digits
