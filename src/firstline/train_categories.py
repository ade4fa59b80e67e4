"""Trains the categories of one account: JSON on standard input, the trained bytes on standard output.

A process of its own, so that the server keeps answering. It imports no more than it needs, because it is started for
every change of categories. Input: `model_file` (a path, or null for the shipped model), `model` (its name) and
`categories` (`core.categories.to_data`).
"""

import json
import os
import sys
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Final

from firstline.adapters.onnx_embedder import open_encoder
from firstline.core.categories import from_data
from firstline.learning.artifact import load_model, read_card
from firstline.learning.custom import curves_from_card, dump_custom, train

NICENESS: Final = 5
EXIT_OTHER_MODEL: Final = 3
"""The file holds another model than the one asked for."""


def main() -> None:
    """Train what standard input asks for.

    Raises: SystemExit with `EXIT_OTHER_MODEL`, or whatever goes wrong, which makes the exit code 1; standard output
        is empty then.
    """
    with suppress(OSError):
        os.nice(NICENESS)
    asked = json.load(sys.stdin.buffer)
    file = asked["model_file"]
    shipped = resources.files("firstline.data").joinpath("models", "default.safetensors")
    data = Path(file).read_bytes() if file else shipped.read_bytes()
    model = load_model(data, open_encoder)
    if model.name != asked["model"]:
        sys.exit(EXIT_OTHER_MODEL)
    trained, advice = train(model, from_data(asked["categories"]), curves_from_card(read_card(data)))
    sys.stdout.buffer.write(dump_custom(trained, advice))


if __name__ == "__main__":
    main()
