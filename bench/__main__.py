"""The benchmark's command line; see `python -m bench --help`."""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Console

from bench import (
    bulk,
    cost,
    latency,
    limits,
    local,
    memory,
    provider_cost,
    provider_faults,
    redaction,
    scale,
    stores,
    traces,
)
from bench.cores import Cores

_PARTS: Final[dict[str, Callable[[Console, Cores, bool], None]]] = {
    "cost": cost.run,
    "latency": latency.run,
    "model": local.run_model,
    "rules": local.run_rules,
    "memory": memory.run,
    "redaction": redaction.run,
    "bulk": bulk.run,
    "traces": traces.run,
}
_PROVIDERS: Final[dict[str, Callable[[Console, Cores, bool], None]]] = {
    "provider-cost": provider_cost.run,
    "provider-faults": provider_faults.run,
    "stores": stores.run,
    "scale": scale.run,
    "limits": limits.run,
}
"""Run when they are named: they install a gateway and take a quarter of an hour, or need PostgreSQL and Redis."""


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 0 unless something could not run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"any of {', '.join(_PARTS)}, all of which are run by default, or of {', '.join(_PROVIDERS)}",
    )
    parser.add_argument("--quick", action="store_true", help="a short run, for a first impression")
    options = parser.parse_args(arguments)
    known = {**_PARTS, **_PROVIDERS}
    unknown = [part for part in options.parts if part not in known]
    if unknown:
        parser.error(f"no part is called {unknown[0]}")
    console = Console(width=125, highlight=False, soft_wrap=False)
    cores = Cores.of_this_machine()
    console.print(
        f"firstline bench, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores "
        f"({platform.machine()}), Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    console.print(cores.describe())
    began = time.monotonic()
    for part in options.parts or _PARTS:
        try:
            known[part](console, cores, options.quick)
        except (RuntimeError, OSError) as error:
            console.print(f"{part} could not run: {error}")
            return 1
    console.print(f"\n{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
