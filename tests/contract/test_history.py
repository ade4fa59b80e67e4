"""History, export, retention and erasure over HTTP, and texts that are encrypted at rest."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow.parquet
import pytest
from asgi_server import PRODUCTION, Serve, Server

from firstline.adapters.sealing import Sealer
from firstline.bootstrap_stores import CannotStart
from firstline.core.taxonomy import Contract
from firstline.delivery.http import ticket_export
from firstline.ports.history import History
from firstline.ports.storage import StorageUnavailable
from firstline.usecases import erasure as erasure_module
from firstline.usecases import history as history_module

CLASSIFY, DECISION, TICKETS, ERASURES = "/api/v1/classify", "/v1/decision", "/v1/tickets", "/v1/erasures"
NEEDLE = "Flugente quasselt"
SECRET, OTHER_SECRET = "-".join(["first", "secret"] * 3), "-".join(["second", "secret"] * 3)


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(environment=PRODUCTION)


@pytest.fixture
def api_key(server: Server) -> str:
    return big_key(server)


def big_key(server: Server, email: str = "someone@example.com") -> str:
    server.key(email, plan="enterprise", catalogue=Contract.DECISION)
    return server.key(email, plan="enterprise")


def tell(server: Server, api_key: str, message: str, **fields: Any) -> str:
    """A message is decided on; the ticket's id. A second passes."""
    answer = server.post(DECISION, {"message": message, **fields}, key=api_key)
    assert answer.status_code == 200, answer.text
    server.clock.advance(1)
    ticket: str = answer.json()["id"]
    return ticket


def listed(server: Server, api_key: str, query: str = "") -> list[str]:
    answer = server.get(f"{TICKETS}{query}", key=api_key)
    assert answer.status_code == 200, answer.text
    return [ticket["id"] for ticket in answer.json()["tickets"]]


def erase(server: Server, api_key: str, **what: Any) -> dict[str, Any]:
    answer = server.post(ERASURES, what, key=api_key)
    assert answer.status_code == 201, answer.text
    receipt: dict[str, Any] = answer.json()
    assert receipt["finished_at"] is not None
    return receipt


def everything_on_disk(server: Server) -> bytes:
    server.close()
    return b"".join(path.read_bytes() for path in server.settings.data_dir.rglob("*") if path.is_file())


def test_a_ticket_is_listed_and_read_with_its_evidence(server: Server, api_key: str) -> None:
    ticket = tell(server, api_key, NEEDLE, channel="chat", customer_ref="c-1", external_id="x-1")
    (entry,) = server.get(TICKETS, key=api_key).json()["tickets"]
    assert (entry["id"], entry["preview"], entry["text_state"]) == (ticket, NEEDLE, "kept")
    assert (entry["customer_ref"], entry["external_id"], entry["channel"]) == ("c-1", "x-1", "chat")
    whole = server.get(f"{TICKETS}/{ticket}", key=api_key).json()
    assert whole["text"] == NEEDLE
    (revision,) = whole["revisions"]
    assert revision["decision"] == entry["decision"]
    assert revision["evidence"]["prediction"]
    assert revision["reasons"]


def test_pages_lead_from_one_to_the_next(server: Server, api_key: str) -> None:
    told = [tell(server, api_key, f"message {number}") for number in range(5)]
    first = server.get(f"{TICKETS}?limit=2", key=api_key).json()
    tell(server, api_key, "one more")
    second = server.get(f"{TICKETS}?limit=2&cursor={first['next']}", key=api_key).json()
    third = server.get(f"{TICKETS}?limit=2&cursor={second['next']}", key=api_key).json()
    found = [ticket["id"] for page in (first, second, third) for ticket in page["tickets"]]
    assert found == told[::-1]
    assert third["next"] is None


