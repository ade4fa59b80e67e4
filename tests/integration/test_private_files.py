"""The files of a data folder are for the user of the server alone."""

import os
from pathlib import Path

import pytest

from firstline.bootstrap_stores import open_accounts
from firstline.settings import load_settings


@pytest.fixture
def lenient_mask() -> object:
    """A umask that lets everybody read new files."""
    before = os.umask(0o022)
    yield before
    os.umask(before)


@pytest.mark.usefixtures("lenient_mask")
def test_new_database_and_its_folder_can_be_read_by_their_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    open_accounts(load_settings(env_file=None, data_dir=folder))
    found = {path.name: path.stat().st_mode & 0o777 for path in [folder, *folder.iterdir()]}
    assert found["var"] == 0o700
    assert "firstline.db" in found
    assert {mode for name, mode in found.items() if name != "var"} == {0o600}
