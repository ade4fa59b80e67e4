"""The reference pages that follow from the code say what it does."""

import runpy
from pathlib import Path
from typing import Any

import pytest
from blocks import ROOT


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """The tool that writes the pages."""
    return runpy.run_path(str(ROOT / "tools" / "reference_docs.py"))


def test_pages_that_follow_from_the_code_are_written_anew(reference: dict[str, Any]) -> None:
    differing: list[Path] = reference["differing"]()
    assert differing == [], "run: python tools/reference_docs.py --write"


def test_every_option_of_every_command_is_on_the_page(reference: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    for option in ("--data-dir DIR", "--resume", "--operator", "--metrics-port PORT", "--fault NAME"):
        assert f"`{option}`" in page
    assert "`--port PORT`" in page.split("## serve\n")[1].split("\n## ")[0]


def test_every_route_is_on_the_page(reference: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "reference" / "routes.md").read_text(encoding="utf-8")
    assert "| `POST /v1/decision` | What to do with a message | yes |" in page
    assert "| `GET /health/live` | Whether the process answers |  |" in page
