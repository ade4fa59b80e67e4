"""Triage over memory: grouped predictions, batches in small records, faults that an answer hides."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from virtual_time import after, run

from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.system import SystemClock, SystemIdentities
from firstline.core.message import Message
from firstline.core.plans import Granted, Plan, Window
from firstline.core.policy import Policy
from firstline.core.rules import RuleBook
from firstline.core.taxonomy import Contract
from firstline.core.verdict import Prediction, Source
from firstline.ports.journal import Record
from firstline.ports.storage import AuditEntry
from firstline.usecases.access import ANONYMOUS, Caller
from firstline.usecases.records import Charge, Keeping
from firstline.usecases.tickets import RECORD_TICKETS, Failed, Triage
from firstline.usecases.verdict_store import Triaged

PLAN = Plan(Contract.CLASSIFIER, "free", 0, {Window.HOUR: 100, Window.DAY: 1_000}, 600, 1_000)
CHARGE = Charge(PLAN, Granted((), 1_000_000))
CALLER = Caller(ANONYMOUS)


class Scripted:
    """A model that fails on one word and counts how it was asked."""

    name = "scripted"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def predict(self, text: str, categories: object = None) -> Prediction:
        self.asked.append(1)
        if "poison" in text:
            raise RuntimeError("a bug")
        return Prediction(self.name, {"Other": 0.9, "Network Issue": 0.1}, "en")

    def predict_many(self, texts: Sequence[str], categories: object = None) -> list[Prediction]:
        self.asked.append(len(texts))
        if any("poison" in text for text in texts):
            raise RuntimeError("a bug")
        return [Prediction(self.name, {"Other": 0.9, "Network Issue": 0.1}, "en") for _ in texts]


class World:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.model = Scripted()
        self.faults: list[BaseException] = []
        self.triage = Triage(
            journal=self.store,
            classifier=self.model,
            rules=RuleBook(()),
            policy=Policy(),
            clock=SystemClock(),
            identities=SystemIdentities(),
            keeping=Keeping(),
            on_fault=self.faults.append,
        )

    async def open(self) -> None:
        await self.store.add_account(ANONYMOUS, None, AuditEntry("0" * 32, 0, "system", "account.create", None))


def message(text: str) -> Message:
    return Message(text, Contract.CLASSIFIER)


def test_requests_of_one_turn_are_predicted_together() -> None:
    async def scenario() -> World:
        world = World()
        await world.open()
        texts = [f"message number {number} about nothing" for number in range(5)]
        await asyncio.gather(
            *(world.triage.triage(message(text), caller=CALLER, charge=CHARGE, received_at_us=1) for text in texts)
        )
        return world

    world = asyncio.run(scenario())
    assert world.model.asked == [5]
    assert len(world.store.verdicts) == 5


def test_one_message_that_breaks_the_model_does_not_fail_those_beside_it() -> None:
    async def scenario() -> list[object]:
        world = World()
        await world.open()
        texts = ["a fine message", "poison", "another fine message"]
        return await asyncio.gather(
            *(world.triage.triage(message(text), caller=CALLER, charge=CHARGE, received_at_us=1) for text in texts),
            return_exceptions=True,
        )

    first, second, third = asyncio.run(scenario())
    assert isinstance(first, Triaged)
    assert isinstance(second, RuntimeError)
    assert isinstance(third, Triaged)


def test_a_hidden_fault_gives_a_stored_emergency_verdict_and_is_told() -> None:
    async def scenario() -> tuple[World, Triaged]:
        world = World()
        await world.open()
        done = await world.triage.triage_safely(message("poison"), caller=CALLER, charge=CHARGE, received_at_us=1)
        return world, done

    world, done = asyncio.run(scenario())
    assert done.verdict.source is Source.EMERGENCY
    assert done.verdict.needs_review
    assert world.store.verdicts[done.ticket_id, 1].decision == "priority_response"
    assert [type(fault) for fault in world.faults] == [RuntimeError]


def test_record_that_overtakes_another_does_not_keep_the_event_loop_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    world, waits, wait = World(), 0, asyncio.wait
    append, records = world.store.append, 0

    async def overtaking(record: Record) -> None:
        nonlocal records
        records += 1
        if records == 1:
            await after(1.0)
        await append(record)

    async def counted(*args: Any, **options: Any) -> Any:
        nonlocal waits
        waits += 1
        assert waits < 50
        return await wait(*args, **options)

    monkeypatch.setattr(world.store, "append", overtaking)
    monkeypatch.setattr(asyncio, "wait", counted)

    async def scenario() -> set[int]:
        await world.open()
        messages = [message(f"hello {number}") for number in range(2 * RECORD_TICKETS)]
        found = world.triage.triage_many(messages, caller=CALLER, charge=CHARGE, received_at_us=0)
        return {place async for place, _ in found}

    assert run(scenario()) == set(range(2 * RECORD_TICKETS))


def test_a_large_batch_is_stored_whole_charged_once_and_keeps_its_order() -> None:
    async def scenario() -> tuple[World, list[Triaged | Failed]]:
        world = World()
        await world.open()
        texts = [f"message number {number}" for number in range(2 * RECORD_TICKETS + 7)]
        texts[3] = "poison"
        found = world.triage.triage_many(
            [message(text) for text in texts], caller=CALLER, charge=CHARGE, received_at_us=1
        )
        by_place = {place: outcome async for place, outcome in found}
        return world, [by_place[place] for place in range(len(texts))]

    world, outcomes = asyncio.run(scenario())
    assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Failed)] == [3]
    stored = [world.store.tickets[outcome.ticket_id].text for outcome in outcomes if isinstance(outcome, Triaged)]
    assert stored == [f"message number {number}" for number in range(2 * RECORD_TICKETS + 7) if number != 3]
    assert {place[2]: amount for place, amount in world.store.counters.items()} == {"minute": 1, "hour": 1, "day": 1}
    assert len(world.faults) == 1