def test_filters_narrow_the_list(server: Server, api_key: str) -> None:
    lawyer = tell(server, api_key, "I will sue you, my lawyer is on it", customer_ref="c-1", channel="email")
    refund = tell(server, api_key, "Wo bleibt meine Rückerstattung?", external_id="x-1")
    assert listed(server, api_key, "?decision=immediate_escalation") == [lawyer]
    assert listed(server, api_key, "?source=rule&channel=email") == [lawyer]
    assert listed(server, api_key, "?language=de") == [refund]
    assert listed(server, api_key, "?customer_ref=c-1") == [lawyer]
    assert listed(server, api_key, "?external_id=x-1") == [refund]
    assert listed(server, api_key, "?q=RÜCKERSTATTUNG") == [refund]
    assert listed(server, api_key, "?contract=classifier") == []
    moment = server.get(f"{TICKETS}/{refund}", key=api_key).json()["received_at"]
    assert listed(server, api_key, f"?from={moment}") == [refund]
    assert listed(server, api_key, f"?to={moment}") == [lawyer]
    assert listed(server, api_key, "?from=2020-01-01&to=2020-01-02T00:00:00%2B02:00") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("cursor=abc", "cursor"),
        ("cursor=" + "A" * 33, "cursor"),
        ("cursor=" + "_" * 32, "cursor"),
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
        ("priority=urgent", "priority"),
        ("needs_review=perhaps", "needs_review"),
        ("q=", "q"),
        ("q=" + "x" * 201, "q"),
        ("customer_ref=%00", "customer_ref"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
    ],
)
def test_a_parameter_at_fault_is_named(server: Server, api_key: str, query: str, field: str) -> None:
    answer = server.get(f"{TICKETS}?{query}", key=api_key)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "validation_failed", field)


