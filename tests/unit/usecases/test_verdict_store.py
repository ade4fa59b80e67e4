"""Storing verdicts with what they cost: neither lost nor counted twice, whatever happens to who waits."""

import asyncio

import pytest
from virtual_time import after, run

from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.system import SystemClock, SystemIdentities
from firstline.core.cascade import emergency_verdict
from firstline.core.message import Message
from firstline.core.plans import Granted, Plan, Window
from firstline.core.policy import Policy
from firstline.core.taxonomy import Contract
from firstline.ports.journal import JournalUnavailable, Record
from firstline.ports.provider import Tokens
from firstline.usecases.access import ANONYMOUS, Caller
from firstline.usecases.in_force import InForce
from firstline.usecases.records import Charge, Keeping
from firstline.usecases.second_opinion import Decided, Request
from firstline.usecases.spending import Spending
from firstline.usecases.verdict_store import VerdictStore

CHARGE = Charge(Plan(Contract.CLASSIFIER, "free", 0, {Window.HOUR: 100}, 600, 1), Granted((), 1_000_000))


class QueueingJournal:
    """Implements `ports.journal.Journal`: what has been queued is stored although nobody waits for it any more."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.calls = 0

    async def append(self, record: Record) -> None:
        await asyncio.shield(self._store(record))

    def _store(self, record: Record) -> "asyncio.Task[None]":
        async def stored() -> None:
            await after(1.0)
            if self.fails:
                raise JournalUnavailable("the disk is full")
            self.calls += sum(delta.calls for delta in record.spend)

        return asyncio.create_task(stored())


@pytest.mark.parametrize("fails", [False, True])
def test_cost_is_counted_once_when_the_request_is_cancelled_while_it_is_stored(fails: bool) -> None:
    async def scenario() -> tuple[int, int]:
        journal = QueueingJournal(fails=fails)
        policy = Policy()
        spending = Spending(MemoryStore(), clock=SystemClock(), cost_of=lambda *_: 1)
        store = VerdictStore(
            journal,
            keeping=Keeping(),
            clock=SystemClock(),
            identities=SystemIdentities(),
            spending=spending,
            on_fault=lambda _: None,
            on_late=lambda _: None,
        )
        spending.add(ANONYMOUS.id, "gemini", "m", Tokens(1, 1), failed=False)
        request = Request(Caller(ANONYMOUS), InForce(policy, policy.content_hash), 0, 0.0)
        message = Message("Hello", Contract.CLASSIFIER)
        storing = asyncio.create_task(
            store.store([message], [(0, Decided(emergency_verdict()))], request, charge=CHARGE)
        )
        await after(0.5)
        storing.cancel()
        await after(1.0)
        return journal.calls, sum(delta.calls for delta in spending.take_all())

    assert run(scenario()) == ((0, 1) if fails else (1, 0))
