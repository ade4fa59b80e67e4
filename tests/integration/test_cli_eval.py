"""`firstline eval`: labelled files in, figures out, and no text of anybody's unless asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from firstline.delivery.cli import benchmark, main

ROWS = [
    {"text": "VPN not working since this morning", "category": "Network Issue", "lang": "en"},
    {"text": "Refund request for order 12", "category": "Payment Issue", "lang": "en"},
    {"text": "Please add dark mode", "category": "Feature Request", "lang": "en"},
    {"text": "Ich habe mein Passwort vergessen", "category": "Account Problem", "lang": "de"},
    {"text": "I will sue you", "category": "Other", "lang": "en", "signals": ["legal"]},
    {"text": "How do I change the font?", "category": "Other", "lang": "en", "signals": []},
]
OWN = {
    "categories": [
        {"name": "Delivery", "description": "Parcels", "examples": ["Where is my parcel?", "The courier did not come"]},
        {"name": "Billing", "examples": ["I was charged twice", "Please send an invoice"], "priority": "high"},
    ]
}

Written = Callable[[list[dict[str, Any]]], str]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    monkeypatch.chdir(tmp_path)

    def write(rows: list[dict[str, Any]]) -> str:
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        return str(path)

    return write


def test_a_labelled_file_gives_tables_and_no_text(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", written(ROWS)]) == 0
    printed = capsys.readouterr().out
    assert "6 rows" in printed
    assert "By language" in printed
    assert "legal" in printed
    assert "parcel" not in printed
    assert not any(row["text"] in printed for row in ROWS)


def test_every_figure_is_in_the_json_file(written: Written, tmp_path: Path) -> None:
    out = tmp_path / "figures" / "all.json"
    assert main(["eval", written(ROWS), "--json", str(out)]) == 0
    data = json.loads(out.read_text(encoding="utf-8"))
    category = data["category"]
    assert category["accuracy"]["n"] == 6
    assert category["languages"]["de"]["accuracy"]["n"] == 1
    assert sum(map(sum, category["confusion"]["rows_are_labels"])) == 6
    assert data["signals"]["by_rules"]["legal"]["caught"]["hits"] == 1
    assert data["signals"]["by_verdict"]["legal"]["left_alone"]["n"] == 1
    assert not any(row["text"] in out.read_text(encoding="utf-8") for row in ROWS)


def test_the_surest_errors_are_quoted_only_when_asked_for(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": "Refund request for order 12", "category": "Network Issue"}, ROWS[0]]
    main(["eval", written(rows)])
    silent = capsys.readouterr().out
    main(["eval", written(rows), "--show-text"])
    assert "order 12" not in silent
    assert "order 12" in capsys.readouterr().out


def test_both_charts_are_drawn_with_their_axes_named(written: Written, tmp_path: Path) -> None:
    assert main(["eval", written(ROWS), "--svg", str(tmp_path / "charts")]) == 0
    for name, axis in (("reliability", "Stated probability"), ("risk-coverage", "Share of rows answered")):
        root = ElementTree.fromstring((tmp_path / "charts" / f"{name}.svg").read_text(encoding="utf-8"))
        assert axis in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_an_unknown_label_is_named_beside_the_known_ones(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*ROWS, {"text": "It crashes", "category": "Bug Report"}]
    assert main(["eval", written(rows)]) == 2
    said = capsys.readouterr().err
    assert "Bug Report (1 row)" in said
    assert "Network Issue, Account Problem" in said
    assert main(["eval", written(rows), "--map", "bug report=Other"]) == 0


@pytest.mark.parametrize("pair", ["Bug Report", "=Other", "Bug Report="])
def test_a_mapping_without_both_sides_is_a_mistake(
    pair: str, written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", written(ROWS), "--map", pair]) == 2
    assert "LABEL=CATEGORY" in capsys.readouterr().err


def test_columns_of_a_csv_file_may_have_any_name(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("Kind,Body,Tongue\nPayment Issue,Refund request,xx\n", encoding="utf-8")
    command = ["eval", str(path), "--text-column", "Body", "--label-column", "Kind"]
    assert main([*command, "--language-column", "Tongue"]) == 0
    assert "xx" in capsys.readouterr().out
    assert main(["eval", str(path), "--text-column", "Body"]) == 2
    assert "--label-column" in capsys.readouterr().err


def test_a_row_that_cannot_be_judged_is_named_and_the_others_count(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ROWS, {"text": "no label here"}, {"text": "odd", "category": "Other", "signals": ["anger"]}]
    assert main(["eval", written(rows)]) == 1
    captured = capsys.readouterr()
    assert "rows.jsonl:7: there is no category" in captured.err
    assert "rows.jsonl:8: signals must be among legal" in captured.err
    assert "6 rows, 2 skipped" in captured.out


def test_own_categories_are_trained_from_a_file_and_judged(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps(OWN), encoding="utf-8")
    rows = [
        {"text": "My parcel has not arrived", "category": "Delivery"},
        {"text": "Charged again", "category": "billing"},
    ]
    assert main(["eval", written(rows), "--categories", str(own)]) == 0
    printed = capsys.readouterr().out
    assert "custom+" in printed
    assert "100.0%" in printed


@pytest.mark.parametrize(
    ("found", "field"),
    [
        ({"categories": "Delivery"}, "categories"),
        ([{"name": "Delivery"}], "categories"),
        ([{"name": 7}], "categories[0].name"),
        ([{"name": "Delivery", "examples": "one"}], "categories[0].examples"),
        ([{"name": "Delivery", "priority": "soon"}], "categories[0].priority"),
    ],
)
def test_a_mistake_in_own_categories_names_the_field(
    found: Any, field: str, written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps(found), encoding="utf-8")
    assert main(["eval", written(ROWS), "--categories", str(own)]) == 2
    assert field in capsys.readouterr().err


def test_a_benchmark_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "benchmark", "imagenet", "--data", str(tmp_path)]) == 2
    assert main(["eval", "benchmark", "banking77", "--data", str(tmp_path)]) == 2
    (tmp_path / "banking77.jsonl.gz").touch()
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    assert main(["eval", "benchmark", "banking77", "--data", str(tmp_path)]) == 2
    monkeypatch.setattr(benchmark, "TRAINING", tmp_path)
    assert main(["eval", "benchmark", "banking77", "--data", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "banking77 and clinc150" in said[0]
    assert "banking77.jsonl.gz is missing" in said[1]
    assert "scikit-learn" in said[2]
    assert "checkout" in said[3]


def test_signals_of_a_csv_file_stand_between_semicolons(written: Written, tmp_path: Path) -> None:
    path, out = tmp_path / "rows.csv", tmp_path / "all.json"
    path.write_text(
        "text,signals\nI will sue you and cancel my subscription,legal;churn\nThanks for the help yesterday,\n",
        encoding="utf-8",
    )
    assert main(["eval", str(path), "--json", str(out)]) == 0
    data = json.loads(out.read_text(encoding="utf-8"))
    assert "category" not in data
    assert data["signals"]["by_rules"]["legal"]["caught"]["n"] == 1
    assert data["signals"]["by_rules"]["churn"]["caught"]["n"] == 1
    assert data["signals"]["by_rules"]["legal"]["left_alone"]["hits"] == 1


def test_a_text_that_the_model_declines_to_read_counts_as_belonging_to_none(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, out = tmp_path / "own.json", tmp_path / "all.json"
    own.write_text(json.dumps(OWN), encoding="utf-8")
    greek = "Το δέμα μου δεν έχει φτάσει ακόμα και κανείς δεν απαντά στο τηλέφωνο"
    assert (
        main(["eval", written([{"text": greek, "category": "Other"}]), "--categories", str(own), "--json", str(out)])
        == 0
    )
    assert json.loads(out.read_text(encoding="utf-8"))["category"]["accuracy"]["hits"] == 1
