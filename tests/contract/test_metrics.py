"""What a scrape of `/metrics` says about a server, through the front door."""

import asyncio
import json
import time
from concurrent.futures import Future
from typing import Any

import pytest
from asgi_server import PRODUCTION, Serve, Server
from prometheus_client.parser import text_string_to_metric_families

from firstline import background
from waiting import until

WITHIN_S = 30.0


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at everything again and again without a pause worth mentioning."""
    for name in ("LAG_S", "JOBS_S", "QUOTA_S"):
        monkeypatch.setattr(background, name, 0.02)


def value(server: Server, name: str, **labels: str) -> float | None:
    """A sample; None where there is none."""
    families = text_string_to_metric_families(server.get("/metrics").text)
    found = [one.value for family in families for one in family.samples if (one.name, one.labels) == (name, labels)]
    return found[0] if found else None


class Call:
    """A request whose body the client holds back."""

    def __init__(self, server: Server, path: str, *, key: str) -> None:
        self._server = server
        self._given: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"x-api-key", key.encode())],
            "client": ("127.0.0.1", 40_000),
            "scheme": "http",
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "root_path": "",
        }
        self.sent: list[Any] = []

        async def send(message: Any) -> None:
            self.sent.append(message)

        self._call: Future[None] = asyncio.run_coroutine_threadsafe(
            server.asgi(scope, self._given.get, send),  # type: ignore[arg-type]
            server._loop,
        )

    def give(self, **message: Any) -> None:
        """What the client does next; returns when the request has ended."""
        self._server._loop.call_soon_threadsafe(self._given.put_nowait, message)
        self._call.result(WITHIN_S)


@pytest.mark.parametrize(
    "end",
    [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b'{"ticket": "The VPN is down"}', "more_body": False},
        {"type": "http.request", "body": b"{", "more_body": False},
    ],
    ids=["vanishes", "answered", "refused"],
)
def test_requests_under_way_are_counted_until_they_end_however_they_end(
    production: Server, key: str, end: dict[str, Any]
) -> None:
    assert value(production, "firstline_requests_running") == 0
    calls = [Call(production, path, key=key) for path in ("/api/v1/classify", "/v1/decision")]
    assert until(lambda: value(production, "firstline_requests_running") == 2, within_s=WITHIN_S)
    for call in calls:
        call.give(**end)
    assert value(production, "firstline_requests_running") == 0


def test_verdicts_are_counted_by_their_probability(serve: Serve) -> None:
    server = serve()
    given = [
        server.post("/v1/decision", {"message": text}).json()["probability"] for text in ("I will sue you", "hm", "ok")
    ]
    for edge in ("0.1", "0.5", "0.9", "1.0"):
        counted = value(server, "firstline_verdict_probability_bucket", contract="decision", le=edge)
        assert counted == sum(probability <= float(edge) for probability in given)
    assert value(server, "firstline_verdict_probability_count", contract="classifier") is None


def test_a_batch_counts_the_probability_of_each_ticket(serve: Serve) -> None:
    server = serve(environment=PRODUCTION)
    key = server.key()
    server.post("/api/v1/batch", {"tickets": ["The VPN is down", "Refund please", "Thanks"]}, key=key)
    assert value(server, "firstline_verdict_probability_count", contract="classifier") == 3


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def test_commits_are_measured_on_both_databases(serve: Serve, kind: str, request: pytest.FixtureRequest) -> None:
    url = {"database_url": request.getfixturevalue("database_url")} if kind == "postgres" else {}
    server = serve(**url)
    before = value(server, "firstline_store_commit_seconds_count") or 0
    for _ in range(3):
        assert server.post("/v1/decision", {"message": "I will sue you"}).status_code == 200
    assert (value(server, "firstline_store_commit_seconds_count") or 0) >= before + 3
    assert (value(server, "firstline_store_commit_seconds_sum") or 0) > 0


def test_the_event_loop_s_lag_is_how_long_it_was_held_up(serve: Serve, eager: None) -> None:
    server = serve()
    held_s = 0.3

    async def hold_up() -> None:
        time.sleep(held_s)  # noqa: ASYNC251  # which is what must be seen

    server.run(hold_up())
    assert until(lambda: (value(server, "firstline_event_loop_lag_seconds") or 0) > held_s / 2, within_s=WITHIN_S)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("classification_requests_total", {"contract": "decision", "category": "Other", "source": "emergency"}),
        ("firstline_webhook_attempts_total", {"outcome": "dead"}),
        ("firstline_rule_reloads_total", {"outcome": "invalid"}),
        ("firstline_faults_total", {"route": "triage"}),
        ("firstline_limit_denials_total", {"catalogue": "classifier", "window": "day"}),
        ("firstline_limits_local_total", {"outcome": "unknown"}),
        ("firstline_auth_failures_total", {"reason": "revoked"}),
        ("firstline_provider_late_total", {"outcome": "lost"}),
        ("firstline_feedback_total", {"probability": "0.9-1.0", "correct": "no"}),
        ("firstline_feedback_total", {"probability": "0.3-0.4", "correct": "yes"}),
        ("provider_failures_total", {"provider": "gemini", "kind": "timeout"}),
    ],
)
def test_what_is_rare_begins_at_zero_so_that_the_first_of_it_is_an_increase(
    serve: Serve, name: str, labels: dict[str, str]
) -> None:
    server = serve(gemini_api_key="fake", gemini_base_url="http://127.0.0.1:9")
    assert value(server, name, **labels) == 0


def test_failures_of_a_route_begin_at_zero_with_its_first_request(serve: Serve) -> None:
    server = serve()
    server.post("/v1/decision", {"message": "I will sue you"})
    labels = {"method": "POST", "route": "/v1/decision"}
    assert value(server, "http_requests_total", **labels, status="200") == 1
    assert value(server, "http_requests_total", **labels, status="503") == 0
    assert value(server, "http_requests_total", **labels, status="500") == 0
    assert value(server, "http_requests_total", **labels, status="404") is None


def test_the_disk_of_the_data_folder_is_told(serve: Serve) -> None:
    server = serve()
    assert (value(server, "firstline_data_free_bytes") or 0) > 0


def test_the_limit_of_the_spool_is_told_where_there_is_one(serve: Serve, tmp_path: Any) -> None:
    assert value(serve(), "firstline_spool_limit_bytes") == 0
    server = serve(spool_dir=tmp_path / "spool", spool_mb=3)
    assert value(server, "firstline_spool_limit_bytes") == 3 * 1024 * 1024


def test_an_account_at_nine_tenths_of_its_day_is_near_its_quota(serve: Serve, eager: None) -> None:
    server = serve(environment=PRODUCTION, rate_limit_daily=10)
    mine, other = server.key("mine@example.com"), server.key("other@example.com")
    near = "firstline_accounts_near_quota"
    assert until(lambda: value(server, near, catalogue="classifier") == 0, within_s=WITHIN_S)
    assert until(lambda: value(server, near, catalogue="decision") == 0, within_s=WITHIN_S)
    for count in range(9):
        assert value(server, near, catalogue="classifier") == 0, count
        server.post("/api/v1/classify", {"ticket": "The VPN is down"}, key=mine)
    server.post("/api/v1/classify", {"ticket": "The VPN is down"}, key=other)
    assert until(lambda: value(server, near, catalogue="classifier") == 1, within_s=WITHIN_S)
    server.clock.advance(86_400)
    assert until(lambda: value(server, near, catalogue="classifier") == 0, within_s=WITHIN_S)


def test_rows_that_wait_for_a_worker_are_told_with_how_long_they_wait(serve: Serve, eager: None) -> None:
    server = serve(environment=PRODUCTION, job_processes=0)
    key = server.key(plan="enterprise")
    rows = json.dumps(["The VPN is down"] * 7).encode()
    job = server.call("POST", "/v1/jobs", key=key, content=rows, headers={"Content-Type": "application/json"})
    assert until(lambda: value(server, "firstline_jobs_waiting_rows") == 7, within_s=WITHIN_S)
    assert until(lambda: value(server, "firstline_jobs_oldest_waiting_seconds") == 0, within_s=WITHIN_S)
    server.clock.advance(90)
    assert until(lambda: value(server, "firstline_jobs_oldest_waiting_seconds") == 90, within_s=WITHIN_S)
    server.post(f"/v1/jobs/{job.json()['id']}/cancel", key=key)
    assert until(lambda: value(server, "firstline_jobs_waiting_rows") == 0, within_s=WITHIN_S)
    assert until(lambda: value(server, "firstline_jobs_oldest_waiting_seconds") == 0, within_s=WITHIN_S)
