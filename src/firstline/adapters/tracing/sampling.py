"""Which requests are traced: the samplers that OpenTelemetry names, as one draw without the SDK."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firstline.ports.tracing import Ids

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_LONGEST: Final = 512


@dataclass(frozen=True, slots=True)
class Caller:
    """What a caller says of the trace that its request belongs to."""

    ids: Ids
    sampled: bool


def caller_of(traceparent: str | None) -> Caller | None:
    """Read a `traceparent`; None where there is none or it is malformed.

    Source: W3C Trace Context, section 3.2; members that a later version adds are ignored, as it says.
    """
    if traceparent is None or len(traceparent) > _LONGEST:
        return None
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace, 16) or not int(span, 16):
        return None
    return Caller(Ids(trace, span), bool(int(flags, 16) & 1))


@dataclass(frozen=True, slots=True)
class Sampler:
    """Decides by a draw of its own, never by a trace id that a caller may have chosen to be drawn.

    Attributes:
        ratio: part of the requests that is traced, 0 to 1.
        heeds_caller: whether a caller that does not trace its request keeps it from being traced here.
        trusts_caller: whether a caller that does has it traced here too, whatever the ratio.
    """

    ratio: float
    heeds_caller: bool
    trusts_caller: bool
    draw: Callable[[], float] = random.random

    def samples(self, caller: Caller | None) -> bool:
        """Whether something that begins is traced."""
        if caller is not None and self.heeds_caller:
            if not caller.sampled:
                return False
            if self.trusts_caller:
                return True
        return self.draw() < self.ratio


def sampler_named(name: str, *, ratio: float, trusts_caller: bool) -> Sampler:
    """A sampler by its standard name, such as `parentbased_traceidratio`.

    Args:
        ratio: for those that take one.
    """
    kind = name.removeprefix("parentbased_")
    parts = {"always_on": 1.0, "always_off": 0.0, "traceidratio": ratio}
    return Sampler(parts[kind], heeds_caller=kind != name, trusts_caller=trusts_caller)
