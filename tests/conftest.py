"""What every test may rely on: no network, no setting from outside, one rule book and one model."""

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from firstline.adapters.local_model import LocalModel, load_local_model
from firstline.adapters.shipped_rules import shipped_rules as read_shipped_rules
from firstline.core.rules import CompiledRules, Rule, RuleBook
from firstline.settings import PREFIX, variable_names

pytest_plugins = ["services"]

settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

_LOCAL_NAMES = frozenset({"localhost", "", None})


class NetworkBlocked(BaseException):
    """A test tried to leave this machine; no `except Exception` may hide it."""


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):
        return True  # a path of a Unix socket
    return _is_local_host(address[0])


def _is_local_host(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in _LOCAL_NAMES:
        return True
    try:
        return ip_address(str(host)).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Connecting or looking up a name fails loudly, except on loopback and Unix sockets."""
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex"):
        patch.setattr(socket.socket, name, _guarded_connect(getattr(socket.socket, name)))
    patch.setattr(socket, "getaddrinfo", _guarded_look_up(socket.getaddrinfo))
    yield
    patch.undo()


def _guarded_connect(original: Any) -> Any:
    def connect(self: socket.socket, address: Any) -> Any:
        if not _is_local(address):
            raise NetworkBlocked(f"a test tried to connect to {address!r}")
        return original(self, address)

    return connect


def _guarded_look_up(original: Any) -> Any:
    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        if not _is_local_host(host):
            raise NetworkBlocked(f"a test tried to look up {host!r}")
        return original(host, *args, **options)

    return getaddrinfo


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them."""
    known = {name for names in variable_names().values() for name in names}
    for name in list(os.environ):
        if name.upper().removesuffix("_FILE") in known or name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def shipped_packs() -> CompiledRules:
    """The shipped packs, as the server loads them."""
    return read_shipped_rules()


@pytest.fixture(scope="session")
def shipped_rules(shipped_packs: CompiledRules) -> tuple[Rule, ...]:
    """The rules of all shipped packs."""
    return shipped_packs.rules


@pytest.fixture(scope="session")
def book(shipped_packs: CompiledRules) -> RuleBook:
    """The shipped rules, ready to be searched."""
    return RuleBook((), shipped_packs)


@pytest.fixture(scope="session")
def model() -> LocalModel:
    """The shipped model, loaded once."""
    return load_local_model()
