"""The alerts against their pages, the metrics that there are, and Prometheus' own tests."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services import missing

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
CASES = sorted((ROOT / "deploy" / "prometheus" / "tests").glob("*.test.yml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
ALERTS = [
    rule
    for path in RULES
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
NAMES = [rule["alert"] for rule in ALERTS]
OWN = re.compile(r"\b(?:firstline|http|classification|provider|circuit)_[a-z_]+\b")
SUFFIXES = ("_bucket", "_count", "_sum")


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        missing("Prometheus", "no promtool")
    assert found
    return found


def cases() -> Iterator[dict[str, Any]]:
    for path in CASES:
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            yield from case["alert_rule_test"]


def metrics_in(query: str) -> set[str]:
    names = set(OWN.findall(re.sub(r"firstline:\w+:\w+", "", query)))
    return {re.sub(rf"({'|'.join(SUFFIXES)})$", "", name) for name in names}


def documented() -> set[str]:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([a-z_]+)`", page, re.MULTILINE))


@pytest.mark.service
@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_prometheus_takes_the_rules(promtool: str, path: Path) -> None:
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.service
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_alerts_fire_where_they_should_and_nowhere_else(promtool: str, path: Path) -> None:
    done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.service
def test_alert_with_a_wrong_threshold_fails_its_cases(promtool: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy" / "prometheus", tmp_path, dirs_exist_ok=True)
    stores = tmp_path / "rules" / "firstline.stores.yml"
    stores.write_text(
        stores.read_text().replace("firstline_spool_limit_bytes > 0.8", "firstline_spool_limit_bytes > 8")
    )
    command = [promtool, "test", "rules", tmp_path / "tests" / "stores.test.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "FirstlineSpoolFilling" in done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    found = [bool(case["exp_alerts"]) for case in cases() if case["alertname"] == name]
    assert True in found
    assert False in found


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_each_alert_leads_to_a_page_that_names_it_and_says_what_to_do(rule: dict[str, Any]) -> None:
    page = (ROOT / rule["annotations"]["runbook"]).read_text(encoding="utf-8")
    assert f"`{rule['alert']}`" in page.partition("## Look")[0]
    assert "\n## Do\n" in page


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_each_alert_is_in_the_index_with_its_severity(rule: dict[str, Any]) -> None:
    rows = [row for row in (RUNBOOKS / "index.md").read_text(encoding="utf-8").splitlines() if row.startswith("| F")]
    row = next(row for row in rows if rule["alert"] in re.split(r"[,|\s]+", row))
    assert f"| {rule['labels']['severity']} |" in row
    assert Path(rule["annotations"]["runbook"]).name in row


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_rules_ask_only_for_metrics_that_there_are(path: Path) -> None:
    asked = {
        name
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        for name in metrics_in(rule["expr"])
    }
    assert asked - documented() == set()


def test_recorded_shares_are_those_that_alerts_use() -> None:
    recorded = {
        rule["record"]
        for path in RULES
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    used = {name for rule in ALERTS for name in re.findall(r"firstline:\w+:\w+", rule["expr"])}
    assert used == recorded


@pytest.mark.service
def test_queries_of_the_runbooks_can_be_asked(promtool: str, tmp_path: Path) -> None:
    queries = [
        line
        for path in sorted(RUNBOOKS.glob("*.md"))
        for block in re.findall(r"```promql\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(queries) > 10
    assert {name for query in queries for name in metrics_in(query)} - documented() == set()
    rules = [{"record": f"asked:number:{number}", "expr": query} for number, query in enumerate(queries)]
    written = tmp_path / "asked.yml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", written], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
