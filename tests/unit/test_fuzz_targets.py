"""The fuzz targets, without atheris: over their seeds and changes of them; and that they cover every reader."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest
from fuzz.__main__ import main
from fuzz.catalogue import TARGETS
from fuzz.mutation import changed
from fuzz.runner import Result, read_output, table
from fuzz.target import ROOT, Target, refusals

CHANGES: Final = 100
SLOW: Final = frozenset({"provider-reply", "request", "settings", "upload"})

PARSERS: Final = re.compile(
    r"json\.loads\(|orjson\.loads\(|model_validate(?:_json)?\(|yaml\.(?:parse|compose)\(|struct\.|zipfile\.|b64decode\("
    r"|fromhex\(|csv\.reader\(|fromisoformat\(|ip_address\(|urlsplit\(|HttpRequestParser\(|safetensors"
)
"""What the source of a module that reads foreign bytes has in it."""

NOT_FOREIGN: Final = {
    "adapters.backup.archive_writer": "writes archives",
    "adapters.backup.failures": "names faults",
    "adapters.backup.job_links": "reads names that firstline made",
    "adapters.backup.spool_copy": "reads the position of a running server",
    "adapters.backup.postgres_restore": "reads what the archive's reader has checked",
    "adapters.bulk_output": "reads the state of a run that firstline itself has begun",
    "adapters.error_reports": "reads the address of Sentry, a setting",
    "adapters.job_files": "reads what firstline wrote a moment ago",
    "adapters.job_processes": "reads what its own processes answer",
    "adapters.llm.prices": "reads a table of a package",
    "adapters.parquet_files": "pyarrow reads Parquet, which the environment of the fuzz targets lacks",
    "adapters.plan_files": "reads files that are shipped",
    "adapters.redis.link": "reads a setting",
    "adapters.shipped_rules": "reads a file that is shipped, and whose hash is checked",
    "adapters.spool.folder": "reads its own position; test_fuzz_findings.py has a damaged one",
    "bootstrap": "reads an address of its own settings",
    "decide_chunks": "reads what its parent process sends",
    "delivery.cli.health": "reads the answer of the operator's own server",
    "delivery.cli.rule_check": "reads the operator's own examples",
    "delivery.http.job_results": "reads answers that firstline wrote",
    "delivery.http.ticket_export": "reads evidence that firstline wrote",
    "learning.evaluation": "computes",
    "train_categories": "reads what its parent process sends",
}
"""Modules with such calls on bytes that are no stranger's, and whose they are."""

ELSEWHERE: Final = (
    "adapters.sql.",
    "delivery.fake_provider.",
    "ports.",
    "usecases.",
    "adapters.redis.",
    "adapters.memory_",
)
"""Packages that read rows which firstline wrote itself, or play a provider in development."""


@pytest.mark.parametrize("name", TARGETS)
def test_target_holds_for_its_seeds_for_changes_of_them_and_for_noise(name: str) -> None:
    target = TARGETS[name]
    for data in target.seeds():
        target.run(data[: target.most_bytes])
    for data in changed(target, times=CHANGES // 5 if name in SLOW else CHANGES, seed=1):
        target.run(data)
    for data in (b"", b"\x00", b"\xff" * 40, b"\n" * 40, bytes(range(256))):
        target.run(data)


def test_a_planted_bug_is_found_by_changes_of_seeds() -> None:
    def reads(data: bytes) -> None:
        with refusals(ValueError):
            if not data.isdigit():
                raise ValueError("no number")
            assert int(data) < 10_000, "beyond its bound"

    planted = Target("planted", "below its bound", (), reads, lambda: [b"1", b"77"], ("99",))
    with pytest.raises(AssertionError, match="beyond its bound"):
        list(map(planted.run, changed(planted, times=500, seed=1)))


def test_an_exception_that_is_not_declared_is_a_finding() -> None:
    with pytest.raises(KeyError), refusals(ValueError):
        raise KeyError("x")
    with pytest.raises(AssertionError, match="without a word"), refusals(ValueError):
        raise ValueError


def test_changes_of_seeds_are_the_same_for_the_same_number() -> None:
    target = TARGETS["json"]
    assert list(changed(target, times=20, seed=3)) == list(changed(target, times=20, seed=3))
    assert list(changed(target, times=20, seed=3)) != list(changed(target, times=20, seed=4))


def test_every_module_that_a_target_names_is_there() -> None:
    missing = {name for target in TARGETS.values() for name in target.modules if not _path(name).is_file()}
    assert not missing
    assert not {name for name in NOT_FOREIGN if not _path(name).is_file()}


def test_every_module_that_reads_foreign_bytes_has_a_target() -> None:
    covered = {name for target in TARGETS.values() for name in target.modules}
    left = [name for name in _modules() if name not in covered | NOT_FOREIGN.keys() and not name.startswith(ELSEWHERE)]
    assert not left, f"no fuzz target covers {', '.join(left)}: name them in one, or say here why none is needed"


def _modules() -> list[str]:
    """Modules in whose code, texts and comments aside, something is parsed."""
    found = []
    for path in sorted((ROOT / "src" / "firstline").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if PARSERS.search("\n".join(f"{ast.unparse(node)}" for node in ast.walk(tree) if isinstance(node, ast.Call))):
            found.append(".".join(path.relative_to(ROOT / "src" / "firstline").with_suffix("").parts))
    return found


def _path(name: str) -> Path:
    return (ROOT / "src" / "firstline").joinpath(*name.split(".")).with_suffix(".py")


def test_a_report_of_libfuzzer_becomes_a_row_with_the_way_to_run_a_finding_again() -> None:
    output = (
        "#8 INITED cov: 12 ft: 30 corp: 1/1b\n"
        " === Uncaught Python exception: ===\nAssertionError: a number beyond 64 bits\nTraceback\n"
        f"Test unit written to {ROOT}/var/fuzz/json-crash-1\nstat::number_of_executed_units: 4711\n"
    )
    result = read_output("json", output, status=77)
    assert (result.executions, result.features) == (4711, 30)
    lines = list(table([result, Result("term", 5, 6)]))
    assert "4,711" in lines[1]
    assert lines[2].endswith("none")
    assert lines[3] == "json: AssertionError: a number beyond 64 bits"
    assert lines[4] == "  python -m fuzz replay json var/fuzz/json-crash-1"


def test_an_input_that_takes_too_long_is_a_finding() -> None:
    result = read_output("term", "==1== ERROR: libFuzzer: timeout after 11 seconds\n", status=70)
    assert result.problem == "timeout after 11 seconds"


def test_a_file_is_run_again_without_atheris(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "input"
    path.write_bytes(b'{"a": 1}')
    assert main(["replay", "json", str(path)]) == 0
    assert "It held" in capsys.readouterr().out
    assert main(["replay", "json", str(tmp_path / "none")]) == 2
    assert main(["replay", "nothing", str(path)]) == 2
    assert "There is no target nothing" in capsys.readouterr().out


def test_every_target_is_listed_with_what_must_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed and target.holds in listed for name, target in TARGETS.items())
