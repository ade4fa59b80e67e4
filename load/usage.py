"""What the server uses, from its own metrics."""

import asyncio
import re
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final

EVERY_S: Final = 2.0
_NAMES: Final = ("process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total")
_SAMPLE: Final = re.compile(rf"^({'|'.join(_NAMES)}) (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Usage:
    """What it used at a moment, seconds from the beginning of the run."""

    at: float
    memory_bytes: float
    descriptors: float
    cpu_seconds: float


class Watch:
    """Asks for `/metrics` every two seconds; moments without an answer are left out.

    Args:
        token: of the metrics, if they want one.
    """

    def __init__(self, url: str, *, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._request = urllib.request.Request(f"{url}/metrics", headers=headers)
        self._began = perf_counter()
        self.seen: list[Usage] = []

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        """Look once."""
        try:
            with urllib.request.urlopen(self._request, timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            return
        found = {name: float(value) for name, value in _SAMPLE.findall(text)}
        if len(found) == len(_NAMES):
            self.seen.append(Usage(perf_counter() - self._began, *(found[name] for name in _NAMES)))


def of_minute(seen: Sequence[Usage], minute: int) -> list[Usage]:
    """What was seen in a minute, from 0."""
    return [usage for usage in seen if minute * 60 <= usage.at < (minute + 1) * 60]
