"""The states in which a provider is put, and what is asked of firstline in each."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from bench.fake import LATENCY_S

ERROR_MS: Final = 25.0
"""Added at p99 while the primary answers with errors."""

HANG_MS: Final = 150.0
"""Added at p99 while it hangs or is slow, after the first `FIRST_CALLS`."""

OPEN_MS: Final = 5.0
"""Added at p99 once the breaker has been seen open."""

FIRST_CALLS: Final = 10


class Kind(StrEnum):
    """What decides which goal holds."""

    HEALTHY = "healthy"
    ERROR = "error"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Fault:
    """A state of the primary.

    Attributes:
        script: for the fake, without the profile.
        retry_after_s: that the fake asks for, or 0.
        quick: whether it is among the few of a short run.
        plain: whether the plain client is measured too; not where it would fill the machine's memory.
    """

    name: str
    kind: Kind
    script: Mapping[str, Any]
    retry_after_s: float = 0.0
    quick: bool = False
    plain: bool = False


def _one(name: str, kind: Kind, fault: str, *, quick: bool = False, plain: bool = False, **step: Any) -> Fault:
    return Fault(name, kind, {"steps": [{"fault": fault, **step}]}, step.get("retry_after_s", 0.0), quick, plain)


def _edge(name: str, fault: str, *, quick: bool = False, plain: bool = False, **step: Any) -> Fault:
    """An error that comes at once, from the network or from what stands before the model."""
    return _one(name, Kind.ERROR, fault, quick=quick, plain=plain, latency=0, **step)


def _model(name: str, fault: str, *, quick: bool = False, plain: bool = False) -> Fault:
    """An answer that cannot be used, and took as long as one that can."""
    return _one(name, Kind.ERROR, fault, quick=quick, plain=plain)


HEALTHY: Final = Fault("healthy", Kind.HEALTHY, {}, quick=True, plain=True)

FAULTS: Final = (
    HEALTHY,
    _edge("refused", "refused", quick=True, plain=True),
    _edge("reset", "reset"),
    _edge("429", "rate_limited", retry_after="none", retry_after_s=0, quick=True, plain=True),
    _edge("429, Retry-After 20", "rate_limited", retry_after_s=20),
    _edge("401", "unauthorized"),
    _edge("500", "server_error", quick=True, plain=True),
    _edge("503", "unavailable", retry_after="none", retry_after_s=0),
    _one("hang at connect", Kind.HANG, "hang_connect", quick=True, plain=True),
    _one("hang before headers", Kind.HANG, "hang", quick=True, plain=True),
    _one("hang mid-body", Kind.HANG, "hang_body", plain=True),
    _one("one byte a second", Kind.HANG, "dribble", quick=True, plain=True),
    _model("truncated", "truncated"),
    _model("wrong JSON", "cut_json", quick=True, plain=True),
    _model("wrong schema", "wrong_enum"),
    _model("safety block", "blocked_answer"),
    _model("empty", "empty"),
    _model("length stop", "length"),
    _edge("HTML", "html"),
    _model("huge body", "huge_body"),
    _model("gzip bomb", "gzip_bomb"),
    _edge("redirect", "redirect"),
    Fault("ten times slower", Kind.HANG, {"latency": 10 * LATENCY_S}, plain=True),
    Fault("5 % take 2 s", Kind.HANG, {"latency": f"tail:{LATENCY_S},2.0,0.05"}, quick=True, plain=True),
)
