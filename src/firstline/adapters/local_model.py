"""The local model from its file, and predictions that never fail a request."""

from importlib import resources
from pathlib import Path
from typing import Final

from firstline.learning.artifact import ArtifactInvalid, load_model
from firstline.learning.ngram_model import NgramModel

MAX_FILE_BYTES: Final = 256 << 20


class ModelUnusable(ValueError):
    """A model file that cannot be used; the message names the file and what is wrong."""


def load_local_model(path: Path | None = None) -> NgramModel:
    """The shipped model, or the one in a file.

    Raises: ModelUnusable.
    """
    name = str(path) if path else "the shipped model"
    try:
        if path is None:
            data = resources.files("firstline.data").joinpath("models", "default.safetensors").read_bytes()
        else:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ModelUnusable(f"{name}: larger than {MAX_FILE_BYTES >> 20} MiB")
            data = path.read_bytes()
        return load_model(data)
    except ArtifactInvalid as error:
        raise ModelUnusable(f"{name}: {error}") from None
    except OSError as error:
        raise ModelUnusable(f"{name}: {error.strerror or type(error).__name__}") from None
