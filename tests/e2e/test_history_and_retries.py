"""Requests sent again after the server was killed, and the guide to the history, as an operator starts the server."""

import csv
import http.client
import json
import re
import subprocess
import threading
from contextlib import closing
from pathlib import Path

from served import CLIENT_S, Served, create_key, environment, history_of, serve

from waiting import until

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "history.md"
KILLS = 3
CLIENTS = 4


def ask(server: Served, key: str, name: str) -> tuple[int, bytes, bool]:
    """One keyed request: status, body, and whether it was replayed."""
    headers = {"X-API-Key": key, "Idempotency-Key": name}
    body = json.dumps({"ticket": f"VPN not working {name}"})
    with closing(http.client.HTTPConnection(server.host, server.port, timeout=CLIENT_S)) as connection:
        connection.request("POST", "/api/v1/classify", body, headers)
        response = connection.getresponse()
        return response.status, response.read(), response.headers["Idempotency-Replayed"] == "true"


def test_retries_after_kills_find_the_same_answers_and_store_nothing_twice(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    key = create_key(data_dir)["key"]
    answered: dict[str, bytes] = {}
    asked: set[str] = set()

    def work(server: Served, client: str) -> None:
        for number in range(100_000):
            name = f"{client}-{number}"
            asked.add(name)
            try:
                status, body, _ = ask(server, key, name)
            except (OSError, http.client.HTTPException):
                return
            assert status == 200
            answered[name] = body

    for kill in range(KILLS):
        with serve(data_dir) as server:
            threads = [
                threading.Thread(target=work, args=(server, f"kill-{kill}-{client}")) for client in range(CLIENTS)
            ]
            for thread in threads:
                thread.start()
            least = len(answered) + 40 + 13 * kill
            assert until(lambda least=least: len(answered) >= least, within_s=CLIENT_S)  # type: ignore[misc]  # mypy cannot type a default of a lambda
            server.kill()
            for thread in threads:
                thread.join(CLIENT_S)
    with serve(data_dir) as server:
        for name in sorted(asked):
            status, body, replayed = ask(server, key, name)
            assert status == 200
            if name in answered:
                assert replayed
                assert body == answered[name]
    history = history_of(data_dir)
    assert len(history.tickets) == len(history.verdicts) == len(asked)
    assert history.charged == len(asked)
    assert len(asked) - len(answered) <= KILLS * CLIENTS


def test_the_guide_to_the_history_works_as_pasted(server: Served, tmp_path: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8").replace("http://127.0.0.1:8000", server.url)
    text = re.sub(r"<!-- not run: .*? -->\n```sh\n.*?```", "", text, flags=re.DOTALL)
    script = "\n" + "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    script = script.replace("\ncurl ", "\necho; curl -s ")
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, timeout=4 * CLIENT_S, env=environment(), cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told, page, whole, retention, *erased = (json.loads(line) for line in done.stdout.splitlines() if line)
    assert whole["id"] == told["id"]
    assert [one["id"] for one in page["tickets"]] in ([], [told["id"]])
    assert retention == {"days": 90}
    assert [one["removed"]["tickets"] for one in erased] == [1, 0, 0]
    with (tmp_path / "tickets.csv").open(encoding="utf-8", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [told["id"]]
