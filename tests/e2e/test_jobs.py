"""Jobs survive whatever ends a worker: every row is answered once, in the results and in the history."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest
from served import Served, create_key, environment, serve

ROWS = 20_000
DONE_S = 120
TAKEN_OVER_S = 15


def upload(rows: int) -> bytes:
    return b"\n".join(
        json.dumps({"id": row, "text": f"Refund for order {row}, the card was charged twice"}).encode()
        for row in range(1, rows + 1)
    )


def post(server: Served, key: str, rows: int) -> str:
    answer = server.request("POST", "/v1/jobs?format=ndjson&keep=id", raw=upload(rows), key=key)
    assert answer.status == 202, answer.body
    identity: str = answer.data["id"]
    return identity


def wait_for(server: Served, key: str, job: str, *, done: int, within_s: float = DONE_S) -> None:
    """Until so many rows are done."""
    deadline = monotonic() + within_s
    found = {}
    while monotonic() < deadline:
        found = server.request("GET", f"/v1/jobs/{job}", key=key).data
        if found["done"] >= done:
            return
        sleep(0.05)
    pytest.fail(f"{found}, {server.logged()[-2_000:]}")


def assert_each_row_once(server: Served, key: str, job: str, rows: int) -> None:
    state = server.request("GET", f"/v1/jobs/{job}", key=key).data
    assert (state["state"], state["done"], state["failed"]) == ("finished", rows, 0)
    answers = server.request("GET", f"/v1/jobs/{job}/results", key=key).body.splitlines()
    found = [json.loads(line) for line in answers]
    assert [answer["row"] for answer in found] == list(range(1, rows + 1))
    assert [answer["id"] for answer in found] == list(range(1, rows + 1))
    with closing(sqlite3.connect(server.data_dir / "firstline.db")) as database:
        stored = database.execute(
            "SELECT tickets.id, text, count(ticket_id) FROM tickets LEFT JOIN verdicts ON ticket_id = tickets.id "
            "GROUP BY tickets.id ORDER BY tickets.id"
        ).fetchall()
        charged = database.execute("SELECT requests FROM usage WHERE \"window\" = 'day'").fetchall()
    assert [f"tkt_{identity}" for identity, _, _ in stored] == [answer["ticket"] for answer in found]
    assert [text for _, text, _ in stored] == [json.loads(line)["text"] for line in upload(rows).splitlines()]
    assert {count for _, _, count in stored} == {1}
    assert charged == [(rows,)]


def children(pid: int) -> list[int]:
    return [int(found) for found in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_server_killed_in_the_middle_of_a_job_goes_on_with_it(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    with serve(data_dir, FIRSTLINE_JOB_PROCESSES="2") as server:
        job = post(server, key, ROWS)
        wait_for(server, key, job, done=ROWS // 4)
        server.kill()
    with serve(data_dir, FIRSTLINE_JOB_PROCESSES="2") as server:
        wait_for(server, key, job, done=ROWS)
        assert_each_row_once(server, key, job, ROWS)


def test_killed_processes_cost_a_job_nothing_but_time(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    with serve(data_dir, FIRSTLINE_JOB_PROCESSES="2") as server:
        job = post(server, key, ROWS)
        for quarter in (1, 2):
            wait_for(server, key, job, done=quarter * ROWS // 4)
            for child in children(server.process.pid):
                os.kill(child, signal.SIGKILL)
        wait_for(server, key, job, done=ROWS)
        assert_each_row_once(server, key, job, ROWS)


@contextmanager
def worker(data_dir: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "firstline.delivery.cli", "worker", "--data-dir", str(data_dir)]
    with subprocess.Popen([*command, "--processes", "1"], cwd=data_dir.parent, env=environment()) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_another_worker_takes_over_what_a_killed_one_had(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    rows = ROWS // 2
    with serve(data_dir, FIRSTLINE_JOB_PROCESSES="0") as server:
        job = post(server, key, rows)
        with worker(data_dir) as first, worker(data_dir):
            wait_for(server, key, job, done=rows // 4)
            first.kill()
            killed = monotonic()
            first.wait()
            with closing(sqlite3.connect(data_dir / "firstline.db")) as database:
                database.execute("PRAGMA query_only = 1")
                leases = "SELECT token FROM job_chunks WHERE state = 'leased'"
                leased = {row[0] for row in database.execute(leases)}
                while leased & {row[0] for row in database.execute(leases)}:
                    assert monotonic() - killed < TAKEN_OVER_S
                    sleep(0.1)
            wait_for(server, key, job, done=rows)
        assert_each_row_once(server, key, job, rows)
