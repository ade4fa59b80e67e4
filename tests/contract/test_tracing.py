"""Traces, log lines that carry them, and reports of faults, as collectors on loopback receive them."""

import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from asgi_server import PRODUCTION, Serve, Server
from collectors import Collector, Seen

from firstline.adapters.error_reports import CLOSE_S as REPORTS_CLOSE_S
from firstline.adapters.tracing.export import CLOSE_S
from firstline.core.taxonomy import Contract
from firstline.delivery.fake_provider import FakeProvider

CANARY = "zyxwcanary"
UNSURE = f"Something about it is strange since the other day {CANARY}"
MAIL = f"{CANARY}@example.com"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SERVER, CLIENT, CONSUMER = 2, 3, 5


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


def key_of(server: Server) -> str:
    server.key(MAIL, plan="enterprise", catalogue=Contract.DECISION)
    return server.key(MAIL, plan="enterprise")


def classified(server: Server, key: str, text: str = UNSURE, **headers: str) -> dict[str, Any]:
    answer = server.post("/api/v1/classify", {"ticket": text, "ai_mode": "always"}, key=key, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def traced(serve: Serve, collector: Collector, **settings: Any) -> Server:
    return serve(**{"otlp_endpoint": collector.url, "environment": PRODUCTION, "job_processes": 0, **settings})


def under(collector: Collector, parent: Seen) -> set[str]:
    """Names of the spans right under another one."""
    return {span.name for span in collector.spans() if span.parent_id == parent.span_id}


def log_lines(captured: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in captured.readouterr().err.splitlines() if line.startswith("{")]


def test_a_request_is_one_trace_through_model_rules_provider_and_store(
    serve: Serve, collector: Collector, fake: FakeProvider
) -> None:
    server = traced(serve, collector, gemini_api_key=f"{CANARY}-key", gemini_base_url=fake.url("gemini"))
    key = key_of(server)
    found = classified(server, key)
    assert found["provider"] == "gemini"
    server.close()
    request = collector.only("POST /api/v1/classify")
    assert (request.kind, request.parent_id, request.failed) == (SERVER, "", False)
    assert request.attributes["http.route"] == "/api/v1/classify"
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["firstline.account"].startswith("acc_")
    assert under(collector, request) == {"model", "rules", "ask", "store"}
    call = collector.only(next(span.name for span in collector.spans() if span.name.startswith("chat ")))
    assert call.parent_id == collector.only("ask").span_id
    assert call.kind == CLIENT
    assert call.attributes["gen_ai.provider.name"] == "gcp.gemini"
    assert call.attributes["gen_ai.usage.input_tokens"] > 0
    assert collector.only("commit").parent_id == collector.only("store").span_id
    assert collector.only("rules").attributes["firstline.characters"] == len(UNSURE)
    assert {span.trace_id for span in collector.spans()} == {request.trace_id}
    assert all(request.began_ns <= span.began_ns <= span.ended_ns for span in collector.spans())


def test_nothing_of_a_message_a_key_an_address_or_an_account_is_sent(
    serve: Serve, collector: Collector, fake: FakeProvider
) -> None:
    server = traced(serve, collector, gemini_api_key=f"{CANARY}-key", gemini_base_url=fake.url("gemini"))
    key = key_of(server)
    server.put("/v1/categories", {"categories": [{"name": CANARY, "description": "words of nobody"}] * 1}, key=key)
    classified(server, key, **{"X-Request-ID": CANARY, "User-Agent": CANARY, "tracestate": f"x={CANARY}"})
    server.post("/api/v1/batch", {"tickets": [UNSURE, f"{UNSURE} again"]}, key=key)
    server.get(f"/v1/tickets?customer_ref={CANARY}", key=key)
    server.get(f"/{CANARY}", key=CANARY)
    server.close()
    assert len(collector.spans()) > 10
    assert CANARY.encode() not in collector.everything()
    assert key.encode() not in collector.everything()


def test_a_batch_is_one_trace_with_a_span_for_each_slice(serve: Serve, collector: Collector) -> None:
    server = traced(serve, collector)
    key = key_of(server)
    tickets = [f"Refund request {number}" for number in range(40)]
    assert server.post("/api/v1/batch", {"tickets": tickets}, key=key).status_code == 200
    server.close()
    request = collector.only("POST /api/v1/batch")
    spans = [span for span in collector.spans() if span.trace_id == request.trace_id]
    assert sum(span.attributes["firstline.messages"] for span in spans if span.name == "rules") == 40
    assert sum(span.attributes["firstline.tickets"] for span in spans if span.name == "store") == 40
    assert len(spans) < 20


def test_a_delivery_belongs_to_the_request_that_caused_it(serve: Serve, collector: Collector) -> None:
    with Collector(status=204) as receiver:
        server = serve(otlp_endpoint=collector.url, job_processes=0)
        key = key_of(server)
        body = {"url": f"{receiver.url}/{CANARY}", "events": ["ticket.classified"]}
        assert server.post("/v1/webhooks", body, key=key).status_code == 201
        classified(server, key)
        assert receiver.asked.wait(10)
        server.run(server.app.hooks.dispatcher.settled())
        server.close()
        (_, sent) = receiver.heads[0]
    assert "traceparent" not in sent
    request, attempt = collector.only("POST /api/v1/classify"), collector.only("deliver")
    assert attempt.trace_id == request.trace_id
    store = collector.only("store", where=lambda span: span.trace_id == request.trace_id)
    assert attempt.parent_id == store.span_id
    assert attempt.attributes["http.response.status_code"] == 204
    assert attempt.attributes["firstline.event"] == sent["webhook-id"]
    assert CANARY.encode() not in collector.everything()


def test_requests_of_one_commit_are_linked_to_it(serve: Serve, collector: Collector) -> None:
    server = traced(serve, collector)
    key = key_of(server)

    async def many() -> None:
        import asyncio

        await asyncio.gather(
            *(server.send("POST", "/api/v1/classify", key=key, body={"ticket": f"VPN {n}"}) for n in range(12))
        )

    server.run(many())
    server.close()
    stores = [span for span in collector.spans() if span.name == "store"]
    commits = {span.span_id: span for span in collector.spans() if span.name == "commit"}
    assert len(stores) == 12
    owners = {commit.parent_id for commit in commits.values()}
    for store in stores:
        assert store.span_id in owners or [span for _, span in store.links if span in commits], store
    assert sum(commit.attributes["firstline.records"] for commit in commits.values()) >= 12


@pytest.mark.service
def test_requests_on_postgresql_are_joined_with_their_commit(
    serve: Serve, collector: Collector, empty_database: str
) -> None:
    from firstline.adapters.sql.postgres_engine import open_postgres
    from firstline.adapters.sql.postgres_schema import upgrade

    database = open_postgres(empty_database)
    upgrade(database)
    database.dispose()
    server = traced(serve, collector, database_url=empty_database)
    classified(server, key_of(server))
    server.close()
    request = collector.only("POST /api/v1/classify")
    commit = collector.only("commit")
    assert (commit.parent_id, commit.trace_id) == (collector.only("store").span_id, request.trace_id)


def test_a_job_chunk_is_a_trace_of_its_own(serve: Serve, collector: Collector) -> None:
    server = traced(serve, collector, job_processes=1)
    key = key_of(server)
    headers = {"Content-Type": "application/json"}
    answer = server.post("/v1/jobs", [{"id": 1, "text": UNSURE}], key=key, headers=headers)
    assert answer.status_code == 202, answer.text
    deadline = monotonic() + 60
    while server.get(f"/v1/jobs/{answer.json()['id']}", key=key).json()["state"] != "finished":
        assert monotonic() < deadline
    server.close()
    chunk = collector.only("job chunk")
    assert (chunk.kind, chunk.parent_id) == (CONSUMER, "")
    assert chunk.attributes["firstline.job"] == answer.json()["id"]
    assert {"decide", "store"} <= under(collector, chunk)
    assert CANARY.encode() not in collector.everything()


def test_log_lines_carry_the_trace_that_the_caller_named(
    serve: Serve, collector: Collector, capfd: pytest.CaptureFixture[str]
) -> None:
    server = traced(serve, collector, access_log=True, log_level="info")
    key = key_of(server)
    classified(server, key, traceparent=f"00-{TRACE}-{PARENT}-01")
    server.close()
    request = collector.only("POST /api/v1/classify")
    assert (request.trace_id, request.parent_id) == (TRACE, PARENT)
    (line,) = [line for line in log_lines(capfd) if line["event"] == "request"]
    assert (line["trace_id"], line["span_id"]) == (TRACE, request.span_id)
    assert line["request_id"]


def test_a_caller_cannot_have_more_traced_than_the_sampler_would(
    serve: Serve, collector: Collector, capfd: pytest.CaptureFixture[str]
) -> None:
    sampled = f"00-{TRACE}-{PARENT}-01"
    settings = {"traces_sampler": "parentbased_traceidratio", "traces_sampler_arg": 0.0}
    server = traced(serve, collector, access_log=True, log_level="info", **settings)
    key = key_of(server)
    classified(server, key, traceparent=sampled)
    server.close()
    (line,) = [line for line in log_lines(capfd) if line["event"] == "request"]
    assert line["trace_id"] == TRACE
    assert collector.bodies == []
    trusting = traced(serve, collector, trust_traceparent=True, **settings)
    classified(trusting, key_of(trusting), traceparent=sampled)
    trusting.close()
    assert collector.only("POST /api/v1/classify").trace_id == TRACE


def test_a_caller_that_does_not_trace_is_not_traced(serve: Serve, collector: Collector) -> None:
    server = traced(serve, collector)
    classified(server, key_of(server), traceparent=f"00-{TRACE}-{PARENT}-00")
    server.close()
    assert collector.bodies == []


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01" + "x" * 5_000,
    ],
)
def test_a_malformed_traceparent_is_as_none(serve: Serve, collector: Collector, traceparent: str) -> None:
    server = traced(serve, collector)
    classified(server, key_of(server), traceparent=traceparent)
    server.close()
    assert collector.only("POST /api/v1/classify").trace_id not in (TRACE, "0" * 32)


