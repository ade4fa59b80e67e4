"""Features, calibration and the artefact's file, on arrays made by hand."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstline.adapters.local_model import LocalModel
from firstline.learning.artifact import (
    HEADS,
    ArtifactInvalid,
    dump,
    load_model,
    quantise_columns,
    quantise_rows,
    read_card,
)
from firstline.learning.calibration import calibrate, expected_calibration_error, fit_temperature
from firstline.learning.features import bucket_blocks, buckets, clean
from firstline.learning.hybrid_model import RECIPE, Table

TEXTS = ["VPN down", "", "我要退款", "Où est ma facture ?", "パスワードを忘れた", "a", "😀😀", "x " * 900, "42 $"]
LABELS = {
    "category": ["Network Issue", "Payment Issue", "Other"],
    "language": ["en", "de"],
    "subcategory": ["Network Issue/outage", "Payment Issue/refund", "Payment Issue/invoice", "Other/general"],
    "urgency": ["low", "medium", "high", "critical"],
    "decision": ["ignore", "standard_response", "priority_response", "immediate_escalation"],
    "signals": ["legal", "spam"],
}
COLUMNS = sum(map(len, LABELS.values()))
PIECES = ["vpn", "down", "refund", "re", "##fund", "not", "working", "!"]
PAIRS = [("not", "working")]


def card(**changes: object) -> dict[str, object]:
    heads = {name: {"labels": LABELS[name], "temperature": 0.8, "doubtful_temperature": 1.6} for name in HEADS}
    return {"recipe": RECIPE, "bits": 8, "heads": heads, **changes}


def heads(name: str, **changes: object) -> dict[str, object]:
    found = card()["heads"]
    assert isinstance(found, dict)
    return {**found, name: {**found[name], **changes}}


def artefact(found: dict[str, object] | None = None, **parts: object) -> bytes:
    random = np.random.default_rng(1)
    made = {
        "ngrams": quantise_columns(random.normal(size=(256, COLUMNS)).astype(np.float32)),
        "idf": random.uniform(0.5, 3, 256).astype(np.float16),
        "embeddings": quantise_rows(random.normal(size=(len(PIECES) + len(PAIRS), 16)).astype(np.float32)),
        "weights": random.normal(size=(16, COLUMNS)).astype(np.float32),
        "bias": random.normal(size=(3, COLUMNS)).astype(np.float32),
        "pieces": PIECES,
        "pairs": PAIRS,
        "lexicons": {"de": "kaputt\tnot working\n"},
        **parts,
    }
    return dump(**made, card=found or card())  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [8, 14, 20])
def test_a_batch_has_the_buckets_that_its_texts_have_alone(bits: int) -> None:
    together: list[list[int]] = [[] for _ in TEXTS]
    for ids, rows in bucket_blocks(TEXTS, bits=bits):
        assert (np.diff(rows) >= 0).all()
        for bucket, row in zip(ids.tolist(), rows.tolist(), strict=True):
            together[row].append(bucket)
    for text, found in zip(TEXTS, together, strict=True):
        alone = buckets(text, bits=bits)
        assert sorted(found) == sorted(alone.tolist())
        assert all(0 <= bucket < 1 << bits for bucket in found)


def test_features_are_of_code_points_not_of_bytes() -> None:
    # "我要" between two spaces: runs of 2, 3 and 4 characters, two words and a pair; bytes would give many more
    assert len(buckets("我要", bits=20)) == 3 + 2 + 1 + 2 + 1


def test_case_and_spaces_make_no_difference() -> None:
    assert clean("  Vpn\n DOWN ") == " vpn down "
    assert buckets("VPN  down", bits=14).tolist() == buckets("vpn down", bits=14).tolist()


def test_digits_are_all_alike_and_letters_are_not() -> None:
    assert buckets("error 17", bits=20).tolist() == buckets("error 42", bits=20).tolist()
    assert set(buckets("cat", bits=20).tolist()) != set(buckets("dog", bits=20).tolist())


def test_probabilities_sum_to_one_and_keep_their_order() -> None:
    logits = np.array([[1.0, 2.0, 3.0], [1_000.0, -1_000.0, 0.0], [0.0, 0.0, 0.0]])
    for temperature in (0.1, 1.0, 7.0):
        found = calibrate(logits, temperature)
        assert np.allclose(found.sum(axis=1), 1, atol=1e-6)
        assert (found.argmax(axis=1) == logits.argmax(axis=1)).all()


def test_a_higher_temperature_softens() -> None:
    logits = np.array([[1.0, 2.0, 3.0]])
    assert calibrate(logits, 5.0).max() < calibrate(logits, 1.0).max() < calibrate(logits, 0.2).max()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        calibrate(np.zeros((1, 2)), temperature)


def test_the_temperature_that_made_the_scores_too_sure_is_found() -> None:
    random = np.random.default_rng(7)
    logits = random.normal(size=(4_000, 4)) * 2
    probabilities = calibrate(logits, 1.0)
    labels = np.array([random.choice(4, p=row) for row in probabilities], dtype=np.int64)
    assert fit_temperature(logits * 3, labels) == pytest.approx(3, rel=0.1)


def test_the_calibration_error_of_a_constructed_case() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 10)
    labels = np.array([0] * 5 + [1] * 5 + [1] * 6 + [0] * 4, dtype=np.int64)
    # half of the texts state 0.9 and are right in 5 of 10; the others state 0.6 and are right in 6 of 10
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.5 * 0.4)


def test_quantising_is_undone_within_half_a_step() -> None:
    values = np.random.default_rng(3).normal(size=(64, 3)).astype(np.float32)
    columns, rows = quantise_columns(values), quantise_rows(values)
    assert (np.abs(columns.values * columns.scales - values) <= columns.scales / 2 + 1e-6).all()
    assert (np.abs(rows.values * rows.scales[:, None] - values) <= rows.scales[:, None] * 0.6).all()


def test_an_artefact_survives_its_file() -> None:
    data = artefact()
    model = load_model(data)
    assert read_card(data) == card()
    assert (model.categories, model.languages) == (("Network Issue", "Payment Issue", "Other"), ("en", "de"))
    assert model.name.startswith(f"{RECIPE}+")
    assert model.name == load_model(artefact()).name
    assert model.name != load_model(artefact(card(note="another"))).name
    prediction = model.predict("VPN down")
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction == load_model(data).predict("VPN down")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not a model", id="text"),
        pytest.param(artefact()[:100], id="cut in the header"),
        pytest.param(artefact()[:-100], id="cut at the end"),
        pytest.param(b"\xff" * 8 + artefact()[8:], id="a huge header"),
        pytest.param(artefact(card(recipe="ngram.v0")), id="another recipe"),
        pytest.param(artefact(card(bits=9)), id="bits that do not fit"),
        pytest.param(artefact(card(bits=200)), id="far too many bits"),
        pytest.param(artefact(card(bits="many")), id="bits that are none"),
        pytest.param(artefact(card(heads=heads("category", temperature=0))), id="no temperature"),
        pytest.param(artefact(card(heads=heads("urgency", temperature="nan"))), id="a temperature that is no number"),
        pytest.param(artefact(card(heads=heads("category", labels=["Other"]))), id="too few categories"),
        pytest.param(artefact(card(heads=heads("category", labels=[]))), id="no categories"),
        pytest.param(artefact(card(heads=["category"])), id="heads that are a list"),
        pytest.param(artefact(ngrams=Table(np.zeros((256, COLUMNS), np.int16), np.ones(COLUMNS, np.float32))), id="x"),
        pytest.param(artefact(idf=np.zeros(255, np.float16)), id="another number of frequencies"),
        pytest.param(artefact(bias=np.zeros((3, 4), np.float32)), id="another number of biases"),
        pytest.param(artefact(bias=np.full((3, COLUMNS), np.nan, np.float32)), id="a bias that is no number"),
        pytest.param(artefact(pieces=PIECES[:-1]), id="a piece without a row"),
        pytest.param(artefact(pairs=[("not", "a pair")]), id="a pair of three"),
        pytest.param(artefact(weights=np.zeros((15, COLUMNS), np.float32)), id="another number of dimensions"),
    ],
)
def test_a_damaged_artefact_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactInvalid):
        load_model(data)


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("the file was unpickled",)


def test_a_pickle_is_never_opened() -> None:
    with pytest.raises(ArtifactInvalid):
        load_model(pickle.dumps(_Bomb()))


def test_the_shipped_model_knows_every_category_and_language(model: LocalModel) -> None:
    from firstline.core.taxonomy import DEFAULT_CATEGORIES, LANGUAGES

    assert set(model.hybrid.categories) == {category.name for category in DEFAULT_CATEGORIES}
    assert set(model.hybrid.languages) == set(LANGUAGES)


def test_the_shipped_model_says_where_it_comes_from() -> None:
    from importlib import resources

    card = read_card(resources.files("firstline.data").joinpath("models", "default.safetensors").read_bytes())
    assert {"recipe", "bits", "heads", "config", "data", "metrics", "licence"} <= card.keys()
    assert json.dumps(card)


@given(texts=st.lists(st.text(max_size=80), min_size=1, max_size=8))
def test_a_text_is_predicted_alike_alone_and_in_a_batch(model: LocalModel, texts: list[str]) -> None:
    for text, together in zip(texts, model.predict_many(texts), strict=True):
        alone = model.predict(text)
        assert alone.language == together.language
        assert alone.probabilities == pytest.approx(together.probabilities, abs=1e-5)
        assert sum(alone.probabilities.values()) == pytest.approx(1, abs=1e-3)
