"""SECURITY.md keeps its word: all twenty risks are there, and every test that it or the guide names is collected."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("SECURITY.md", "docs/guides/security.md")
RISKS = [f"API{number}" for number in range(1, 11)] + [f"LLM{number:02}" for number in range(1, 11)]

_NAMED = re.compile(r"`(tests/[\w/]+\.py::test_\w+)`")
_ROW = re.compile(r"^\| ((?:API|LLM)\d+) ([^|]+)\|([^|]+)\|([^|]+)\|([^|]+)\|$", re.MULTILINE)


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """Every test that pytest finds in the files that the pages name, without its parameters."""
    files = sorted({name.split("::")[0] for text in map(page, PAGES) for name in _NAMED.findall(text)})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *files],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    return {line.split("[")[0] for line in done.stdout.splitlines() if "::" in line}


def test_every_risk_of_both_lists_is_answered_by_a_test() -> None:
    rows = _ROW.findall(page("SECURITY.md"))
    assert [row[0] for row in rows] == RISKS
    for risk, _, here, done, proof in rows:
        assert len(here.strip()) > 10, risk
        assert len(done.strip()) > 20, risk
        assert _NAMED.search(proof), f"{risk} is proved by nothing"


@pytest.mark.parametrize("name", PAGES)
def test_every_test_that_a_page_names_is_collected(name: str, collected: set[str]) -> None:
    named = set(_NAMED.findall(page(name)))
    assert len(named) > 10
    assert named - collected == set()


@pytest.mark.parametrize("name", PAGES)
def test_no_name_of_a_test_is_written_in_another_way(name: str) -> None:
    assert page(name).count("::test_") == len(_NAMED.findall(page(name)))
