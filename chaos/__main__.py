"""The chaos run's command line; see `python -m chaos --help`."""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from chaos.run import FULL, QUICK, Run
from chaos.services import CannotRun


def main(arguments: Sequence[str]) -> int:
    """Run it: 0 if everything held, 1 if something did not, 2 if it could not run."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute instead of five")
    parser.add_argument("--seed", type=int, default=1, help="of faults, texts and the receiver's moods (default 1)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and data")
    options = parser.parse_args(arguments)
    console = Console(width=120, highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="firstline-chaos-"))
    folder.chmod(0o711)  # PostgreSQL may run as another user
    began = time.monotonic()

    def say(what: str) -> None:
        console.print(f"{time.monotonic() - began:6.1f} s  {what}")

    keep = options.keep
    try:
        checks = asyncio.run(Run(folder, QUICK if options.quick else FULL, seed=options.seed, say=say).go())
        keep = keep or bool(checks.violations)
    except CannotRun as error:
        console.print(f"The chaos run could not run: {error}")
        return 2
    except BaseException:
        keep = True
        raise
    finally:
        if keep:
            console.print(f"Logs and data are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    console.print()
    for name, value in checks.figures:
        console.print(f"  {name:<58} {value}")
    console.print()
    for violation in checks.violations:
        console.print(f"  VIOLATED  {violation}")
    console.print("Everything held." if not checks.violations else f"{len(checks.violations)} did not hold.")
    return 1 if checks.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
