"""The servers under load, each a process of its own on cores of its own, and what CPU they have used."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firstline.bootstrap_stores import open_accounts
from firstline.core.api_key import KeyKind
from firstline.core.taxonomy import Contract
from firstline.settings import load_settings

START_S: Final = 60.0
DECISION_KEYS: Final = 40
"""The largest decision plan allows 1,000 requests a minute, so the load is spread over accounts."""

_ONE_DATABASE: Final = threading.Lock()
"""Migrations keep state of the process; servers side by side make their databases one after the other."""

_SOURCE: Final = Path(__file__).with_name("fsync_delay.c")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far."""
        with contextlib.suppress(OSError):
            return time.clock_gettime((~self.pid << 3) | 2)  # what clock_getcpuclockid(3) answers on Linux
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Firstline:
    """A running firstline and keys for it."""

    server: Server
    classifier_key: str
    batch_key: str
    decision_keys: tuple[str, ...]


@contextmanager
def bare(kind: str, *, cores: Sequence[int]) -> Iterator[Server]:
    """A bare server of `bench.bare`."""
    port = free_port()
    with running([sys.executable, "-m", "bench.bare", kind, str(port)], port, cores=cores) as server:
        yield server


@contextmanager
def firstline(
    *,
    cores: Sequence[int],
    fsync_library: Path | None = None,
    more: Mapping[str, str] | None = None,
    module: str = "bench.serve",
    database_url: str | None = None,
) -> Iterator[Firstline]:
    """firstline on a fresh data folder, with everything on and its access log thrown away.

    Args:
        more: further variables of its environment.
        module: what is run.
        database_url: of a PostgreSQL database with its tables; without one, SQLite.
    """
    folder = Path(tempfile.mkdtemp(prefix="firstline-bench-"))
    port = free_port()
    environment = {
        "FIRSTLINE_DATA_DIR": str(folder),
        "RATE_LIMIT_HOURLY": str(10**9),
        "RATE_LIMIT_DAILY": str(10**9),
        "FIRSTLINE_HOST": "127.0.0.1",
        "FIRSTLINE_PORT": str(port),
        **(more or {}),
    }
    if database_url is not None:
        environment["FIRSTLINE_DATABASE_URL"] = database_url
    if fsync_library is not None:
        environment["LD_PRELOAD"] = str(fsync_library)
    try:
        with _ONE_DATABASE:
            keys = asyncio.run(_keys(folder, database_url))
        command = [sys.executable, "-m", module]
        with running(command, port, cores=cores, environment=environment) as server:
            yield Firstline(server, keys[0], keys[1], keys[2:])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def slow_fsync() -> Iterator[Path | None]:
    """A library that makes every fsync take 1 ms longer; None where it cannot be compiled."""
    compiler = shutil.which("cc")
    with tempfile.TemporaryDirectory(prefix="firstline-bench-") as folder:
        library = Path(folder) / "fsync_delay.so"
        if compiler is None:
            yield None
            return
        built = subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"],
            capture_output=True,
            check=False,
        )
        yield library if built.returncode == 0 else None


def commit_ms(library: Path | None) -> float:
    """How long one durable SQLite commit takes in a process of its own, milliseconds."""
    script = (
        "import sqlite3, tempfile, time\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    base = sqlite3.connect(folder + '/x.db', isolation_level=None)\n"
        "    base.execute('PRAGMA journal_mode=WAL'); base.execute('PRAGMA synchronous=FULL')\n"
        "    base.execute('CREATE TABLE t (a)'); began = time.perf_counter()\n"
        "    for number in range(50): base.execute('INSERT INTO t VALUES (?)', (number,))\n"
        "    print((time.perf_counter() - began) * 20)\n"
    )
    environment = {**os.environ, **({"LD_PRELOAD": str(library)} if library else {})}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    return float(done.stdout)


async def _keys(folder: Path, database_url: str | None) -> tuple[str, ...]:
    accounts, _ = open_accounts(load_settings(env_file=None, data_dir=folder, database_url=database_url))

    async def make(email: str, catalogue: Contract, plan: str, kind: KeyKind) -> str:
        new = await accounts.create_key(
            f"{folder.name}-{email}", catalogue=catalogue, plan=plan, name="bench", kind=kind, actor="bench"
        )
        return new.secret

    free = await make("free@example.com", Contract.CLASSIFIER, "free", KeyKind.CLASSIFIER)
    enterprise = await make("big@example.com", Contract.CLASSIFIER, "enterprise", KeyKind.CLASSIFIER)
    decision = [
        await make(f"decision-{number}@example.com", Contract.DECISION, "enterprise", KeyKind.LIVE)
        for number in range(DECISION_KEYS)
    ]
    return (free, enterprise, *decision)


@contextmanager
def running(
    command: Sequence[str], port: int, *, cores: Sequence[int], environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A process that listens on a port, on some cores; ended with the block.

    Args:
        environment: further variables; with any, what it writes is thrown away.
    Raises: RuntimeError if it stops, or does not listen in time.
    """
    if cores and shutil.which("taskset"):
        command = ["taskset", "-c", ",".join(map(str, cores)), *command]
    with tempfile.TemporaryFile() as errors, Path(os.devnull).open("wb") as nowhere:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdout=nowhere,
            stderr=errors if environment is None else nowhere,
        )
        try:
            _wait_for(process, port)
            yield Server(port, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    patience = time.monotonic() + START_S
    while time.monotonic() < patience:
        if process.poll() is not None:
            raise RuntimeError(f"a server stopped with status {process.returncode} before it listened")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError("a server did not listen in time")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
