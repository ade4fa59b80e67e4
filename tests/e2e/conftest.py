"""One server per worker for tests that leave it as it was; others start their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, serve


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A development server with the usual settings."""
    folder: Path = tmp_path_factory.mktemp("served")
    with serve(folder / "data", FIRSTLINE_REGISTRATIONS_PER_HOUR="100000") as served:
        yield served
