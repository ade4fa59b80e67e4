"""Hostile clients: the right status, bounded time and memory, and the next request is served."""

import gzip
import json
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NoReturn

import pytest
from served import Served, read_all, read_answer, send_what_it_takes, serve

from waiting import until

BODY = b'{"message": "How do I reset my password?"}'
POST = b"POST /v1/decision HTTP/1.1\r\nHost: localhost\r\n"
CLASSIFY = b"POST /api/v1/classify HTTP/1.1\r\nHost: localhost\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
MANY_HEADERS = b"".join(b"X-%d: a\r\n" % number for number in range(100_000))
MEMORY_GROWTH_BYTES = 96 << 20


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose patience is measured in tenths of a second."""
    bounds = {"head_s": 0.3, "idle_s": 0.5, "drain_s": 0.3, "write_s": 0.3, "sweep_s": 0.05, "max_connections": 40}
    with serve(tmp_path_factory.mktemp("impatient") / "data", bounds=bounds, progress_s=0.4) as served:
        yield served


def sent(server: Served, data: bytes) -> tuple[int, bytes]:
    """Status and body of the one answer to bytes that the server closes the connection after."""
    with closing(server.connect()) as connection:
        send_what_it_takes(connection, iter([data]))
        answer = read_all(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 "), answer[:100]
    assert b"\r\nconnection: close" in head.lower()
    return int(head.split()[1]), body


def send_for_ever(connection: socket.socket, data: bytes) -> NoReturn:
    while True:
        connection.sendall(data)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/v1/classify", 413), ("/v1/decision", 413)],
)
def test_body_over_one_mebibyte_is_refused_and_the_next_request_served(
    path: str, status: int, server: Served, registered: str
) -> None:
    huge = b'{"message": "' + b"a" * (3 << 20) + b'"}'
    answer = server.request("POST", path, key=registered, raw=huge)
    assert answer.status == status
    assert "1048576" in answer.data["message"]
    assert server.lives()


@pytest.fixture(scope="module")
def registered(server: Served) -> str:
    """A registered key."""
    body = {"email": f"hostile-{secrets.token_hex(4)}@example.com", "tier": "free"}
    return str(server.request("POST", "/api/v1/auth/register", body).data["api_key"])


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 10_000 + b"]" * 10_000,
        b'{"message":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"message": "\xff\xfe\xfa"}',
        b'{"message": "\xed\xa0\x80"}',
        b'{"message": "\\ud800"}',
        b'{"message": NaN}',
        b'{"message": "a", "message": "b"}',
        b"\x00" * 1_000,
        b"",
    ],
    ids=["deep-list", "deep-object", "not-utf-8", "surrogate-bytes", "surrogate", "nan", "twice", "nul", "empty"],
)
def test_body_that_is_no_acceptable_json_is_refused_in_each_shape(raw: bytes, server: Served, registered: str) -> None:
    decision = server.request("POST", "/v1/decision", raw=raw)
    assert decision.status == 422
    assert decision.data["detail"][0]["loc"][0] == "body"
    classify = server.request("POST", "/api/v1/classify", key=registered, raw=raw)
    assert classify.status == 400
    assert set(classify.data) == {"error", "message"}
    assert server.lives()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (LIVE + MANY_HEADERS + b"\r\n", 431),
        (LIVE + b"X: y\r\n" * 201 + b"\r\n", 431),
        (LIVE + b"X: " + b"a" * 65_536 + b"\r\n\r\n", 431),
        (LIVE + b"X: " + b"a" * 1_000_000, 431),
        (LIVE + b"a" * 1_000_000, 431),
        (b"GET /" + b"a" * 65_536 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /" + b"a" * 1_000_000, 414),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"get / HTTP/1.1\r\n\r\n", 400),
        (LIVE + b"no colon\r\n\r\n", 400),
        (LIVE + b"X: a\x00b\r\n\r\n", 400),
        (LIVE + b"X: a\r\n folded\r\n\r\n", 400),
        (b"GET /health/live\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/1.7\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT example.com:443 HTTP/1.1\r\n\r\n", 400),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400),
        (POST + b"Content-Length: 5, 6\r\n\r\nabcdef", 400),
        (POST + b"Content-Length: -5\r\n\r\n", 400),
        (POST + b"Content-Length: +5\r\n\r\nabcde", 400),
        (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /health/live HTTP/1.1\r\n\r\n", 400),
        (LIVE + b"Host: evil.example.com\r\n\r\n", 400),
        (b"GET /health/live HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST /v1/decision HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nnot a size\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 1_000_000, 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 1_000_000, 400),
    ],
)
def test_request_outside_of_http_or_its_bounds_is_refused_and_closed(
    request_bytes: bytes, status: int, server: Served
) -> None:
    found, body = sent(server, request_bytes)
    assert found == status
    assert {"error", "message"} <= json.loads(body).keys()
    assert server.lives()


def test_refusal_has_the_shape_of_the_contract_of_its_path(server: Served) -> None:
    classifier = json.loads(sent(server, CLASSIFY + MANY_HEADERS + b"\r\n")[1])
    decision = json.loads(sent(server, POST + MANY_HEADERS + b"\r\n")[1])
    problem = json.loads(sent(server, b"GET /v1/tickets HTTP/1.1\r\n" + MANY_HEADERS + b"\r\n")[1])
    assert set(classifier) == {"error", "message"}
    assert set(decision) == {"error", "message", "docs"}
    assert decision["error"] == "headers_too_large"
    assert problem["status"] == 431


def test_two_hundred_headers_of_ordinary_size_are_served(server: Served) -> None:
    with closing(server.connect()) as connection:
        connection.sendall(LIVE + b"X: y\r\n" * 199 + b"\r\n")
        assert read_answer(connection).status == 200


def test_refused_requests_are_logged_and_counted(server: Served) -> None:
    sent(server, LIVE + MANY_HEADERS + b"\r\n")
    metrics = server.request("GET", "/metrics").body.decode()
    assert 'http_requests_total{method="OTHER",route="refused",status="431"}' in metrics
    assert any('"code":"headers_too_large"' in line for line in server.logged().splitlines())


@pytest.mark.parametrize("split", [False, True])
def test_upgrade_to_http_2_is_ignored_and_its_body_read(split: bool, server: Served) -> None:
    head = POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(BODY)
    with closing(server.connect()) as connection:
        for part in [head, BODY] if split else [head + BODY]:
            connection.sendall(part)
        assert read_answer(connection).data["decision"] == "standard_response"


def test_pipelined_requests_are_answered_in_order_up_to_a_bound(server: Served) -> None:
    with closing(server.connect()) as connection:
        connection.sendall((LIVE + b"\r\n") * 500)
        answers = read_all(connection)
    assert 1 <= answers.count(b"HTTP/1.1 200") < 50
    assert answers.lower().count(b"connection: close") == 1
    assert server.lives()


def test_request_before_a_malformed_one_is_still_answered(server: Served) -> None:
    with closing(server.connect()) as connection:
        connection.sendall(LIVE + b"\r\nnonsense\r\n\r\n")
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 200") == 1
    assert b"HTTP/1.1 400" not in answers


def test_header_sent_byte_by_byte_is_refused(impatient: Served) -> None:
    with closing(impatient.connect()) as connection:
        endless = (b"a" for _ in range(100_000))
        assert send_what_it_takes(connection, (part for part in [LIVE + b"X: ", *endless]), pause_s=0.02)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"head_timeout" in answer
    assert impatient.lives()


def test_connection_that_never_sends_anything_is_closed(impatient: Served) -> None:
    with closing(impatient.connect()) as connection:
        assert read_all(connection) == b""
    with closing(impatient.connect()) as connection:
        assert send_what_it_takes(connection, (b"\r\n" for _ in range(100_000)), pause_s=0.02)
        assert read_all(connection) == b""


def test_idle_connection_is_closed_after_its_answer(impatient: Served) -> None:
    with closing(impatient.connect()) as connection:
        connection.sendall(LIVE + b"\r\n")
        assert read_all(connection).count(b"HTTP/1.1 200") == 1


def test_body_that_stalls_is_refused(impatient: Served) -> None:
    with closing(impatient.connect()) as connection:
        connection.sendall(POST + b"Content-Length: 100\r\n\r\n" + b'{"message": ')
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body_timeout" in answer
    assert impatient.lives()


def test_body_that_dribbles_is_refused(impatient: Served) -> None:
    with closing(impatient.connect()) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        assert send_what_it_takes(connection, (b"1\r\na\r\n" for _ in range(100_000)), pause_s=0.02)
        assert read_all(connection).startswith(b"HTTP/1.1 408")
    assert impatient.lives()


def test_body_that_is_compressed_is_never_inflated(server: Served) -> None:
    bomb = gzip.compress(b"[" + b"1," * (20 << 20) + b"1]")
    before = server.rss_bytes()
    head = POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    with closing(server.connect()) as connection:
        connection.sendall(head + bomb)
        assert read_answer(connection).status == 422
    assert server.rss_bytes() - before < MEMORY_GROWTH_BYTES // 4
    assert server.lives()


@pytest.mark.parametrize(
    "path",
    [
        b"/docs/assets/../../pyproject.toml",
        b"/docs/assets/..%2f..%2f..%2fetc%2fpasswd",
        b"/docs/assets/%2e%2e/%2e%2e/etc/passwd",
        b"/docs/errors/..%5c..%5cetc%5cpasswd",
        b"//etc/passwd",
        b"/docs/assets/%00",
        b"/v1/jobs/..%2f..%2fvar/results",
        b"http://evil.example.com/health/../docs",
    ],
)
def test_path_that_climbs_leads_nowhere(path: bytes, server: Served) -> None:
    with closing(server.connect()) as connection:
        connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = read_answer(connection)
    assert answer.status in {400, 401, 404}
    assert b"root:" not in answer.body
    assert b"[project]" not in answer.body


def test_what_follows_a_refused_request_is_not_taken_for_another(server: Served) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    heads = [
        POST + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(smuggled)),
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(smuggled),
        POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 0x10\r\n\r\n",
    ]
    for head in heads:
        with closing(server.connect()) as connection:
            connection.sendall(head + smuggled)
            answers = read_all(connection)
        assert len(re.findall(rb"HTTP/1.1 \d{3}", answers)) == 1, head
        assert answers.startswith(b"HTTP/1.1 400"), head
    assert "/smuggled" not in server.logged()


def test_body_that_never_ends_is_refused_at_its_bound(server: Served) -> None:
    with closing(server.connect()) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"a" * 65_536 + b"\r\n"
        assert send_what_it_takes(connection, (chunk for _ in range(10_000)))
        assert read_answer(connection).status == 413
    assert server.lives()


def test_body_that_nobody_reads_is_cut_off_after_its_answer(impatient: Served) -> None:
    with closing(impatient.connect()) as connection:
        connection.sendall(LIVE + b"Transfer-Encoding: chunked\r\n\r\n")
        assert read_answer(connection).status == 200
        chunk = b"100\r\n" + b"a" * 256 + b"\r\n"
        assert send_what_it_takes(connection, (chunk for _ in range(100_000)), pause_s=0.02)
        assert read_all(connection) == b""
    assert impatient.lives()


def test_client_that_never_reads_its_answers_is_cut_off(impatient: Served) -> None:
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(30)
        connection.connect((impatient.host, impatient.port))
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with pytest.raises(ConnectionError):
            send_for_ever(connection, request)
    assert impatient.lives()


def test_connections_beyond_the_bound_are_told_so_and_served_later(impatient: Served) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(closing(impatient.connect())) for _ in range(41)]
        for connection in held:
            connection.sendall(LIVE)
        with closing(impatient.connect()) as connection:
            connection.sendall(LIVE + b"\r\n")
            answer = read_answer(connection)
        assert answer.status == 503
        assert answer.data["error"] == "overloaded"
        assert answer.headers["retry-after"] == "1"
    assert until(impatient.lives, within_s=10)


@pytest.mark.parametrize(
    "part", [POST, POST + b"Content-Length: 100\r\n\r\n{", POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"]
)
def test_client_that_vanishes_before_the_end_of_its_request_harms_nobody(part: bytes, server: Served) -> None:
    for _ in range(20):
        with closing(server.connect()) as connection:
            connection.sendall(part)
    assert server.lives()
    assert '"event":"fault"' not in server.logged()


def test_client_that_vanishes_before_its_answer_harms_nobody(server: Served) -> None:
    request = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    for _ in range(20):
        with closing(server.connect()) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            connection.sendall(request)
    assert server.lives()
    assert '"event":"fault"' not in server.logged()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to read a process's memory")
def test_memory_stays_bounded_under_a_flood_of_hostile_requests(tmp_path: Path) -> None:
    deep = b"[" * 500_000
    length = b"Content-Length: %d\r\n\r\n"
    flood = [
        LIVE + MANY_HEADERS + b"\r\n",
        LIVE + b"X: " + b"a" * 60_000,
        POST + length % (1 << 20) + b"a" * (1 << 20),
        POST + length % len(deep) + deep,
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"a" * 65_536 + b"\r\n") * 20,
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 400_000,
        LIVE + length % 10_000_000 + b"a" * 500_000,
        (LIVE + b"\r\n") * 5_000,
        b"\xff" * 200_000,
    ]
    with serve(tmp_path / "data") as served:
        assert served.lives()
        before = served.rss_bytes()
        highest = before
        for _ in range(4):
            with ExitStack() as stack:
                for number in range(108):
                    connection = stack.enter_context(closing(served.connect()))
                    connection.settimeout(1)
                    part = flood[number % len(flood)]
                    send_what_it_takes(connection, iter([part]))
                assert served.lives()
                highest = max(highest, served.rss_bytes())
        print(f"resident memory {before >> 20} MiB, under the flood {highest >> 20} MiB")
        assert highest - before < MEMORY_GROWTH_BYTES
        assert served.lives()