def test_a_rare_ticket_far_back_is_found_page_by_page(
    server: Server, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "EXAMINED", 4)
    rare = tell(server, api_key, "I will sue you, my lawyer is on it")
    for number in range(10):
        tell(server, api_key, f"Where is parcel {number}")
    found, cursor = [], ""
    while True:
        page = server.get(f"{TICKETS}?decision=immediate_escalation&limit=1{cursor}", key=api_key).json()
        found += [ticket["id"] for ticket in page["tickets"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert found == [rare]


def test_another_account_sees_nothing_of_it(server: Server, api_key: str) -> None:
    ticket, other = tell(server, api_key, NEEDLE, customer_ref="c-1"), big_key(server, "other@example.com")
    receipt = erase(server, api_key, ticket=tell(server, api_key, "another"))
    assert listed(server, other) == []
    missing = server.get(f"{TICKETS}/{ticket}", key=other)
    assert (missing.status_code, missing.json()["code"]) == (404, "ticket_not_found")
    assert server.get(f"{TICKETS}/export", key=other).content == b""
    assert server.get(f"{ERASURES}/{receipt['id']}", key=other).json()["code"] == "erasure_not_found"
    assert server.get(ERASURES, key=other).json() == {"erasures": []}
    for what in ({"ticket": ticket}, {"customer_ref": "c-1"}, {"account": True}):
        assert erase(server, other, **what)["removed"].get("tickets", 0) == 0
    assert listed(server, api_key) == [ticket]


@pytest.mark.parametrize("path", [TICKETS, f"{TICKETS}/export", f"{TICKETS}/tkt_{'0' * 32}", "/v1/retention", ERASURES])
def test_a_key_is_asked_for(server: Server, path: str) -> None:
    assert server.get(path).status_code == 401


def test_an_export_is_the_same_in_every_format(server: Server, api_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "EXPORTED", 2)
    told = [tell(server, api_key, f"message {number}", customer_ref="c-1") for number in range(5)]
    tell(server, api_key, "not wanted")

    def export(kind: str) -> bytes:
        answer = server.get(f"{TICKETS}/export?customer_ref=c-1&format={kind}", key=api_key)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == ticket_export.MEDIA_TYPES[kind]
        assert answer.headers["content-disposition"] == f'attachment; filename="tickets.{kind}"'
        return answer.content

    lines = [json.loads(line) for line in export("ndjson").splitlines()]
    assert [row["id"] for row in lines] == told[::-1]
    assert json.loads(export("json")) == lines
    cells = list(csv.DictReader(io.StringIO(export("csv").decode())))
    assert [row["text"] for row in cells] == [row["text"] for row in lines]
    assert [json.loads(row["reasons"]) for row in cells] == [row["reasons"] for row in lines]
    table = pyarrow.parquet.read_table(io.BytesIO(export("parquet")))
    assert table.column_names == list(ticket_export.COLUMNS) == list(lines[0])
    assert table["id"].to_pylist() == told[::-1]
    assert table["probability"].to_pylist() == [row["probability"] for row in lines]


def test_an_empty_export_is_a_file_all_the_same(server: Server, api_key: str) -> None:
    assert server.get(f"{TICKETS}/export?format=json", key=api_key).json() == []
    assert server.get(f"{TICKETS}/export?format=csv", key=api_key).text == ",".join(ticket_export.COLUMNS) + "\r\n"
    parquet = server.get(f"{TICKETS}/export?format=parquet", key=api_key).content
    assert pyarrow.parquet.read_table(io.BytesIO(parquet)).num_rows == 0
    assert server.call("HEAD", f"{TICKETS}/export?format=csv", key=api_key).content == b""


@pytest.mark.parametrize("text", ["=1+1", "+49 30", "-x", "@SUM(A1)", "＝1+1"])
def test_no_cell_of_a_csv_file_is_a_formula(server: Server, api_key: str, text: str) -> None:
    tell(server, api_key, text, customer_ref=text)
    (row,) = csv.DictReader(io.StringIO(server.get(f"{TICKETS}/export?format=csv", key=api_key).text))
    assert (row["text"], row["customer_ref"]) == (f"'{text}", f"'{text}")


def test_without_pyarrow_parquet_is_refused_with_a_sentence(
    server: Server, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    answer = server.get(f"{TICKETS}/export?format=parquet", key=api_key)
    assert (answer.status_code, answer.json()["code"]) == (501, "format_unavailable")
    assert "pyarrow" in answer.json()["detail"]


def test_an_export_that_the_store_breaks_off_does_not_look_whole(
    server: Server, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "EXPORTED", 2)
    for number in range(5):
        tell(server, api_key, f"message {number}")
    history: History = server.app.history._history
    lists, calls = history.list, []

    async def failing(*given: Any, **named: Any) -> Any:
        calls.append(given)
        if len(calls) > 1:
            raise StorageUnavailable
        return await lists(*given, **named)

    monkeypatch.setattr(history, "list", failing)
    with pytest.raises(AssertionError):  # the transport's way to say that an answer has no end
        server.get(f"{TICKETS}/export", key=api_key)
    assert len(calls) == 2
    assert server.get(f"{TICKETS}/export", key=api_key).status_code == 503


def test_retention_removes_what_is_too_old_and_nothing_else(server: Server, api_key: str) -> None:
    other = big_key(server, "other@example.com")
    theirs = tell(server, other, "kept for good")
    tell(server, api_key, "old")
    server.clock.advance(86_400 * 2)
    young = tell(server, api_key, "young")
    assert server.get("/v1/retention", key=api_key).json() == {"days": None}
    assert server.put("/v1/retention", {"days": 2}, key=api_key).json() == {"days": 2}
    assert server.run(server.app.history.expire()) == 1
    assert (listed(server, api_key), listed(server, other)) == ([young], [theirs])
    assert server.put("/v1/retention", {"days": None}, key=api_key).json() == {"days": None}
    server.clock.advance(86_400 * 400)
    assert server.run(server.app.history.expire()) == 0


@pytest.mark.parametrize("days", [0, -1, 36_501, 1.5, "7", True])
def test_days_out_of_bounds_are_refused(server: Server, api_key: str, days: object) -> None:
    answer = server.put("/v1/retention", {"days": days}, key=api_key)
    assert (answer.status_code, answer.json()["field"]) == (422, "days")


@pytest.mark.parametrize(
    "what",
    [
        lambda ticket: {"ticket": ticket},
        lambda _: {"customer_ref": "c-1"},
        lambda _: {"account": True},
    ],
    ids=["ticket", "customer", "account"],
)
def test_what_is_erased_is_nowhere_on_the_disk(
    server: Server, api_key: str, what: Callable[[str], dict[str, Any]]
) -> None:
    body = {"message": NEEDLE, "customer_ref": "c-1"}
    headers = {"Idempotency-Key": "once"}
    ticket = server.post(DECISION, body, key=api_key, headers=headers).json()["id"]
    receipt = erase(server, api_key, **what(ticket))
    assert (receipt["removed"]["tickets"], receipt["removed"]["verdicts"]) == (1, 1)
    assert receipt["removed"]["idempotent_answers"] == 1
    assert server.get(f"{TICKETS}/{ticket}", key=api_key).status_code == 404
    assert server.get(f"{ERASURES}/{receipt['id']}", key=api_key).json() == receipt
    disk = everything_on_disk(server)
    assert NEEDLE.encode() not in disk
    assert b'"c-1"' not in disk


def test_erasing_again_finds_nothing_and_says_so(server: Server, api_key: str) -> None:
    ticket = tell(server, api_key, NEEDLE)
    erase(server, api_key, ticket=ticket)
    again = erase(server, api_key, ticket=ticket)
    assert set(again["removed"].values()) == {0}
    assert len(server.get(ERASURES, key=api_key).json()["erasures"]) == 2


def test_a_receipt_and_the_audit_trail_name_nobody(server: Server, api_key: str) -> None:
    tell(server, api_key, NEEDLE, customer_ref="mrs-doe")
    receipt = erase(server, api_key, customer_ref="mrs-doe")
    assert "mrs-doe" not in json.dumps(receipt)
    assert server.rows("SELECT subject FROM erasures") == [(None,)]
    ((detail, target),) = server.rows("SELECT detail, target FROM audit WHERE action = 'erasure.create'")
    assert (json.loads(detail), target) == ({"scope": "customer_ref"}, receipt["id"])


def test_other_customers_stay(server: Server, api_key: str) -> None:
    tell(server, api_key, "one", customer_ref="c-1")
    stays = tell(server, api_key, "two", customer_ref="c-10")
    unnamed = tell(server, api_key, "three")
    assert erase(server, api_key, customer_ref="c-1")["removed"]["tickets"] == 1
    assert listed(server, api_key) == [unnamed, stays]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"ticket": "tkt_" + "0" * 32, "account": True}, "body"),
        ({"ticket": "12"}, "ticket"),
        ({"customer_ref": ""}, "customer_ref"),
        ({"customer_ref": "x" * 201}, "customer_ref"),
        ({"customer_ref": "a\0b"}, "customer_ref"),
        ({"account": False}, "account"),
    ],
)
def test_an_unclear_erasure_is_refused(server: Server, api_key: str, body: object, field: str) -> None:
    answer = server.post(ERASURES, body, key=api_key)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert server.rows("SELECT count(*) FROM erasures") == [(0,)]


