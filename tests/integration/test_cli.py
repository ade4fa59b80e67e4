"""The command line: in this process where one command is enough, as a process where signals and pipes matter."""

import csv
import io
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from firstline import bootstrap, bootstrap_stores
from firstline.adapters.sql import engine
from firstline.bootstrap import Engine
from firstline.core.message import Message
from firstline.core.taxonomy import Contract
from firstline.delivery.cli import main, triage
from firstline.delivery.cli.formats import Format, Output
from firstline.delivery.cli.results import Outcome, open_results
from firstline.delivery.cli.rows import MAX_LINE_BYTES, Lines
from firstline.settings import Settings, load_settings, variable_names
from firstline.usecases.tickets import Triage

LAWSUIT = "I will sue you"
CASES = {"VPN not working": "Network Issue", "Refund request": "Payment Issue", "Add dark mode": "Feature Request"}


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its output as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = {name for names in variable_names().values() for name in names}
    for name in os.environ:
        if name.upper().startswith("FIRSTLINE_") or name.upper() in known:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@cache
def _engine(rules_dir: Path | None) -> Engine:
    return bootstrap.build_engine(Settings(rules_dir=rules_dir))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command in this process; an engine is built once for each folder of rules, databases are closed."""
    databases = []

    def open_engine(path: Path) -> Any:
        databases.append(engine.open_engine(path))
        return databases[-1]

    monkeypatch.setattr(triage, "build_engine", lambda settings: _engine(settings.rules_dir))
    monkeypatch.setattr(bootstrap_stores, "open_engine", open_engine)

    def run(*arguments: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(arguments)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    yield run
    for database in databases:
        database.dispose()


def _spawn(*arguments: str, **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "firstline.delivery.cli", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        **options,
    )


def _as_process(*arguments: str) -> Done:
    process = _spawn(*arguments)
    out, err = process.communicate(timeout=60)
    return Done(process.returncode, out, err)


def _write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


# --- classify and decide ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "\n".join(CASES)),
        ("a.txt", "\r\n".join(CASES) + "\r\n"),
        ("a.csv", "\ufeffid;Ticket\n" + "".join(f'7;"{text}"\n' for text in CASES)),
        ("a.tsv", "id\tbody\n" + "".join(f"7\t{text}\n" for text in CASES)),
        ("a.jsonl", "".join(json.dumps({"id": 7, "message": text}) + "\n" for text in CASES)),
        ("a.ndjson", "".join(json.dumps(text) + "\n" for text in CASES)),
    ],
)
def test_the_same_messages_are_classified_alike_from_every_format(
    run: Run, tmp_path: Path, name: str, content: str
) -> None:
    done = run("classify", _write(tmp_path / name, content))
    assert (done.code, done.err) == (0, "")
    assert [row["category"] for row in done.rows] == list(CASES.values())
    first = 2 if name in {"a.csv", "a.tsv"} else 1
    assert [row["line"] for row in done.rows] == list(range(first, first + len(CASES)))


@pytest.mark.parametrize(
    "content", ["VPN not working\n", "id,text\n7,VPN not working\n", '{"text": "VPN not working"}\n']
)
def test_the_format_of_standard_input_is_seen_in_its_first_line(run: Run, content: str) -> None:
    done = run("classify", "-", stdin=content.encode())
    assert [row["category"] for row in done.rows] == ["Network Issue"]


def test_a_sentence_that_begins_with_a_column_name_is_no_header(run: Run) -> None:
    done = run("classify", "-", stdin=b"Text, please: VPN not working\n")
    assert [row["line"] for row in done.rows] == [1]


def test_a_row_says_what_was_decided_and_by_whom(run: Run) -> None:
    done = run("classify", "-", stdin=f"{LAWSUIT}\n".encode())
    (row,) = done.rows
    assert list(row) == [
        "line",
        "category",
        "priority",
        "probability",
        "needs_review",
        "source",
        "language",
        "rules",
    ]
    assert (row["priority"], row["source"], row["needs_review"]) == ("critical", "rule", False)
    assert "en/legal.threat" in row["rules"]
    assert 0 <= row["probability"] <= 1


def test_order_is_kept_over_many_chunks(run: Run) -> None:
    texts = [LAWSUIT if number % 7 == 0 else "VPN not working" for number in range(3 * triage.CHUNK_ROWS + 5)]
    done = run("classify", "-", "--format", "txt", stdin="\n".join(texts).encode())
    assert [row["line"] for row in done.rows] == list(range(1, len(texts) + 1))
    assert [row["source"] == "rule" for row in done.rows] == [text == LAWSUIT for text in texts]


@pytest.mark.parametrize(
    ("name", "bad", "problem"),
    [
        ("a.txt", b"", "the line is empty"),
        ("a.txt", b"caf\xe9", "the line is not UTF-8"),
        ("a.txt", b"a" * 6_000, "the message has 6,000 characters; at most 5,000"),
        ("a.txt", b"a" * (MAX_LINE_BYTES + 1), "the line is longer than 1,048,576 bytes"),
        ("a.txt", "\u200b\u2060".encode(), "the message is empty"),
        ("a.jsonl", b"", "the line is empty"),
        ("a.jsonl", b'{"text": ', "the line is not valid JSON at character 11"),
        ("a.jsonl", b'{"text": "\xe9"}', "the line is not UTF-8"),
        ("a.jsonl", b'{"text": "a", "text": "b"}', "an object has the same key twice"),
        ("a.jsonl", b"[" * 100_000, "nesting is deeper than 64"),
        ("a.jsonl", b"7", "the line is no JSON object"),
        ("a.jsonl", b'{"text": 7}', "field 'text' must be a text"),
        ("a.jsonl", b'{"subject": "x"}', "there is no field text, ticket, message or body; the object has subject"),
        ("a.jsonl", b"a" * (MAX_LINE_BYTES + 1), "the line is longer than 1,048,576 bytes"),
        ("a.csv", b"", "the line is empty"),
        ("a.csv", b"7", "the row has 1 of the header's 2 columns, and no 'text'"),
        ("a.csv", b"7,caf\xe9", "the line is not UTF-8"),
        ("a.csv", b"7,", "the message is empty"),
        ("a.csv", b'7,"a"b', "no valid CSV: ',' expected after '\"'"),
    ],
)
def test_a_bad_row_is_reported_with_its_line_and_the_rest_is_decided(
    run: Run, tmp_path: Path, name: str, bad: bytes, problem: str
) -> None:
    good = {"a.txt": b"VPN not working", "a.jsonl": b'{"text": "VPN not working"}', "a.csv": b"7,VPN not working"}
    head = [b"id,text"] if name == "a.csv" else []
    path = _write(tmp_path / name, b"\n".join([*head, good[name], bad, good[name], b""]))
    line = len(head) + 2
    done = run("classify", path)
    assert done.code == 1
    assert done.rows[1] == {"line": line, "error": problem}
    assert [row.get("category") for row in done.rows] == ["Network Issue", None, "Network Issue"]
    assert f"{path}:{line}: {problem}" in done.err


def test_a_quote_that_is_never_closed_is_reported_where_it_begins(run: Run, tmp_path: Path) -> None:
    done = run("classify", _write(tmp_path / "a.csv", 'text\nVPN not working\n"open\nmore\n'))
    assert done.code == 1
    assert [row["line"] for row in done.rows] == [2, 3]
    assert done.rows[1]["error"].startswith("no valid CSV")


def test_a_text_of_several_lines_counts_as_one_row(run: Run, tmp_path: Path) -> None:
    done = run("classify", _write(tmp_path / "a.csv", 'text,id\n"VPN\nnot working",1\nRefund request,2\n'))
    assert [(row["line"], row["category"]) for row in done.rows] == [(2, "Network Issue"), (4, "Payment Issue")]


def test_many_bad_rows_do_not_flood_standard_error(run: Run) -> None:
    done = run("classify", "-", "--format", "txt", stdin=b"\n" * 500)
    assert len(done.rows) == 500
    assert len(done.err.splitlines()) == triage.MAX_SAID + 2


def test_a_bug_on_one_message_costs_that_row_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    decide = Triage.decide

    def fail_on_one(self: Triage, message: Any, under: Any = None) -> Any:
        if message.text == "bad":
            raise RuntimeError
        return decide(self, message, under)

    def fail(self: Triage, messages: Any, under: Any = None) -> Any:
        raise RuntimeError

    monkeypatch.setattr(Triage, "decide", fail_on_one)
    monkeypatch.setattr(Triage, "decide_many", fail)
    done = run("classify", "-", stdin=b"VPN not working\nbad\nRefund request\n")
    assert done.code == 1
    assert [row.get("category") for row in done.rows] == ["Network Issue", None, "Payment Issue"]


def test_a_csv_file_without_a_text_column_names_its_columns(run: Run, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", "id,subject\n1,x\n")
    done = run("classify", path)
    assert (done.code, done.out) == (2, "")
    assert "the columns are id, subject" in done.err
    assert "'wish'" in run("classify", path, "--column", "wish").err


def test_the_column_can_be_named(run: Run, tmp_path: Path) -> None:
    rows = _write(tmp_path / "a.csv", "text,Subject\nAdd dark mode,VPN not working\n")
    lines = _write(tmp_path / "a.jsonl", '{"text": "Add dark mode", "Subject": "VPN not working"}\n')
    for path in (rows, lines):
        assert [row["category"] for row in run("classify", path, "--column", "Subject").rows] == ["Network Issue"]
        assert [row["category"] for row in run("classify", path).rows] == ["Feature Request"]


def test_a_file_that_is_one_json_list_is_refused_with_the_way_out(run: Run, tmp_path: Path) -> None:
    done = run("classify", _write(tmp_path / "a.json", '[\n{"text": "x"}]\n'))
    assert done.code == 2
    assert "jq -c" in done.err


def test_utf_16_is_refused_with_the_way_out(run: Run, tmp_path: Path) -> None:
    done = run("classify", _write(tmp_path / "a.txt", "VPN".encode("utf-16")))
    assert done.code == 2
    assert "iconv" in done.err


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_an_empty_file_has_no_rows_and_is_no_mistake(run: Run, tmp_path: Path, name: str) -> None:
    assert run("classify", _write(tmp_path / name, "")) == Done(0, "", "")


def test_decide_reads_what_a_row_says_about_its_writer(run: Run, tmp_path: Path) -> None:
    text = "I am very disappointed with the service"
    rows = [
        {"text": text},
        {"text": text, "user_plan": "enterprise"},
        {"text": text, "user_plan": None, "channel": None, "history": ["a", "b", "c"]},
    ]
    lines = _write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    cells = [
        "text,user_plan,channel,history",
        f"{text},,,",
        f"{text},Enterprise,chat,",
        f'{text},,,"[""a"",""b"",""c""]"',
    ]
    table = _write(tmp_path / "a.csv", "\n".join(cells))
    old_lines = _write(tmp_path / "b.csv", f'text,history\n{text},"a\nb\nc"\n')
    expected = ["standard_response", "priority_response", "priority_response"]
    assert [row["decision"] for row in run("decide", lines).rows] == expected
    assert [row["decision"] for row in run("decide", table).rows] == expected
    assert [row["decision"] for row in run("decide", old_lines).rows] == ["priority_response"]


def test_a_row_of_its_own_plan_wins_over_the_flag(run: Run) -> None:
    text = "I am very disappointed with the service"
    lines = "".join(json.dumps(row) + "\n" for row in ({"text": text}, {"text": text, "user_plan": "free"}))
    done = run("decide", "-", "--plan", "enterprise", stdin=lines.encode())
    assert [row["decision"] for row in done.rows] == ["priority_response", "standard_response"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"user_plan": "gold"}, "user_plan must be one of free, pro, enterprise"),
        ({"user_plan": 7}, "user_plan must be one of free, pro, enterprise"),
        ({"channel": "fax"}, "channel must be one of email, chat, review, social"),
        ({"history": [7]}, "history must be a list of texts"),
        ({"history": "[7"}, "history is no valid JSON list"),
        ({"history": ["x"] * 51}, "history has 51 messages; at most 50"),
        ({"history": ["x" * 5_001]}, "a message of history has more than 5,000 characters"),
    ],
)
def test_what_a_row_says_about_its_writer_is_checked(run: Run, row: dict[str, Any], problem: str) -> None:
    done = run("decide", "-", stdin=json.dumps({"text": "hello there, friend", **row}).encode())
    assert (done.code, done.rows) == (1, [{"line": 1, "error": problem}])


def test_csv_output_has_a_header_and_one_line_a_row(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = run("decide", "-", "--out", str(out), stdin=f"{LAWSUIT}\n\n".encode())
    assert (done.code, done.out) == (1, "")
    first, second = csv.DictReader(io.StringIO(out.read_text(encoding="utf-8")))
    assert (first["decision"], first["needs_review"], first["error"]) == ("immediate_escalation", "false", "")
    assert "en/legal.threat" in first["rules"].split()
    assert (second["line"], second["error"], second["decision"]) == ("2", "the line is empty", "")
    assert run("decide", "-", "--output", "csv", stdin=f"{LAWSUIT}\n\n".encode()).out == out.read_text(encoding="utf-8")


def test_the_input_is_never_overwritten(run: Run, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.txt", "VPN not working")
    done = run("classify", path, "--out", str(tmp_path / "." / "a.txt"))
    assert done.code == 2
    assert Path(path).read_text() == "VPN not working"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("contract", list(Contract))
def test_the_table_fits_the_terminal_and_obeys_no_message(contract: Contract, width: int) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None)
    results = open_results(Output.TABLE, contract=contract, stream=io.BytesIO(), console=console)
    task = triage.Task("-", contract)
    lines = Lines(io.BytesIO(f"\x1b[2J{LAWSUIT} and then some more words [bold]\n\n{'a' * 300}\n".encode()))
    decider = triage.build_triage(Settings())
    for outcomes in triage.decide_rows(decider, lines, task, format=Format.TXT):
        results.write(outcomes)
    results.write([Outcome(1_234_567, "hello", decider.decide(_message("hello")))])
    shown = screen.getvalue()
    assert "\x1b" not in shown
    assert all(len(line) <= width for line in shown.splitlines())
    assert "critical" in shown
    assert "failed: the line is empty" in shown
    assert "1234567" in shown


def _message(text: str) -> Any:
    return Message(text, Contract.DECISION)


# --- rules -----------------------------------------------------------------------------------------------------


def test_rules_test_says_which_words_matched_which_rule_and_what_follows(run: Run) -> None:
    done = run("rules", "test", "Please answer. I will s u e you")
    assert done.code == 0
    assert "Please answer. [I will s u e you]" in done.out
    assert "en/legal.threat" in done.out
    assert "immediate_escalation, critical" in done.out


def test_rules_test_answers_programs_in_json(run: Run) -> None:
    text = "Antwort bitte. I will sue you"
    found = json.loads(run("rules", "test", text, "--json").out)
    match = next(match for match in found["matches"] if match["rule"] == "en/legal.threat")
    assert match["signal"] == "legal"
    assert match["terms"]
    assert all(text[span["start"] : span["end"]] == span["text"] for span in match["spans"])
    assert found["verdict"]["decision"] == "immediate_escalation"


def test_rules_test_says_when_nothing_matches(run: Run) -> None:
    done = run("rules", "test", "Where is the manual?")
    assert "No rule applies." in done.out
    assert "standard_response" in done.out


PACK = """\
pack: acme
rules:
  - id: vip
    any:
      - blue widget
      - re2: 'ERR-\\d{4}'
    unless:
      - big blue widget
    when: {plan: [enterprise], history_min: 2}
    then: {priority: high, action: Call them.}
