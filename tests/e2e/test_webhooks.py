"""Webhooks from a server as an operator starts it, to a receiver written with the public package."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from served import CLIENT_S, Load, Served, create_key, environment, history_of, serve
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from services import look
from waiting import until

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "webhooks.md"
SOON = {"FIRSTLINE_WEBHOOK_RETRY_SECONDS": ",".join(["0.2"] * 20)}
KILLS = 3
TAKEN_OVER_S = 75


class Receiver:
    """Verifies every delivery with the public package; answers 500 to every so many of them."""

    def __init__(self, *, flaky: int = 0) -> None:
        self.secrets: list[str] = []
        self.events: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []
        self.forged = 0
        self.requests = 0
        self._flaky = flaky
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:  # the sender was killed in the middle of it
                    self.close_connection = True
                    return
                self.send_response(receiver.receive(dict(self.headers), body))
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/in"

    def receive(self, headers: dict[str, str], body: bytes) -> int:
        with self._changed:
            self.requests += 1
            event = next((found for secret in self.secrets if (found := _verified(secret, headers, body))), None)
            if event is None:
                self.forged += 1
                return 401
            if self._flaky and self.requests % self._flaky == 0:
                return 500
            self.events[headers["webhook-id"]] = event
            self.order.append(headers["webhook-id"])
            self._changed.notify_all()
            return 204

    def tickets(self, kind: str = "ticket.classified") -> set[str]:
        """The tickets that events of a kind have told of."""
        with self._changed:  # may be held by this thread already
            events = [event for event in self.events.values() if event["type"] == kind]
        return {event["data"]["ticket"].removeprefix("tkt_") for event in events}

    def wait_for(self, count: int, *, within_s: float = CLIENT_S) -> bool:
        """Until so many different events have arrived."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.events) >= count, within_s)

    def wait_for_tickets(self, tickets: set[str], *, within_s: float) -> bool:
        """Until each of these tickets has been told of."""
        with self._changed:
            return self._changed.wait_for(lambda: tickets <= self.tickets(), within_s)

    @contextmanager
    def listening(self) -> Iterator["Receiver"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


def _verified(secret: str, headers: dict[str, str], body: bytes) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return None
    return found


def subscribe(server: Served, key: str, receiver: Receiver, *kinds: str) -> str:
    """An endpoint that leads to a receiver; its path."""
    body = {"url": receiver.url, "events": list(kinds)}
    made = server.request("POST", "/v1/webhooks", body, key=key)
    assert made.status == 201, made.body
    receiver.secrets.append(made.data["secret"])
    return f"/v1/webhooks/{made.data['id']}"


def test_every_delivery_is_verified_through_rotation(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    with Receiver().listening() as receiver, serve(data_dir, **SOON) as server:
        path = subscribe(server, key, receiver, "ticket.classified", "ticket.escalated")
        for number in range(3):
            server.request("POST", "/v1/decision", {"message": f"I will sue you, case {number}"}, key=key)
        assert receiver.wait_for(6)
        rotated = server.request("POST", f"{path}/secret", {"overlap_seconds": 3600}, key=key)
        server.request("POST", f"{path}/test", key=key)
        assert receiver.wait_for(7)  # the old secret still verifies
        receiver.secrets = [rotated.data["secret"]]
        server.request("POST", f"{path}/test", key=key)
        assert receiver.wait_for(8)  # and so does the new one
        assert receiver.forged == 0
        log = server.request("GET", f"{path}/deliveries", key=key).data["deliveries"]
        assert {entry["event"] for entry in log} == receiver.events.keys()


def test_kill_under_load_loses_no_event(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    acknowledged: set[str] = set()
    with Receiver(flaky=7).listening() as receiver:
        for kill in range(KILLS):
            with serve(data_dir, **SOON) as server:
                if not receiver.secrets:
                    subscribe(server, key, receiver, "ticket.classified")
                load = Load(server, key, name=f"hooks-{kill}", clients=4)
                load.wait_for(40)
                server.kill()
                load.finish()
            acknowledged |= load.acknowledged
        with serve(data_dir, **SOON) as server:
            stored = history_of(data_dir).verdicts
            assert acknowledged <= stored
            assert receiver.wait_for(len(stored), within_s=2 * CLIENT_S)
            assert receiver.tickets() == stored
            assert server.lives()
        assert receiver.forged == 0
        print(f"{KILLS} kills: {len(stored)} verdicts stored, {receiver.requests} deliveries, none missing")


@pytest.mark.service
def test_a_second_server_on_postgresql_delivers_what_a_killed_one_had_begun(tmp_path: Path, database_url: str) -> None:
    options = {
        **SOON,
        "FIRSTLINE_DATABASE_URL": database_url,
        "SECRET_KEY": "of tests alone " * 3,
        "FIRSTLINE_JOB_PROCESSES": "0",
    }
    registered = {"email": "hooks@example.com", "tier": "free"}
    with Receiver(flaky=11).listening() as receiver, ExitStack() as stack:
        first, second = (stack.enter_context(serve(tmp_path / name / "data", **options)) for name in ("one", "two"))
        key = first.request("POST", "/api/v1/auth/register", registered).data["api_key"]
        subscribe(first, key, receiver, "ticket.classified")

        def known() -> bool:
            """Whether the second server tells of what it answers."""
            second.request("POST", "/api/v1/classify", {"ticket": "Where is my invoice?"}, key=key)
            return receiver.wait_for(1, within_s=0.3)

        assert until(known, within_s=5)
        load = Load(first, key, clients=4)
        load.wait_for(20)
        first.kill()
        load.finish()
        stored = {row[0] for row in look(database_url, "SELECT ticket_id FROM verdicts")}
        assert load.acknowledged <= stored
        assert receiver.wait_for_tickets(load.acknowledged, within_s=TAKEN_OVER_S)
        untold = stored - receiver.tickets()
        assert len(untold) < 10  # of the second server, before it knew of the webhook
        assert receiver.forged == 0
        assert second.lives()
        assert until(lambda: look(database_url, "SELECT id FROM outbox LIMIT 1") == [], within_s=CLIENT_S)


def test_a_job_that_has_finished_is_told(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    with Receiver().listening() as receiver, serve(data_dir) as server:
        subscribe(server, key, receiver, "job.finished")
        made = server.request("POST", "/v1/jobs?format=json", [{"text": "Where is my invoice?"}], key=key)
        assert made.status == 202, made.body
        assert receiver.wait_for(1)
        (event,) = receiver.events.values()
        assert (event["type"], event["data"]["job"]) == ("job.finished", made.data["id"])


def test_a_receiver_that_hangs_delays_no_other(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    release = threading.Event()

    class Hanging(Receiver):
        def receive(self, headers: dict[str, str], body: bytes) -> int:
            release.wait(2 * CLIENT_S)
            return super().receive(headers, body)

    with Hanging().listening() as hanging, Receiver().listening() as quick, serve(data_dir) as server:
        subscribe(server, key, hanging, "ticket.classified")
        subscribe(server, key, quick, "ticket.classified")
        for number in range(8):
            tickets = [f"Refund request {number} part {part}" for part in range(10)]
            assert server.request("POST", "/api/v1/batch", {"tickets": tickets}, key=key).status == 200
        assert quick.wait_for(80, within_s=8)
        assert hanging.events == {}
        release.set()


def test_a_webhook_that_answers_410_is_disabled_and_its_dead_letters_are_replayed(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]

    class Gone(Receiver):
        gone = True

        def receive(self, headers: dict[str, str], body: bytes) -> int:
            return 410 if self.gone else super().receive(headers, body)

    with Gone().listening() as receiver, serve(data_dir) as server:
        path = subscribe(server, key, receiver, "ticket.classified")
        server.request("POST", "/api/v1/classify", {"ticket": "Where is my invoice?"}, key=key)
        assert until(lambda: server.request("GET", path, key=key).data["disabled_reason"] == "gone", within_s=CLIENT_S)
        receiver.gone = False
        assert server.request("PATCH", path, {"enabled": True}, key=key).data["state"] == "enabled"
        assert server.request("POST", f"{path}/replay", {"since": "2020-01-01"}, key=key).data == {"replayed": 1}
        assert receiver.wait_for(1)
        assert "webhook_disabled" in server.logged()
        assert receiver.secrets[0] not in server.logged()
        assert receiver.url not in server.logged()


def test_the_guide_works_as_pasted(tmp_path: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    with Receiver().listening() as receiver, serve(tmp_path / "data") as server:
        for default, url in (("http://127.0.0.1:8000", server.url), ("http://127.0.0.1:9200/in", receiver.url)):
            text = text.replace(default, url)
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        script = ("\n" + "\n".join(blocks)).replace("\ncurl ", "\necho; curl -s ")
        done = subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, timeout=2 * CLIENT_S, env=environment(), check=False
        )
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines() if line]
        created, tested, log, replayed, enabled, rotated = answers
        assert created["secret"].startswith("whsec_")
        assert [entry["event"] for entry in log["deliveries"]] == [tested["event"]]
        assert isinstance(replayed["replayed"], int)
        assert enabled["state"] == "enabled"
        assert rotated["secret"] != created["secret"]


def test_the_receiver_of_the_guide_is_python() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    compile(block, "webhooks.md", "exec")
