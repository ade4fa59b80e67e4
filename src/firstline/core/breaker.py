"""When to stop asking a provider, and when to try it again: (state, event, now) → state.

Opens on failures in a row or on a rate of failures over a window; half-open it lets one probe through at a time. A
cancelled call counts as nothing. A result from before the last change of phase moves nothing.

What a message or an account's settings can bring about (a safety block, an answer out of its schema, a parameter that
a model does not take) opens a breaker only when
nearly every call ends so: one sender must not be able to switch a provider off for everyone.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from firstline.core.completion import FailureKind

MAX_RETRY_AFTER_S: Final = 3_600.0

_ABOUT_THE_MESSAGE: Final = frozenset(
    {
        FailureKind.BLOCKED,
        FailureKind.REJECTED,
        FailureKind.LEAK,
        FailureKind.TRUNCATED,
        FailureKind.BAD_JSON,
        FailureKind.BAD_SCHEMA,
        FailureKind.EMPTY,
        FailureKind.TOO_LARGE,
    }
)
_AT_ONCE: Final = frozenset({FailureKind.UNAUTHORIZED, FailureKind.RATE_LIMITED})


class Phase(StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Result(StrEnum):
    """How a call ended, as far as its breaker is concerned."""

    SUCCESS = "success"
    FAILURE = "failure"
    MESSAGE_FAILURE = "message_failure"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and for how long.

    Attributes:
        consecutive: failures in a row that open it.
        window: latest calls that rates are taken over.
        least_calls: of the window, before a rate opens it.
        failure_rate: 0–1; of failures of the provider.
        message_failure_rate: 0–1; of failures of any kind.
        message_probes: probes in a row that end in failures of messages, after which it opens again.
        open_s: seconds until the first probe; doubled after every probe that fails.
        most_open_s: the longest wait between probes.
    """

    consecutive: int = 5
    window: int = 20
    least_calls: int = 10
    failure_rate: float = 0.5
    message_failure_rate: float = 0.9
    message_probes: int = 3
    open_s: float = 1.0
    most_open_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """State of a breaker.

    Attributes:
        era: counts changes of phase; a permit of an earlier era moves nothing.
        results: of the latest calls, oldest first.
        in_a_row: failures since the last call that did not fail.
        until_s: on the caller's monotonic clock; when an open breaker lets a probe through.
        probing: whether a probe is on its way.
        trips: times it has opened since it was last closed.
    """

    phase: Phase = Phase.CLOSED
    era: int = 0
    results: tuple[Result, ...] = ()
    in_a_row: int = 0
    until_s: float = 0.0
    probing: bool = False
    trips: int = 0


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call; handed back with its result."""

    era: int
    probe: bool = False


def admit(breaker: Breaker, *, now_s: float) -> tuple[Breaker, Permit | None]:
    """Leave for one call, or None while the breaker is open or a probe is on its way."""
    if breaker.phase is Phase.CLOSED:
        return breaker, Permit(breaker.era)
    if breaker.phase is Phase.OPEN:
        if now_s < breaker.until_s:
            return breaker, None
        breaker = replace(breaker, phase=Phase.HALF_OPEN, era=breaker.era + 1, probing=False)
    if breaker.probing:
        return breaker, None
    return replace(breaker, probing=True), Permit(breaker.era, probe=True)


def record(breaker: Breaker, permit: Permit, result: Result, policy: BreakerPolicy, *, now_s: float) -> Breaker:
    """The state after a call has ended."""
    if permit.era != breaker.era:
        return breaker
    if breaker.phase is Phase.HALF_OPEN:
        if result is Result.CANCELLED:
            return replace(breaker, probing=False)
        if result is Result.FAILURE:
            return trip(breaker, policy, now_s=now_s)
        if result is Result.SUCCESS:
            return Breaker(era=breaker.era + 1)
        # The provider works; whether this message says anything about others is not known. Another probe will tell.
        results = (*breaker.results, result)
        if len(results) >= policy.message_probes:
            return trip(breaker, policy, now_s=now_s)
        return replace(breaker, probing=False, results=results)
    if result is Result.CANCELLED:
        return breaker
    results = (*breaker.results, result)[-policy.window :]
    in_a_row = breaker.in_a_row + 1 if result is Result.FAILURE else 0
    breaker = replace(breaker, results=results, in_a_row=in_a_row)
    if in_a_row >= policy.consecutive or _too_many(results, policy):
        return trip(breaker, policy, now_s=now_s)
    return breaker


def trip(breaker: Breaker, policy: BreakerPolicy, *, now_s: float, for_s: float | None = None) -> Breaker:
    """Open now.

    Args:
        for_s: as long as the upstream or another replica says, at most `MAX_RETRY_AFTER_S`; None for the policy's time.
    """
    trips = breaker.trips + 1
    open_s = min(policy.open_s * 2.0 ** min(trips - 1, 20), policy.most_open_s)
    if for_s is not None:
        open_s = max(open_s, min(for_s, MAX_RETRY_AFTER_S))
    until_s = now_s + open_s
    if breaker.phase is Phase.OPEN:  # another replica knows less of what an upstream has asked for here
        until_s = max(until_s, breaker.until_s)
    return Breaker(phase=Phase.OPEN, era=breaker.era + 1, until_s=until_s, trips=trips)


def unanswered(breaker: Breaker) -> int:
    """Calls since the last one that gave a valid answer, cancelled ones left out; the window bounds it."""
    count = 0
    for result in reversed(breaker.results):
        if result is Result.SUCCESS:
            break
        count += 1
    return count


def trip_elsewhere(breaker: Breaker, policy: BreakerPolicy, *, now_s: float, for_s: float) -> Breaker:
    """The state after another replica has opened its breaker for the same model.

    One that is open already stays so until the later of both: what several find out at once is one trip, not several.
    """
    if breaker.phase is not Phase.OPEN:
        return trip(breaker, policy, now_s=now_s, for_s=for_s)
    return replace(breaker, until_s=max(breaker.until_s, now_s + min(for_s, MAX_RETRY_AFTER_S)))


def result_of(kind: FailureKind) -> Result:
    """How a failure counts."""
    return Result.MESSAGE_FAILURE if kind in _ABOUT_THE_MESSAGE else Result.FAILURE


def opens_at_once(kind: FailureKind) -> bool:
    """Whether a failure says by itself that further calls will fail: a refused key, a limit that is reached."""
    return kind in _AT_ONCE


def _too_many(results: tuple[Result, ...], policy: BreakerPolicy) -> bool:
    calls = len(results)
    if calls < policy.least_calls:
        return False
    failures = results.count(Result.FAILURE)
    all_failures = failures + results.count(Result.MESSAGE_FAILURE)
    return failures >= policy.failure_rate * calls or all_failures >= policy.message_failure_rate * calls
