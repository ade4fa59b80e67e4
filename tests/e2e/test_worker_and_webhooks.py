"""What a worker beside a server leaves to the server."""

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from served import CLIENT_S, create_key, environment, serve

from waiting import until


class Receiver(BaseHTTPRequestHandler):
    """Takes everything."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def finished_jobs(data_dir: Path) -> int:
    with closing(sqlite3.connect(data_dir / "firstline.db")) as database:
        found: int = database.execute("SELECT count(*) FROM jobs WHERE state = 'finished'").fetchone()[0]
    return found


def test_the_end_of_a_job_of_a_worker_is_told_by_the_server_at_the_first_attempt(tmp_path: Path) -> None:
    """In development a server may address this machine; a worker does not know whether its server is in development."""
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    wish = {"url": f"http://127.0.0.1:{receiver.server_address[1]}/in", "events": ["job.finished"]}
    command = [sys.executable, "-m", "firstline.delivery.cli", "worker", "--data-dir", str(data_dir)]
    try:
        with serve(data_dir, FIRSTLINE_JOB_PROCESSES="0") as server:
            hook = server.request("POST", "/v1/webhooks", wish, key=key)
            assert hook.status == 201, hook.body
            for rows in (1, 5_000):  # the second one gives a worker time for the event of the first
                upload = b"\n".join(json.dumps({"text": f"Please refund order {row}"}).encode() for row in range(rows))
                assert server.request("POST", "/v1/jobs?format=ndjson", raw=upload, key=key).status == 202
        with subprocess.Popen([*command, "--processes", "1"], cwd=tmp_path, env=environment()) as worker:
            try:
                assert until(lambda: finished_jobs(data_dir) == 2, within_s=4 * CLIENT_S)
            finally:
                worker.terminate()
        with serve(data_dir, FIRSTLINE_JOB_PROCESSES="0") as server:
            path = f"/v1/webhooks/{hook.data['id']}/deliveries"

            def delivered() -> list[tuple[str, int]]:
                found = server.request("GET", path, key=key).data["deliveries"]
                return [(delivery["state"], delivery["attempts"]) for delivery in found]

            assert until(lambda: delivered() == [("delivered", 1)] * 2, within_s=CLIENT_S), delivered()
    finally:
        receiver.shutdown()
        receiver.server_close()
