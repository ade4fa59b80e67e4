"""Looking at the count of changes goes on, whatever a connection dies of."""

import asyncio

import asyncpg
import pytest

from firstline.adapters.sql import postgres_changes
from firstline.adapters.sql.postgres_changes import PostgresChanges


class Connection:
    """Gives what it was told to, one after the other."""

    def __init__(self, answers: list[int | Exception]) -> None:
        self._answers = answers

    async def fetchval(self, _: str) -> int:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def terminate(self) -> None:
        pass


@pytest.mark.parametrize(
    "error",
    [
        OSError(),
        TimeoutError(),
        asyncpg.InterfaceError("closed"),
        asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress"),
    ],
)
def test_a_change_is_heard_of_after_a_connection_has_died(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int | Exception] = [1, error, 2]

    async def connect(*_: object, **__: object) -> Connection:
        return Connection(answers)

    monkeypatch.setattr(postgres_changes.asyncpg, "connect", connect)
    monkeypatch.setattr(postgres_changes, "POLL_S", 0)
    monkeypatch.setattr(postgres_changes, "RECONNECT_S", 0)

    async def hears() -> None:
        heard = asyncio.Event()
        changes = PostgresChanges("postgresql://", on_change=heard.set)
        changes.start()
        try:
            await asyncio.wait_for(heard.wait(), 10)
        finally:
            await changes.close()

    asyncio.run(hears())
