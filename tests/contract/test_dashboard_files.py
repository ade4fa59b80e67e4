"""The dashboards as files: what is committed is what the code writes, and every panel explains itself."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboards.__main__ import ALL, FOLDER, files
from grafana_foundation_sdk.models.dashboard import Dashboard
from test_reference_docs import documented_metrics

DOCS = Path(__file__).parents[2] / "docs"
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?=\{)")
_OF_PROMETHEUS = re.compile(r"up|ALERTS|process_\w+|python_\w+")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")

WRITTEN = {name: json.loads(text) for name, text in files().items()}


def panels(dashboard: Any) -> Iterator[Any]:
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def expressions(dashboard: Any) -> Iterator[str]:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield target["expr"]


def test_the_committed_files_are_what_the_code_writes() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert committed == files(), "run make dashboards"


@pytest.mark.parametrize("name", WRITTEN)
def test_every_metric_of_a_query_is_documented(name: str) -> None:
    documented = {metric for metric, _, _ in documented_metrics()}
    asked = {metric for text in expressions(WRITTEN[name]) for metric in _METRIC.findall(text)}
    assert asked
    strange = {metric for metric in asked if not _OF_PROMETHEUS.fullmatch(metric)}
    assert {_SUFFIX.sub("", metric) for metric in strange} - documented == set()


@pytest.mark.parametrize("name", WRITTEN)
def test_every_panel_has_a_title_of_its_own_a_sentence_a_unit_and_named_series(name: str) -> None:
    shown = list(panels(WRITTEN[name]))
    assert len({(panel["title"], panel["type"]) for panel in shown}) == len(shown)
    for panel in shown:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["type"] == "table" or all(target["legendFormat"] for target in panel["targets"]), panel["title"]


@pytest.mark.parametrize("name", WRITTEN)
def test_queries_follow_the_choices_at_the_top(name: str) -> None:
    for text in expressions(WRITTEN[name]):
        assert _METRIC.findall(text), text
        for selector in re.findall(r"\{[^}]*\}", text):
            assert selector.startswith('{job=~"$job", instance=~"$instance"'), text


@pytest.mark.parametrize("name", WRITTEN)
def test_counters_are_shown_by_their_growth_and_over_the_interval_that_grafana_chooses(name: str) -> None:
    for text in expressions(WRITTEN[name]):
        for window in re.findall(r"\[([^\]]*)\]", text):
            assert window in {"$__rate_interval", "$__range"}, text
        for counter in re.findall(r"\w+_(?:total|bucket|sum|count)\{[^}]*\}(.?)", text):
            assert counter == "[", text


@pytest.mark.parametrize("name", WRITTEN)
def test_panels_do_not_overlap_and_fill_their_rows(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in WRITTEN[name]["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    assert len(taken) == 24 * (max(y for _, y in taken) + 1)


@pytest.mark.parametrize("name", WRITTEN)
def test_grafana_s_own_model_reads_a_file_as_it_was_written(name: str) -> None:
    assert Dashboard.from_json(WRITTEN[name]).title == WRITTEN[name]["title"]


@pytest.mark.parametrize("dashboard", ALL, ids=lambda one: one.name)
def test_pages_that_panels_name_exist(dashboard: Any) -> None:
    pages = {panel.page for row in dashboard.rows for panel in row.panels if panel.page}
    assert [page for page in pages if not (DOCS / f"{page}.md").exists()] == []


def test_panels_link_to_the_documentation_where_its_address_is_given() -> None:
    found = json.loads(files(docs_url="https://docs.example.com")["api-overview.json"])
    assert found["links"][1]["url"] == "https://docs.example.com/guides/dashboards/"
    (panel,) = [one for one in panels(found) if one["title"] == "Failed requests"]
    assert panel["links"][0]["url"] == "https://docs.example.com/runbooks/error-budget/"
    assert "docs/runbooks" not in panel["description"]