def test_health_and_metrics_are_not_traced(serve: Serve, collector: Collector) -> None:
    server = traced(serve, collector)
    for path in ("/health", "/health/live", "/health/ready", "/metrics"):
        assert server.get(path).status_code == 200
    server.close()
    assert collector.bodies == []


def test_resource_and_headers_are_as_the_standard_variables_say(serve: Serve, collector: Collector) -> None:
    server = traced(
        serve,
        collector,
        service_name="triage",
        resource_attributes="deployment.environment.name=blue%2Cgreen, team=ops",
        otlp_headers="Authorization=Basic%20abc,x-tenant=7",
    )
    classified(server, key_of(server))
    server.close()
    resource = collector.resource()
    assert resource["service.name"] == "triage"
    assert (resource["deployment.environment.name"], resource["team"]) == ("blue,green", "ops")
    path, head = collector.heads[0]
    assert path == "/v1/traces"
    assert (head["authorization"], head["x-tenant"]) == ("Basic abc", "7")


def dropped(server: Server) -> dict[str, float]:
    found = {}
    for line in server.get("/metrics").text.splitlines():
        if line.startswith("firstline_spans_dropped_total{"):
            name, value = line.rsplit(" ", 1)
            found[name.split('"')[1]] = float(value)
    return found


def test_a_hanging_collector_holds_up_neither_requests_nor_the_stop(serve: Serve) -> None:
    with Collector(hangs=True) as hanging:
        server = traced(serve, hanging)
        key = key_of(server)
        classified(server, key)
        assert hanging.asked.wait(10)
        for number in range(20):
            classified(server, key, f"VPN {number}")
        began = monotonic()
        server.close()
        assert CLOSE_S <= 3
        assert monotonic() - began < CLOSE_S + 5
        assert server.app.metrics.spans_dropped.labels("unsent")._value.get() > 0


