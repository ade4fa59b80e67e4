"""Training in a process of its own: it works, it is bounded, and what fails is one training."""

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from firstline.adapters.local_model import LocalModel
from firstline.adapters.trainer import MAX_WAITING, DirectTrainer, ProcessTrainer
from firstline.core.categories import CategorySet, OwnCategory
from firstline.core.taxonomy import Priority
from firstline.ports.trainer import TrainingFailed

CATEGORIES = CategorySet(
    (
        OwnCategory("Delivery", "Parcels that are late", Priority.HIGH, ("Where is my parcel?",)),
        OwnCategory("Retouren — 返品", "", Priority.LOW),
    )
)
ACCOUNT = "a" * 32


def script(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def test_a_process_trains_what_this_process_would(model: LocalModel) -> None:
    trainer = ProcessTrainer(model, model_file=None, environment=os.environ)
    apart, _ = trainer.load(asyncio.run(trainer.train(ACCOUNT, CATEGORIES)))
    here, advice = DirectTrainer(model).load(asyncio.run(DirectTrainer(model).train(ACCOUNT, CATEGORIES)))
    assert apart.version == here.version == CATEGORIES.version
    for text in ("My parcel is late", "返品したい"):
        ours, theirs = (model.predict(text, found).probabilities for found in (here, apart))
        assert ours == pytest.approx(theirs, abs=1e-3)
    assert {entry.code for entry in advice} == {"few_examples"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys; sys.stderr.write('Where is my parcel?'); sys.exit(4)", "training ended with exit code 4"),
        ("import os; os.abort()", "training ended with exit code -6"),
        ("import os; os.read(os.pipe()[0], 1)", "training took more than 0.5 seconds"),
    ],
)
def test_a_process_that_fails_or_hangs_is_a_training_that_failed(model: LocalModel, text: str, said: str) -> None:
    trainer = ProcessTrainer(model, model_file=None, environment=os.environ, deadline_s=0.5, command=script(text))
    with pytest.raises(TrainingFailed) as caught:
        asyncio.run(trainer.train(ACCOUNT, CATEGORIES))
    assert str(caught.value) == said


def test_a_model_file_that_was_replaced_meanwhile_is_not_trained_on(model: LocalModel) -> None:
    other = replace(model, hybrid=replace(model.hybrid, name="hybrid.v1+other"))
    with pytest.raises(TrainingFailed, match="model file has changed"):
        asyncio.run(ProcessTrainer(other, model_file=None, environment=os.environ).train(ACCOUNT, CATEGORIES))


def test_a_program_that_is_not_there_is_a_training_that_failed(model: LocalModel) -> None:
    trainer = ProcessTrainer(model, model_file=None, environment=os.environ, command=("/nonexistent/python",))
    with pytest.raises(TrainingFailed, match="could not be started"):
        asyncio.run(trainer.train(ACCOUNT, CATEGORIES))


_COUNT = """
import os, pathlib, sys
folder, name = pathlib.Path(sys.argv[1]), str(os.getpid())
(folder / name).touch()
print(len(list(folder.iterdir())), flush=True)
sys.stdin.read()
(folder / name).unlink()
"""


@pytest.mark.parametrize(("accounts", "most"), [(1, 1), (5, 2)])
def test_trainings_wait_for_each_other(model: LocalModel, tmp_path: Path, accounts: int, most: int) -> None:
    async def scenario() -> list[bytes]:
        trainer = ProcessTrainer(
            model, model_file=None, environment=os.environ, command=(*script(_COUNT), str(tmp_path))
        )
        return await asyncio.gather(*(trainer.train(str(number % accounts), CATEGORIES) for number in range(5)))

    assert max(int(found) for found in asyncio.run(scenario())) <= most


def test_an_account_cannot_queue_trainings_without_end(model: LocalModel) -> None:
    async def scenario() -> list[object]:
        trainer = ProcessTrainer(
            model, model_file=None, environment=os.environ, command=script("import sys; sys.stdin.read()")
        )
        found = [trainer.train(ACCOUNT, CATEGORIES) for _ in range(MAX_WAITING + 4)]
        return [*await asyncio.gather(*found, return_exceptions=True), await trainer.train(ACCOUNT, CATEGORIES)]

    outcomes = asyncio.run(scenario())
    assert sum(isinstance(outcome, TrainingFailed) for outcome in outcomes) == 3
    assert outcomes[-1] == b""


def test_damaged_bytes_are_refused(model: LocalModel) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        ProcessTrainer(model, model_file=None, environment=os.environ).load(b"nonsense")
