"""What a verdict needs is at hand before its first message, and reading it never troubles anybody."""

import asyncio
from collections.abc import Mapping
from typing import Any

from firstline.adapters.memory_limiter import MemoryLimiter
from firstline.core.plans import Plan, Window
from firstline.core.taxonomy import Contract
from firstline.ports.storage import Account, StorageUnavailable
from firstline.usecases.access import Caller
from firstline.usecases.at_hand import AtHand
from firstline.usecases.records import Keeping

NOW_US = 1_795_000_000_000_000
CALLER = Caller(Account("a" * 32, "a@example.com", 1, {Contract.CLASSIFIER: "free", Contract.DECISION: "free"}))


class Clock:
    def now_us(self) -> int:
        return NOW_US


class Asked:
    """Stands for what an account has set and for seals; remembers who was asked for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.accounts: list[str] = []
        self.error = error

    async def of(self, account_id: str) -> None:
        await asyncio.sleep(0)
        self.accounts.append(account_id)
        if self.error is not None:
            raise self.error

    seal_of = of


def plan_of(name: str, contract: Contract) -> Plan:
    return Plan(contract, name, 0, {Window.DAY: 8}, burst_per_minute=20, batch_size=1)


async def fetched(
    *, in_force: Asked, texts: Asked, times: int = 1, text: bool = True, faults: list[BaseException] | None = None
) -> MemoryLimiter:
    away = False

    async def read(_account: str, _contract: Contract, _now_us: int) -> Mapping[Window, int]:
        if away:
            raise StorageUnavailable("away")
        return {Window.DAY: 3}

    limiter = MemoryLimiter(read)
    parts: Any = {"in_force": in_force, "texts": texts}
    at_hand = AtHand(
        limiter=limiter,
        plan_of=plan_of,
        keeping=Keeping(text=text),
        clock=Clock(),
        on_fault=(faults if faults is not None else []).append,
        **parts,
    )
    for _ in range(times):
        at_hand.fetch(CALLER)
    for _ in range(20):
        await asyncio.sleep(0)
    away = True
    await at_hand.close()
    return limiter


def test_usage_settings_and_seal_are_known_after_the_key_was_read() -> None:
    async def work() -> None:
        in_force, texts = Asked(), Asked()
        limiter = await fetched(in_force=in_force, texts=texts, times=3)
        for contract in Contract:
            uses = await limiter.uses(CALLER.account.id, plan_of("free", contract), now_us=NOW_US)
            assert {use.used for use in uses if use.window is Window.DAY} == {3}
        assert (in_force.accounts, texts.accounts) == ([CALLER.account.id], [CALLER.account.id])

    asyncio.run(work())


def test_no_key_is_made_for_texts_that_are_not_kept() -> None:
    texts = Asked()
    asyncio.run(fetched(in_force=Asked(), texts=texts, text=False))
    assert texts.accounts == []


def test_a_store_that_is_away_is_no_fault_and_a_bug_is_one() -> None:
    faults: list[BaseException] = []
    asyncio.run(fetched(in_force=Asked(StorageUnavailable("away")), texts=Asked(), faults=faults))
    assert faults == []
    asyncio.run(fetched(in_force=Asked(RuntimeError("a bug")), texts=Asked(), faults=faults))
    assert [type(fault) for fault in faults] == [RuntimeError]
