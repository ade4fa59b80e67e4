"""TLS as an operator sets it up: two files, a safe minimum, renewals without a restart, one sentence for a mistake."""

import http.client
import os
import re
import signal
import socket
import ssl
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from certificates import Pair, make_pair, trusting
from cryptography import x509
from served import CLIENT_S, NotStarted, Served, create_key, exchange, read_all, serve

from firstline.bootstrap_stores import CannotStart
from firstline.delivery.http.tls import certificate_of
from waiting import until

LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def pair() -> Pair:
    return make_pair()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    pair.write(folder / "tls.crt", folder / "tls.key")
    return folder / "tls.crt", folder / "tls.key"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, files: tuple[Path, Path]) -> Iterator[tuple[Served, str]]:
    """A production server that speaks TLS, and a key for it."""
    data_dir = tmp_path_factory.mktemp("secured") / "data"
    key = create_key(data_dir)["key"]
    cert, private = (str(file) for file in files)
    with serve(
        data_dir,
        FIRSTLINE_TLS_CERT=cert,
        FIRSTLINE_TLS_KEY=private,
        FIRSTLINE_ENVIRONMENT="production",
        FIRSTLINE_CORS_ORIGINS="https://app.example.com",
    ) as served:
        yield served, key


def connect(server: Served, context: ssl.SSLContext, *, name: str = "127.0.0.1") -> ssl.SSLSocket:
    return context.wrap_socket(server.connect(), server_hostname=name)


def serial(connection: ssl.SSLSocket) -> int:
    found = connection.getpeercert(binary_form=True)
    assert found is not None
    return x509.load_der_x509_certificate(found).serial_number


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_verdicts_are_served_over_tls_and_browsers_are_told_to_stay(
    name: str, secured: tuple[Served, str], pair: Pair
) -> None:
    server, key = secured
    assert any("https://" in line for line in server.greeting)
    client = http.client.HTTPSConnection(name, server.port, timeout=CLIENT_S, context=trusting(pair))
    with closing(client):
        answer = exchange(client, "POST", "/api/v1/classify", {"ticket": "VPN not working"}, key=key)
    assert (answer.status, answer.data["category"]) == (200, "Network Issue")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_tls_1_2_and_1_3_are_spoken_and_nothing_older(secured: tuple[Served, str], pair: Pair) -> None:
    server, _ = secured
    for version, shown in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        context = trusting(pair)
        context.minimum_version = context.maximum_version = version
        with connect(server, context) as connection:
            assert connection.version() == shown
    old = trusting(pair)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(server, old).close()


def test_a_cipher_without_authentication_of_what_it_hides_is_refused(secured: tuple[Served, str], pair: Pair) -> None:
    server, _ = secured
    context = trusting(pair)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(server, context).close()


def test_a_renewed_certificate_is_served_without_a_restart(
    secured: tuple[Served, str], files: tuple[Path, Path], pair: Pair
) -> None:
    server, _ = secured
    cert, key = files
    fresh = make_pair()
    client = trusting(pair, fresh)
    try:
        with connect(server, client) as kept:
            assert serial(kept) == pair.serial
            cert.write_bytes(fresh.cert)  # half of a renewal: the certificate without its key
            server.process.send_signal(signal.SIGHUP)
            assert until(lambda: '"outcome":"refused"' in server.logged(), within_s=CLIENT_S)
            assert "FIRSTLINE_TLS_KEY is not the key of the certificate" in server.logged()
            with connect(server, client) as other:
                assert serial(other) == pair.serial
            fresh.write(cert, key)
            server.process.send_signal(signal.SIGHUP)
            assert until(lambda: '"outcome":"renewed"' in server.logged(), within_s=CLIENT_S)
            for name in ("localhost", "127.0.0.1"):
                with connect(server, client, name=name) as other:
                    assert serial(other) == fresh.serial
            kept.sendall(LIVE + b"Connection: close\r\n\r\n")
            assert b"HTTP/1.1 200" in read_all(kept)
    finally:
        pair.write(cert, key)
        server.process.send_signal(signal.SIGHUP)
        assert until(lambda: server.logged().count('"outcome":"renewed"') == 2, within_s=CLIENT_S)


