"""Waiting for what another thread or process does."""

from collections.abc import Callable
from threading import Event
from time import monotonic


def until(check: Callable[[], bool], *, within_s: float) -> bool:
    """Ask again and again, and leave the processor to others in between; whether it came true in time."""
    deadline, pause = monotonic() + within_s, Event()
    while monotonic() < deadline:
        if check():
            return True
        pause.wait(0.02)
    return False