@pytest.mark.parametrize(("status", "answer"), [(500, b""), (400, b"\xff\xfe" * 9_000), (404, b"<html>")])
def test_what_a_collector_refuses_is_counted_and_said_once(
    serve: Serve, status: int, answer: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with Collector(status=status, answer=answer) as refusing:
        server = traced(serve, refusing, log_level="warning")
        key = key_of(server)
        classified(server, key)
        assert refusing.asked.wait(10)
        classified(server, key)
        server.close()
    assert server.app.metrics.spans_dropped.labels("unsent")._value.get() > 0
    said = capfd.readouterr().err
    assert [json.loads(line)["state"] for line in said.splitlines()] == ["unsent"]


def test_a_full_queue_drops_and_counts(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector(hangs=True) as hanging:
        server = traced(serve, hanging)
        key = key_of(server)
        classified(server, key)
        assert hanging.asked.wait(10)
        monkeypatch.setattr(server.app.tracing._queue, "_max_queued", 3)
        classified(server, key)
        assert dropped(server)["full"] > 0


class _Broken:
    """A rule book that cannot be asked; what it raises quotes the message."""

    content_hash = "0" * 64

    def evaluate(self, text: str, *_: object, **__: object) -> None:
        raise RuntimeError(f"cannot read {text}")


def broken(server: Server) -> None:
    server.app.triage.rules = _Broken()  # type: ignore[assignment]


def test_a_fault_is_an_event_of_its_trace_without_its_message(
    serve: Serve, collector: Collector, capfd: pytest.CaptureFixture[str]
) -> None:
    server = traced(serve, collector)
    key = key_of(server)
    broken(server)
    assert server.post("/api/v1/classify", {"ticket": UNSURE}, key=key).status_code == 500
    server.close()
    request = collector.only("POST /api/v1/classify")
    assert request.failed
    ((name, event),) = request.events
    assert (name, event["exception.type"]) == ("exception", "RuntimeError")
    assert "evaluate" in event["exception.stacktrace"]
    (line,) = log_lines(capfd)
    assert (line["event"], line["trace_id"]) == ("fault", request.trace_id)
    assert CANARY.encode() not in collector.everything()


def test_a_fault_of_a_request_that_is_not_traced_is_told_all_the_same(serve: Serve, collector: Collector) -> None:
    server = traced(serve, collector, traces_sampler="always_off")
    key = key_of(server)
    broken(server)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    assert server.post("/v1/decision", {"message": UNSURE}, key=key, headers=headers).status_code == 200
    server.close()
    (fault,) = collector.spans()
    assert (fault.name, fault.failed, fault.trace_id) == ("fault", True, TRACE)
    assert fault.attributes["firstline.where"] == "triage"
    assert CANARY.encode() not in collector.everything()


def test_no_telemetry_of_the_web_framework_is_switched_on(
    serve: Serve, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    server = traced(serve, collector)
    assert server.get(f"/v1/usage?x={CANARY}", key=key_of(server)).status_code == 200
    server.close()
    assert [span.name for span in collector.spans() if span.kind == SERVER] == ["GET /v1/usage"]
    assert {path for path, _ in collector.heads} == {"/v1/traces"}


def test_a_fault_is_reported_by_sentrys_protocol_with_type_and_places_alone(serve: Serve) -> None:
    with Collector() as sentry:
        dsn = f"http://publickey@127.0.0.1:{sentry.port}/7"
        server = serve(environment=PRODUCTION, job_processes=0, sentry_dsn=dsn)
        key = key_of(server)
        broken(server)
        headers = {"X-Request-ID": f"{CANARY}-1", "User-Agent": CANARY}
        for _ in range(2):
            server.post("/api/v1/classify", {"ticket": UNSURE}, key=key, headers=headers)
        server.post("/v1/decision", {"message": UNSURE}, key=key)
        server.close()
    found = [body for _, items in sentry.envelopes() for head, body in items if head["type"] == "event"]
    assert [event["tags"]["where"] for event in found] == ["/api/v1/classify", "/api/v1/classify", "triage"]
    (value,) = found[0]["exception"]["values"]
    assert (value["type"], value.get("value")) == ("RuntimeError", "")
    assert value["stacktrace"]["frames"][-1]["function"] == "evaluate"
    assert set(found[0]) <= {
        "contexts", "environment", "event_id", "exception", "level", "platform", "release", "tags", "timestamp",
    }  # fmt: skip
    assert CANARY.encode() not in sentry.everything()
    assert key.encode() not in sentry.everything()


def test_a_storm_of_faults_is_reported_no_more_than_sixty_times_a_minute(serve: Serve) -> None:
    with Collector() as sentry:
        server = serve(job_processes=0, sentry_dsn=f"http://publickey@127.0.0.1:{sentry.port}/7")
        key = key_of(server)
        broken(server)
        for _ in range(150):
            server.post("/v1/decision", {"message": UNSURE}, key=key)
        server.close()
    assert 1 <= len(sentry.envelopes()) <= 120


def test_sentry_that_hangs_does_not_hold_up_the_stop(serve: Serve) -> None:
    with Collector(hangs=True) as sentry:
        server = serve(job_processes=0, sentry_dsn=f"http://publickey@127.0.0.1:{sentry.port}/7")
        key = key_of(server)
        broken(server)
        for _ in range(3):
            server.post("/v1/decision", {"message": UNSURE}, key=key)
        assert sentry.asked.wait(10)
        began = monotonic()
        server.close()
        assert REPORTS_CLOSE_S <= 3
        assert monotonic() - began < REPORTS_CLOSE_S + 5


def test_without_settings_nothing_of_telemetry_is_imported(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom pathlib import Path\nfrom firstline.bootstrap import build\n"
        "from firstline.delivery.http.app import create_asgi\nfrom firstline.settings import load_settings\n"
        f"app = build(load_settings(env_file=None, data_dir=Path({str(tmp_path)!r})))\ncreate_asgi(app)\n"
        "left = ('opentelemetry.sdk', 'opentelemetry.exporter', 'sentry_sdk')\n"
        "print([name for name in sys.modules if name.startswith(left)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"
