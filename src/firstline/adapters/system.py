"""The system's clock and its randomness."""

import ctypes
import gc
import math
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from firstline.core.api_key import KEY_BYTES
from firstline.core.identity import uuid7_hex

_POOL_BYTES: Final = 2_560
_M_ARENA_MAX: Final = -8
"""`M_ARENA_MAX` of glibc's malloc.h."""


class SystemClock:
    """Implements `ports.clock.Clock` on the wall clock."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1_000


class SystemIdentities:
    """Implements `ports.clock.Identities`; ids ascend within the process even when the clock steps back."""

    def __init__(self) -> None:
        self._last_ms = 0
        self._random = b""
        self._used = 0

    def new_id(self) -> str:
        """A UUIDv7 as 32 hexadecimal digits."""
        self._last_ms = max(self._last_ms, time.time_ns() // 1_000_000)
        if self._used >= len(self._random):  # one call to the system serves many ids
            self._random, self._used = os.urandom(_POOL_BYTES), 0
        self._used += 10
        return uuid7_hex(milliseconds=self._last_ms, random=self._random[self._used - 10 : self._used])

    def new_secret(self) -> str:
        """URL-safe text from 24 random bytes."""
        return secrets.token_urlsafe(KEY_BYTES)


def free_bytes(folder: Path) -> float:
    """What may still be written to the disk of a folder; not a number where nobody knows."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return math.nan
    return float(found.f_bavail * found.f_frsize)


def share_one_heap() -> None:
    """Let all threads take their memory from one heap, which is called before the first thread starts.

    glibc gives threads heaps of their own, which fill up one after the other for hours and are then mostly holes.
    Only one thread runs Python at a time, so hardly any waits for another's heap. `MALLOC_ARENA_MAX`, glibc's own
    variable, wins where an operator has set it.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(OSError, AttributeError):  # only glibc has it
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def return_memory() -> None:
    """Give back to the system what starting has freed, and leave what is there for good out of later collections."""
    gc.collect()
    gc.freeze()
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
