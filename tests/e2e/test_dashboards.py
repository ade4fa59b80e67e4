"""Every panel has something to show: real processes under mixed load, watched by a real Prometheus as it is shipped."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any, Final

import pytest
from served import CLIENT_S, START_S, Answer, Served, command_line, environment, serve
from watched import DASHBOARDS, Prometheus, dashboards, prometheus, put_in, queries, silent, variables

from firstline.delivery.fake_provider import FakeProvider, Fault
from redis_server import RedisServer
from services import OwnPostgres, running_postgres
from waiting import until

pytestmark = pytest.mark.service

TOKEN: Final = "scrape-me"
WITHIN_S: Final = 120
OVER_S: Final = 300
HAPPENED: Final = {
    "a breaker opened": 'circuit_breaker_state{provider="gemini", model!=""} == 2',
    "a provider failed": 'provider_failures_total{provider="gemini"} > 0',
    "a provider answered": 'classification_requests_total{source="provider"} > 0',
    "calls cost": "firstline_provider_cost_usd_total > 0",
    "an answer was at hand": "firstline_provider_cached_total > 0",
    "an event was given up": 'firstline_webhook_attempts_total{outcome="dead"} > 0',
    "an event arrived": 'firstline_webhook_attempts_total{outcome="delivered"} > 0',
    "a limit was met": 'firstline_limit_denials_total{window="minute"} > 0',
    "a key was wrong": 'firstline_auth_failures_total{reason="invalid"} > 0',
    "verdicts were spooled": "firstline_spooled_records_total > 0",
    "a worker answered rows": 'firstline_job_rows_total{job="firstline-worker", outcome="answered"} > 0',
    "a row failed": 'firstline_job_rows_total{outcome="failed"} > 0',
    "somebody judged": 'firstline_feedback_total{correct="no"} > 0',
    "a rule pack was wrong": 'firstline_rule_reloads_total{outcome="invalid"} > 0',
    "the first failures were an increase": 'increase(http_requests_total{route="/v1/tickets", status="503"}[5m]) > 0',
}

MISTAKES: Final = {
    "the name of a metric": ("firstline_decisions_total", "firstline_decision_total"),
    "the value of a label": ('status=~\\"5..\\"', 'status=~\\"6..\\"'),
    "a label that series are summed by": ("by (route)", "by (root)"),
    "the end of a metric's name": ("http_request_duration_seconds_bucket", "http_request_duration_seconds_buckets"),
}


class _Receiver(BaseHTTPRequestHandler):
    """Takes what comes to `/in` and nothing else."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204 if self.path == "/in" else 500)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Deployment:
    """Server, worker and what they stand on."""

    server: Served
    store: OwnPostgres
    rules: Path
    large: str
    free: str
    rounds: int = 0
    numbers: Iterator[int] = field(default_factory=count)

    def call(self, method: str, path: str, body: Any = None, **given: Any) -> Answer | None:
        """One request; None where the connection broke."""
        with suppress(OSError):
            return self.server.request(method, path, body, **given)
        return None

    def go_on(self) -> None:
        """One round of mixed load."""
        self.rounds += 1
        number = next(self.numbers)
        for text in (
            f"I will sue you over order {number}",
            "The shop page says payment required",
            f"My login {number} works on the phone but not here, maybe the network is down?",
            "ok",
        ):
            verdict = self.call("POST", "/v1/decision", {"message": text}, key=self.large)
            if verdict is not None and verdict.status == 200:
                right = {"correct": True} if number % 2 else {"correct": False}
                self.call("POST", f"/v1/tickets/{verdict.data['id']}/feedback", right, key=self.large)
        self.call("POST", "/api/v1/classify", {"ticket": f"Cannot connect to VPN {number}"}, key=self.large)
        tickets = [f"I was charged twice, order {number}", "How do I export my data?", ""]
        self.call("POST", "/api/v1/batch", {"tickets": tickets}, key=self.large)
        self.call("POST", "/v1/decision", raw=b"{", key=self.large)
        self.call("POST", "/v1/decision", {"message": ""}, key=self.large)
        self.call("GET", "/v1/tickets", key=self.large)
        self.call("GET", "/nowhere")
        self.call("GET", "/v1/usage", key="sk_live_" + "a" * 32)
        for _ in range(4):
            self.call("POST", "/v1/decision", {"message": "How do I reset my password?"}, key=self.free)
        rows = b'{"text": "The VPN is down"}\n{"text": " "}\n{"text": "Refund please"}'
        self.call("POST", "/v1/jobs?format=ndjson", raw=rows, key=self.large)
        if self.rounds == 2:
            self._break_a_rule_pack()
        if self.rounds % 10 == 3:
            self._lose_the_database()

    def _break_a_rule_pack(self) -> None:
        pack = self.rules / "own.yaml"
        pack.write_text("rules: [nonsense")
        assert until(lambda: "rules_invalid" in self.server.logged(), within_s=CLIENT_S)
        pack.unlink()

    def _lose_the_database(self) -> None:
        self.store.stop()
        for _ in range(3):
            self.call("POST", "/v1/decision", {"message": "I will sue you"}, key=self.large)
            self.call("GET", "/v1/tickets", key=self.large)
        self.store.start()


