"""Secrets at rest: sealed before they are stored, opened when they are needed.

Guarantees of every implementation:

- What is sealed can be read and changed by nobody who lacks the key; a changed byte is noticed.
- It opens only under the context that it was sealed under, so that a row copied to another place is worth nothing.
- It opens as long as the key that sealed it is among those accepted; the newest key seals.
"""

from typing import Protocol


class SealBroken(Exception):
    """What was sealed cannot be opened: another key, another context, or a changed byte."""


class Sealing(Protocol):
    """Seals and opens; see the module's guarantees."""

    def seal(self, plain: bytes, *, context: str) -> str:
        """Sealed text in ASCII, different each time.

        Args:
            context: what it is and whose, such as `webhook:` and an id; not secret, not stored with it.
        """
        ...

    def open(self, sealed: str, *, context: str) -> bytes:
        """The inverse of `seal`.

        Raises: SealBroken.
        """
        ...