def test_an_erasure_is_gone_on_with_after_a_crash(
    server: Server, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure_module, "WAIT_S", 0.05)
    monkeypatch.setattr(erasure_module, "CHUNK", 1)
    for number in range(3):
        tell(server, api_key, f"{NEEDLE} {number}", customer_ref="c-1")
    history = server.app.eraser._history

    async def crash(*_: Any) -> None:
        raise RuntimeError("the process dies here")

    with monkeypatch.context() as patch:
        patch.setattr(history, "erase", crash)
        answer = server.post(ERASURES, {"customer_ref": "c-1"}, key=api_key)
    assert (answer.status_code, answer.json()["finished_at"]) == (202, None)
    assert len(listed(server, api_key)) == 3

    async def resumed() -> None:
        await server.app.eraser.resume()
        for task in list(server.app.eraser._running.values()):
            await task

    server.run(resumed())
    receipt = server.get(f"{ERASURES}/{answer.json()['id']}", key=api_key).json()
    assert receipt["finished_at"] is not None
    assert receipt["removed"]["tickets"] == 3
    assert listed(server, api_key) == []


def test_erasing_drops_what_providers_have_answered(
    server: Server, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = []
    monkeypatch.setattr(server.app.eraser, "_forget", lambda: forgotten.append(True))
    erase(server, api_key, ticket=tell(server, api_key, NEEDLE))
    assert forgotten


def test_encrypted_texts_are_shown_and_never_on_the_disk(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, secret_key=SECRET)
    api_key = big_key(server)
    ticket = tell(server, api_key, NEEDLE)
    server.post("/api/v1/batch", {"tickets": [f"{NEEDLE} again"]}, key=api_key)
    assert server.get(f"{TICKETS}/{ticket}", key=api_key).json()["text"] == NEEDLE
    assert NEEDLE in server.get(f"{TICKETS}/export?format=csv", key=api_key).text
    for path in (TICKETS, f"{TICKETS}/export"):
        answer = server.get(f"{path}?q=Flugente", key=api_key)
        assert (answer.status_code, answer.json()["code"]) == (409, "search_unavailable")
    assert listed(server, api_key, "?decision=standard_response")
    assert NEEDLE.encode() not in everything_on_disk(server)


def test_texts_from_before_encryption_stay_readable(serve: Serve, engine: Any, tmp_path: Any) -> None:
    with Server(tmp_path, engine, environment=PRODUCTION) as plain:
        api_key = big_key(plain)
        before = tell(plain, api_key, NEEDLE)
    with Server(tmp_path, engine, environment=PRODUCTION, secret_key=SECRET) as sealed:
        after = tell(sealed, api_key, f"{NEEDLE} later")
        texts = [sealed.get(f"{TICKETS}/{one}", key=api_key).json()["text"] for one in (before, after)]
    assert texts == [NEEDLE, f"{NEEDLE} later"]


def test_a_new_secret_opens_nothing_without_the_old_one_until_keys_are_sealed_anew(engine: Any, tmp_path: Any) -> None:
    def started(secret: str | None) -> Server:
        return Server(tmp_path, engine, environment=PRODUCTION, secret_key=secret)

    with started(SECRET) as server:
        api_key = big_key(server)
        ticket = tell(server, api_key, NEEDLE)
    for secret in (OTHER_SECRET, None):
        with pytest.raises(CannotStart, match="SECRET_KEY"):
            started(secret)
    with started(f"{OTHER_SECRET},{SECRET}") as server:
        assert server.get(f"{TICKETS}/{ticket}", key=api_key).json()["text"] == NEEDLE
        server.run(server.app.eraser._texts.reseal(Sealer([OTHER_SECRET], purpose="texts")))
    with started(OTHER_SECRET) as server:
        assert server.get(f"{TICKETS}/{ticket}", key=api_key).json()["text"] == NEEDLE


def test_a_copy_from_before_an_account_was_erased_cannot_be_read_with_what_is_left(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, secret_key=SECRET)
    api_key = big_key(server)
    tell(server, api_key, NEEDLE)
    ((row,),) = server.rows("SELECT text FROM tickets")
    ((key_then,),) = server.rows("SELECT sealed FROM account_data_keys")
    assert erase(server, api_key, account=True)["removed"]["data_keys"] == 1
    later = tell(server, api_key, "a new beginning")
    assert server.get(f"{TICKETS}/{later}", key=api_key).json()["text"] == "a new beginning"
    keys = server.rows("SELECT number, sealed FROM account_data_keys ORDER BY number")
    assert keys[0] == (1, "")
    assert keys[1][1] not in {"", key_then}
    ticket = later.removeprefix("tkt_")

    async def put_back() -> None:
        from sqlalchemy import text

        statement = text("UPDATE tickets SET text = :text WHERE id = :id").bindparams(text=row, id=ticket)
        await server.app.storage._write(lambda connection: connection.execute(statement).rowcount)  # type: ignore[attr-defined]

    server.run(put_back())
    found = server.get(f"{TICKETS}/{later}", key=api_key).json()
    assert (found["text"], found["text_state"]) == (None, "unreadable")
    assert key_then.encode() not in everything_on_disk(server)


def test_where_texts_are_not_kept_the_history_says_so(serve: Serve) -> None:
    server = serve(environment=PRODUCTION, history_text=False, secret_key=SECRET)
    api_key = big_key(server)
    ticket = tell(server, api_key, NEEDLE)
    found = server.get(f"{TICKETS}/{ticket}", key=api_key).json()
    assert (found["text"], found["text_state"]) == (None, "none")
    assert server.rows("SELECT count(*) FROM account_data_keys") == [(0,)]
