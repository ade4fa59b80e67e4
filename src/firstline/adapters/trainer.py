"""Trains categories in a process of its own; in this process for tests and for whoever has no event loop to spare."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from firstline.adapters.local_model import LocalModel
from firstline.core.categories import CategorySet, to_data
from firstline.learning.custom import Advice, CustomModel, dump_custom, load_custom, train
from firstline.ports.trainer import TrainingFailed
from firstline.train_categories import EXIT_OTHER_MODEL

DEADLINE_S: Final = 60.0
AT_ONCE: Final = 2
MAX_WAITING: Final = 4
"""Trainings of one account that may wait for each other."""

_COMMAND: Final = (sys.executable, "-m", "firstline.train_categories")
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Several threads are slower on matrices this small, and up to twenty times so when the machine is busy."""


class DirectTrainer:
    """Implements `ports.trainer.Trainer` in a thread of this process."""

    def __init__(self, model: LocalModel) -> None:
        self._model = model

    async def train(self, account_id: str, categories: CategorySet) -> bytes:
        """See the port."""

        def work() -> bytes:
            return dump_custom(*train(self._model.hybrid, categories, self._model.curves))

        return await asyncio.to_thread(work)

    def load(self, trained: bytes) -> tuple[CustomModel, tuple[Advice, ...]]:
        """See the port."""
        return load_custom(trained, self._model.hybrid, self._model.curves)


@dataclass(slots=True)
class _Turn:
    """Whose turn it is among the trainings of one account."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class ProcessTrainer:
    """Implements `ports.trainer.Trainer` with a process per training.

    At most `AT_ONCE` run, one per account, each for at most `deadline_s`. The process is ended when it takes longer
    or nobody waits for it any more. What it writes to standard error is read by nobody, because it may quote examples.
    """

    def __init__(
        self,
        model: LocalModel,
        *,
        model_file: Path | None,
        environment: Mapping[str, str],
        deadline_s: float = DEADLINE_S,
        command: Sequence[str] = _COMMAND,
    ) -> None:
        """Args:
        model_file: that `model` was loaded from; None for the shipped one.
        environment: of the processes.
        """
        self._model = model
        self._model_file = str(model_file) if model_file else None
        self._environment = {**environment, **_ONE_THREAD}
        self._deadline_s = deadline_s
        self._command = tuple(command)
        self._turns: dict[str, _Turn] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def train(self, account_id: str, categories: CategorySet) -> bytes:
        """See the port."""
        asked = {"model_file": self._model_file, "model": self._model.name}
        data = await asyncio.to_thread(lambda: orjson.dumps({**asked, "categories": to_data(categories)}))
        async with self._turn(account_id), self._slots:
            return await self._run(data)

    def load(self, trained: bytes) -> tuple[CustomModel, tuple[Advice, ...]]:
        """See the port."""
        return load_custom(trained, self._model.hybrid, self._model.curves)

    @asynccontextmanager
    async def _turn(self, account_id: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(account_id, _Turn())
        if turn.waiting > MAX_WAITING:
            raise TrainingFailed(f"{MAX_WAITING} trainings of one account are waiting already")
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._turns[account_id]

    async def _run(self, asked: bytes) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._environment,
            )
        except OSError as error:
            raise TrainingFailed(f"training could not be started: {error.strerror}") from None
        try:
            async with asyncio.timeout(self._deadline_s):
                trained, _ = await process.communicate(asked)
        except TimeoutError:
            raise TrainingFailed(f"training took more than {self._deadline_s:g} seconds") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode == EXIT_OTHER_MODEL:
            raise TrainingFailed("the model file has changed since the server started; start the server again")
        if process.returncode != 0:
            raise TrainingFailed(f"training ended with exit code {process.returncode}")
        return trained
