"""The command line.

Results go to standard output and everything said about them to standard error, so that every command can stand in a
pipe. A mistake of the user (a flag, a setting, a file, a port in use) is one sentence on standard error and exit code
2, never a traceback; exit code 1 means that the command ran and found something wrong (a row that failed, an invalid
rule pack, an unknown key). Ctrl-C and a closed pipe end quietly. Settings come from the environment and `.env`; flags
win. Nothing heavy is imported before a command needs it.
"""

import os
import sys
from collections.abc import Sequence

from firstline.delivery.cli.program import run_program
from firstline.delivery.cli.terminal import CLOSED_PIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, that of the process by default; the exit code."""
    # The model's products are small: threads of BLAS would only wait for each other. Read by numpy's first import.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.stdout is None:  # closed by whoever started us, as a service manager may
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # open to the end
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # open to the end
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    code = run_program(list(sys.argv[1:] if arguments is None else arguments))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = CLOSED_PIPE
    if code == CLOSED_PIPE:
        _discard_output()
    return code


def _discard_output() -> None:
    """Let the interpreter's own flush at exit go nowhere: whoever was reading has left."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return
