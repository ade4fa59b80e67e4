"""The load's command line; see `python -m load --help`."""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import uvloop
from bench import servers
from rich.console import Console

from load.connections import Address, Connections
from load.messages import read_messages
from load.mix import Mix
from load.report import Run, checks, figures, show
from load.schedule import moments
from load.traffic import Traffic
from load.usage import Watch


@dataclass(frozen=True, slots=True)
class Target:
    """A server and keys for it."""

    url: str
    classifier_keys: Sequence[str]
    decision_keys: Sequence[str]


def main(arguments: Sequence[str]) -> int:
    """Drive it and report: 0 if every answer was right (and what a soak must hold holds), 1 if not, 2 if it cannot."""
    parser = argparse.ArgumentParser(prog="python -m load", description=__doc__)
    parser.add_argument("--url", help="a server that runs; without one, a server of its own is started and removed")
    parser.add_argument("--key", action="append", default=[], help="for --url: a key, several times for several")
    parser.add_argument("--metrics-token", default="", help="for --url: if /metrics wants one")
    parser.add_argument("--rate", type=float, default=60, help="requests a second on average between bursts (60)")
    parser.add_argument("--minutes", type=float, default=2, help="how long (2)")
    parser.add_argument("--soak", action="store_true", help="judge growth of memory, latency and descriptors")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(arguments)
    if not 0 < options.rate <= 10_000 or not 0 < options.minutes <= 10_000:
        parser.error("--rate and --minutes are more than 0 and at most 10000")
    if options.url and not options.key:
        parser.error(
            "--url needs a --key; make one with: firstline keys create --email load@example.com --plan enterprise"
        )
    console = Console(width=120, highlight=False)
    console.print(
        f"firstline load, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores ({platform.machine()}), "
        f"Python {platform.python_version()}, {options.rate:g} requests a second, {options.minutes:g} minutes"
    )
    try:
        with _target(options.url, options.key) as target:
            run = uvloop.run(_drive(target, options))
        show(run, console)
        if options.json:
            options.json.write_text(json.dumps(figures(run), indent=1) + "\n", encoding="utf-8")
        found = checks(run) if options.soak else []
    except (ValueError, OSError, RuntimeError) as error:
        console.print(f"The load could not run: {error}")
        return 2
    for check in found:
        held = "held" if check.holds else "DID NOT HOLD"
        console.print(f"{check.name}: {check.before:,.1f} then {check.after:,.1f}, {check.bound}: {held}")
    return 1 if run.wrong() or not all(check.holds for check in found) else 0


@contextlib.contextmanager
def _target(url: str | None, keys: Sequence[str]) -> Iterator[Target]:
    if url:
        yield Target(url.rstrip("/"), keys, keys)
        return
    with servers.firstline(cores=()) as own:
        yield Target(f"http://127.0.0.1:{own.server.port}", (own.classifier_key, own.batch_key), own.decision_keys)


async def _drive(target: Target, options: argparse.Namespace) -> Run:
    address = Address.of(target.url)
    mix = Mix(
        read_messages(),
        host=f"{address.host}:{address.port}",
        classifier_keys=target.classifier_keys,
        decision_keys=target.decision_keys,
        seed=options.seed,
    )
    connections = Connections(address)
    traffic, watch = Traffic(connections, mix), Watch(target.url, token=options.metrics_token)
    watching = asyncio.create_task(watch.run())
    began = perf_counter()
    try:
        await traffic.run(moments(rate=options.rate, seconds=options.minutes * 60, seed=options.seed))
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        connections.close()
    return Run(traffic.minutes, watch.seen, perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
