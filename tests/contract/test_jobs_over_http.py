"""Jobs through the front door: uploads in every format, what is refused, progress, results, cancelling, erasure."""

import csv
import io
import json
from time import monotonic, sleep
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from asgi_server import Serve, Server

from firstline.core.taxonomy import Contract
from firstline.delivery.http import uploads
from firstline.ports.erasure import Erasing

ROWS = [
    {"id": 1, "text": "I will sue you", "customer_ref": "anna"},
    {"id": 2, "text": "The VPN is down", "customer_ref": "ben"},
    {"id": 3, "text": "   "},
    {"id": 4, "text": "How do I export my data?", "customer_ref": "anna"},
]
ENDED_S = 60


@pytest.fixture(scope="module")
def server(production: Server) -> Server:
    return production


def as_json() -> tuple[str, bytes]:
    return "application/json", json.dumps(ROWS).encode()


def as_object() -> tuple[str, bytes]:
    return "application/json; charset=utf-8", json.dumps({"tickets": ROWS}).encode()


def as_ndjson() -> tuple[str, bytes]:
    return "application/x-ndjson", b"\n".join(json.dumps(row).encode() for row in ROWS)


def as_csv() -> tuple[str, bytes]:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["id", "text", "customer_ref"])
    writer.writeheader()
    writer.writerows(ROWS)
    return "text/csv", buffer.getvalue().encode()


def as_parquet() -> tuple[str, bytes]:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), buffer)
    return "application/vnd.apache.parquet", buffer.getvalue()


def post(server: Server, key: str, content: bytes, *, kind: str | None = None, query: str = "") -> Any:
    headers = {"Content-Type": kind} if kind else {}
    return server.call("POST", f"/v1/jobs{query}", key=key, content=content, headers=headers)


def ended(server: Server, key: str, job: str) -> dict[str, Any]:
    deadline = monotonic() + ENDED_S
    while monotonic() < deadline:
        found: dict[str, Any] = server.get(f"/v1/jobs/{job}", key=key).json()
        if found["state"] in {"finished", "cancelled"}:
            return found
        sleep(0.02)
    pytest.fail(f"not ended: {found}")


def results(server: Server, key: str, job: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.get(f"/v1/jobs/{job}/results", key=key).text.splitlines()]


