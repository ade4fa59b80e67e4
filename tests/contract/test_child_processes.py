"""Processes that the server starts: what they need of its environment, and none of its secrets."""

import asyncio
from pathlib import Path

import pytest

from firstline import bootstrap
from firstline.adapters import trainer
from firstline.bootstrap_jobs import child_environment
from firstline.core.categories import CategorySet, OwnCategory
from firstline.core.taxonomy import Priority
from firstline.settings import load_settings, secret_names

CANARY = "canary-that-no-child-process-may-see"
CATEGORIES = CategorySet((OwnCategory("Delivery", "Parcels", Priority.HIGH), OwnCategory("Returns", "", Priority.LOW)))


def test_training_sees_no_secret_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "FIRSTLINE_METRICS_TOKEN", "SECRET_KEY"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("LANG", "C.UTF-8")
    made: list[trainer.ProcessTrainer] = []

    class Telling(trainer.ProcessTrainer):
        def __init__(self, *args: object, **given: object) -> None:
            super().__init__(*args, **given, command=("/usr/bin/env",))  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(bootstrap, "ProcessTrainer", Telling)
    app = bootstrap.build(load_settings(env_file=None, data_dir=tmp_path))
    try:
        seen = asyncio.run(made[0].train("a" * 32, CATEGORIES)).decode()
    finally:
        asyncio.run(app.close())
    assert "LANG=C.UTF-8" in seen
    assert CANARY not in seen


@pytest.mark.parametrize("suffix", ["", "_FILE"])
def test_no_name_of_a_secret_reaches_a_child(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for names in secret_names().values():
        for name in names:
            monkeypatch.setenv(f"{name}{suffix}", CANARY)
            monkeypatch.setenv(f"{name}{suffix}".lower(), CANARY)  # settings are read in small letters, too
    monkeypatch.setenv("FIRSTLINE_OF_A_LATER_VERSION", CANARY)
    monkeypatch.setenv("LANG", "C.UTF-8")
    environment = child_environment()
    assert environment["LANG"] == "C.UTF-8"
    assert CANARY not in environment.values()
