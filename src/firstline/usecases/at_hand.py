"""Having at hand what a verdict needs besides the key, before the store goes away.

A key may have been used for jobs or history alone. Its first message is to be answered during an outage as well, so
what that takes is read in the background whenever the key is: usage, what the account has set, the seal of its texts.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from firstline.core.plans import Plan
from firstline.core.taxonomy import Contract
from firstline.ports.clock import Clock
from firstline.ports.limiter import Limiter, UsageUnknown
from firstline.ports.sealing import SealBroken
from firstline.ports.storage import Account, StorageUnavailable
from firstline.usecases.access import Caller
from firstline.usecases.in_force import AccountsInForce
from firstline.usecases.records import Keeping
from firstline.usecases.texts import Texts

AT_ONCE: Final = 2
MOST_WAITING: Final = 1_000
"""Accounts beyond that have to wait until their key is read again, half a minute later."""


class AtHand:
    """Reads what verdicts for an account need; what is known already costs nothing but a look."""

    def __init__(
        self,
        *,
        limiter: Limiter,
        in_force: AccountsInForce,
        texts: Texts,
        plan_of: Callable[[str, Contract], Plan],
        keeping: Keeping,
        clock: Clock,
        on_fault: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._limiter = limiter
        self._in_force = in_force
        self._texts = texts
        self._plan_of = plan_of
        self._keeping = keeping
        self._clock = clock
        self._on_fault = on_fault
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    def fetch(self, caller: Caller) -> None:
        """Read it in the background; returns at once."""
        account = caller.account
        if account.id in self._waiting or len(self._waiting) >= MOST_WAITING:
            return
        task = self._waiting[account.id] = asyncio.create_task(self._fetch(account))
        task.add_done_callback(lambda _: self._waiting.pop(account.id, None))

    async def close(self) -> None:
        """Stop reading."""
        tasks = list(self._waiting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, account: Account) -> None:
        try:
            async with self._turns:
                for contract in Contract:
                    plan = self._plan_of(account.plans[contract], contract)
                    with suppress(UsageUnknown):
                        await self._limiter.uses(account.id, plan, now_us=self._clock.now_us())
                await self._in_force.of(account.id)
                if self._keeping.history and self._keeping.text and account.keep_text:
                    await self._texts.seal_of(account.id)
        except (StorageUnavailable, SealBroken):
            return  # requests find out by themselves
        except Exception as error:  # nobody waits for this task
            self._on_fault(error)
