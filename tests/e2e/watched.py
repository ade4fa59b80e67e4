"""A real Prometheus beside real processes, and what Grafana would ask it."""

import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, Final

import yaml
from served import CLIENT_S, START_S

from services import missing
from waiting import until

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
CONFIG: Final = DEPLOY / "prometheus" / "prometheus.yml"
DASHBOARDS: Final = DEPLOY / "grafana" / "dashboards"
RATE_INTERVAL: Final = "15s"
_SELECTOR: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\{[^}]*\}")
_LEGEND: Final = re.compile(r"\{\{(\w+)\}\}")
_VALUES: Final = re.compile(r"label_values\((?P<selector>.+), (?P<label>\w+)\)")


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        port: int = found.getsockname()[1]
    return port


def configured(targets: Mapping[str, str], *, port: int, token: str, folder: Path) -> Path:
    """The configuration that is shipped, pointed at processes of this machine and made to scrape every second.

    Args:
        targets: where each job of it is found; jobs that are not here are left out.
        port: Prometheus' own.
        token: that scrapers of firstline send.
    """
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    assert targets.keys() <= {job["job_name"] for job in config["scrape_configs"]}
    found = {**targets, "prometheus": f"127.0.0.1:{port}"}
    secret = folder / "metrics_token"
    secret.write_text(token)
    jobs = [job for job in config["scrape_configs"] if job["job_name"] in found]
    for job in jobs:
        if job["job_name"] in targets:
            assert job["authorization"]["credentials_file"], "the shipped configuration sends no token"
            job["authorization"]["credentials_file"] = str(secret)
        for kind in [name for name in job if name.endswith("_configs")]:
            del job[kind]
        job["static_configs"] = [{"targets": [found[job["job_name"]]]}]
    config["scrape_configs"] = jobs
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(CONFIG.parent / pattern) for pattern in config["rule_files"]]
    del config["alerting"]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server."""

    url: str

    def ask(self, path: str, **arguments: Any) -> Any:
        """What its API answers.

        Raises: AssertionError with what it says is wrong with the query.
        """
        query = urllib.parse.urlencode(arguments, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=CLIENT_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{arguments}: {error.read().decode()}") from None

    def series(self, query: str, *, over_s: int) -> list[Mapping[str, str]]:
        """The labels of every series that a query had in the last seconds with at least one value that is a number."""
        now_s = self.ask("query", query="time()")["result"][0]
        found = self.ask("query_range", query=query, start=now_s - over_s, end=now_s, step=1)["result"]
        return [one["metric"] for one in found if not all(isnan(float(value)) for _, value in one["values"])]

    def value(self, query: str) -> float | None:
        """What a query with one series answers now."""
        found = self.ask("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None


@contextmanager
def prometheus(targets: Mapping[str, str], *, token: str, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that watches these processes; returns once it has read each of them."""
    program = shutil.which("prometheus")
    if program is None:
        missing("Prometheus", "no prometheus on PATH")
    port = free_port()
    config = configured(targets, port=port, token=token, folder=folder)
    command = [
        str(program),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = folder / "prometheus.log"
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            found = Prometheus(f"http://127.0.0.1:{port}")
            assert until(lambda: process.poll() is not None or _is_ready(found.url), within_s=START_S), log.read_text()
            read = f"count(up == 1) == {len(targets) + 1}"
            assert until(lambda: found.value(read) is not None, within_s=START_S), found.ask("targets")
            yield found
        finally:
            process.terminate()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=CLIENT_S):
            return True
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Asked:
    """A query of a panel.

    Attributes:
        expression: as the file has it, with Grafana's variables.
        labels: that the names of its series are made of.
    """

    dashboard: str
    panel: str
    expression: str
    labels: frozenset[str]


def queries(dashboard: Mapping[str, Any]) -> Iterator[Asked]:
    """Every query of every panel."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            labels = frozenset(_LEGEND.findall(target["legendFormat"]))
            yield Asked(dashboard["title"], panel["title"], target["expr"], labels)


def variables(dashboard: Mapping[str, Any], prom: Prometheus) -> dict[str, str]:
    """What Grafana puts in place of the variables of a dashboard when everything is chosen."""
    chosen: dict[str, str] = {"__rate_interval": RATE_INTERVAL}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        asked = _VALUES.fullmatch(variable["query"])
        assert asked, variable["query"]
        selector = put_in(asked["selector"], chosen)
        values = prom.ask(f"label/{asked['label']}/values", **{"match[]": selector})
        assert values, f"the variable {variable['name']} has nothing to choose"
        chosen[variable["name"]] = "(" + "|".join(re.escape(value).replace("\\", "\\\\") for value in values) + ")"
    return chosen


def put_in(text: str, chosen: Mapping[str, str]) -> str:
    """A text with values in place of variables."""
    for name in sorted(chosen, key=len, reverse=True):
        text = text.replace(f"${name}", chosen[name])
    assert "$" not in text, text
    return text


def silent(dashboard: Mapping[str, Any], prom: Prometheus, *, over_s: int) -> Sequence[str]:
    """The queries that have no answer, the selectors in them that find nothing, and legends without a label."""
    chosen = {**variables(dashboard, prom), "__range": f"{over_s}s"}
    found = []
    for asked in queries(dashboard):
        expression = put_in(asked.expression, chosen)
        drawn = prom.series(expression, over_s=over_s)
        silent_parts = [part for part in _SELECTOR.findall(expression) if not prom.series(part, over_s=over_s)]
        found += [f"{asked.dashboard}, {asked.panel}: {part}" for part in silent_parts]
        if not drawn or not all(asked.labels <= labels.keys() for labels in drawn):
            found.append(f"{asked.dashboard}, {asked.panel}: {expression}")
    return list(dict.fromkeys(found))


def dashboards() -> list[dict[str, Any]]:
    """Those that are shipped."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))]
