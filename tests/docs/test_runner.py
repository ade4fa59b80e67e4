"""The runner notices what a reader would notice: a command that fails, and an answer that is not the one shown."""

from pathlib import Path
from typing import Any

import pytest
from answers import difference, lines_missing, values_in
from blocks import ROOT, blocks_of
from session import Done, run

VERDICT = {"category": "Other", "probability": 0.78, "id": "tkt_01a201c660f67184ab150c7133f135dd", "reasons": [1, 2, 3]}


def ran(text: str, folder: Path) -> Done:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    blocks = blocks_of(page)
    (folder / "run").mkdir()
    return run(blocks, folder=folder / "run", variables={}, replaced={})


@pytest.fixture(autouse=True)
def pages_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocks.Block.place", property(lambda block: f"{block.page.name}:{block.line}"))


def test_page_that_works_keeps_variables_between_blocks(tmp_path: Path) -> None:
    done = ran("```sh\nNAME=vpn\n```\n\ntext\n\n```sh\necho $NAME\n```\n", tmp_path)
    assert done.failed is None
    assert done.printed[1] == "vpn\n"


def test_failing_command_is_named_with_its_line(tmp_path: Path) -> None:
    done = ran("# Page\n\n```sh\necho before\nls missing-file\necho after\n```\n", tmp_path)
    assert done.failed is not None
    assert done.failed.startswith("page.md:3: ls missing-file failed with status 2")
    assert "after" not in done.printed[0]


def test_block_that_was_to_fail_and_does_not_is_a_failure(tmp_path: Path) -> None:
    done = ran("<!-- fails: there is none -->\n```sh\ntrue\n```\n", tmp_path)
    assert done.failed is not None
    assert "this was to fail" in done.failed


def test_block_that_was_to_fail_and_does_lets_the_page_go_on(tmp_path: Path) -> None:
    done = ran("<!-- fails: there is none -->\n```sh\nfalse\n```\n\n```sh\necho on\n```\n", tmp_path)
    assert (done.failed, done.printed[1]) == (None, "on\n")


def test_server_that_does_not_start_is_a_failure_with_what_it_said(tmp_path: Path) -> None:
    done = ran("```sh\nFIRSTLINE_HISTROY=no firstline serve\n```\n", tmp_path)
    assert done.failed is not None
    assert "FIRSTLINE_HISTORY" in done.failed


def test_block_that_is_not_run_is_not_run(tmp_path: Path) -> None:
    done = ran("<!-- not run: harmful -->\n```sh\nfalse\n```\n\n```sh\necho on\n```\n", tmp_path)
    assert (done.failed, done.printed[1]) == (None, "on\n")


def test_file_is_saved_where_the_page_says(tmp_path: Path) -> None:
    done = ran("<!-- file: rules/own.yaml -->\n```yaml\npack: own\n```\n\n```sh\ncat rules/own.yaml\n```\n", tmp_path)
    assert done.printed[1] == "pack: own\n"


def test_instruction_without_a_reason_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not run needs a reason"):
        ran("<!-- not run -->\n```sh\ntrue\n```\n", tmp_path)


def test_pages_cannot_change_the_checkout(tmp_path: Path) -> None:
    done = ran("```sh\nls\nls -a .venv/bin\n```\n", tmp_path)
    assert "Makefile" not in done.printed[0]
    assert (ROOT / "Makefile").exists()


@pytest.mark.parametrize(
    "shown",
    [
        VERDICT,
        {"category": "Other", "…": "…"},
        {**VERDICT, "id": "tkt_…"},
        {**VERDICT, "id": "tkt_01a2…"},
        {**VERDICT, "id": "tkt_01a20283f00372d4a8f5fa4f6152ff56"},
        {**VERDICT, "probability": 0.75},
        {**VERDICT, "reasons": [1, "…"]},
        {**VERDICT, "reasons": ["…", 3]},
    ],
)
def test_answer_that_differs_in_what_varies_is_the_one_shown(shown: Any) -> None:
    assert difference(shown, VERDICT) is None


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ({"category": "Other"}, "has id, probability, reasons too"),
        ({**VERDICT, "category": "Network Issue"}, 'category is "Other"'),
        ({**VERDICT, "id": "era_…"}, "id is"),
        ({**VERDICT, "probability": 0.5}, "probability is 0.78"),
        ({**VERDICT, "probability": True}, "probability is 0.78"),
        ({**VERDICT, "reasons": [1, 2]}, "has 3 elements"),
        ({**VERDICT, "reasons": ["…", 4]}, "reasons"),
        ({"…": "…", "source": "rule"}, "has no source"),
    ],
)
def test_answer_that_is_not_the_one_shown_is_told(shown: Any, told: str) -> None:
    assert told in str(difference(shown, VERDICT))


def test_answers_are_found_among_headers_and_other_lines() -> None:
    printed = 'HTTP/1.1 200 OK\nx-a: {b}\n\n{"a": 1}\nnothing\n[2]\n{broken\n'
    assert list(values_in(printed)) == [{"a": 1}, [2]]


def test_lines_are_looked_for_in_their_order() -> None:
    printed = 'one 0.53 s\n{"a": 1, "b": 2}\nthree\n'
    assert lines_missing('one 0.61 s\n…\n{"a": 1, "…": "…"}\nthree\n', printed) == []
    assert lines_missing("three\none 0.61 s\n", printed) == ["one 0.61 s"]
