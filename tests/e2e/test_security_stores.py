"""TLS to PostgreSQL and Redis, as the guide says: the certificate is checked, and a wrong one is no connection."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from certificates import Pair, make_pair
from served import START_S, NotStarted, serve

from services import OwnPostgres, missing
from waiting import until

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def pair() -> Pair:
    return make_pair()


@pytest.fixture
def trusted(tmp_path: Path, pair: Pair) -> Path:
    """File of the authority that has signed the stores' certificate."""
    (tmp_path / "ca.pem").write_bytes(pair.cert)
    return tmp_path / "ca.pem"


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """File of another authority."""
    (tmp_path / "stranger.pem").write_bytes(make_pair().cert)
    return tmp_path / "stranger.pem"


@pytest.fixture
def postgres_with_tls(own_postgres: OwnPostgres, pair: Pair) -> str:
    """URL, without parameters, of a PostgreSQL that lets nobody in without TLS."""
    data = own_postgres._folder / "data"
    pair.write(data / "server.crt", data / "server.key")
    (data / "server.key").chmod(0o600)
    if os.geteuid() == 0:
        for name in ("server.crt", "server.key"):
            shutil.chown(data / name, "postgres")
    with (data / "postgresql.conf").open("a") as settings:
        settings.write("ssl = on\nssl_min_protocol_version = 'TLSv1.2'\n")
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
    own_postgres.stop()
    own_postgres.start()
    return own_postgres.url.replace("postgres@", "postgres:hush-hush@")


def test_verdicts_are_stored_over_tls(postgres_with_tls: str, trusted: Path, tmp_path: Path) -> None:
    url = f"{postgres_with_tls}?sslmode=verify-full&sslrootcert={trusted}"
    with serve(tmp_path / "data", FIRSTLINE_DATABASE_URL=url) as served:
        assert served.lives()


def test_a_database_that_nobody_vouches_for_gets_no_password(
    postgres_with_tls: str, stranger: Path, tmp_path: Path
) -> None:
    url = f"{postgres_with_tls}?sslmode=verify-full&sslrootcert={stranger}"
    with pytest.raises(NotStarted) as caught, serve(tmp_path / "data", FIRSTLINE_DATABASE_URL=url):
        pass
    assert caught.value.code == 2
    assert "hush" not in caught.value.said


@pytest.fixture
def redis_port(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> Iterator[int]:
    """Port of a Redis that speaks TLS alone."""
    program = shutil.which("redis-server")
    if program is None:
        missing("Redis", "no redis-server on PATH")
    folder = tmp_path_factory.mktemp("redis")
    pair.write(folder / "r.crt", folder / "r.key")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
    tls = ["--tls-cert-file", "r.crt", "--tls-key-file", "r.key", "--tls-ca-cert-file", "r.crt"]
    tls += ["--tls-auth-clients", "no"]
    command = [str(program), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", "", *tls]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            assert until(lambda: listens(port), within_s=START_S)
            yield port
        finally:
            process.terminate()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_limits_are_shared_over_tls_with_a_redis_that_is_vouched_for_alone(
    redis_port: int, trusted: Path, stranger: Path, tmp_path: Path
) -> None:
    url = f"rediss://127.0.0.1:{redis_port}/0?ssl_ca_certs={{}}"
    with serve(tmp_path / "data", FIRSTLINE_REDIS_URL=url.format(trusted)) as served:
        assert until(lambda: served.request("GET", "/health").data["limits"] == "shared", within_s=START_S)
    with serve(tmp_path / "other", FIRSTLINE_REDIS_URL=url.format(stranger)) as served:
        assert served.lives()
        assert served.request("GET", "/health").data["limits"] == "local"
