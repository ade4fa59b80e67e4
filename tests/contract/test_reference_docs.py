"""The reference pages against the code: a setting, metric or error code without documentation fails here."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from firstline.adapters.telemetry import Metrics
from firstline.core.errors import CATALOGUE, PublicError
from firstline.delivery.http.replies import ErrorReply, error_reply

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), ROOT / "training" / "README.md"])

_SUFFIXES = {"counter": "_total", "info": "_info"}


def test_settings_page_is_what_the_settings_say() -> None:
    written = runpy.run_path(str(ROOT / "tools" / "settings_doc.py"))["document"]()
    assert (DOCS / "reference" / "settings.md").read_text(encoding="utf-8") == written


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    assert documented_metrics() == exposed_metrics()


def test_every_error_code_has_a_page_and_every_page_a_code() -> None:
    pages = {path.stem for path in (DOCS / "errors").glob("*.md")} - {"index"}
    assert pages == {error.code for error in CATALOGUE}


def test_index_of_errors_lists_every_code_with_its_status() -> None:
    rows = re.findall(r"^\| (\d{3}) \| \[`(\w+)`\]\((\w+)\.md\)", index_of_errors(), re.MULTILINE)
    assert sorted(rows) == sorted((str(error.status), error.code, error.code) for error in CATALOGUE)


@pytest.mark.parametrize("error", CATALOGUE, ids=lambda error: error.code)
def test_page_of_an_error_says_its_status_and_title(error: PublicError) -> None:
    page = page_of(error)
    assert page.startswith(f"# `{error.code}`\n")
    assert f"**{error.status}** {error.title}" in page


@pytest.mark.parametrize("error", CATALOGUE, ids=lambda error: error.code)
def test_page_of_an_error_shows_bodies_that_the_server_sends(error: PublicError) -> None:
    bodies = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page_of(error), re.DOTALL)]
    assert bodies
    for body in bodies:
        if "type" in body:
            sent = body_of(error, path="/v1/categories")
            assert sent.keys() <= body.keys()
            assert {**sent, "detail": ""} == {**{name: body[name] for name in sent}, "detail": ""}
            continue
        if error.code == "validation_failed":
            assert all(set(fault) == {"type", "loc", "msg"} for fault in body["detail"])
            continue
        sent = body_of(error, path="/v1/decision" if "docs" in body else "/api/v1/classify")
        assert sent.keys() <= body.keys()
        assert (body["error"], body.get("docs")) == (sent["error"], sent.get("docs"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def exposed_metrics() -> set[tuple[str, str, tuple[str, ...]]]:
    found = set()
    metrics = Metrics()
    for value in [*vars(metrics).values(), *vars(metrics.providers).values(), *vars(metrics.limits).values()]:
        if isinstance(value, MetricWrapperBase):
            described = next(iter(value.describe()))
            name = described.name + _SUFFIXES.get(described.type, "")
            found.add((name, described.type, tuple(value._labelnames)))
    return found


def documented_metrics() -> set[tuple[str, str, tuple[str, ...]]]:
    page = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", page, re.MULTILINE)
    return {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def page_of(error: PublicError) -> str:
    return (DOCS / "errors" / f"{error.code}.md").read_text(encoding="utf-8")


def index_of_errors() -> str:
    return (DOCS / "errors" / "index.md").read_text(encoding="utf-8")


def body_of(error: PublicError, *, path: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(bytes(error_reply(ErrorReply(error), path=path, docs_url="/docs/errors").body))
    return data
