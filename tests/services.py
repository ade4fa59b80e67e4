"""PostgreSQL and Redis for tests: found where the environment says, or on this machine; skipped by name where missing.

`TEST_POSTGRES_URL` and `TEST_REDIS_URL` say where they are. With `CI=true` a missing one is a failure. Every test gets
a database of its own, copied from one that the migrations have made.
"""

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from firstline.adapters.sql.postgres_engine import open_postgres
from firstline.adapters.sql.postgres_schema import upgrade

POSTGRES_URL: Final = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
REDIS_URL: Final = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
CONNECT_S: Final = 3


def missing(name: str, why: str) -> None:
    """Skip a test whose service is missing; in CI that is a failure.

    Raises: pytest.skip.Exception, pytest.fail.Exception.
    """
    said = f"needs {name}: {why}"
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(said, pytrace=False)
    pytest.skip(said)


@pytest.fixture(scope="session")
def postgres() -> str:
    """URL of a server on which databases may be made."""
    try:
        psycopg.connect(POSTGRES_URL, connect_timeout=CONNECT_S).close()
    except psycopg.OperationalError as error:
        missing("PostgreSQL", f"{type(error).__name__} at {urlsplit(POSTGRES_URL).hostname}")
    return POSTGRES_URL


@pytest.fixture(scope="session")
def redis_url() -> str:
    """URL of a Redis server that tests may write to, under keys of their own."""
    found = urlsplit(REDIS_URL)
    try:
        socket.create_connection((found.hostname or "127.0.0.1", found.port or 6379), CONNECT_S).close()
    except OSError as error:
        missing("Redis", f"{type(error).__name__} at {found.hostname}")
    return REDIS_URL


@pytest.fixture(scope="session")
def migrated_database(postgres: str) -> Iterator[str]:
    """Name of a database at the current schema, to be copied."""
    with _database(postgres) as (name, url):
        engine = open_postgres(url)
        upgrade(engine)
        engine.dispose()
        yield name


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """URL of a database without any table; dropped after the test."""
    with _database(postgres) as (_, url):
        yield url


@pytest.fixture
def database_url(postgres: str, migrated_database: str) -> Iterator[str]:
    """URL of a database at the current schema, without a row; dropped after the test."""
    with _database(postgres, template=migrated_database) as (_, url):
        yield url


@contextmanager
def _database(server: str, *, template: str = "template0") -> Iterator[tuple[str, str]]:
    name = f"firstline_test_{uuid.uuid4().hex}"
    look(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}" ENCODING UTF8')
    try:
        yield name, urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        look(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def look(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows that a statement gives, seen from outside."""
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []
