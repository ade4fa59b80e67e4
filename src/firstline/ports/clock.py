"""The time."""

from typing import Protocol


class Clock(Protocol):
    """Tells the time; may jump, in either direction."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        ...


class Identities(Protocol):
    """Makes ids and secrets that nobody can guess."""

    def new_id(self) -> str:
        """A UUIDv7 as 32 hexadecimal digits; ascending within a process."""
        ...

    def new_secret(self) -> str:
        """URL-safe text from 24 random bytes."""
        ...