@pytest.mark.parametrize("made", [as_json, as_object, as_ndjson, as_csv, as_parquet])
def test_rows_of_every_format_are_answered_in_order(server: Server, key: str, made: Any) -> None:
    kind, content = made()
    answer = post(server, key, content, kind=kind, query="?keep=id")
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["rows"], job["contract"]) == (4, "classifier")
    found = ended(server, key, job["id"])
    assert (found["state"], found["done"], found["failed"]) == ("finished", 4, 1)
    rows = results(server, key, job["id"])
    assert [row["row"] for row in rows] == [1, 2, 3, 4]
    assert [str(row["id"]) for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["signals"] == ["legal"]
    assert "empty" in rows[2]["error"]
    assert rows[3]["category"] == "Other"


def test_answers_are_those_of_the_server(server: Server, key: str) -> None:
    one = server.post("/api/v1/classify", {"ticket": ROWS[0]["text"]}, key=key).json()
    job = post(server, key, json.dumps([ROWS[0]["text"]]).encode(), kind="application/json").json()
    ended(server, key, job["id"])
    (row,) = results(server, key, job["id"])
    assert (row["category"], row["priority"]) == (one["category"], one["priority"])
    (stored,) = server.rows(
        f"SELECT category, probability, text, contract FROM tickets JOIN verdicts ON ticket_id = id "
        f"WHERE id = '{row['ticket'].removeprefix('tkt_')}'"
    )
    assert stored == (row["category"], pytest.approx(row["probability"], abs=1e-3), ROWS[0]["text"], "classifier")


def test_rows_of_the_decision_contract_say_who_wrote_them(server: Server, key: str) -> None:
    rows = [
        {"text": "Where is my order?", "user_plan": "enterprise", "channel": "chat"},
        {"text": "x", "channel": "fax"},
    ]
    job = post(server, key, json.dumps(rows).encode(), kind="application/json", query="?contract=decision").json()
    ended(server, key, job["id"])
    first, second = results(server, key, job["id"])
    assert first["decision"]
    assert first["recommended_action"]
    assert "channel must be one of" in second["error"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_results_have_the_same_rows_in_every_format(server: Server, key: str, kind: str) -> None:
    job = post(server, key, as_ndjson()[1], kind="application/x-ndjson", query="?keep=id").json()["id"]
    ended(server, key, job)
    wanted = results(server, key, job)
    answer = server.get(f"/v1/jobs/{job}/results?format={kind}", key=key)
    assert answer.status_code == 200
    if kind == "csv":
        found = list(csv.DictReader(io.StringIO(answer.text)))
    else:
        found = pyarrow.parquet.read_table(io.BytesIO(answer.content)).to_pylist()
    assert [int(row["row"]) for row in found] == [row["row"] for row in wanted]
    assert [row["category"] or None for row in found] == [row.get("category") for row in wanted]
    assert [row["error"] or None for row in found] == [row.get("error") for row in wanted]


def test_no_kept_cell_of_csv_is_a_formula(server: Server, key: str) -> None:
    rows = [{"text": "The VPN is down", "name": "=cmd()"}]
    job = post(server, key, json.dumps(rows).encode(), kind="application/json", query="?keep=name").json()["id"]
    ended(server, key, job)
    (row,) = csv.DictReader(io.StringIO(server.get(f"/v1/jobs/{job}/results?format=csv", key=key).text))
    assert row["name"] == "'=cmd()"


REFUSED = [
    (b"[]", "application/json", "", 422, "no rows"),
    (b'{"a": 1}', "application/json", "", 400, "must be a JSON list"),
    (b'["a", "b"', "application/json", "", 400, "Element 2"),
    (b'["a", b"]', "application/json", "", 400, "Element 2"),
    (b'["a"] x', "application/json", "", 400, "does not end"),
    (b'["a" "b"]', "application/json", "", 400, "Element 1"),
    (b'{"tickets": ["a"]', "application/json", "", 400, "does not end"),
    (b'["\xff"]', "application/json", "", 400, "UTF-8"),
    (b"PAR1 no parquet PAR1", "application/vnd.apache.parquet", "", 400, "no valid Parquet"),
    (b"a,b\n1,2\n", "text/csv", "", 422, "There is no column"),
    (b"x", None, "", 415, "json, ndjson, csv"),
    (b"x", "text/plain", "?format=xml", 422, "format: must be one of"),
    (b"x", "text/plain", "?colum=a", 422, "no such parameter"),
    (b"x", "text/plain", "?contract=other", 422, "contract: must be one of"),
    (b"x", "text/plain", "?keep=a", 422, "keep: needs columns"),
    (b"[]", "application/json", "?keep=row", 422, "keep: the results have a column row"),
    (b"a\n1\n", "text/csv", "?delimiter=ab", 422, "delimiter: must be one sign"),
]


@pytest.mark.parametrize(("content", "kind", "query", "status", "said"), REFUSED)
def test_what_cannot_be_read_is_refused_and_leaves_nothing(
    server: Server, key: str, content: bytes, kind: str | None, query: str, status: int, said: str
) -> None:
    folder = server.settings.data_dir / "jobs"
    before = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    answer = post(server, key, content, kind=kind, query=query)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert {entry.name for entry in folder.iterdir()} <= before


def test_uploads_are_bounded_in_bytes_and_rows(server: Server, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_UPLOAD_BYTES", 1_000)
    assert post(server, key, b"a\n" * 501, kind="text/plain").status_code == 413
    monkeypatch.setattr("firstline.usecases.job_chunks.MAX_ROWS", 3)
    answer = post(server, key, b"a\n" * 4, kind="text/plain")
    assert (answer.status_code, "more than" in answer.json()["detail"]) == (422, True)


def elements(blocks: list[bytes]) -> list[str]:
    found = uploads._Blocks()
    pieces = iter([*blocks, b""])
    found.read1 = lambda _size: next(pieces, b"")  # type: ignore[method-assign]
    return list(uploads._elements(found))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_a_list_is_read_alike_however_it_is_cut(size: int) -> None:
    values = ["a]b", 'say "no"', {"text": "ü\u2028 [", "n": 12}, "x" * 40, 123, None, ["deep", ["er"]], "\\"]
    text = json.dumps({"tickets": values}, ensure_ascii=False, indent=1).encode()
    found = elements([text[start : start + size] for start in range(0, len(text), size)])
    assert [json.loads(element) for element in found] == values


def test_jobs_of_others_are_not_found(server: Server, key: str) -> None:
    job = post(server, key, b'["The VPN is down"]', kind="application/json").json()["id"]
    other = server.key("other@example.com", plan="enterprise")
    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", "")):
        answer = server.call(method, f"/v1/jobs/{job}{path}", key=other)
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
    assert server.get("/v1/jobs", key=other).json() == {"jobs": [], "next": None}
    assert server.get("/v1/jobs/job_x", key=key).status_code == 404
    assert server.get(f"/v1/jobs/{job}").status_code == 401


def test_jobs_are_listed_page_by_page(server: Server) -> None:
    own = server.key("pages@example.com", plan="enterprise")
    jobs = [post(server, own, b'["x"]', kind="application/json").json()["id"] for _ in range(3)]
    first = server.get("/v1/jobs?limit=2", key=own).json()
    rest = server.get(f"/v1/jobs?limit=2&before={first['next']}", key=own).json()
    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == jobs[::-1]
    assert rest["next"] is None
    assert server.get("/v1/jobs?limit=0", key=own).status_code == 422


def test_a_deleted_job_leaves_its_tickets_and_no_file(server: Server, key: str) -> None:
    job = post(server, key, b'["Deleted but stored"]', kind="application/json").json()["id"]
    ended(server, key, job)
    assert server.call("DELETE", f"/v1/jobs/{job}", key=key).status_code == 204
    assert server.get(f"/v1/jobs/{job}", key=key).status_code == 404
    assert not (server.settings.data_dir / "jobs" / job.removeprefix("job_")).exists()
    assert server.rows("SELECT count(*) FROM tickets WHERE text = 'Deleted but stored'") == [(1,)]


@pytest.fixture
def idle(serve: Serve) -> Server:
    """A server that takes jobs in and works on none."""
    return serve(environment="production", job_processes=0)


def test_a_cancelled_job_says_so(idle: Server) -> None:
    key = idle.key(plan="enterprise")
    job = post(idle, key, b'["x", "y"]', kind="application/json").json()["id"]
    answer = idle.call("POST", f"/v1/jobs/{job}/cancel", key=key)
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert idle.call("POST", f"/v1/jobs/{job}/cancel", key=key).json() == answer.json()


def test_unfinished_jobs_are_bounded(idle: Server) -> None:
    key = idle.key(plan="enterprise")
    answers = [post(idle, key, b'["x"]', kind="application/json") for _ in range(21)]
    assert [answer.status_code for answer in answers] == [202] * 20 + [409]
    assert answers[-1].json()["code"] == "too_many_jobs"


def test_a_job_waits_when_the_plan_is_used_up_and_is_charged_row_by_row(serve: Serve) -> None:
    server = serve(environment="production", job_processes=1)
    key = server.key(plan="free", catalogue=Contract.DECISION)
    rows = json.dumps([f"Where is order {row}?" for row in range(130)]).encode()
    job = post(server, key, rows, kind="application/json", query="?contract=decision").json()["id"]
    deadline = monotonic() + ENDED_S
    while (found := server.get(f"/v1/jobs/{job}", key=key).json())["resumes_at"] != "2026-11-19T00:00:00.000Z":
        assert monotonic() < deadline, found
        if found["state"] == "paused":  # for a moment, until it is known what the chunks under way are charged
            server.clock.advance(1)
        sleep(0.02)
    assert found["state"] == "paused"
    while server.rows("SELECT 1 FROM job_chunks WHERE state = 'leased'"):
        sleep(0.02)
    assert server.get(f"/v1/jobs/{job}", key=key).json()["done"] == 100
    assert server.rows("SELECT requests FROM usage WHERE \"window\" = 'day'") == [(100,)]
    refused = server.post("/v1/decision", {"message": "one more"}, key=key)
    assert refused.status_code == 429


def test_erasing_reaches_the_results_of_jobs(serve: Serve) -> None:
    server = serve(environment="production", job_processes=1)
    key = server.key(plan="enterprise")
    job = post(server, key, as_json()[1], kind="application/json", query="?keep=id").json()["id"]
    ended(server, key, job)
    account_id = server.rows("SELECT account_id FROM jobs")[0][0]
    assert server.run(server.app.jobs.erase(Erasing(account_id, customer_ref="anna"))) == 2
    rows = results(server, key, job)
    assert [row.get("error", "")[:6] for row in rows] == ["erased", "", "the me", "erased"]
    assert [row["id"] for row in rows] == [None, 2, 3, None]
    assert rows[0]["category"] is None
    assert server.run(server.app.jobs.erase(Erasing(account_id, customer_ref="anna"))) == 0
    assert server.run(server.app.jobs.erase(Erasing(account_id, whole=True))) == 4
    assert list((server.settings.data_dir / "jobs").iterdir()) == []