@dataclass(frozen=True, slots=True)
class Watched:
    """A deployment under load, and who watches it."""

    deployment: Deployment
    prometheus: Prometheus


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Under load until everything has happened that panels tell of."""
    with ExitStack() as stack:
        deployment, targets = stack.enter_context(deployed(tmp_path))
        found = stack.enter_context(prometheus(targets, token=TOKEN, folder=tmp_path))
        missing = dict(HAPPENED)
        ends_s = monotonic() + WITHIN_S
        while missing and monotonic() < ends_s:
            deployment.go_on()
            missing = {what: query for what, query in missing.items() if found.value(query) is None}
        assert not missing, f"{missing}\n{deployment.server.logged()[-3_000:]}"
        yield Watched(deployment, found)


@contextmanager
def deployed(folder: Path) -> Iterator[tuple[Deployment, dict[str, str]]]:
    """Everything but Prometheus; and where it finds each job."""
    rules, data_dir = folder / "rules", folder / "data"
    rules.mkdir()
    data_dir.mkdir()
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    receiver.daemon_threads = True
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    with ExitStack() as stack:
        stack.callback(receiver.server_close)
        stack.callback(receiver.shutdown)
        store = stack.enter_context(running_postgres())
        redis = stack.enter_context(RedisServer(folder))
        fake = stack.enter_context(FakeProvider())
        fake.script(Fault.UNAVAILABLE, profile="gemini")
        names = {
            "FIRSTLINE_DATABASE_URL": store.url,
            "FIRSTLINE_REDIS_URL": redis.url,
            "FIRSTLINE_METRICS_TOKEN": TOKEN,
            "FIRSTLINE_JOB_PROCESSES": "0",
            "FIRSTLINE_SPOOL_DIR": str(folder / "spool"),
            "FIRSTLINE_RULES_DIR": str(rules),
            "FIRSTLINE_WEBHOOK_RETRY_SECONDS": "0.2",
            "SECRET_KEY": "5" * 64,
        }
        models = {
            "FIRSTLINE_AI_PRICES": "openai/gpt-6-luna=1/2, gemini/gemini-3.5-flash-lite=1/2",
            "AI_MODE": "always",
            "GEMINI_API_KEY": "fake",
            "GEMINI_BASE_URL": fake.url("gemini"),
            "OPENAI_API_KEY": "fake",
            "OPENAI_BASE_URL": fake.url("openai"),
        }
        large = [enterprise_key(catalogue, cwd=folder, **names) for catalogue in ("classifier", "decision")][-1]
        worker = stack.enter_context(working(data_dir, **names))
        server = stack.enter_context(serve(data_dir, **names, **models))
        free = server.request("POST", "/api/v1/auth/register", {"email": "free@example.com", "tier": "free"})
        for place in ("in", "broken"):
            wish = {"url": f"http://127.0.0.1:{receiver.server_address[1]}/{place}", "events": ["ticket.classified"]}
            assert server.request("POST", "/v1/webhooks", wish, key=large).status == 201
        deployment = Deployment(server, store, rules, large, free.data["api_key"])
        yield deployment, {"firstline": f"{server.host}:{server.port}", "firstline-worker": worker}


def enterprise_key(catalogue: str, *, cwd: Path, **names: str) -> str:
    """A key of an account that has the largest plan of this catalogue, and of those that were named before."""
    flags = ("--email", "large@example.com", "--plan", "enterprise", "--catalogue", catalogue, "--json")
    made = command_line("keys", "create", *flags, cwd=cwd, **names)
    assert made.returncode == 0, made.stderr
    key: str = json.loads(made.stdout)["key"]
    return key


@contextmanager
def working(data_dir: Path, **names: str) -> Iterator[str]:
    """A worker; yields where its metrics are."""
    flags = ["--data-dir", str(data_dir), "--processes", "1", "--metrics-port", "0"]
    command = [sys.executable, "-m", "firstline.delivery.cli", "worker", *flags]
    log = data_dir.with_name("worker.log")
    with (
        log.open("w") as said,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=said, cwd=data_dir.parent, env=environment(**names), text=True
        ) as process,
    ):
        watchdog = threading.Timer(START_S, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            found = re.search(r"http://([\d.]+:\d+)/metrics", process.stdout.readline())
            assert found, log.read_text()
            watchdog.cancel()
            yield found[1]
        finally:
            watchdog.cancel()
            process.kill()


def quiet(watched: Watched, changed: list[dict[str, Any]]) -> list[str]:
    """What has no answer, after as much more load as it takes."""
    found = ["nothing was asked"]

    def all_speak() -> bool:
        found[:] = [one for each in changed for one in silent(each, watched.prometheus, over_s=OVER_S)]
        if found:
            watched.deployment.go_on()
        return not found

    until(all_speak, within_s=CLIENT_S)
    return found


def test_every_query_of_every_panel_has_an_answer_and_a_mistake_in_one_is_noticed(watched: Watched) -> None:
    """One test, since all of it stands on one deployment that takes half a minute to build up."""
    shipped = dashboards()
    assert len(shipped) == 6
    assert quiet(watched, shipped) == []
    for kind, (right, wrong) in MISTAKES.items():
        text = (DASHBOARDS / "api-overview.json").read_text(encoding="utf-8")
        assert right in text
        assert silent(json.loads(text.replace(right, wrong)), watched.prometheus, over_s=OVER_S), kind
    assert_only_ours_is_shown(shipped, watched.prometheus)
    assert_rules_can_be_evaluated(watched.prometheus)


def assert_only_ours_is_shown(shipped: list[dict[str, Any]], prom: Prometheus) -> None:
    """Prometheus watches itself and has metrics of processes as well."""
    assert prom.value('process_resident_memory_bytes{job="prometheus"}')
    (system,) = [one for one in shipped if one["title"].endswith("System resources")]
    (memory,) = [asked for asked in queries(system) if asked.panel == "Memory" and "sum(" not in asked.expression]
    found = prom.ask("query", query=put_in(memory.expression, variables(system, prom)))
    assert {series["metric"]["job"] for series in found["result"]} == {"firstline", "firstline-worker"}


def assert_rules_can_be_evaluated(prom: Prometheus) -> None:
    """Those that are shipped, over what processes really tell."""
    rules = [rule for group in prom.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["type"] for rule in rules} == {"recording", "alerting"}
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
