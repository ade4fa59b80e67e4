"""Hands for bulk work: this process alone, or several processes on this machine.

A process of the pool has one thing to do at a time and is waiting whenever it is sent the next, so that the two sides
of a pipe never wait for each other. What one died on is given to a new one, once. When this process ends, however it
ends, the others see their pipe closed and end too.
"""

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, Final

from firstline.adapters.system import return_memory
from firstline.ports.bulk import Result, Work, WorkersLost

AHEAD: Final = 3
"""Things per process that are fetched before their turn, at most."""

MAX_LOST: Final = 3
"""Things that may be lost before the whole run is given up: more of them are not to blame."""

_END_S: Final = 5.0


class Alone:
    """Implements `ports.bulk.Workers` in this process."""

    count: Final = 1

    def map(
        self, work: Callable[[Work], Result], things: Iterable[Work], *, lost: Callable[[Work], Result]
    ) -> Iterator[tuple[Work, Result]]:
        """See `ports.bulk.Workers`; nothing is ever lost."""
        for thing in things:
            yield thing, work(thing)


class Processes:
    """Implements `ports.bulk.Workers` with processes of this machine.

    On Linux they are forked and share what `work` has loaded; elsewhere `work` is sent to them and must be picklable.
    """

    def __init__(self, count: int, *, method: str | None = None) -> None:
        """Args:
        method: how processes are started, `fork` or `spawn`; what suits the system by default.
        """
        self.count = count
        self._context = multiprocessing.get_context(method or ("fork" if sys.platform == "linux" else "spawn"))

    def map(
        self, work: Callable[[Work], Result], things: Iterable[Work], *, lost: Callable[[Work], Result]
    ) -> Iterator[tuple[Work, Result]]:
        """See `ports.bulk.Workers`."""
        return_memory()
        run = _Run(self._context, work, iter(things), lost, count=self.count)
        try:
            yield from run.results()
        finally:
            run.close()


@dataclass(slots=True)
class _Task:
    number: int
    thing: Any
    again: bool = False


@dataclass(slots=True)
class _Hand:
    process: BaseProcess
    pipe: Connection
    task: _Task | None = None


class _Run:
    """One mapping: tasks wait, are with a hand, or are done and wait for those before them."""

    def __init__(
        self,
        context: BaseContext,
        work: Callable[[Any], Any],
        things: Iterator[Any],
        lost: Callable[[Any], Any],
        *,
        count: int,
    ) -> None:
        self._context = context
        self._work = work
        self._things = things
        self._lost = lost
        self._lost_count = 0
        self._waiting: deque[_Task] = deque()
        self._done: dict[int, tuple[Any, Any]] = {}
        self._fetched = 0
        self._given_out = 0
        self._ended = False
        self._window = AHEAD * count
        self._hands: list[_Hand] = []
        self._hands += [self._start() for _ in range(count)]

    def results(self) -> Iterator[tuple[Any, Any]]:
        self._fetch()
        while True:
            for hand in self._hands:
                if hand.task is None and self._waiting:
                    self._give(hand, self._waiting.popleft())
            while self._given_out in self._done:
                self._given_out += 1
                yield self._done.pop(self._given_out - 1)
            self._fetch()
            if any(hand.task is None for hand in self._hands) and self._waiting:
                continue
            busy = {hand.pipe: hand for hand in self._hands if hand.task is not None}
            if not busy:
                return
            for pipe in wait(list(busy)):
                self._receive(busy[pipe])  # type: ignore[index]  # only pipes were waited for

    def close(self) -> None:
        for hand in self._hands:
            hand.pipe.close()
            hand.process.terminate()
        for hand in self._hands:
            hand.process.join(_END_S)

    def _fetch(self) -> None:
        """Have a task at hand for every process, within the window."""
        while (
            not self._ended and len(self._waiting) < len(self._hands) and self._fetched - self._given_out < self._window
        ):
            try:
                thing = next(self._things)
            except StopIteration:
                self._ended = True
            else:
                self._waiting.append(_Task(self._fetched, thing))
                self._fetched += 1

    def _start(self) -> _Hand:
        ours, theirs = self._context.Pipe()
        # Both kinds of context have it; their common base does not say so.
        process = self._context.Process(target=_serve, args=(ours, theirs, self._work), daemon=True)  # type: ignore[attr-defined]
        # Ctrl-C goes to every process of the terminal; only this one is to act on it.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        theirs.close()  # or its end would not be seen
        return _Hand(process, ours)

    def _give(self, hand: _Hand, task: _Task) -> None:
        hand.task = task
        try:
            hand.pipe.send(task.thing)
        except OSError:
            self._bury(hand)

    def _receive(self, hand: _Hand) -> None:
        try:
            result, error = hand.pipe.recv()
        except (EOFError, OSError):
            self._bury(hand)
            return
        if error is not None:
            raise error
        task = hand.task
        assert task is not None
        hand.task = None
        self._done[task.number] = (task.thing, result)

    def _bury(self, hand: _Hand) -> None:
        """Put a new hand in the place of one that has died, and see what becomes of its task."""
        hand.pipe.close()
        hand.process.join(_END_S)
        task = hand.task
        assert task is not None
        if task.again:
            self._lost_count += 1
            if self._lost_count > MAX_LOST:
                raise WorkersLost(f"the processes that decide keep ending ({_how(hand.process.exitcode)})")
            self._done[task.number] = (task.thing, self._lost(task.thing))
        else:
            task.again = True
            self._waiting.appendleft(task)
        self._hands[self._hands.index(hand)] = self._start()


def _serve(parents_end: Connection, pipe: Connection, work: Callable[[Any], Any]) -> None:
    """What a process of the pool does until its pipe is closed."""
    parents_end.close()  # or this process would keep its own pipe open when the other has ended
    with suppress(EOFError, OSError):
        while True:
            thing = pipe.recv()
            answer: tuple[Any, RuntimeError | None]
            try:
                answer = (work(thing), None)
            except Exception as error:  # raised again in the process that waits for it
                answer = (None, RuntimeError(f"{type(error).__name__} in a process of the pool"))
            pipe.send(answer)


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        with suppress(ValueError):
            return f"signal {-exit_code}, {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
