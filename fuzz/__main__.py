"""The fuzz targets' command line; see `python -m fuzz --help`."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fuzz.runner import FINDINGS, available, cores, run_all, table


def main(arguments: Sequence[str]) -> int:
    """Run it: 0 when everything held, 1 when something did not, 2 when it could not run."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz every reader of foreign bytes.")
    commands = parser.add_subparsers(dest="command")
    run = commands.add_parser("run", help="fuzz targets with atheris")
    run.add_argument("targets", nargs="*", metavar="TARGET", help="by default all of them")
    run.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    run.add_argument("--jobs", type=int, default=cores(), help=f"targets at once (default {cores()})")
    replay = commands.add_parser("replay", help="run one input again, without atheris")
    replay.add_argument("target", metavar="TARGET")
    replay.add_argument("file", metavar="FILE", type=Path)
    commands.add_parser("list", help="what there is, and what must hold")
    engine = commands.add_parser("engine", help="one target in this process; what `run` starts")
    engine.add_argument("target", metavar="TARGET")
    engine.add_argument("--module", required=True)
    engine.add_argument("--seconds", type=int, required=True)
    engine.add_argument("--corpus", type=Path, required=True)
    options = parser.parse_args(arguments or ["run"])
    if options.command == "engine":
        from fuzz.engine import main as fuzz

        fuzz(options.target, module=options.module, seconds=options.seconds, corpus=options.corpus, findings=FINDINGS)
    if options.command == "replay":
        return _replay(options.target, options.file)
    return _list() if options.command == "list" else _run(options.targets, options.seconds, options.jobs)


def _run(names: Sequence[str], seconds: int, jobs: int) -> int:
    from fuzz.catalogue import TARGETS

    unknown = [name for name in names if name not in TARGETS]
    if unknown or seconds < 1 or jobs < 1:
        _say(f"There is no target {unknown[0]}; see python -m fuzz list." if unknown else "At least 1 s and 1 job.")
        return 2
    if not available():
        _say("atheris is not installed here; use make fuzz, or the environment in .venv-fuzz.")
        return 2
    chosen = [TARGETS[name] for name in names] or list(TARGETS.values())
    results = run_all(
        chosen,
        seconds=seconds,
        jobs=jobs,
        told=lambda result: _say(f"{result.target}: {result.problem[:120] or f'{result.executions:,} executions'}"),
    )
    _say("")
    for line in table(results):
        _say(line)
    return int(any(result.problem or result.findings for result in results))


def _replay(name: str, path: Path) -> int:
    from fuzz.catalogue import TARGETS

    if name not in TARGETS:
        _say(f"There is no target {name}; see python -m fuzz list.")
        return 2
    try:
        data = path.read_bytes()
    except OSError as error:
        _say(f"{path} cannot be read: {error.strerror}.")
        return 2
    began = time.monotonic()
    TARGETS[name].run(data)
    _say(f"It held, in {time.monotonic() - began:.3f} s.")
    return 0


def _list() -> int:
    from fuzz.catalogue import TARGETS

    for target in TARGETS.values():
        _say(f"{target.name:<18} {target.holds}")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
