"""Records as bytes: length, checksum and time in front, sealed where the server has a secret."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from firstline.ports.journal import (
    CounterDelta,
    IdempotencyEntry,
    KeyUse,
    OutboxEvent,
    Record,
    RollupDelta,
    SpendDelta,
    TicketRow,
    VerdictRow,
)
from firstline.ports.sealing import SealBroken, Sealing

_HEAD: Final = struct.Struct(">IIQ")
"""Bytes of the body, CRC-32 of time and body, microseconds since 1970."""

_TIME: Final = struct.Struct(">Q")
_CONTEXT: Final = "spool"
_SEALED: Final = b"s"
_ROWS: Final[dict[str, Any]] = {
    "tickets": TicketRow,
    "verdicts": VerdictRow,
    "counters": CounterDelta,
    "outbox": OutboxEvent,
    "spend": SpendDelta,
    "rollups": RollupDelta,
}
_SINGLE: Final[dict[str, Any]] = {"key_use": KeyUse, "idempotency": IdempotencyEntry}


class FrameUnreadable(Exception):
    """A whole frame that cannot be opened: sealed under another secret, or written by another version."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A record in the spool.

    Attributes:
        mark: under which it may have been stored already; None where it certainly was not.
    """

    record: Record
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame in a file.

    Attributes:
        until: offset of the byte after it.
    """

    at_us: int
    body: bytes
    until: int


def packed(spooled: Spooled, *, at_us: int, sealing: Sealing | None) -> bytes:
    """A frame to append.

    Raises: TypeError when a text cannot be written as UTF-8.
    """
    record = spooled.record
    rows: dict[str, Any] = {name: [tuple(row) for row in getattr(record, name)] for name in _ROWS}
    for name in _SINGLE:
        row = getattr(record, name)
        rows[name] = tuple(row) if row is not None else None
    body = orjson.dumps({"mark": spooled.mark, **{name: found for name, found in rows.items() if found}})
    if sealing is not None:
        body = _SEALED + sealing.seal(body, context=_CONTEXT).encode()
    return _HEAD.pack(len(body), zlib.crc32(body, zlib.crc32(_TIME.pack(at_us))), at_us) + body


def unpacked(body: bytes, *, sealing: Sealing | None) -> Spooled:
    """The record in a frame's body.

    Raises: FrameUnreadable.
    """
    try:
        if body.startswith(_SEALED):
            if sealing is None:
                raise FrameUnreadable
            body = sealing.open(body[1:].decode(), context=_CONTEXT)
        data = orjson.loads(body)
        rows: dict[str, Any] = {name: tuple(row(*one) for one in data.get(name, ())) for name, row in _ROWS.items()}
        for name, row in _SINGLE.items():
            rows[name] = row(*data[name]) if data.get(name) is not None else None
        return Spooled(Record(**rows), data["mark"])
    except (SealBroken, ValueError, TypeError, KeyError, AttributeError):
        raise FrameUnreadable from None


def frames_in(data: bytes, *, at: int) -> Iterator[Frame]:
    """The whole frames that data begins with, up to the first that is torn or damaged.

    Args:
        at: offset of the data in its file.
    """
    place = 0
    while place + _HEAD.size <= len(data):
        length, checksum, at_us = _HEAD.unpack_from(data, place)
        begin, end = place + _HEAD.size, place + _HEAD.size + length
        body = data[begin:end]
        if end > len(data) or zlib.crc32(body, zlib.crc32(_TIME.pack(at_us))) != checksum:
            return
        place = end
        yield Frame(at_us, body, at + end)
