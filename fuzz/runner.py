"""Runs targets side by side, each in a process of its own, and says what came of them."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fuzz.target import ROOT, Target

FINDINGS: Final = ROOT / "var" / "fuzz"
_STARTED_S: Final = 240
"""What a process may take beside the time that it was given: to be instrumented, and to run its seeds."""

_COUNTED: Final = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_DONE: Final = re.compile(r"^Done (\d+) runs", re.MULTILINE)
_REACHED: Final = re.compile(r"cov: (\d+) ft: (\d+)")
_KEPT: Final = re.compile(r"Test unit written to (\S+)")
_ERROR: Final = re.compile(r"=== Uncaught Python exception: ===\n(.*)")
_LIMIT: Final = re.compile(r"ERROR: libFuzzer: (.*)")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a target.

    Attributes:
        executions: inputs that were run.
        features: places of the code, and ways through them, that were reached; 0 where nothing was told.
        findings: files with inputs that broke what should hold.
        problem: what was wrong, in a line; empty when nothing was.
    """

    target: str
    executions: int = 0
    features: int = 0
    findings: tuple[Path, ...] = field(default=())
    problem: str = ""


def run_all(targets: Sequence[Target], *, seconds: int, jobs: int, told: Callable[[Result], None]) -> list[Result]:
    """Fuzz targets, so many at once.

    Args:
        seconds: for each.
        told: called with each result as soon as it is there.
    """
    with tempfile.TemporaryDirectory(prefix="firstline-fuzz-") as name, ThreadPoolExecutor(jobs) as threads:
        results = []
        for result in threads.map(lambda target: _run(target, seconds, Path(name)), targets):
            told(result)
            results.append(result)
        return results


def _run(target: Target, seconds: int, folder: Path) -> Result:
    name, module = target.name, target.run.__module__
    options = [f"--module={module}", f"--seconds={seconds}", f"--corpus={folder / name}"]
    command = [sys.executable, "-m", "fuzz", "engine", name, *options]
    environment = {key: value for key, value in os.environ.items() if not key.upper().startswith("FIRSTLINE_")}
    environment["TMPDIR"] = str(folder)
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, timeout=seconds + _STARTED_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Result(name, problem=f"it has not ended {_STARTED_S} s after its time")
    return read_output(name, (done.stdout + done.stderr).decode("utf-8", "replace"), status=done.returncode)


def read_output(name: str, output: str, *, status: int) -> Result:
    """What libFuzzer's report says."""
    counts = _COUNTED.findall(output) or _DONE.findall(output)
    reached = _REACHED.findall(output)
    findings = tuple(Path(found) for found in _KEPT.findall(output))
    problem = ""
    if status:
        said = _ERROR.findall(output) or _LIMIT.findall(output) or output.strip().splitlines()[-1:]
        problem = said[0] if said else f"ended with {status}"
    return Result(
        name,
        executions=int(counts[-1]) if counts else 0,
        features=int(reached[-1][1]) if reached else 0,
        findings=findings,
        problem=problem,
    )


def table(results: Sequence[Result]) -> Iterator[str]:
    """Lines for people; a finding is followed by how to run it again."""
    width = max((len(result.target) for result in results), default=6)
    yield f"{'target':<{width}}  {'executions':>11}  {'features':>8}  findings"
    for result in results:
        found = len(result.findings) or int(bool(result.problem))
        yield f"{result.target:<{width}}  {result.executions:>11,}  {result.features:>8,}  {found or 'none'}"
    for result in results:
        if result.problem:
            yield f"{result.target}: {result.problem[:200]}"
        for path in result.findings:
            yield f"  python -m fuzz replay {result.target} {_shown(path)}"


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def available() -> bool:
    """Whether atheris is here."""
    import importlib.util

    return importlib.util.find_spec("atheris") is not None


def cores() -> int:
    """How many targets to run at once by default."""
    return max(1, (os.cpu_count() or 2) - 1)
