"""Which cores serve and which make load."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from bench.load import pin


@dataclass(frozen=True, slots=True)
class Cores:
    """Empty lists where there are too few cores to keep the two apart."""

    serving: tuple[int, ...]
    loading: tuple[int, ...]

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """Two cores to serve and the others for the load, where there are four."""
        available = sorted(os.sched_getaffinity(0))
        if len(available) < 4:
            return cls((), ())
        return cls(tuple(available[:2]), tuple(available[2:]))

    def describe(self) -> str:
        """One line for the report."""
        if not self.serving:
            return "Fewer than four cores: servers and load share them, so latencies are pessimistic."
        return f"Servers on cores {_list(self.serving)}, load on {_list(self.loading)}."

    def workers(self, count: int) -> ProcessPoolExecutor:
        """Processes that make load, on their cores."""
        return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=pin, initargs=(self.loading,))


def _list(cores: tuple[int, ...]) -> str:
    return ", ".join(map(str, cores))
