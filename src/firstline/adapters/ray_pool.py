"""Hands for bulk work on a Ray cluster, or on a Ray of its own on this machine; needs ray, which is an extra.

Only Ray's core tasks are used: one per chunk, whose rows go with it, so that the other machines need none of the files.
Ray itself repeats nothing. This process has every chunk at hand until its answers are here, and hands out again what
was lost: once when a process ended on it, because then the chunk may be to blame, and often when its machine went away.
A Ray that is started here listens on loopback alone and asks for a token, has no dashboard, reports nothing to its
makers, and takes what it wrote on disk away with it.
"""

import itertools
import os
import secrets
import shutil
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, Self

from firstline.adapters.worker_pool import AHEAD, MAX_LOST
from firstline.ports.bulk import Result, Work, WorkersLost

INSTALL: Final = "The engine ray needs Ray; install it with: pip install 'firstline[ray]'."
ADDRESS: Final = "RAY_ADDRESS"
"""Ray's own variable: the cluster to work on."""

MAX_GONE: Final = 20
"""Times that a chunk is handed out again because its machine went away."""

_CANNOT_BEGIN: Final = "a machine of Ray cannot begin; each needs this version of firstline"
_QUIET: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
_LOOPBACK: Final = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
"""Read by Ray as it is imported and started: an address that is named alone becomes one that others can reach."""

_KNOCK_S: Final = 10.0
_STORE_BYTES: Final = 128 << 20
_THING_BYTES: Final = 8 << 20
_runs = itertools.count()


class RayUnusable(ValueError):
    """No Ray, or none that can be used; the message is a sentence."""


class RayTasks:
    """Implements `ports.bulk.Workers` with tasks of Ray, each on one core, between `with` and its end.

    Attributes:
        count: tasks that are worked on at once.
    """

    def __init__(self, count: int | None = None, *, environment: Mapping[str, str] | None = None) -> None:
        """Args:
            count: tasks at once, at most; None for every core.
            environment: that may name a cluster; that of the process by default.
        Raises: RayUnusable when Ray is not installed.
        """
        self._address = (os.environ if environment is None else environment).get(ADDRESS, "").strip()
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        if not self._address:
            os.environ.update(_LOOPBACK)
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        try:
            import ray
        except ImportError:
            raise RayUnusable(INSTALL) from None
        self._ray: Any = ray
        self._limit = count
        self._folder: str | None = None
        self.count = count or 1

    def __enter__(self) -> Self:
        """Connect to the cluster, or start a Ray.

        Raises: RayUnusable.
        """
        if self._address:
            with self._starting(f"The Ray cluster of {ADDRESS} cannot be reached"):
                _knock(self._address)
                self._ray.init(address=self._address, log_to_driver=False, logging_level="ERROR")
            self._window()
            return self
        self.count = self._limit or _cores()
        self._folder = tempfile.mkdtemp(prefix="ray-")  # short: the paths of sockets begin with it
        with self._starting("Ray cannot be started on this machine"):
            self._ray.init(
                address="local",
                num_cpus=self.count,
                num_gpus=0,
                include_dashboard=False,
                object_store_memory=_STORE_BYTES + AHEAD * self.count * _THING_BYTES,
                log_to_driver=False,
                logging_level="ERROR",
                _node_ip_address="127.0.0.1",
                _temp_dir=self._folder,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def map(
        self, work: Callable[[Work], Result], things: Iterable[Work], *, lost: Callable[[Work], Result]
    ) -> Iterator[tuple[Work, Result]]:
        """See `ports.bulk.Workers`; `work` is sent to the tasks and must be picklable."""
        run = _Run(self._ray, work, lost)
        given: deque[tuple[Work, Any]] = deque()
        try:
            for thing in things:
                given.append((thing, run.hand_out(thing)))
                if len(given) >= self._window():
                    first, task = given.popleft()
                    yield first, run.result(first, task)
            while given:
                first, task = given.popleft()
                yield first, run.result(first, task)
        finally:
            for _, task in given:
                with suppress(Exception):  # it may have ended, or the cluster may be gone
                    self._ray.cancel(task)

    def _window(self) -> int:
        """Things that may be handed out; a cluster may have grown since it was last asked."""
        if not self._address:
            return AHEAD * self.count
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        self.count = max(min(cores, self._limit or cores), 1)
        return self._limit or AHEAD * self.count

    @contextmanager
    def _starting(self, problem: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Ray has no base class for what can go wrong at its start
            with suppress(Exception):
                self.__exit__()
            raise RayUnusable(f"{problem}: {' '.join(str(error).split())[:300].rstrip('.')}.") from None


class _Run:
    """One mapping: what is handed out, and what becomes of what was lost."""

    def __init__(self, ray: Any, work: Callable[[Any], Any], lost: Callable[[Any], Any]) -> None:
        self._ray = ray
        self._lost = lost
        self._lost_count = 0
        # In a list, so that a task is given the reference and fetches the work only once in each process.
        self._work = [ray.put(work)]
        self._name = f"{os.getpid()}-{next(_runs)}"
        self._task = ray.remote(num_cpus=1, max_retries=0)(_do)

    def hand_out(self, thing: Any) -> Any:
        return self._task.remote(self._name, self._work, thing)

    def result(self, thing: Any, task: Any) -> Any:
        """Wait for the answer to a thing, handing it out again where it was lost.

        Raises: WorkersLost; RuntimeError in place of what the work raised.
        """
        gone, again = 0, False
        errors = self._ray.exceptions
        while True:
            try:
                result, error = self._ray.get(task)
            except (errors.WorkerCrashedError, errors.OutOfMemoryError) as death:
                if again:
                    self._lost_count += 1
                    if self._lost_count > MAX_LOST:
                        raise WorkersLost(f"the processes of Ray keep ending ({type(death).__name__})") from None
                    return self._lost(thing)
                again = True
            except errors.RayTaskError:  # it has not even begun: what the work raises is a result
                raise WorkersLost(_CANNOT_BEGIN) from None
            except errors.RayError as death:
                gone += 1
                if gone > MAX_GONE or not self._ray.is_initialized():
                    raise WorkersLost(f"the machines of Ray keep going away ({type(death).__name__})") from None
            else:
                if error is not None:
                    raise error
                return result
            task = self.hand_out(thing)


_in_hand: tuple[str, Callable[[Any], Any]] | None = None
"""The work of the run that this process of Ray is busy with, with what it has loaded."""


def _do(run: str, works: list[Any], thing: Any) -> tuple[Any, Exception | None]:
    """What a task does, in a process of Ray: the result, or what is raised in the process that waits for it."""
    global _in_hand
    if _in_hand is None or _in_hand[0] != run:
        import ray

        try:
            _in_hand = (run, ray.get(works[0]))
        except Exception:  # whatever it was, this machine cannot do the work
            return None, WorkersLost(_CANNOT_BEGIN)
    try:
        return _in_hand[1](thing), None
    except WorkersLost as error:
        return None, error
    except Exception as error:  # without its words, which may be those of a message
        return None, RuntimeError(f"{type(error).__name__} in a process of Ray")


def _knock(address: str) -> None:
    """Raise OSError when nobody answers at HOST:PORT: Ray would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and "/" not in host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
