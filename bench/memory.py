"""The memory of a running server, and how long it takes to start."""

import itertools
import json
import random
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import servers, texts
from bench.cores import Cores

_REQUESTS: Final = 5_000
_QUICK_REQUESTS: Final = 1_000
_SEED: Final = 5
_CORPUS: Final = Path(__file__).parents[1] / "training" / "corpus"


def run(console: Console, cores: Cores, quick: bool) -> None:
    """Start the real server, send it different texts and read its resident memory from /proc."""
    console.print("\n[bold]Memory[/bold] resident memory of a server of its own, read from /proc")
    requests = _QUICK_REQUESTS if quick else _REQUESTS
    table = Table("after", "MB resident", "MB at most", "CPU s so far", "wall s")
    with servers.firstline(cores=cores.serving) as firstline:
        connection = HTTPConnection("127.0.0.1", firstline.server.port, timeout=30)
        connection.request("GET", "/health")
        connection.getresponse().read()
        _row(table, "first /health", firstline.server)
        keys = itertools.cycle(firstline.decision_keys)
        began = time.monotonic()
        for number, text in enumerate(itertools.islice(_texts(), requests), 1):
            headers = {"Authorization": f"Bearer {next(keys)}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/decision", json.dumps({"message": text}), headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"a request was answered {answer.status}: {body[:200]!r}")
            if number in {requests // 5, requests}:
                _row(table, f"{number:,} texts", firstline.server, wall_s=time.monotonic() - began)
        connection.close()
    console.print(table)


def _row(table: Table, after: str, server: servers.Server, *, wall_s: float | None = None) -> None:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{server.pid}/status").read_text().splitlines())
    resident, most = (int(status[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    wall = "" if wall_s is None else f"{wall_s:.1f}"
    table.add_row(after, f"{resident:.0f}", f"{most:.0f}", f"{server.cpu_seconds():.1f}", wall)


def _texts() -> Iterator[str]:
    """Texts of the training corpus in 14 languages; those of the other measurements where there is no corpus."""
    found = [
        json.loads(line)["text"]
        for path in sorted(_CORPUS.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return iter(random.Random(_SEED).sample(found, len(found))) if found else iter(texts.tickets(_REQUESTS))
