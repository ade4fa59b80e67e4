"""Prometheus, Alertmanager and Grafana as deployed: their own checks, and that names and ports lead somewhere."""

import http.client
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from deployment import DEPLOY, Manifest, compose, program, run
from waiting import until

CONFIG: Final = DEPLOY / "alertmanager" / "alertmanager.yml"
SCRAPED: Final = DEPLOY / "prometheus" / "prometheus.yml"
WAIT_S: Final = 30


@pytest.fixture(scope="module")
def file() -> Manifest:
    return compose(SECRETS_DIR="./deploy/compose/secrets")


@pytest.fixture(scope="module")
def routes() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    return loaded


@pytest.fixture(scope="module")
def alerts() -> dict[str, str]:
    """Severity of every alert."""
    groups = [
        g
        for path in (DEPLOY / "prometheus" / "rules").glob("*.yml")
        for g in yaml.safe_load(path.read_text())["groups"]
    ]
    return {rule["alert"]: rule["labels"]["severity"] for g in groups for rule in g["rules"] if "alert" in rule}


def matched(matchers: list[str], names: set[str]) -> set[str]:
    """The alerts whose name fits all matchers."""
    for matcher in matchers:
        found = re.fullmatch(r'alertname(=~|!~|=)"(.+)"', matcher)
        assert found, matcher
        how, what = found.groups()
        fits = {name for name in names if (name == what if how == "=" else re.fullmatch(what, name))}
        names = names - fits if how == "!~" else fits
    return names


def networks(service: Manifest) -> set[str]:
    return set(service["networks"])


@pytest.mark.service
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    token = tmp_path / "metrics_token"
    token.write_text("token")
    config = tmp_path / "prometheus.yml"
    config.write_text(SCRAPED.read_text().replace("/run/secrets/metrics_token", str(token)))
    (tmp_path / "rules").symlink_to(DEPLOY / "prometheus" / "rules")
    result = run(program("promtool"), "check", "config", str(config))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.service
@pytest.mark.parametrize(("severity", "receiver"), [("page", "page"), ("ticket", "ticket"), ("unheard-of", "ticket")])
def test_alerts_go_to_the_receiver_of_their_severity(severity: str, receiver: str) -> None:
    amtool = program("amtool")
    checked = run(amtool, "check-config", str(CONFIG))
    assert checked.returncode == 0, checked.stderr
    told = run(amtool, "config", "routes", "test", f"--config.file={CONFIG}", f"severity={severity}")
    assert told.stdout.split() == [receiver]


def test_a_page_goes_two_ways_at_once_and_no_alert_goes_nowhere(routes: dict[str, Any], alerts: dict[str, str]) -> None:
    receivers = {receiver["name"]: set(receiver) - {"name"} for receiver in routes["receivers"]}
    assert receivers == {"page": {"slack_configs", "email_configs"}, "ticket": {"slack_configs"}}
    assert set(alerts.values()) == set(receivers)


def test_only_alerts_that_there_are_are_held_back_and_never_a_page_by_a_ticket(
    routes: dict[str, Any], alerts: dict[str, str]
) -> None:
    for rule in routes["inhibit_rules"]:
        sources, targets = (matched(rule[f"{side}_matchers"], set(alerts)) for side in ("source", "target"))
        assert sources
        assert targets
        assert not sources & targets
        assert {alerts[name] for name in sources} == {"page"}
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            for name in matcher.split('"')[1].split("|"):
                assert any(re.fullmatch(name, alert) for alert in alerts), f"{name} is no alert"


def test_each_thing_that_is_scraped_is_there(file: Manifest) -> None:
    services = file["services"]
    ours = networks(services["prometheus"])
    ports = {"app": "8000", "app-2": "8000", "worker": "8001", "alertmanager": "9093", "grafana": "3000"}
    scraped: dict[str, str] = {}
    for job in yaml.safe_load(SCRAPED.read_text())["scrape_configs"]:
        found = [(name, str(entry["port"])) for entry in job.get("dns_sd_configs", []) for name in entry["names"]]
        found += [tuple(t.split(":")) for entry in job.get("static_configs", []) for t in entry["targets"]]
        for name, port in found:
            if name != "127.0.0.1":  # Prometheus itself
                assert "monitoring" in networks(services[name]) & ours, name
                scraped[name] = port
    assert scraped == ports


def test_rules_name_the_jobs_that_are_scraped() -> None:
    jobs = {job["job_name"] for job in yaml.safe_load(SCRAPED.read_text())["scrape_configs"]}
    for path in (DEPLOY / "prometheus" / "rules").glob("*.yml"):
        for how, wanted in re.findall(r'\bjob(=~?)"([^"]+)"', path.read_text()):
            assert any(re.fullmatch(wanted, job) if how == "=~" else wanted == job for job in jobs), wanted


