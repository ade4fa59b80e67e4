"""A customer's message, its bounds, and its length as a reader would count it."""

import unicodedata
from dataclasses import dataclass
from typing import Final

from firstline.core.taxonomy import Channel, Contract, UserPlan

MAX_TEXT_LENGTH: Final = 5_000
"""Code points of a ticket, a message or one history entry, after trimming."""

MAX_HISTORY: Final = 50
MAX_REFERENCE_LENGTH: Final = 200

_WIDTH_HAN: Final = 2.5
_WIDTH_HANGUL: Final = 1.75
_WIDTH_KANA: Final = 1.5


@dataclass(frozen=True, slots=True)
class Message:
    """One message to decide on.

    Attributes:
        text: trimmed, 1 to `MAX_TEXT_LENGTH` code points.
        contract: the contract that it came in under.
        plan: the writer's plan.
        channel: where it came in; None where the contract has no such field.
        history: earlier messages of the same person, oldest first, at most `MAX_HISTORY`.
        customer_ref: the caller's name for the person, if given.
        external_id: the caller's name for the ticket, if given.
    """

    text: str
    contract: Contract
    plan: UserPlan = UserPlan.FREE
    channel: Channel | None = None
    history: tuple[str, ...] = ()
    customer_ref: str | None = None
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the cascade needs to know of a message besides matches and prediction; holds no word of it.

    Attributes:
        contract: the contract that it came in under.
        plan: the writer's plan.
        channel: where it came in, or None.
        length: characters as a reader counts them (`reader_length`).
        has_question: whether a question mark of any script is in it.
        history_count: number of earlier messages, 0 to `MAX_HISTORY`.
    """

    contract: Contract
    plan: UserPlan
    channel: Channel | None
    length: float
    has_question: bool
    history_count: int


def facts_of(message: Message) -> Facts:
    """What the cascade needs to know of a message."""
    text = message.text
    return Facts(
        contract=message.contract,
        plan=message.plan,
        channel=message.channel,
        length=reader_length(text),
        has_question="?" in text or (not text.isascii() and any(mark in text for mark in "？؟¿")),
        history_count=len(message.history),
    )


def trimmed(text: str) -> str:
    """The text without white space and invisible characters at its ends; empty when a reader would see nothing.

    A text that has nothing visible in it at all is empty, whatever it is made of. The NUL character, which some
    databases refuse, is shown as U+FFFD.
    """
    stripped = text.strip()
    if not stripped.isascii() or not stripped.isprintable():
        if "\x00" in stripped:
            stripped = stripped.replace("\x00", "�")
        start, end = 0, len(stripped)
        while start < end and _is_invisible(stripped[start]):
            start += 1
        while end > start and _is_invisible(stripped[end - 1]):
            end -= 1
        stripped = stripped[start:end]
    return stripped


def reader_length(text: str) -> float:
    """How long a text is to a reader, in Latin letters.

    Runs of white space count once, invisible characters and combining marks not at all, a joined emoji once. A
    Chinese character says about as much as two and a half Latin letters, a Korean syllable as 1.75, a Japanese
    kana as 1.5, so that six Chinese characters are a sentence of fifteen.
    """
    collapsed = " ".join(text.split())
    if collapsed.isascii():
        return float(len(collapsed))
    width = sum(map(_WIDTHS.__getitem__, map(ord, collapsed)))
    return max(width - collapsed.count("\u200d"), 0.0)


class _WidthTable(dict[int, float]):
    def __missing__(self, code: int) -> float:
        width = self[code] = _width(chr(code))
        return width


def _width(character: str) -> float:
    if _is_invisible(character) and character != " ":
        return 0.0
    if unicodedata.category(character) in {"Mn", "Me", "Sk"}:
        return 0.0
    code = ord(character)
    if 0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0x20000 <= code <= 0x3FFFF or 0xF900 <= code <= 0xFAFF:
        return _WIDTH_HAN
    if 0xAC00 <= code <= 0xD7AF:
        return _WIDTH_HANGUL
    if 0x3040 <= code <= 0x30FF:
        return _WIDTH_KANA
    if 0x1F1E6 <= code <= 0x1F1FF:
        return 0.5
    return 1.0


def _is_invisible(character: str) -> bool:
    return (
        character.isspace()
        or unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        or _is_ignorable(ord(character))
        or character in "\u115f\u1160\u3164\uffa0\u2800\ufe0e\ufe0f"
    )


def _is_ignorable(code: int) -> bool:
    """Reserved for things that are not shown, and what is no character; other unknown ones may be new letters."""
    return 0xE0000 <= code <= 0xE0FFF or 0xFFF0 <= code <= 0xFFF8 or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


_WIDTHS: Final = _WidthTable()
