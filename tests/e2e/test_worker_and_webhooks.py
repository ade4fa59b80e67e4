"""What a worker beside a server leaves to the server."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

from served import CLIENT_S, create_key, environment, serve


class Receiver(BaseHTTPRequestHandler):
    """Tells of what arrives."""

    arrived: "Queue[bytes]" = Queue()

    def do_POST(self) -> None:
        self.arrived.put(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


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
            rows = json.dumps({"text": "Please refund order 7"}).encode()
            assert server.request("POST", "/v1/jobs?format=ndjson", raw=rows, key=key).status == 202
            with subprocess.Popen([*command, "--processes", "1"], cwd=tmp_path, env=environment()) as worker:
                try:
                    Receiver.arrived.get(timeout=CLIENT_S)
                finally:
                    worker.terminate()
            worker.wait()
        with serve(data_dir, FIRSTLINE_JOB_PROCESSES="0") as server:  # what the first one knew is stored by now
            found = server.request("GET", f"/v1/webhooks/{hook.data['id']}/deliveries", key=key).data["deliveries"]
    finally:
        receiver.shutdown()
        receiver.server_close()
    assert [(delivery["state"], delivery["attempts"]) for delivery in found] == [("delivered", 1)]