"""


def test_rules_test_names_what_held_a_rule_back(run: Run, tmp_path: Path) -> None:
    _write(tmp_path / "pack.yaml", PACK.replace("    unless:\n      - big blue widget\n", ""))

    def held_back(*arguments: str) -> list[Any]:
        done = run("rules", "test", "my blue widget", "--rules-dir", str(tmp_path), "--json", *arguments)
        return [found.get("held_back") for found in json.loads(done.out)["held_back"] if found["rule"] == "acme/vip"]

    assert held_back() == ["it is for the plans enterprise"]
    assert held_back("--plan", "enterprise") == ["it needs 2 earlier messages"]
    assert held_back("--plan", "enterprise", "--history", "2") == []


def test_rules_test_names_a_guard(run: Run, tmp_path: Path) -> None:
    pack = PACK.replace("      - re2: 'ERR-\\d{4}'\n", "").replace(
        "    when: {plan: [enterprise], history_min: 2}\n", ""
    )
    _write(tmp_path / "pack.yaml", pack)
    done = run("rules", "test", "my big blue widget", "--rules-dir", str(tmp_path), "--json")
    (found,) = [found for found in json.loads(done.out)["held_back"] if found["rule"] == "acme/vip"]
    assert "guard" in found["held_back"]
    assert found["terms"] == ["blue widget"]


def test_rules_check_sums_up_valid_packs(run: Run, tmp_path: Path) -> None:
    _write(tmp_path / "pack.yaml", PACK)
    done = run("rules", "check", str(tmp_path))
    assert done.code == 0
    assert "pack.yaml: 1 rule, 1 term, 1 expression." in done.out


def test_rules_check_prints_every_mistake_with_file_and_line(run: Run, tmp_path: Path) -> None:
    _write(
        tmp_path / "a.yaml",
        "pack: acme\n"
        "rules:\n"
        "  - id: one\n"
        "    signal: legall\n"
        "    any: [x]\n"
        "  - id: two\n"
        "    signal: churn\n"
        "    any:\n"
        "      - fine\n"
        "      - (broken\n"
        "  - id: three\n"
        "    signal: churn\n"
        "    any: [bye]\n"
        "  - id: three\n"
        "    signal: churn\n"
        "    any: [bye]\n",
    )
    _write(tmp_path / "b.yaml", "pack: b\nrules: [\n")
    _write(tmp_path / "c.yaml", b"pack: c\n# caf\xe9\n")
    _write(tmp_path / "d.yaml", PACK)
    _write(tmp_path / "e.yml", PACK)
    done = run("rules", "check", str(tmp_path))
    assert done.code == 1
    mistakes = [line for line in done.out.splitlines() if re.search(r":\d+: ", line)]
    places = [re.sub(r"^.*?([^/:]+:\d+): .*$", r"\1", mistake) for mistake in mistakes]
    assert places == ["a.yaml:4", "a.yaml:10", "a.yaml:14", "b.yaml:3", "c.yaml:2", "e.yml:1"]


@pytest.mark.parametrize("folder", ["missing", "."])
def test_rules_check_of_a_folder_without_packs_is_a_mistake(run: Run, folder: str) -> None:
    done = run("rules", "check", folder)
    assert (done.code, len(done.err.splitlines())) == (2, 1)


# --- keys ------------------------------------------------------------------------------------------------------


def _created(run: Run, *arguments: str) -> dict[str, Any]:
    done = run("keys", "create", "--json", *arguments)
    assert (done.code, done.err) == (0, "")
    created: dict[str, Any] = json.loads(done.out)
    return created


def test_a_created_key_stands_alone_on_standard_output(run: Run) -> None:
    done = run("keys", "create", "--email", "a@example.com", "--plan", "starter")
    assert done.code == 0
    assert re.fullmatch(r"atc_[\w-]{32}\n", done.out)
    assert "not shown again" in done.err


@pytest.mark.parametrize(
    ("arguments", "prefix", "catalogue", "plan", "scope"),
    [
        ([], "atc_", "classifier", "free", "triage"),
        (["--catalogue", "decision", "--plan", "professional"], "sk_live_", "decision", "professional", "triage"),
        (["--catalogue", "decision", "--test"], "sk_test_", "decision", "free", "triage"),
        (["--operator"], "op_", "classifier", "free", "operate"),
    ],
)
def test_every_kind_of_key_can_be_created(
    run: Run, arguments: list[str], prefix: str, catalogue: str, plan: str, scope: str
) -> None:
    created = _created(run, "--email", "B@example.com", *arguments)
    assert created["key"].startswith(prefix)
    assert created["email"] == "B@example.com"
    assert (created["catalogue"], created["plan"], created["scope"]) == (catalogue, plan, scope)


def test_a_further_key_leaves_the_plan_of_its_account_as_it_is(run: Run) -> None:
    first = _created(run, "--email", "a@example.com", "--plan", "enterprise")
    further = _created(run, "--email", "A@Example.com", "--operator")
    assert further["account_id"] == first["account_id"]
    assert further["plan"] == "enterprise"


def test_keys_list_shows_all_keys_and_no_secret(run: Run) -> None:
    created = [_created(run, "--email", f"{name}@example.com") for name in "abc"]
    table = run("keys", "list").out
    data = json.loads(run("keys", "list", "--json").out)
    assert [key["id"] for key in data["keys"]] == [key["key_id"] for key in created]
    assert data["total"] == 3
    for key in created:
        assert key["key_id"] in table
        assert key["email"] in table
        assert key["key"] not in table + json.dumps(data)


def test_a_key_is_revoked_once_and_for_good(run: Run) -> None:
    key_id = _created(run, "--email", "a@example.com")["key_id"]
    assert run("keys", "revoke", key_id).out.startswith("Revoked atc_")
    assert "nothing changed" in run("keys", "revoke", key_id).out
    (key,) = json.loads(run("keys", "list", "--json").out)["keys"]
    assert key["is_active"] is False


def test_revoking_a_key_that_is_not_there_says_so(run: Run) -> None:
    _created(run, "--email", "a@example.com")
    done = run("keys", "revoke", f"key_{'0' * 32}")
    assert (done.code, done.out) == (1, "")
    assert f"There is no key key_{'0' * 32}" in done.err


# --- settings, version, database, mistakes ---------------------------------------------------------------------


def test_settings_shows_every_variable_and_no_secret(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret-value")
    _write(tmp_path / ".env", "FIRSTLINE_PORT=8123\nSECRET_KEY=other-secret\nFIRSTLINE_METRICS_TOKEN_FILE=token\n")
    _write(tmp_path / "token", "third-secret-value\n")
    done = run("settings")
    shown = json.loads(run("settings", "--json").out)["settings"]
    assert "secret-value" not in done.out
    assert "other-secret" not in done.out
    assert "FIRSTLINE_PORT = 8123  from .env" in done.out
    assert "OPENAI_API_KEY = (set, not shown)  from the environment" in done.out
    assert "FIRSTLINE_METRICS_TOKEN = (set, not shown)  from file token (FIRSTLINE_METRICS_TOKEN_FILE)" in done.out
    assert [setting["name"] for setting in shown] == [names[0] for names in variable_names().values()]
    assert all(setting["description"] for setting in shown)
    assert all(setting["name"] in done.out for setting in shown)


def test_version_is_the_same_as_a_command_and_as_a_flag(run: Run) -> None:
    assert run("version").out == run("--version").out
    assert run("version").out.startswith("firstline ")


def test_db_upgrade_makes_the_database_and_then_has_nothing_to_do(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert run("db", "upgrade", "--data-dir", str(folder)).out.startswith("Made ")
    assert (folder / "firstline.db").exists()
    assert "is up to date" in run("db", "upgrade", "--data-dir", str(folder)).out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve", "--workers", "2"], "PostgreSQL"),
        (["serve", "--port", "70000"], "--port"),
        (["serve", "--prot", "1"], "--port"),
        (["classify"], "FILE"),
        (["classify", "missing.txt"], "missing.txt"),
        (["classify", "."], "cannot be read"),
        (["classify", "a.txt", "--format", "xml"], "xml"),
        (["classify", "-", "--out", "missing/out.csv"], "cannot be written"),
        (["classify", "-", "--output", "table", "--out", "out.csv"], "--out"),
        (["decide", "-", "--plan", "gold"], "gold"),
        (["keys"], "Missing command"),
        (["keys", "create", "--email", "nobody"], "nobody"),
        (["keys", "create", "--email", "a@example.com", "--plan", "gold"], "starter"),
        (["keys", "create", "--email", "a@example.com", "--test"], "--catalogue decision"),
        (["keys", "create", "--email", "a@example.com", "--operator", "--test"], "not both"),
        (["keys", "create", "--email", "a@example.com", "--name", " "], "--name"),
        (["keys", "list", "--data-dir", "missing"], "missing"),
        (["keys", "revoke", "sk_live_0123456789abcdef0123"], "id"),
        (["keys", "revoke", "7"], "key_"),
        (["rules", "test", " "], "empty"),
        (["db", "downgrade"], "downgrade"),
        (["fly"], "fly"),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(run: Run, arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert says in done.err
    assert not Path("missing").exists()


@pytest.mark.parametrize("command", [["serve"], ["classify", "-"], ["keys", "list"], ["settings"], ["db", "upgrade"]])
def test_a_wrong_setting_stops_every_command_with_a_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("FIRSTLINE_PROT", "1")
    done = run(*command)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "did you mean FIRSTLINE_PORT?" in done.err


def test_a_database_that_is_none_stops_with_a_sentence(run: Run, tmp_path: Path) -> None:
    _write(tmp_path / "firstline.db", "this is no database, whatever it is called" * 50)
    folder = ("--data-dir", str(tmp_path))
    for done in (run("keys", "list", *folder), run("db", "upgrade", *folder), _as_process("serve", *folder)):
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
        assert "no SQLite database" in done.err


def test_flags_win_over_the_environment_and_it_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _write(tmp_path / ".env", "FIRSTLINE_PORT=1\nFIRSTLINE_HOST=::1\nFIRSTLINE_DATA_DIR=file\n")
    monkeypatch.setenv("FIRSTLINE_PORT", "2")
    monkeypatch.setenv("FIRSTLINE_HOST", "127.0.0.2")
    settings = load_settings(port=3)
    assert (settings.port, settings.host, settings.data_dir) == (3, "127.0.0.2", Path("file"))


def test_help_starts_without_the_heavy_packages() -> None:
    code = (
        "import sys\nfrom firstline.delivery.cli import main\nassert main(['--help']) == 0\n"
        "heavy = {'numpy', 'sqlalchemy', 'fastapi', 'pydantic', 'alembic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(command in done.stdout for command in ("serve", "classify", "decide", "keys", "rules", "db", "settings"))


# --- as a process ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A running `firstline serve`."""

    process: "subprocess.Popen[str]"
    folder: Path
    greeting: str
    url: str


