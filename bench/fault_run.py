"""One fault from beginning to end: healthy, failing, healthy again; what callers saw of it."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import Final

import httpx2
import orjson
import uvloop

from bench.asked import Answer, Connections, OpenLoop, judged
from bench.fake import FALLBACK, PRIMARY, Control, Fake
from bench.faults import Fault, Kind
from bench.load import post
from bench.texts import tickets
from firstline.core.breaker import BreakerPolicy

RATE: Final = 50.0
CONTROL_RATE: Final = 25.0
"""Of requests by accounts that ask the fallback alone, at the same time and of the same server."""

CONTROL_KEYS: Final = 8
DEADLINE_S: Final = 2.0
GRACE_S: Final = 0.05
CHARACTERS: Final = 200

_POLL_S: Final = 0.1
_PATIENCE_S: Final = 5.0
_QUIET_S: Final = 0.4
"""Failures that are further apart belong to different probes."""

_STATE: Final = re.compile(rf'^circuit_breaker_state{{[^}}]*provider="{PRIMARY}"}} (\S+)', re.MULTILINE)
_FAILURES: Final = re.compile(rf'^provider_failures_total{{[^}}]*provider="{PRIMARY}"}} (\S+)', re.MULTILINE)
_CLOSED: Final = 0
_OPEN: Final = 2


@dataclass(slots=True)
class Seen:
    """What a run saw.

    Attributes:
        answers: to requests that were due during the fault.
        control: to those of them whose accounts ask the fallback alone; not among `answers`.
        reached: requests that came to the primary during it.
        failures: that firstline has counted of the primary during it.
        opened_s: from the beginning of the fault until the breaker was seen open; None if it never was.
        interval_s: between probes, by the breaker's policy, when the fault ended.
        recovery_s: from the end of the fault to the primary's first answer; None if none came.
    """

    answers: list[Answer]
    control: list[Answer]
    began_s: float
    reached: int = 0
    failures: int = 0
    opened_s: float | None = None
    interval_s: float = 0.0
    recovery_s: float | None = None

    def first(self, calls: int) -> list[Answer]:
        """To the first so many requests."""
        return sorted(self.answers, key=lambda answer: answer.due_s)[:calls]

    def since(self, at_s: float) -> tuple[list[Answer], list[Answer]]:
        """Answers, and those of the control, to what was due from then on."""
        return [one for one in self.answers if one.due_s >= at_s], [one for one in self.control if one.due_s >= at_s]


@dataclass(slots=True)
class _Watch:
    """The breaker as /metrics has shown it: when, its state, failures so far."""

    shown: list[tuple[float, int, int]] = field(default_factory=list)

    async def poll(self, client: httpx2.AsyncClient, port: int) -> None:
        while True:
            reply = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            state = _STATE.search(reply)
            failures = sum(int(float(count)) for count in _FAILURES.findall(reply))
            self.shown.append((perf_counter(), int(float(state[1])) if state else 0, failures))
            await asyncio.sleep(_POLL_S)

    def opened_at_s(self, since_s: float, until_s: float) -> float | None:
        return next((at for at, state, _ in self.shown if since_s <= at <= until_s and state == _OPEN), None)

    def failures(self, since_s: float, until_s: float) -> int:
        counts = [count for at, _, count in self.shown if since_s - 2 * _POLL_S <= at <= until_s]
        return counts[-1] - counts[0] if counts else 0

    def failed_probes(self, since_s: float, until_s: float) -> int:
        """Bursts of failures after the one that opened it."""
        rose = [
            at for (_, _, before), (at, _, after) in pairwise(self.shown) if after > before and since_s <= at <= until_s
        ]
        return sum(later - earlier > _QUIET_S for earlier, later in pairwise([since_s, *rose]))

    def state(self, at_s: float) -> int:
        states = [state for at, state, _ in self.shown if at <= at_s]
        return states[-1] if states else _CLOSED


def measure(port: int, keys: Sequence[str], fake: Fake, fault: Fault, warm_s: float, fault_s: float, seed: int) -> Seen:
    """Drive a firstline through a fault of its primary."""
    return uvloop.run(_measure(port, keys, fake, fault, warm_s, fault_s, seed))


async def _measure(
    port: int, keys: Sequence[str], fake: Fake, fault: Fault, warm_s: float, fault_s: float, seed: int
) -> Seen:
    connections = Connections(port)

    def asks(keys: Sequence[str], seed: int, rate: float) -> OpenLoop:
        texts = tickets(int(rate * (warm_s + fault_s + 60)), length=CHARACTERS, seed=seed)

        async def ask(number: int) -> tuple[bool, str]:
            body = orjson.dumps({"message": texts[number % len(texts)], "user_plan": "free", "channel": "email"})
            return judged(*await connections.post(post("/v1/decision", body, key=keys[number % len(keys)])))

        return OpenLoop(ask, rate=rate, seed=seed)

    async with httpx2.AsyncClient(trust_env=False, timeout=10.0) as client:
        control = Control(client, fake)
        await control.play({})
        control_keys = keys[:CONTROL_KEYS]
        for key in control_keys:
            await _ask_fallback_alone(client, port, key)
        loop, watch = asks(keys[CONTROL_KEYS:], 2 * seed, RATE), _Watch()
        beside = asks(control_keys, 2 * seed + 1, CONTROL_RATE)
        running = [asyncio.create_task(one.run()) for one in (loop, beside)]
        watching = asyncio.create_task(watch.poll(client, port))
        try:
            await asyncio.sleep(warm_s)
            await control.forget()
            began_s = perf_counter()
            await control.play(fault.script)
            await asyncio.sleep(fault_s)
            reached = await control.reached()
            await control.play({})
            ended_s = perf_counter()
            seen = Seen([], [], began_s, reached, watch.failures(began_s, ended_s))
            opened_at_s = watch.opened_at_s(began_s, ended_s)
            seen.opened_s = None if opened_at_s is None else opened_at_s - began_s
            seen.interval_s = _interval_s(watch, fault, opened_at_s, ended_s)
            if fault.kind is not Kind.HEALTHY:
                seen.recovery_s = await _recovery_s(loop, ended_s, seen.interval_s + _PATIENCE_S)
        finally:
            loop.stop()
            beside.stop()
            await asyncio.wait(running)
            watching.cancel()
            connections.close()
    if watching.done() and not watching.cancelled():
        watching.result()
    for one in running:
        one.result()
    seen.answers = [answer for answer in loop.answers if began_s <= answer.due_s < ended_s]
    seen.control = [answer for answer in beside.answers if began_s <= answer.due_s < ended_s]
    return seen


async def _ask_fallback_alone(client: httpx2.AsyncClient, port: int, key: str) -> None:
    reply = await client.put(
        f"http://127.0.0.1:{port}/v1/providers",
        json={"mode": "always", "providers": [{"provider": FALLBACK, "model": None}]},
        headers={"X-API-Key": key},
    )
    if reply.status_code != 200:
        raise RuntimeError(f"an account's providers were refused with status {reply.status_code}")


def _interval_s(watch: _Watch, fault: Fault, opened_at_s: float | None, ended_s: float) -> float:
    policy, state = BreakerPolicy(), watch.state(ended_s)
    if opened_at_s is None or state == _CLOSED:
        return policy.open_s
    failed = watch.failed_probes(opened_at_s, ended_s) + (state != _OPEN)  # the one under way will have failed, too
    return max(min(policy.open_s * 2.0**failed, policy.most_open_s), fault.retry_after_s)


async def _recovery_s(loop: OpenLoop, ended_s: float, patience_s: float) -> float | None:
    seen = len(loop.answers)
    while perf_counter() < ended_s + patience_s:
        for answer in loop.answers[seen:]:
            if answer.due_s >= ended_s and answer.provider == PRIMARY:
                return answer.due_s + answer.took_s - ended_s
        seen = len(loop.answers)
        await asyncio.sleep(0.01)
    return None