def test_strangers_on_the_port_harm_nobody(secured: tuple[Served, str], pair: Pair) -> None:
    server, _ = secured
    with closing(server.connect()):  # which never says anything
        for hello in (LIVE + b"\r\n", b"\x16\x03\x01\xff\xff" + b"\x00" * 1_000, b"\x00" * 100_000):
            with closing(server.connect()) as connection:
                connection.sendall(hello)
                connection.shutdown(socket.SHUT_WR)
                assert b"HTTP/1.1" not in read_all(connection)
        with connect(server, trusting(pair)) as connection:
            connection.sendall(LIVE + b"X: " + b"a" * 70_000)
            answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 431")
        assert b"strict-transport-security" in answer.lower()
        with connect(server, trusting(pair)) as connection:
            connection.sendall(LIVE + b"Connection: close\r\n\r\n")
            assert read_all(connection).startswith(b"HTTP/1.1 200")
    assert "Traceback" not in server.logged()


@pytest.mark.parametrize(("origin", "told"), [(b"https://app.example.com", True), (b"https://evil.example.com", False)])
def test_what_the_connection_refuses_is_told_to_pages_of_a_configured_origin(
    origin: bytes, told: bool, secured: tuple[Served, str], pair: Pair
) -> None:
    server, _ = secured
    with connect(server, trusting(pair)) as connection:
        connection.sendall(LIVE + b"Origin: " + origin + b"\r\nX: " + b"a" * 70_000)
        answer = read_all(connection).lower()
    assert answer.startswith(b"http/1.1 431")
    assert (b"access-control-allow-origin: " + origin in answer) == told
    assert b"\r\nvary: origin" in answer
    assert b"\r\ncache-control: no-store" in answer
    assert b"allow-credentials" not in answer


def test_slow_headers_are_refused_over_tls_too(tmp_path: Path, files: tuple[Path, Path], pair: Pair) -> None:
    cert, key = (str(file) for file in files)
    bounds = {"head_s": 0.3, "drain_s": 0.3, "sweep_s": 0.05}
    with serve(tmp_path / "data", bounds=bounds, FIRSTLINE_TLS_CERT=cert, FIRSTLINE_TLS_KEY=key) as served:
        with connect(served, trusting(pair)) as connection:
            connection.sendall(LIVE)
            answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"strict-transport-security" not in answer.lower()  # development


def test_a_server_whose_key_is_another_one_does_not_start(tmp_path: Path, pair: Pair) -> None:
    pair.write(tmp_path / "a.crt", tmp_path / "a.key")
    make_pair().write(tmp_path / "b.crt", tmp_path / "b.key")
    variables = {"FIRSTLINE_TLS_CERT": str(tmp_path / "a.crt"), "FIRSTLINE_TLS_KEY": str(tmp_path / "b.key")}
    with pytest.raises(NotStarted) as caught, serve(tmp_path / "data", **variables):
        pass
    assert caught.value.code == 2
    assert len(caught.value.said.splitlines()) == 1
    assert "FIRSTLINE_TLS_KEY is not the key of the certificate in FIRSTLINE_TLS_CERT." in caught.value.said


@pytest.mark.parametrize(
    ("cert", "key", "says"),
    [
        ("cert", None, "belong together"),
        (None, "key", "belong together"),
        ("missing", "key", "FIRSTLINE_TLS_CERT: the file cannot be read: no such file"),
        ("cert", "missing", "FIRSTLINE_TLS_KEY: the file cannot be read: no such file"),
        (".", "key", "FIRSTLINE_TLS_CERT: the file cannot be read: is a directory"),
        ("key", "key", "FIRSTLINE_TLS_CERT: the file holds no certificate"),
        ("cert", "cert", "FIRSTLINE_TLS_KEY: the file holds no private key"),
        ("cert", "locked", "FIRSTLINE_TLS_KEY: the key wants a passphrase"),
        ("empty", "key", "FIRSTLINE_TLS_CERT: the file holds no certificate"),
        ("cert", "huge", "FIRSTLINE_TLS_KEY: the file is larger than 1 MiB"),
        ("pipe", "key", "FIRSTLINE_TLS_CERT: it names no regular file"),
        ("cert", "folder", "FIRSTLINE_TLS_KEY: the file cannot be read: is a directory"),
    ],
)
def test_a_mistake_with_the_files_is_one_sentence(
    cert: str | None, key: str | None, says: str, tmp_path: Path, pair: Pair
) -> None:
    contents = {"cert": pair.cert, "key": pair.key, "locked": pair.locked_key, "empty": b"", "huge": b"a" * (2 << 20)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CannotStart) as caught:
        certificate_of(tmp_path / cert if cert else None, tmp_path / key if key else None)
    assert says in str(caught.value)
    assert re.fullmatch(r"[^\n]+\.", str(caught.value))
