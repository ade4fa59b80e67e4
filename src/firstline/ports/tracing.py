"""What happens to one request, step by step, for whoever looks for the slow one.

Guarantees of every tracer:

- A step costs next to nothing where its request is not traced, and nothing waits for whoever collects the traces.
- A span holds names, ids, numbers and kinds that are written in this code or in the settings: no word of a message, no
  key, no e-mail address, no text of an exception and no name that an account has given.
- Steps of one request belong together by the context that they run in, across tasks and threads that it starts.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from enum import Enum
from types import TracebackType
from typing import Final, NamedTuple, Protocol

Value = str | int | float | bool


class Ids(NamedTuple):
    """A span's names: 32 and 16 hexadecimal digits."""

    trace: str
    span: str


class Kind(Enum):
    """Which side of a call a span is."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    CONSUMER = "consumer"


class Span(Protocol):
    """One step."""

    @property
    def recorded(self) -> bool:
        """Whether what is said of it goes anywhere."""
        ...

    def rename(self, name: str) -> None:
        """Give it a better name than was known when it began."""
        ...

    def set(self, **attributes: Value | None) -> None:
        """Add attributes by their names, of which dots are written as two underscores; None is left out."""
        ...

    def fail(self, kind: str) -> None:
        """Say that it failed, and how, as a word of this code."""
        ...


class Tracer(Protocol):
    """Opens spans; see the module's guarantees. An exception that leaves a span is noted by its type alone."""

    def span(
        self, name: str, *, kind: Kind = Kind.INTERNAL, attributes: Mapping[str, Value] | None = None
    ) -> AbstractContextManager[Span]:
        """A step of what is under way here; nothing where that is not traced."""
        ...

    def entry(
        self, name: str, *, kind: Kind, traceparent: str | None = None, attributes: Mapping[str, Value] | None = None
    ) -> AbstractContextManager[Span]:
        """Where something begins, such as a request or a chunk of a job; traced or not as the sampler decides.

        Args:
            traceparent: as W3C Trace Context has it, from whoever caused it; of no effect when it is malformed.
        """
        ...


class _Nothing:
    """A span that goes nowhere, and the context that it lives in."""

    __slots__ = ()
    recorded: Final = False

    def __enter__(self) -> "_Nothing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def rename(self, name: str) -> None:
        """See `Span`, as for all methods here."""

    def set(self, **attributes: Value | None) -> None:
        """Nothing."""

    def fail(self, kind: str) -> None:
        """Nothing."""


NOTHING: Final = _Nothing()


class NoTracer:
    """Implements `Tracer` where nothing is traced."""

    def span(
        self, name: str, *, kind: Kind = Kind.INTERNAL, attributes: Mapping[str, Value] | None = None
    ) -> AbstractContextManager[Span]:
        """Nothing."""
        return NOTHING

    def entry(
        self, name: str, *, kind: Kind, traceparent: str | None = None, attributes: Mapping[str, Value] | None = None
    ) -> AbstractContextManager[Span]:
        """Nothing."""
        return NOTHING


NO_TRACER: Final = NoTracer()