def _serve(folder: Path, *, environment: str) -> Server:
    process = _spawn(
        "serve",
        "--port",
        "0",
        "--data-dir",
        str(folder),
        env={**os.environ, "FIRSTLINE_ENVIRONMENT": environment, "FIRSTLINE_ACCESS_LOG": "false"},
    )
    assert process.stdout is not None
    greeting = ""
    for line in process.stdout:
        greeting += line
        if line.startswith("Ctrl-C"):
            break
    found = re.search(r"listens on (\S+)", greeting)
    assert found, (greeting, process.communicate())
    return Server(process, folder, greeting, found[1])


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    running = _serve(tmp_path / "data of it", environment=request.param)
    yield running
    running.process.kill()
    running.process.communicate(timeout=30)


def _paste(line: str, **environment: str) -> str:
    """Run a line of the greeting in a shell, with this interpreter's firstline as `firstline`."""
    shell = f'firstline() {{ "{sys.executable}" -m firstline.delivery.cli "$@"; }}\n{line}'
    done = subprocess.run(
        ["sh", "-c", shell],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout


_needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the printed call is made with curl")


@_needs_curl
@pytest.mark.parametrize("server", ["development"], indirect=True)
def test_serve_prints_a_call_that_works_when_pasted_and_stops_quietly(server: Server) -> None:
    assert f"{server.url}/docs" in server.greeting
    assert (server.folder / "firstline.db").exists()
    (call,) = [line for line in server.greeting.splitlines() if "curl" in line]
    assert json.loads(_paste(call))["decision"] == "immediate_escalation"
    server.process.send_signal(signal.SIGINT)
    _, err = server.process.communicate(timeout=60)
    assert (server.process.returncode, "Traceback" in err) == (0, False)


@_needs_curl
@pytest.mark.parametrize("server", ["production"], indirect=True)
def test_serve_in_production_says_how_to_make_a_key_and_keys_work_beside_it(server: Server) -> None:
    lines = [line for line in server.greeting.splitlines() if line.startswith("  ")]
    assert json.loads(_paste("\n".join(lines)))["decision"] == "immediate_escalation"

    folder = ("--data-dir", str(server.folder))
    created = json.loads(
        _as_process("keys", "create", "--email", "a@example.com", "--plan", "enterprise", "--json", *folder).out
    )
    usage = f"{server.url}/api/v1/auth/usage"
    headers = {"X-API-Key": created["key"]}
    assert httpx.get(usage, headers=headers).status_code == 200
    assert _as_process("keys", "revoke", created["key_id"], *folder).code == 0
    answers = (httpx.get(usage, headers=headers) for _ in range(2_000))
    refused = next(answer for answer in answers if answer.status_code != 200)
    assert (refused.status_code, refused.json()["error"]) == (401, "API key revoked")


@pytest.mark.parametrize("server", ["auto"], indirect=True)
def test_serve_says_why_it_cannot_start(server: Server, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    taken = _as_process("serve", "--port", port, "--data-dir", str(tmp_path / "other"))
    locked = _as_process("serve", "--port", "0", "--data-dir", str(server.folder))
    for done, says in ((taken, "another program uses the port"), (locked, "Another firstline server")):
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
        assert says in done.err


def test_a_pipe_is_followed_row_by_row_and_ctrl_c_ends_it_quietly() -> None:
    process = _spawn("classify", "-")
    assert process.stdin is not None
    assert process.stdout is not None
    for number in (1, 2):
        process.stdin.write("VPN not working\n")
        process.stdin.flush()
        assert select.select([process.stdout], [], [], 60)[0]
        assert json.loads(process.stdout.readline())["line"] == number
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


def test_a_reader_that_leaves_ends_the_command_quietly(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.txt", "VPN not working\n" * 5_000)
    process = _spawn("classify", path)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["line"] == 1
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(timeout=60)) == ("", 141)
    assert process.stdin is not None
    process.stdin.close()
    process.stderr.close()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_fail_nothing(closed: str) -> None:
    command = f'"{sys.executable}" -m firstline.delivery.cli version {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
