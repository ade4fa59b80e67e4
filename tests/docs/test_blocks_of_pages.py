"""Every page of the documentation, run as a reader would paste it. CONTRIBUTING.md has the convention."""

import ast
import configparser
import json
import os
import re
import sqlite3
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from answers import difference, lines_missing, values_in
from blocks import LANGUAGES, ROOT, Block, blocks_of, pages
from session import run

SNAPSHOT: Final = Path(__file__).parent / "not_run.txt"
POSTGRES: Final = "postgresql://firstline:PASSWORD@127.0.0.1:5432/firstline"
REDIS: Final = "redis://127.0.0.1:6379/0"

BLOCKS: Final = {page: blocks_of(page) for page in pages()}
_COMMANDS: Final = re.compile(
    r"(?:firstline (?!\d)|curl |make |pip |docker |kubectl |python3? |export )(?!.*(?:\[| [A-Z]+\b))"
)


def _named(page: Path) -> str:
    return str(page.relative_to(ROOT)).replace("/", "-").removesuffix(".md")


def _pages_to_run() -> list[Any]:
    found = []
    for page, blocks in BLOCKS.items():
        if any(block.runs for block in blocks):
            said = "".join(block.text for block in blocks if block.runs)
            marks = [pytest.mark.service] if POSTGRES in said or REDIS in said else []
            found.append(pytest.param(page, id=_named(page), marks=marks))
    return found


@pytest.mark.parametrize("page", _pages_to_run())
def test_page_works_as_pasted(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    blocks = BLOCKS[page]
    said = "".join(block.text for block in blocks if block.runs)
    replaced = {}
    if POSTGRES in said:
        replaced[POSTGRES] = request.getfixturevalue("empty_database")
    if REDIS in said:
        replaced[REDIS] = request.getfixturevalue("redis_url")
    done = run(blocks, folder=tmp_path, variables={}, replaced=replaced)
    assert done.failed is None, done.failed
    wrong = [
        told
        for number, block in enumerate(blocks)
        if block.follows and not block.example and blocks[number - 1].runs
        if (told := _not_shown(block, done.printed[number - 1], done.told[number - 1]))
    ]
    assert not wrong, "\n".join(wrong)


def _not_shown(block: Block, printed: str, told: str) -> str | None:
    """What a block shows and the one before it did not print."""
    if block.language == "text":
        missing = lines_missing(block.text, printed + told)
        return f"{block.place}: not printed: {missing}\n{printed[-2_000:]}{told[-2_000:]}" if missing else None
    if block.language != "json":
        return None
    shown = json.loads(block.text)
    differences = [difference(shown, value) for value in values_in(printed)]
    if None in differences:
        return None
    return f"{block.place}: " + (
        "; ".join(map(str, differences)) if differences else f"no JSON was printed: {printed[-500:]}"
    )


@pytest.mark.parametrize("page", pages(), ids=_named)
def test_blocks_are_of_a_known_language_and_can_be_read(page: Path) -> None:
    for block in BLOCKS[page]:
        assert block.language in LANGUAGES, f"{block.place}: the block needs a language: {', '.join(sorted(LANGUAGES))}"
        assert not re.search(r"^\$ ", block.text, re.M) or block.language != "sh", f"{block.place}: no prompt, please"
        if block.language == "text" and not (block.follows or block.example):
            assert not _COMMANDS.match(block.text), f"{block.place}: commands stand in an sh block"
        if (read := _READERS.get(block.language)) is not None:
            try:
                read(block.text)
            except Exception as error:
                raise AssertionError(f"{block.place}: {error}") from error


def test_what_is_not_run_is_listed_with_its_reason() -> None:
    listed = "".join(
        f"{block.page.relative_to(ROOT)}: {block.not_run}: {block.text.strip().splitlines()[0][:80]}\n"
        for blocks in BLOCKS.values()
        for block in blocks
        if block.not_run is not None
    )
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(listed, encoding="utf-8")
    assert SNAPSHOT.read_text(encoding="utf-8") == listed, "run it with UPDATE_SNAPSHOTS=1 and look at the difference"


def _read_shell(text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr)


def _read_env(text: str) -> None:
    for line in text.splitlines():
        if line and not re.match(r"#|(?:export )?[A-Za-z_]\w*=", line):
            raise ValueError(f"no variable: {line}")


def _read_sql(text: str) -> None:
    if not sqlite3.complete_statement(text):
        raise ValueError("no complete statement")


def _read_ini(text: str) -> None:
    configparser.RawConfigParser(strict=False, allow_no_value=True).read_string(text)


def _read_yaml(text: str) -> None:
    list(yaml.safe_load_all(text))


_READERS: Final[dict[str, Callable[[str], object]]] = {
    "sh": _read_shell,
    "json": json.loads,
    "python": ast.parse,
    "yaml": _read_yaml,
    "toml": tomllib.loads,
    "ini": _read_ini,
    "env": _read_env,
    "sql": _read_sql,
}
