"""The sentence encoder of recipe `minilm.v1`, run by onnxruntime, which is an extra.

One text at a time, always: the graph quantises what goes through it with one scale for all that a call holds, so a
text would get another vector beside other texts than alone. One thread per text: more of them gain little on texts
this short, and a server has other messages to answer.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from firstline.learning.wordpiece import MAX_TOKENS

INSTALL: Final = "this model needs onnxruntime; install it with: pip install 'firstline[minilm]'"
IDS: Final = "input_ids"
MASK: Final = "attention_mask"
VECTOR: Final = "vector"

_SILENT: Final = 4
_UNIT: Final = 1e-3


class EncoderUnusable(ValueError):
    """A graph that cannot be run, or no onnxruntime; the message is a sentence without its full stop."""


class OnnxEncoder:
    """Implements `learning.embedding.Encoder`."""

    def __init__(self, session: Any, dimensions: int) -> None:
        self._session = session
        self._dimensions = dimensions

    @property
    def dimensions(self) -> int:
        """See the protocol."""
        return self._dimensions

    def encode(self, ids: list[int]) -> NDArray[np.float32]:
        """See the protocol."""
        row = np.array([ids], np.int64)
        found: NDArray[np.float32] = self._session.run([VECTOR], {IDS: row, MASK: np.ones_like(row)})[0][0]
        return found


def open_encoder(graph: bytes, pieces: int) -> OnnxEncoder:
    """An encoder from its ONNX graph, tried out once on the shortest and on the longest text.

    Args:
        pieces: how many word pieces it must know; the tries use the last.
    Raises: EncoderUnusable.
    """
    try:
        import onnxruntime  # only whoever uses such a model has it
    except ImportError:
        raise EncoderUnusable(INSTALL) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        for tokens in (2, MAX_TOKENS):
            row = np.full((1, tokens), pieces - 1, np.int64)
            vector = session.run([VECTOR], {IDS: row, MASK: np.ones_like(row)})[0]
    except Exception as error:  # onnxruntime's own have no common base but this
        raise EncoderUnusable(f"the encoder in the model file cannot be run ({type(error).__name__})") from None
    fits = vector.dtype == np.float32 and vector.ndim == 2 and len(vector) == 1
    if not fits or not abs(float((vector * vector).sum()) - 1) < _UNIT:
        raise EncoderUnusable("the encoder in the model file does not give a vector of unit length")
    return OnnxEncoder(session, vector.shape[1])
