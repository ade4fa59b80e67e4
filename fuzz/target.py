"""What a target is, and what its functions have in common."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
VECTORS: Final = ROOT / "vectors"


@dataclass(frozen=True, slots=True)
class Target:
    """One reader of foreign bytes, with what must hold of it.

    Attributes:
        name: as the command line has it.
        holds: what is checked, as a sentence without its full stop.
        modules: whose reading it covers, as dotted names without `firstline.`.
        run: raises when something does not hold, and returns for whatever is refused as it should be.
        seeds: inputs to begin with; made in code or taken from vectors/.
        words: pieces of the format, which no change of single bytes would find.
        most_bytes: of an input.
    """

    name: str
    holds: str
    modules: tuple[str, ...]
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    words: tuple[str, ...] = ()
    most_bytes: int = 4_096


class Draw:
    """Takes small values off the front of an input, so that the same input always gives the same ones."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def number(self, below: int) -> int:
        """A number from 0; 0 when nothing is left."""
        size = 1 if below <= 256 else 2
        part = self._data[self._place : self._place + size]
        self._place += size
        return int.from_bytes(part, "big") % below

    def line(self) -> bytes:
        """Up to the next line feed, without it."""
        end = self._data.find(b"\n", self._place)
        end = len(self._data) if end < 0 else end
        part = self._data[self._place : end]
        self._place = end + 1
        return part

    def rest(self) -> bytes:
        """All that is left."""
        part = self._data[self._place :]
        self._place = len(self._data)
        return part


def text_of(data: bytes) -> str:
    """Any text: bytes that are no UTF-8 become U+FFFD, so that nothing is thrown away."""
    return data.decode("utf-8", "replace")


def message_of(data: bytes) -> str:
    """Any text that Python can hold, halves of surrogate pairs included."""
    return data.decode("utf-8", "surrogatepass") if _is_lenient(data) else text_of(data)


def _is_lenient(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


@contextmanager
def refusals(*kinds: type[Exception]) -> Iterator[None]:
    """What may be raised within; each must say something, as somebody will read it."""
    try:
        yield
    except kinds as error:
        assert str(error).strip(), f"{type(error).__name__} without a word"
        assert "Traceback" not in str(error), "a traceback in a message for people"


@cache
def vectors(name: str) -> Any:
    """The content of a file of vectors/."""
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


@cache
def messages() -> tuple[str, ...]:
    """Messages in all languages: some of each file of rule vectors, and those of redaction and injection."""
    found: list[str] = []
    for path in sorted((VECTORS / "rules").glob("*.json")):
        found += [_joined(entry["text"]) for entry in vectors(f"rules/{path.name}")[:12]]
    found += [_joined(case["text"]) for case in vectors("redaction.json")["cases"]]
    found += [_joined(attack["message"]) for attack in vectors("injection.json")["attacks"][:40]]
    return tuple(found)


def message_seeds() -> Iterator[bytes]:
    """Those messages as UTF-8."""
    return (text.encode() for text in messages())


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
