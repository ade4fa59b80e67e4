"""Servers in this process, and stores to hold against their ports."""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path

import pytest
from asgi_server import PRODUCTION, Serve, Server
from stores import KINDS, Store, open_store

from firstline.adapters.local_model import LocalModel
from firstline.bootstrap import Engine
from firstline.core.policy import Policy
from firstline.core.rules import CompiledRules, RuleBook
from firstline.usecases.rules import RulesInForce


@pytest.fixture(scope="session")
def engine(shipped_packs: CompiledRules, book: RuleBook, model: LocalModel) -> Engine:
    """The shipped model and rules, for every server of this process."""
    return Engine(model, RulesInForce(shipped_packs), book, Policy())


@pytest.fixture
def serve(engine: Engine, tmp_path: Path) -> Iterator[Serve]:
    """Starts servers on folders of their own; `serve(environment=…, …)` with any setting."""
    with ExitStack() as stack:
        numbers = iter(range(100))

        def start(**settings: object) -> Server:
            return stack.enter_context(Server(tmp_path / f"data-{next(numbers)}", engine, **settings))

        yield start


@pytest.fixture(scope="module")
def production(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One production server for the tests of a module that do not use up its limits."""
    with Server(tmp_path_factory.mktemp("production"), engine, environment=PRODUCTION) as server:
        yield server


@pytest.fixture(scope="module")
def development(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One development server for the tests of a module."""
    with Server(tmp_path_factory.mktemp("development"), engine) as server:
        yield server


@pytest.fixture(scope="module")
def key(production: Server) -> str:
    """A key with large plans in both catalogues on the production server."""
    from firstline.core.taxonomy import Contract

    production.key("large@example.com", plan="enterprise", catalogue=Contract.DECISION)
    return production.key("large@example.com", plan="enterprise")


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[Store]]:
    """Opens a fresh store of every kind, with one account and one key in it; it is closed at the end."""
    url = request.getfixturevalue("database_url") if request.param == "postgres" else None
    return lambda: open_store(request.param, tmp_path, url=url)
