"""What the next requests get: faults, how many of them, and how slow."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, Literal, get_args

from firstline.delivery.fake_provider.latency import AT_ONCE, Latency, latency_of


class Fault(StrEnum):
    """One way in which a provider fails. The first group is a state of its port, the rest befalls single requests."""

    REFUSED = "refused"
    HANG_CONNECT = "hang_connect"

    NONE = "none"

    RESET = "reset"
    RESET_BODY = "reset_body"
    HANG = "hang"
    HANG_BODY = "hang_body"
    DRIBBLE = "dribble"
    TRUNCATED = "truncated"

    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    BAD_GATEWAY = "bad_gateway"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    REDIRECT = "redirect"

    HTML = "html"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    NO_BODY = "no_body"
    INVALID_UTF8 = "invalid_utf8"
    HUGE_BODY = "huge_body"
    ENDLESS_BODY = "endless_body"
    GZIP_BOMB = "gzip_bomb"

    CUT_JSON = "cut_json"
    FENCED_JSON = "fenced_json"
    PROSE = "prose"
    NOT_OBJECT = "not_object"
    DEEP_JSON = "deep_json"
    WRONG_ENUM = "wrong_enum"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    NAN = "nan"
    HUGE_FIELD = "huge_field"
    TOOL_CALL = "tool_call"
    BLOCKED_PROMPT = "blocked_prompt"
    BLOCKED_ANSWER = "blocked_answer"
    LENGTH = "length"
    EMPTY = "empty"


PORT_FAULTS: Final = frozenset({Fault.REFUSED, Fault.HANG_CONNECT})
"""Faults before any request: they need a port that belongs to one profile, or take the whole fake."""

STATUS_FAULTS: Final[Mapping[Fault, int]] = {
    Fault.BAD_REQUEST: 400,
    Fault.UNAUTHORIZED: 401,
    Fault.FORBIDDEN: 403,
    Fault.NOT_FOUND: 404,
    Fault.RATE_LIMITED: 429,
    Fault.SERVER_ERROR: 500,
    Fault.BAD_GATEWAY: 502,
    Fault.UNAVAILABLE: 503,
    Fault.OVERLOADED: 529,
}

RetryAfter = Literal["seconds", "date", "none"]
Behaviour = Literal["sensible", "obedient"]

_MAX_SIZE: Final = 64 << 30


@dataclass(frozen=True, slots=True)
class Step:
    """A fault and whom it befalls.

    Attributes:
        fault: what happens; NONE is a healthy answer.
        count: so many requests get it, then the next step begins; None is without end.
        every: of the requests only each so manyth gets it, the others are answered well.
        path: only requests whose path, after the profile, begins with this.
        latency: of these requests; None leaves the script's.
        retry_after_s: said by RATE_LIMITED, UNAVAILABLE and OVERLOADED.
        retry_after: how the header says it; `none` leaves it out.
        pace_s: seconds between two bytes of DRIBBLE.
        size_bytes: of HUGE_BODY, GZIP_BOMB (unpacked) and HUGE_FIELD; None is a default that hurts.
        location: where REDIRECT leads; empty is the fake's own profile `elsewhere` under another host name.
        answer: fields that replace the model's own, for a healthy answer.
    """

    fault: Fault = Fault.NONE
    count: int | None = None
    every: int = 1
    path: str = ""
    latency: Latency | None = None
    retry_after_s: float = 20.0
    retry_after: RetryAfter = "seconds"
    pace_s: float = 1.0
    size_bytes: int | None = None
    location: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError("count of a step is at least 1")
        if self.every < 1:
            raise ValueError("every of a step is at least 1")
        if self.retry_after not in get_args(RetryAfter):
            raise ValueError(f"retry_after of a step is one of {', '.join(get_args(RetryAfter))}")
        if self.retry_after_s < 0:
            raise ValueError("retry_after_s of a step is at least 0")
        if self.pace_s <= 0:
            raise ValueError("pace_s of a step is more than 0")
        if self.size_bytes is not None and not 1 <= self.size_bytes <= _MAX_SIZE:
            raise ValueError(f"size_bytes of a step is 1–{_MAX_SIZE}")


@dataclass(frozen=True, slots=True)
class Script:
    """The steps of one profile, in order; after the last one it is healthy.

    Attributes:
        latency: of healthy answers and of steps that say none.
        behaviour: `sensible`, or `obedient` for a model that does what a message tells it.
        seed: of the latencies.
    """

    steps: tuple[Step, ...] = ()
    latency: Latency = AT_ONCE
    behaviour: Behaviour = "sensible"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.behaviour not in get_args(Behaviour):
            raise ValueError(f"behaviour of a script is one of {', '.join(get_args(Behaviour))}")
        if len(self.steps) > 1 and any(step.fault in PORT_FAULTS for step in self.steps):
            raise ValueError("a fault of the port is the only step of its script")

    @property
    def port_fault(self) -> Fault | None:
        """What is wrong with the port while this script is in force."""
        fault = self.steps[0].fault if self.steps else Fault.NONE
        return fault if fault in PORT_FAULTS else None


HEALTHY: Final = Step()


class Running:
    """A script and how far it has come."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._seen = [0] * len(script.steps)

    def next(self, path: str) -> Step:
        """What the next request gets.

        Args:
            path: of the request, after the profile.
        """
        for number, step in enumerate(self.script.steps):
            if step.count is not None and self._seen[number] >= step.count * step.every:
                continue
            if not path.startswith(step.path):
                continue
            self._seen[number] += 1
            return HEALTHY if self._seen[number] % step.every else step
        return HEALTHY


def script_of(value: Any) -> Script:
    """A script from JSON: the fields of Script and Step by their names, a latency as it is written.

    Raises: ValueError naming the field.
    """
    given = _known(value, Script, "script")
    steps = given.pop("steps", [])
    if not isinstance(given.get("seed", 0), int):
        raise ValueError("seed is a whole number")
    if not isinstance(steps, list):
        raise ValueError("steps is a list")
    return Script(tuple(_step(step, f"steps[{number}]") for number, step in enumerate(steps)), **_latency(given))


def _step(value: Any, where: str) -> Step:
    given = _latency(_known(value, Step, where))
    if "fault" in given:
        given["fault"] = fault_of(given["fault"])
    for name, kinds in _KINDS.items():
        if name in given and not (isinstance(given[name], kinds) and not isinstance(given[name], bool)):
            raise ValueError(f"{where}.{name} is not of the right type")
    return Step(**given)


_KINDS: Final[Mapping[str, Any]] = {
    "count": int | None,
    "every": int,
    "path": str,
    "retry_after_s": int | float,
    "pace_s": int | float,
    "size_bytes": int | None,
    "location": str,
    "answer": dict,
}


def fault_of(name: Any) -> Fault:
    """A fault by its name.

    Raises: ValueError with the names that there are.
    """
    try:
        return Fault(name)
    except ValueError:
        raise ValueError(f"fault is one of {', '.join(Fault)}, not {name!r}") from None


def _known(value: Any, kind: type[Script] | type[Step], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is an object")
    names = [each.name for each in fields(kind)]
    if unknown := sorted(set(value) - set(names)):
        raise ValueError(f"{where} has no field {unknown[0]!r}; its fields are {', '.join(names)}")
    return dict(value)


def _latency(given: dict[str, Any]) -> dict[str, Any]:
    if given.get("latency") is not None:
        return {**given, "latency": latency_of(given["latency"])}
    return {name: value for name, value in given.items() if name != "latency"}