def test_grafana_finds_prometheus_and_the_dashboards(file: Manifest) -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "firstline.yml").read_text())["datasources"]
    ports = {"prometheus": 9090, "alertmanager": 9093}
    for source in sources:
        service = source["type"]
        assert source["url"] == f"http://{service}:{ports[service]}"
        assert networks(file["services"][service]) & networks(file["services"]["grafana"])
    assert [source["name"] for source in sources if source.get("isDefault")] == ["Prometheus"]
    [provider] = yaml.safe_load((provisioning / "dashboards" / "firstline.yml").read_text())["providers"]
    mounts = [mount.split(":") for mount in file["services"]["grafana"]["volumes"]]
    assert ["./deploy/grafana/dashboards", provider["options"]["path"], "ro"] in mounts
    assert ["./deploy/grafana/provisioning", "/etc/grafana/provisioning", "ro"] in mounts
    interval = yaml.safe_load(SCRAPED.read_text())["global"]["scrape_interval"]
    assert sources[0]["jsonData"]["timeInterval"] == interval


@pytest.mark.service
def test_prometheus_can_answer_what_the_adapter_asks(tmp_path: Path) -> None:
    values = yaml.safe_load((DEPLOY / "kubernetes" / "prometheus-adapter-values.yaml").read_text())
    asked = []
    for number, rule in enumerate((*values["rules"]["custom"], *values["rules"]["external"])):
        query = rule["metricsQuery"].replace("<<.Series>>", rule["name"]["as"])
        query = query.replace("<<.LabelMatchers>>", 'namespace="firstline"').replace("<<.GroupBy>>", "pod")
        asked += [
            {"record": f"asked:series:{number}", "expr": rule["seriesQuery"]},
            {"record": f"asked:metric:{number}", "expr": query},
        ]
    rules = tmp_path / "asked.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": asked}]}))
    result = run(program("promtool"), "check", "rules", str(rules))
    assert result.returncode == 0, result.stdout + result.stderr


class Told:
    """A running Alertmanager."""

    def __init__(self, port: int) -> None:
        self.port = port

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            assert response.status == 200, answer
            return answer

    def answers(self) -> bool:
        try:
            self.request("GET", "/-/ready")
        except OSError:
            return False
        return True

    def fire(self, name: str, severity: str) -> None:
        ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        labels = {"alertname": name, "severity": severity}
        self.request("POST", "/api/v2/alerts", [{"labels": labels, "endsAt": ends}])

    def failed(self) -> set[str]:
        """The channels by which nothing could be told."""
        text = self.request("GET", "/metrics").decode()
        name = "alertmanager_notification_requests_failed_total"
        return set(re.findall(rf'^{name}{{integration="(\w+)".*}} [1-9]', text, re.MULTILINE))

    def active(self) -> set[str]:
        alerts = json.loads(self.request("GET", "/api/v2/alerts?inhibited=false"))
        return {alert["labels"]["alertname"] for alert in alerts}


@contextmanager
def alertmanager(folder: Path) -> Iterator[Told]:
    """Alertmanager as it is deployed, with an empty Slack file and short waits."""
    path = program("prometheus-alertmanager")
    (folder / "slack_url").write_text("\n")
    config = CONFIG.read_text().replace("/run/secrets/slack_url", str(folder / "slack_url"))
    (folder / "alertmanager.yml").write_text(re.sub(r"group_wait: \w+", "group_wait: 0s", config))
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [
        path,
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/data",
        "--cluster.listen-address=",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        told = Told(port)
        assert until(told.answers, within_s=WAIT_S)
        yield told
    finally:
        process.terminate()
        process.wait(WAIT_S)


@pytest.mark.service
def test_as_shipped_alertmanager_starts_and_says_that_it_can_tell_nobody(tmp_path: Path) -> None:
    with alertmanager(tmp_path) as told:
        told.fire("FirstlineDown", "page")
        assert until(lambda: told.failed() == {"slack", "email"}, within_s=WAIT_S)
        assert told.active() == {"FirstlineDown"}
        log = (tmp_path / "log").read_text()
        assert "receiver=page integration=slack[0]" in log
        assert "receiver=page integration=email[0]" in log


@pytest.mark.service
def test_what_follows_from_an_alert_is_held_back(tmp_path: Path) -> None:
    with alertmanager(tmp_path) as told:
        told.fire("FirstlineQuotaNear", "ticket")
        told.fire("FirstlineSlow", "ticket")
        assert until(lambda: told.active() == {"FirstlineQuotaNear", "FirstlineSlow"}, within_s=WAIT_S)
        told.fire("FirstlineStoreFailing", "page")
        assert until(lambda: told.active() == {"FirstlineQuotaNear", "FirstlineStoreFailing"}, within_s=WAIT_S)
        told.fire("FirstlineAbsent", "page")
        assert until(lambda: told.active() == {"FirstlineAbsent"}, within_s=WAIT_S)
