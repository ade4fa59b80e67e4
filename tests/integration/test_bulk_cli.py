"""`firstline classify FILE --out FILE`: formats, failures, going on after a stop, and what is said about it."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from firstline import bootstrap
from firstline.bootstrap import Engine
from firstline.delivery.cli import bulk, main, triage
from firstline.settings import Settings

CASES = {"VPN not working": "Network Issue", "Refund request": "Payment Issue", "Add dark mode": "Feature Request"}
COLUMNS = [
    "row", "category", "subcategory", "probability", "priority", "decision", "churn_risk", "confidence", "language",
    "needs_review", "source", "signals", "rules",
]  # fmt: skip
SMALL = """
import os, signal, sys
from firstline.adapters.bulk_output import PartFolder
from firstline.delivery.cli import bulk, main
import firstline.usecases.bulk as usecase
bulk.CHUNK_ROWS, bulk.PART_CHUNKS, usecase.PART_CHUNKS = 10, 2, 2
stop_after, how = int(os.environ.get("STOP_AFTER", "0")), os.environ.get("STOP_BY")
commit = PartFolder.commit
def commit_and_stop(self, notes):
    commit(self, notes)
    if how and len(self.committed) == stop_after:
        os.kill(os.getpid(), getattr(signal, how))
PartFolder.commit = commit_and_stop
if how == "RLIMIT":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
sys.exit(main(sys.argv[1:]))
"""
"""The command line with parts of 20 rows, which ends itself by a signal after a number of parts."""

Run = Callable[..., tuple[int, str]]


@cache
def _engine(rules_dir: Path | None) -> Engine:
    return bootstrap.build_engine(Settings(rules_dir=rules_dir))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command in this process; its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(triage, "build_engine", lambda settings: _engine(settings.rules_dir))
    monkeypatch.setattr(bulk, "CHUNK_ROWS", 4)

    def run(*arguments: str) -> tuple[int, str]:
        code = main([*arguments, "--processes", "1"])
        captured = capsys.readouterr()
        assert captured.out == ""
        return code, captured.err

    return run


def _process(tmp_path: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", SMALL, *arguments],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def write_csv(path: Path, rows: list[list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def write_input(path: Path, texts: list[str]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"id": list(range(len(texts))), "text": texts}), path, row_group_size=3)
    elif path.suffix == ".csv":
        write_csv(path, [["id", "text"], *([number, text] for number, text in enumerate(texts))])
    else:
        rows = ({"id": number, "text": text} for number, text in enumerate(texts))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_output(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    text = path.read_bytes().decode()
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("source", ["a.parquet", "a.csv", "a.jsonl", "a.ndjson"])
@pytest.mark.parametrize("target", ["b.parquet", "b.csv", "b.jsonl", "b.ndjson"])
def test_every_format_is_read_and_written_in_order(run: Run, tmp_path: Path, source: str, target: str) -> None:
    texts = [text for _ in range(4) for text in CASES]
    write_input(tmp_path / source, texts)
    code, said = run("classify", source, "--out", target, "--keep", "id, text")
    assert (code, "12 rows" in said) == (0, True)
    rows = read_output(tmp_path / target)
    assert [row["category"] for row in rows] == [CASES[text] for text in texts]
    assert [int(row["row"]) for row in rows] == list(range(1, 13))
    assert [str(row["id"]) for row in rows] == [str(number) for number in range(12)]
    assert [row["text"] for row in rows] == texts
    assert list(rows[0])[: len(COLUMNS)] == COLUMNS
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([source, target])


def test_a_row_says_which_signals_were_found(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("I will sue you\nVPN not working\n")
    run("decide", "a.txt", "--out", "b.jsonl")
    first, second = read_output(tmp_path / "b.jsonl")
    assert (first["signals"], first["decision"], second["signals"]) == (["legal"], "immediate_escalation", [])
    assert "legal team" in first["recommended_action"]


def test_rows_that_cannot_be_decided_have_an_error_and_stop_nothing(run: Run, tmp_path: Path) -> None:
    texts = ["VPN not working", None, "", " \u200b", "x" * 5_001, "Refund request"]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    code, said = run("classify", "a.parquet", "--out", "b.parquet")
    rows = read_output(tmp_path / "b.parquet")
    assert code == 1
    assert [row["error"] for row in rows] == [
        None,
        "there is no text",
        "the message is empty",
        "the message is empty",
        "the message has 5,001 characters; at most 5,000",
        None,
    ]
    assert [row["category"] for row in rows][::5] == ["Network Issue", "Payment Issue"]
    assert "a.parquet: row 2: there is no text" in said
    assert "4 failed" in said


@pytest.mark.parametrize("values", [[1, 2], [[1], [2]], [b"\xff", b"a"], [True, None]])
def test_a_column_of_another_type_is_an_error_in_every_row(run: Run, tmp_path: Path, values: list[Any]) -> None:
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    code, _ = run("classify", "a.parquet", "--out", "b.jsonl")
    assert code == 1
    assert all("text" in row["error"] for row in read_output(tmp_path / "b.jsonl"))


def test_cells_with_newlines_quotes_marks_and_other_delimiters_are_read(run: Run, tmp_path: Path) -> None:
    content = '\ufeffid|Text\r\n1|"VPN\r\nnot ""really"" working"\r\n2|Refund; request, please\r\n'
    (tmp_path / "a.csv").write_bytes(content.encode())
    code, _ = run("classify", "a.csv", "--delimiter", "|", "--keep", "Text", "--out", "b.csv")
    rows = read_output(tmp_path / "b.csv")
    assert code == 0
    assert [row["category"] for row in rows] == ["Network Issue", "Payment Issue"]
    assert [row["Text"] for row in rows] == ['VPN\r\nnot "really" working', "Refund; request, please"]


def test_kept_columns_keep_their_type_in_parquet_and_are_readable_elsewhere(run: Run, tmp_path: Path) -> None:
    when = pa.array([1_000_000_001, None], pa.timestamp("ns", "UTC"))
    table = pa.table({"text": ["VPN not working", ""], "when": when, "tags": [["a", "b"], None]})
    pq.write_table(table, tmp_path / "a.parquet")
    for name in ("b.parquet", "b.jsonl", "b.csv"):
        run("classify", "a.parquet", "--keep", "when,tags", "--out", name)
    assert pq.read_table(tmp_path / "b.parquet", columns=["when", "tags"]).equals(table.select(["when", "tags"]))
    first, second = read_output(tmp_path / "b.jsonl")
    assert (first["when"], first["tags"]) == ("1970-01-01 00:00:01.000000001Z", ["a", "b"])
    assert second == {"row": 2, "when": None, "tags": None, "error": "the message is empty"}
    assert [row["tags"] for row in read_output(tmp_path / "b.csv")] == ["a b", ""]


def test_decide_reads_what_a_parquet_row_says_about_its_writer(run: Run, tmp_path: Path) -> None:
    table = pa.table(
        {
            "message": ["I am very disappointed with the service"] * 4,
            "user_plan": [None, "enterprise", None, "gold"],
            "history": [None, [], ["a", "b", "c"], None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    run("decide", "a.parquet", "--out", "b.jsonl")
    rows = read_output(tmp_path / "b.jsonl")
    assert [row.get("decision") for row in rows] == [
        "standard_response",
        "priority_response",
        "priority_response",
        None,
    ]
    assert rows[3]["error"] == "user_plan must be one of free, pro, enterprise"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_an_input_without_rows_gives_an_output_without_rows(run: Run, tmp_path: Path, name: str) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("text\n")
    (tmp_path / "a.jsonl").write_text("")
    for out in ("b.parquet", "b.csv", "b.jsonl"):
        assert run("classify", name, "--out", out)[0] == 0
        assert read_output(tmp_path / out) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a.parquet", "--column", "wish"], "There is no column wish; the columns are id, subject."),
        (["a.parquet"], "There is no column text or ticket or message or body; the columns are id, subject."),
        (["a.parquet", "--column", "subject", "--keep", "day"], "There is no column day to keep"),
        (["a.csv", "--column", "wish"], "There is no column 'wish'; the columns are id, subject."),
        (["a.csv", "--column", "subject", "--keep", "day"], "There is no column 'day' to keep"),
        (["broken.parquet"], "broken.parquet cannot be read: it is no valid Parquet file."),
        (["missing.parquet"], "missing.parquet cannot be read: No such file or directory."),
        (["empty"], "empty has no Parquet files."),
        (["a.bin"], "a.bin has an unknown format; firstline reads parquet, csv, jsonl and txt."),
        (["a.csv", "--keep", "category"], "--keep category: the output has a column of that name already."),
        (["a.txt", "--keep", "id"], "--keep needs columns; a txt file has none."),
        (["a.csv", "--delimiter", "::"], "--delimiter takes one sign, or tab."),
        (["a.csv", "--output", "table"], "A table is for the terminal"),
    ],
)
def test_a_mistake_is_one_sentence(run: Run, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    pq.write_table(pa.table({"id": [1], "subject": ["x"]}), tmp_path / "a.parquet")
    write_csv(tmp_path / "a.csv", [["id", "subject"], [1, "x"]])
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("hello\n")
    (tmp_path / "a.bin").write_bytes(b"\x1f\x8b\0\0")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and then nothing of the kind")
    code, said = run("classify", *arguments, "--out", "b.jsonl")
    assert code == 2
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "b.jsonl").exists()
    assert not (tmp_path / "b.jsonl.partial").exists()


def test_an_output_that_does_not_say_its_format_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("VPN not working\n")
    code, said = run("classify", "a.txt", "--out", "b.xlsx")
    assert (code, "name it .parquet, .csv or .jsonl" in said) == (2, True)
    assert run("classify", "a.txt", "--out", "b.xlsx", "--output", "csv")[0] == 0


def test_an_output_that_exists_is_replaced_only_with_force(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("VPN not working\n")
    (tmp_path / "b.jsonl").write_text("precious")
    code, said = run("classify", "a.txt", "--out", "b.jsonl")
    assert (code, "b.jsonl exists; --force replaces it." in said) == (2, True)
    assert (tmp_path / "b.jsonl").read_text() == "precious"
    assert run("classify", "a.txt", "--out", "b.jsonl", "--force")[0] == 0
    assert len(read_output(tmp_path / "b.jsonl")) == 1


def test_the_input_is_never_replaced_even_with_force(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nVPN not working\n")
    code, said = run("classify", "a.csv", "--out", "./a.csv", "--force")
    assert (code, "the input file itself" in said) == (2, True)


def test_without_pyarrow_a_sentence_says_how_to_install_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("VPN not working\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, said = run("classify", "a.txt", "--out", "b.parquet")
    assert (code, "pip install 'firstline[parquet]'" in said) == (2, True)
    assert run("classify", "a.txt", "--out", "b.csv")[0] == 0


def test_flags_for_large_files_and_parquet_are_refused_without_a_file_to_write(run: Run, tmp_path: Path) -> None:
    code, said = run("classify", "-")
    assert (code, "need a FILE and --out" in said) == (2, True)
    write_input(tmp_path / "a.parquet", ["VPN not working"])
    assert main(["classify", "a.parquet"]) == 2


@pytest.mark.parametrize(("target", "how", "code"), [("b.parquet", "SIGKILL", -9), ("b.jsonl", "SIGINT", 130)])
def test_a_run_that_was_stopped_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, target: str, how: str, code: int
) -> None:
    write_input(tmp_path / "a.csv", [f"{text} {number}" for number in range(40) for text in CASES])
    straight = ("classify", "a.csv", "--keep", "id", "--out", f"straight-{target}", "--processes", "1")
    assert _process(tmp_path, *straight).returncode == 0
    command = ("classify", "a.csv", "--keep", "id", "--out", target, "--processes", "2")
    stopped = _process(tmp_path, *command, STOP_AFTER="2", STOP_BY=how)
    assert stopped.returncode == code
    assert not (tmp_path / target).exists()
    assert ("--resume goes on with it" in stopped.stderr) == (how == "SIGINT")
    done = _process(tmp_path, *command, "--resume")
    assert (done.returncode, "Going on behind 40 rows" in done.stderr, "120 rows in" in done.stderr) == (0, True, True)
    assert (tmp_path / target).read_bytes() == (tmp_path / f"straight-{target}").read_bytes()
    assert not (tmp_path / f"{target}.partial").exists()


def test_a_run_does_not_go_on_with_another_input_or_other_options(run: Run, tmp_path: Path) -> None:
    write_input(tmp_path / "a.csv", list(CASES) * 20)
    _process(tmp_path, "classify", "a.csv", "--out", "b.csv", STOP_AFTER="1", STOP_BY="SIGKILL")
    command = ("classify", "a.csv", "--out", "b.csv")
    assert "--resume goes on with it, --force begins anew" in run(*command)[1]
    assert "begun with another --keep" in run(*command, "--keep", "id", "--resume")[1]
    write_input(tmp_path / "a.csv", [*CASES, "changed"] * 10)
    code, said = run(*command, "--resume")
    assert (code, "begun with another input" in said) == (2, True)


def test_a_full_disk_is_said_and_the_run_goes_on_afterwards(tmp_path: Path) -> None:
    write_input(tmp_path / "a.csv", list(CASES) * 20)
    full = _process(tmp_path, "classify", "a.csv", "--out", "b.jsonl", "--processes", "2", STOP_BY="RLIMIT")
    assert full.returncode == 2
    assert "b.jsonl cannot be written: File too large. Make room; what is done lies in b.jsonl.partial" in full.stderr
    assert "Traceback" not in full.stderr
    done = _process(tmp_path, "classify", "a.csv", "--out", "b.jsonl", "--resume", "--progress")
    assert done.returncode == 0
    assert len(read_output(tmp_path / "b.jsonl")) == 60
