"""Write the bytecode of everything that firstline loads, so that an image with a read-only root starts quickly.

    python precompile.py

All of the installed packages would be 32 MB of the compressed image; these are a third of it. The bytecode is used
without a look at its source's time (PEP 552), which the layers of an image need not keep.
"""

import compileall
import importlib
import io
import os
import pkgutil
import py_compile
import sys
from pathlib import Path

import firstline
from firstline.core.national_ids import load_checks
from firstline.core.phone_numbers import load_plans
from firstline.delivery.cli import main

LEFT_OUT = ("anthropic",)
"""The largest of what is loaded, 2 MB, and only where a key for it is set; without it such a server starts later."""
MODE = py_compile.PycInvalidationMode.UNCHECKED_HASH
PACKAGE = Path(firstline.__file__).parent


def load_everything() -> None:
    """Import all of firstline and what it imports on first use; modules of extras that are not installed stay away."""
    for module in pkgutil.walk_packages(firstline.__path__, "firstline."):
        if ".migrations." in module.name or module.name.endswith(".__main__"):
            continue  # run by Alembic; a program
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("firstline"):
                raise
    load_plans()
    load_checks()
    sys.stdin = io.TextIOWrapper(io.BytesIO(b"Cannot connect to VPN\n"))
    os.environ["FIRSTLINE_DATA_DIR"] = "/nonexistent"
    if main(["classify", "-"]) != 0:
        sys.exit("A message could not be classified.")


def compile_loaded() -> int:
    """Write the bytecode of every loaded module that has none; how many."""
    written = 0
    for module in list(sys.modules.values()):
        if module.__name__.split(".")[0] in LEFT_OUT:
            continue
        source, target = getattr(module, "__file__", None), getattr(module, "__cached__", None)
        if source and target and source.endswith(".py") and not Path(target).exists():
            py_compile.compile(source, target, doraise=True, invalidation_mode=MODE)
            written += 1
    return written


load_everything()
count = compile_loaded()
if not compileall.compile_dir(PACKAGE, quiet=1, invalidation_mode=MODE):
    sys.exit("firstline cannot be compiled.")
sys.stdout.write(f"{count} modules compiled.\n")
