"""What others rely on is written down: a change shows in review, and nothing public is undocumented.

Write the snapshots anew with `UPDATE_SNAPSHOTS=1 python -m pytest tests/contract/test_public_surface.py`.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from asgi_server import Server

from firstline.adapters.telemetry import Metrics
from firstline.core.errors import CATALOGUE
from firstline.settings import variable_names

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"


def metric_names() -> list[str]:
    own = {"http_", "classification_", "provider_", "circuit_", "firstline_"}
    return sorted(
        family.name + ("_total" if family.type == "counter" else "_info" if family.type == "info" else "")
        for family in Metrics().registry.collect()
        if any(family.name.startswith(prefix) for prefix in own)
    )


def hold(name: str, found: Any) -> None:
    """Compare with a snapshot, or write it when asked to."""
    path = HERE / name
    text = json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(text)


def test_the_openapi_document_is_the_reviewed_one(production: Server) -> None:
    document = production.get("/openapi.json").json()
    document["info"]["version"] = "snapshot"
    hold("openapi.json", document)


def test_names_and_codes_are_the_reviewed_ones() -> None:
    surface = {
        "errors": {error.code: [error.status, error.title] for error in CATALOGUE},
        "metrics": metric_names(),
        "settings": {field: list(names) for field, names in variable_names().items()},
    }
    hold("surface.json", surface)


def test_every_route_is_in_the_openapi_document_or_deliberately_not(production: Server) -> None:
    paths = set(production.get("/openapi.json").json()["paths"])
    for path in ("/api/v1/classify", "/api/v1/batch", "/v1/decision", "/v1/usage", "/metrics", "/health"):
        assert path in paths
    assert not paths & {"/docs", "/redoc", "/openapi.json"}


@pytest.mark.parametrize("code", [error.code for error in CATALOGUE])
def test_every_error_has_its_page(code: str) -> None:
    page = DOCS / "errors" / f"{code}.md"
    assert code in page.read_text(encoding="utf-8")


def test_no_page_describes_an_error_that_is_gone() -> None:
    codes = {error.code for error in CATALOGUE}
    assert {page.stem for page in (DOCS / "errors").glob("*.md")} - {"index", "README"} == codes


@pytest.mark.parametrize("name", sorted({name for names in variable_names().values() for name in names[:1]}))
def test_every_setting_is_documented(name: str) -> None:
    assert f"`{name}`" in (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", metric_names())
def test_every_metric_is_documented(name: str) -> None:
    assert name in (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
