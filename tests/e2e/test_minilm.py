"""A model file with a sentence encoder in it: `FIRSTLINE_MODEL_FILE`, through the front door.

The graph is a tiny one, made here: each word piece has a vector, a text has their mean at unit length. It stands for
the real encoder, whose weights are no part of the project.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from served import NotStarted, environment, serve

from firstline.adapters.local_model import LocalModel, ModelUnusable, load_local_model
from firstline.core.taxonomy import DEFAULT_CATEGORIES
from firstline.learning.artifact import HEADS, ArtifactInvalid, dump, load_model
from firstline.learning.embedding import Table
from firstline.learning.hybrid_model import MINILM_RECIPE

onnx = pytest.importorskip("onnx", reason="needs onnx, which the development environment has")
pytest.importorskip("onnxruntime", reason="needs the extra firstline[minilm]")

PIECES = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "vpn", "refund", "password", "!"]
VECTORS = np.eye(8, 5, k=-4, dtype=np.float32) + np.array([0, 0, 0, 0, 0.1], np.float32)
MEANT = {"vpn": "Network Issue", "refund": "Payment Issue", "password": "Account Problem"}
LABELS = {
    "category": [category.name for category in DEFAULT_CATEGORIES],
    "language": ["en", "de"],
    "subcategory": [f"{category.name}/general" for category in DEFAULT_CATEGORIES],
    "urgency": ["low", "medium", "high", "critical"],
    "decision": ["ignore", "standard_response", "priority_response", "immediate_escalation"],
    "signals": ["legal", "spam"],
}
COLUMNS = sum(map(len, LABELS.values()))
INSTALL = "this model needs onnxruntime; install it with: pip install 'firstline[minilm]'"


def graph(vectors: NDArray[np.float32] = VECTORS, *, output: str = "vector", scaled: bool = True) -> bytes:
    """An ONNX encoder.

    Args:
        vectors: of the word pieces.
        output: name of what it gives.
        scaled: whether that has unit length.
    """
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["mask"]),
        helper.make_node("Cast", ["mask"], ["weights"], to=types.FLOAT),
        helper.make_node("Mul", ["rows", "weights"], ["kept"]),
        helper.make_node("ReduceMean", ["kept"], ["mean" if scaled else output], axes=[1], keepdims=0),
    ]
    if scaled:
        nodes.append(helper.make_node("LpNormalization", ["mean"], [output], axis=1, p=2))
    ids = [
        helper.make_tensor_value_info(name, types.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    given = [helper.make_tensor_value_info(output, types.FLOAT, ["texts", vectors.shape[1]])]
    tensors = [onnx.numpy_helper.from_array(vectors, "table"), helper.make_tensor("last", types.INT64, [1], [2])]
    made = helper.make_model(
        helper.make_graph(nodes, "encoder", ids, given, tensors),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    data: bytes = made.SerializeToString()
    return data


def artefact(encoder: bytes | Table | None = None, *, pieces: Sequence[str] = PIECES, dimensions: int = 5) -> bytes:
    """A model that knows three words by what they mean, and nothing by its n-grams."""
    weights = np.zeros((dimensions, COLUMNS), np.float32)
    for place, category in enumerate(MEANT.values()):
        weights[place, LABELS["category"].index(category)] = 10
    bias = np.zeros(COLUMNS, np.float32)
    bias[LABELS["category"].index("Other")] = 3
    bias[len(LABELS["category"])] = 5  # English
    bias[-len(LABELS["signals"]) :] = -10
    parts: dict[str, Any] = {
        "ngrams": Table(np.zeros((256, COLUMNS), np.int8), np.ones(COLUMNS, np.float32)),
        "idf": np.ones(256, np.float16),
        "embeddings": graph() if encoder is None else encoder,
        "weights": weights,
        "bias": np.tile(bias, (len(LABELS["language"]) + 1, 1)),
        "pieces": pieces,
        "pairs": (),
        "lexicons": {"de": "kennwort\tpassword\n"},
    }
    heads = {name: {"labels": LABELS[name], "temperature": 1.0, "doubtful_temperature": 1.0} for name in HEADS}
    return dump(**parts, card={"recipe": MINILM_RECIPE, "bits": 8, "heads": heads})


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    file = tmp_path / "minilm.safetensors"
    file.write_bytes(artefact())
    return file


@pytest.fixture
def model(model_file: Path) -> LocalModel:
    return load_local_model(model_file)


def test_a_server_answers_with_the_model_of_a_file(tmp_path: Path, model_file: Path) -> None:
    with serve(tmp_path / "data", FIRSTLINE_MODEL_FILE=str(model_file)) as server:
        tickets = ["It is about the VPN", "A refund, please, for last month", "My password!", "Hello to all of you"]
        registered = server.request("POST", "/api/v1/auth/register", {"email": "own@example.com", "tier": "free"})
        key = registered.data["api_key"]
        answered = server.request("POST", "/api/v1/batch", {"tickets": tickets}, key=key)
        assert answered.status == 200
        found = [result["category"] for result in answered.data["results"]]
        assert found == ["Network Issue", "Payment Issue", "Account Problem", "Other"]
        one = server.request("POST", "/api/v1/classify", {"ticket": tickets[0]}, key=key)
        assert one.data["category"] == "Network Issue"
        assert one.data["confidence"] == answered.data["results"][0]["confidence"]


def test_own_categories_are_trained_on_the_model_of_a_file(tmp_path: Path, model_file: Path) -> None:
    wanted = {"categories": [{"name": "Lines", "examples": ["vpn"]}, {"name": "Money", "examples": ["refund"]}]}
    with serve(tmp_path / "data", FIRSTLINE_MODEL_FILE=str(model_file)) as server:
        registered = server.request("POST", "/api/v1/auth/register", {"email": "own@example.com", "tier": "free"})
        key = registered.data["api_key"]
        changed = server.request("PUT", "/v1/categories", wanted, key=key)
        assert changed.status == 200
        assert changed.data["model"].startswith(f"{MINILM_RECIPE}+")


def test_a_text_gets_the_same_answer_alone_and_in_a_batch(model: LocalModel) -> None:
    texts = ["vpn", "refund vpn!", "", "Please send the refund " * 40, "my password and my vpn", "😀", "x" * 5_000]
    for text, (found, features) in zip(texts, model.hybrid.analyse_many(texts), strict=True):
        alone, alone_features = model.hybrid.analyse(text)
        assert features.embedding.tolist() == alone_features.embedding.tolist()
        assert found.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
    assert model.name.startswith(f"{MINILM_RECIPE}+")


def test_without_onnxruntime_the_sentence_says_what_to_install(
    tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelUnusable) as caught:
        load_local_model(model_file)
    assert str(caught.value) == f"{model_file}: {INSTALL}"


def test_a_server_without_onnxruntime_does_not_start_and_says_why(tmp_path: Path, model_file: Path) -> None:
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "onnxruntime.py").write_text("raise ImportError('hidden')")
    variables = {"FIRSTLINE_MODEL_FILE": str(model_file), "PYTHONPATH": str(hiding)}
    with pytest.raises(NotStarted) as caught, serve(tmp_path / "data", **variables):
        pass
    assert INSTALL in " ".join(caught.value.said.split())
    assert "Traceback" not in caught.value.said


def test_the_command_line_reads_the_file_too(model_file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "firstline.delivery.cli", "classify", "-", "--output", "jsonl"],
        input="Where is my refund for last month?\n",
        env=environment(FIRSTLINE_MODEL_FILE=str(model_file)),
        cwd=model_file.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["category"] == "Payment Issue"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(artefact()[:-50], "damaged", id="cut at the end"),
        pytest.param(artefact(b""), "cannot be run", id="an empty graph"),
        pytest.param(artefact(graph()[:200]), "cannot be run", id="a graph that is cut"),
        pytest.param(artefact(b"no graph"), "cannot be run", id="no graph"),
        pytest.param(artefact(graph(output="sentence")), "cannot be run", id="a graph with another output"),
        pytest.param(artefact(graph(scaled=False)), "unit length", id="vectors of any length"),
        pytest.param(artefact(graph(VECTORS * np.float32("nan"))), "unit length", id="vectors that are no numbers"),
        pytest.param(artefact(graph(VECTORS[:-2])), "cannot be run", id="a piece without a vector"),
        pytest.param(artefact(dimensions=4), "do not fit", id="another number of dimensions"),
        pytest.param(artefact(pieces=PIECES[3:]), "damaged", id="pieces without markers"),
        pytest.param(
            artefact(Table(np.zeros((8, 5), np.int8), np.ones(8, np.float32))), "damaged", id="a table and no graph"
        ),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "damaged.safetensors"
    file.write_bytes(data)
    with pytest.raises(ModelUnusable, match=said):
        load_local_model(file)


def test_whoever_cannot_open_an_encoder_is_told_so() -> None:
    with pytest.raises(ArtifactInvalid, match=r"minilm\.v1' needs an encoder"):
        load_model(artefact())
