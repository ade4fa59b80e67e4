"""One suite for every format of bulk output: whole or not at all, and the same bytes after any interruption."""

import csv
import errno
import io
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from firstline.adapters.bulk_output import OutputRefused, PartFolder, PartWriter
from firstline.adapters.bulk_text import CsvParts, JsonLinesParts
from firstline.adapters.parquet_files import ParquetParts
from firstline.core.taxonomy import Contract
from firstline.ports.bulk import Chunk, Columns, Item
from firstline.usecases.bulk import columns_of

NAMES = columns_of(Contract.CLASSIFIER)
RUN = {"input": "abc", "model": "m1", "rules": "r1", "--keep": ["id"]}
CHUNKS, PER_PART = 7, 2


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_csv(path: Path) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def read_parquet(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


FORMATS = {
    "jsonl": (JsonLinesParts, read_jsonl),
    "csv": (CsvParts, read_csv),
    "parquet": (ParquetParts, read_parquet),
}


@pytest.fixture(params=FORMATS)
def new_writer(request: pytest.FixtureRequest) -> Callable[[], PartWriter]:
    return lambda: FORMATS[request.param][0](NAMES, keep=("id",))


@pytest.fixture
def read(new_writer: Callable[[], PartWriter]) -> Callable[[Path], list[dict[str, Any]]]:
    return next(read for kind, read in FORMATS.values() if isinstance(new_writer(), kind))


def answers(number: int) -> tuple[Chunk, Columns]:
    """A chunk of a row that was decided and one that failed."""
    good: dict[str, Any] = dict.fromkeys(NAMES, "x") | {
        "row": 2 * number + 1,
        "subcategory": None,
        "probability": 0.25,
        "churn_risk": 0.5,
        "confidence": 0.75,
        "needs_review": True,
        "signals": ["legal", "churn"],
        "rules": ["en/legal.sue"],
        "error": None,
    }
    bad = dict.fromkeys(NAMES) | {"row": 2 * number + 2, "error": "the message is empty"}
    columns = {name: [good[name], bad[name]] for name in NAMES}
    return Chunk(number, 2 * number + 1, [Item("a"), Item("")], {"id": [f"ä,{number}\n", None]}), columns


class Crash(BaseException):
    """The process ends here."""


def write_all(output: PartFolder, step: Callable[[], None] = lambda: None) -> None:
    for number in range(len(output.committed) * PER_PART, CHUNKS):
        step()
        output.add(*answers(number))
        if (number + 1) % PER_PART == 0 or number == CHUNKS - 1:
            step()
            output.commit({"rows": 2 * PER_PART})
    step()
    output.finish()


def test_the_file_appears_whole_and_nothing_else_is_left(
    new_writer: Callable[[], PartWriter], read: Callable[[Path], list[dict[str, Any]]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    output = PartFolder(out, writer=new_writer(), run=RUN)
    write_all(output, lambda: None if not out.exists() else pytest.fail("seen unfinished"))
    rows = read(out)
    assert [int(row["row"]) for row in rows] == list(range(1, 2 * CHUNKS + 1))
    assert rows[0]["id"] == "ä,0\n"
    assert rows[0]["signals"] in (["legal", "churn"], "legal churn")
    assert rows[0]["needs_review"] in (True, "true")
    assert rows[1]["error"] == "the message is empty"
    assert not rows[1].get("category")
    assert list(tmp_path.iterdir()) == [out]


def test_a_run_that_is_stopped_anywhere_ends_in_the_same_bytes(
    new_writer: Callable[[], PartWriter], tmp_path: Path
) -> None:
    write_all(PartFolder(tmp_path / "straight", writer=new_writer(), run=RUN))
    expected = (tmp_path / "straight").read_bytes()
    steps = CHUNKS + CHUNKS // PER_PART + 2
    for stop in range(steps):
        out, places = tmp_path / f"stopped-{stop}", count()

        def step(stop: int = stop, places: Any = places) -> None:
            if next(places) == stop:
                raise Crash

        output = PartFolder(out, writer=new_writer(), run=RUN)
        with pytest.raises(Crash):
            write_all(output, step)
        output.close()
        assert not out.exists()
        write_all(PartFolder(out, writer=new_writer(), run=RUN, resume=True))
        assert out.read_bytes() == expected
    assert not list(tmp_path.glob("*.partial"))


def test_a_run_stopped_while_the_parts_are_put_together_ends_in_the_same_bytes(
    new_writer: Callable[[], PartWriter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(PartFolder(tmp_path / "straight", writer=new_writer(), run=RUN))
    out = tmp_path / "out"
    writer = new_writer()

    def join(parts: Any, whole: Path) -> None:
        whole.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "join", join)
    output = PartFolder(out, writer=writer, run=RUN)
    with pytest.raises(OSError, match="No space"):
        write_all(output)
    output.close()
    again = PartFolder(out, writer=new_writer(), run=RUN, resume=True)
    assert len(again.committed) == -(-CHUNKS // PER_PART)
    again.finish()
    assert out.read_bytes() == (tmp_path / "straight").read_bytes()


def test_a_file_without_rows_can_be_read(
    new_writer: Callable[[], PartWriter], read: Callable[[Path], list[dict[str, Any]]], tmp_path: Path
) -> None:
    PartFolder(tmp_path / "out", writer=new_writer(), run=RUN).finish()
    assert read(tmp_path / "out") == []


@pytest.mark.parametrize("name", RUN)
def test_going_on_with_anything_else_is_refused_and_named(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    output = PartFolder(out, writer=JsonLinesParts(NAMES), run=RUN)
    output.close()
    with pytest.raises(OutputRefused, match=f"another {name};"):
        PartFolder(out, writer=JsonLinesParts(NAMES), run=RUN | {name: "other"}, resume=True)
    PartFolder(out, writer=JsonLinesParts(NAMES), run=RUN, resume=True).finish()


def test_what_is_there_is_only_replaced_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    begun = PartFolder(out, writer=JsonLinesParts(NAMES), run=RUN)
    begun.add(*answers(0))
    begun.commit({"rows": 2})
    begun.close()
    with pytest.raises(OutputRefused, match="--resume goes on with it, --force begins anew"):
        PartFolder(out, writer=JsonLinesParts(NAMES), run=RUN)
    anew = PartFolder(out, writer=JsonLinesParts(NAMES), run=RUN, force=True)
    assert anew.committed == []
    anew.finish()
    for resume in (False, True):
        with pytest.raises(OutputRefused, match="exists; --force replaces it"):
            PartFolder(out, writer=JsonLinesParts(NAMES), run=RUN, resume=resume)
    assert out.read_bytes() == b""


def test_two_runs_never_write_the_same_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    output = PartFolder(out, writer=JsonLinesParts(NAMES), run=RUN)
    other = (
        "import sys; from pathlib import Path; from firstline.adapters.bulk_output import PartFolder\n"
        "from firstline.adapters.bulk_text import JsonLinesParts\n"
        "PartFolder(Path(sys.argv[1]), writer=JsonLinesParts(('row', 'error')), run={}, force=True)"
    )
    done = subprocess.run([sys.executable, "-c", other, str(out)], capture_output=True, text=True, timeout=60)
    assert "Another firstline is writing" in done.stderr
    output.finish()
