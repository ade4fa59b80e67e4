"""Own categories over memory: what is in force, what a failure leaves, what an upgrade does."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from firstline.adapters.local_model import LocalModel
from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.system import SystemClock, SystemIdentities
from firstline.adapters.trainer import DirectTrainer
from firstline.core.cascade import settle
from firstline.core.categories import CategoriesInvalid, CategorySet, OwnCategory, to_data
from firstline.core.message import Message
from firstline.core.plans import Granted, Plan, Window
from firstline.core.policy import Policy, Threshold
from firstline.core.rules import RuleBook
from firstline.core.taxonomy import Contract, Priority
from firstline.ports.storage import AuditEntry, CategoriesRow, StorageUnavailable, VersionChanged
from firstline.ports.trainer import TrainingFailed
from firstline.usecases import in_force
from firstline.usecases.access import ANONYMOUS, Caller, demo_account
from firstline.usecases.accounts import Accounts
from firstline.usecases.categories import Categories
from firstline.usecases.in_force import AccountsInForce, InForce
from firstline.usecases.records import Charge, Keeping
from firstline.usecases.tickets import Triage
from firstline.usecases.verdict_store import Triaged

PLAN = Plan(Contract.CLASSIFIER, "free", 0, {Window.HOUR: 100, Window.DAY: 1_000}, 600, 1_000)
CHARGE = Charge(PLAN, Granted((), 1_000_000))
ME, OTHER = Caller(ANONYMOUS), Caller(demo_account(2, "free"))
SHOP = CategorySet(
    (
        OwnCategory("Delivery", "Parcels that are late, lost or damaged", Priority.HIGH),
        OwnCategory("Invoices", "Bills, receipts and tax", Priority.LOW),
    )
)
LATE = Message("Where is my parcel? The delivery is late.", Contract.CLASSIFIER)
LONG = Message(f"{LATE.text} {'It is late. ' * 100}", Contract.CLASSIFIER)


class Scripted(DirectTrainer):
    """Trains in this process, counts, and fails when it is told to."""

    def __init__(self, model: LocalModel) -> None:
        super().__init__(model)
        self.trained = 0
        self.fails = False
        self.answers: bytes | None = None
        self.loads = 0
        self.may_train = asyncio.Event()
        self.may_train.set()

    async def train(self, account_id: str, categories: CategorySet) -> bytes:
        await self.may_train.wait()
        self.trained += 1
        if self.fails:
            raise TrainingFailed("exit code 1")
        return self.answers or await super().train(account_id, categories)

    def load(self, trained: bytes) -> Any:
        self.loads += 1
        return super().load(trained)


class World:
    """Everything over one memory store; `restart` builds it anew, for a model of another name if given."""

    def __init__(self, model: LocalModel) -> None:
        self.store = MemoryStore()
        self.stale_s = 0
        self.model = model
        self.faults: list[BaseException] = []
        self.restart(model.name)

    def restart(self, name: str) -> None:
        self.trainer = Scripted(self.model)
        accounts = Accounts(self.store, SystemClock(), SystemIdentities())
        self.in_force = AccountsInForce(
            accounts, self.trainer, model=name, policy=Policy(), stale_s=self.stale_s, on_fault=self.faults.append
        )
        self.categories = Categories(accounts, self.trainer, self.in_force, name)
        self.triage = Triage(
            journal=self.store,
            classifier=self.model,
            rules=RuleBook(()),
            policy=Policy(),
            clock=SystemClock(),
            identities=SystemIdentities(),
            keeping=Keeping(),
            in_force=self.in_force,
        )

    async def ask(self, caller: Caller = ME, message: Message = LATE) -> Triaged:
        return await self.triage.triage(message, caller=caller, charge=CHARGE, received_at_us=1)


@pytest.fixture
def play(model: LocalModel) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    """Runs a scenario in a world with two accounts."""

    def run(scenario: Callable[[World], Awaitable[None]]) -> None:
        async def opened() -> None:
            world = World(model)
            for number, caller in enumerate((ME, OTHER)):
                audit = AuditEntry(f"{number:032x}", 0, "system", "account.create", None)
                await world.store.add_account(caller.account, None, audit)
            await scenario(world)

        asyncio.run(opened())

    return run


Play = Callable[[Callable[[World], Awaitable[None]]], None]


def test_requests_of_one_turn_are_each_predicted_with_their_own_categories(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.categories.put(ME, SHOP, expected=None)
        mine, theirs, long = await asyncio.gather(world.ask(ME), world.ask(OTHER), world.ask(ME, LONG))
        assert mine.verdict.category == long.verdict.category == "Delivery"
        assert theirs.verdict.category not in {"Delivery", "Invoices"}
        found = world.triage.triage_many([LATE, LONG], caller=ME, charge=CHARGE, received_at_us=1)
        batch = [outcome async for _, outcome in found]
        assert [done.verdict.category for done in batch if isinstance(done, Triaged)] == ["Delivery"] * 2

    play(scenario)


def test_what_is_in_force_is_read_once_and_again_after_a_change(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.categories.put(ME, SHOP, expected=None)
        loads = world.trainer.loads
        for _ in range(3):
            await world.ask()
        assert world.trainer.loads == loads
        world.in_force.forget()
        await asyncio.gather(*(world.ask() for _ in range(5)))
        assert world.trainer.loads == loads + 1

    play(scenario)


def test_what_was_read_before_a_change_is_not_kept_after_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        find = world.store.find_categories
        has_read, changed = asyncio.Event(), asyncio.Event()

        async def late(account_id: str) -> Any:
            found = await find(account_id)
            has_read.set()
            await changed.wait()
            return found

        world.store.find_categories = late  # type: ignore[method-assign]  # the store as it misbehaves
        reading = asyncio.create_task(world.in_force.of(ME.account.id))
        await has_read.wait()
        world.store.find_categories = find  # type: ignore[method-assign]  # the store as it misbehaves
        trained = await world.trainer.train(ME.account.id, SHOP)
        body = orjson.dumps(to_data(SHOP)).decode()
        row = CategoriesRow(ME.account.id, SHOP.version, 1, body, world.model.name, trained)
        await world.store.put_categories(row, expected=None, audit=AuditEntry("f" * 32, 0, "cli", "test", None))
        world.in_force.forget()
        assert (await world.in_force.of(ME.account.id)).categories == SHOP
        changed.set()
        assert (await reading).categories is None
        assert (await world.in_force.of(ME.account.id)).categories == SHOP

    play(scenario)


def test_memory_for_trained_categories_is_bounded(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.categories.put(ME, SHOP, expected=None)
        await world.categories.put(OTHER, SHOP, expected=None)
        assert world.in_force.cached(ME.account.id) is None
        assert world.in_force.cached(OTHER.account.id) is not None
        assert (await world.ask(ME)).verdict.category == "Delivery"

    monkeypatch.setattr(in_force, "MAX_BYTES", 30_000)
    play(scenario)


def test_the_version_is_checked_before_anything_is_trained(play: Play) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(VersionChanged):
            await world.categories.put(ME, SHOP, expected={"another"})
        with pytest.raises(CategoriesInvalid):
            await world.categories.put(ME, CategorySet(SHOP.categories[:1]), expected=None)
        assert world.trainer.trained == 0

    play(scenario)


@pytest.mark.parametrize("answers", [None, b"nonsense"])
def test_a_training_that_fails_changes_nothing(play: Play, answers: bytes | None) -> None:
    async def scenario(world: World) -> None:
        world.trainer.fails, world.trainer.answers = answers is None, answers
        with pytest.raises(TrainingFailed):
            await world.categories.put(ME, SHOP, expected=None)
        assert world.store.account_categories == {}
        assert (await world.in_force.of(ME.account.id)).categories is None

    play(scenario)


def test_after_an_upgrade_the_default_categories_answer_until_training_is_done(play: Play) -> None:
    async def scenario(world: World) -> None:
        version = (await world.categories.put(ME, SHOP, expected=None)).categories_version
        world.restart("hybrid.v1+new")
        world.trainer.may_train.clear()
        done = await world.ask()
        assert done.verdict.category not in {"Delivery", "Invoices"}
        assert done.verdict.needs_review
        assert done.verdict.reasons[-1].code == "categories_pending"
        pending = await world.categories.get(ME)
        assert (pending.pending, pending.categories_version, pending.categories) == (True, version, SHOP)
        world.trainer.may_train.set()
        await asyncio.gather(*world.in_force._training.values())
        done = await world.ask()
        assert (done.verdict.category, done.verdict.needs_review) == ("Delivery", False)
        assert world.trainer.trained == 1
        assert (await world.categories.get(ME)).categories_at_us == pending.categories_at_us

    play(scenario)


def test_a_training_after_an_upgrade_that_fails_is_told_and_tried_again(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: World) -> None:
        await world.categories.put(ME, SHOP, expected=None)
        world.restart("hybrid.v1+new")
        world.trainer.fails = True
        await world.ask()
        await asyncio.gather(*world.in_force._training.values())
        assert [type(fault) for fault in world.faults] == [TrainingFailed]
        world.trainer.fails = False
        await world.ask()
        await asyncio.gather(*world.in_force._training.values())
        assert (await world.ask()).verdict.category == "Delivery"

    monkeypatch.setattr(in_force, "RETRY_S", 0.0)
    play(scenario)


def test_closing_ends_a_training_in_the_background(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.categories.put(ME, SHOP, expected=None)
        world.restart("hybrid.v1+new")
        world.trainer.fails = True
        await world.ask()
        await world.in_force.close()
        assert world.in_force._training == {}

    play(scenario)


def test_the_policy_of_an_account_is_kept_again_when_the_server_s_own_changes(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.categories.put(ME, SHOP, expected=None)
        first = (await world.in_force.of(ME.account.id)).policy_hash
        world.restart(world.model.name)
        world.in_force._shared = InForce(replace(Policy(), low_confidence=0.3), "shared", model_name=world.model.name)
        second = (await world.in_force.of(ME.account.id)).policy_hash
        assert {("policy", first), ("policy", second)} <= world.store.versions.keys()
        assert first != second

    play(scenario)


def test_stored_evidence_of_an_account_settles_to_the_same_verdict_under_its_policy(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.categories.put(ME, SHOP, expected=None)
        await world.categories.put_thresholds(ME, [Threshold("Delivery", None, 0.999)], expected=None)
        verdict = (await world.ask()).verdict
        assert (verdict.category, verdict.needs_review) == ("Other", True)
        evidence = verdict.evidence
        assert evidence is not None
        under = await world.in_force.of(ME.account.id)
        assert evidence.policy == under.policy.content_hash
        again = settle(evidence.facts, evidence.matches, evidence.prediction, under.policy, rules_hash=evidence.rules)
        assert again == verdict

    play(scenario)


def test_an_account_whose_settings_cannot_be_read_gets_no_verdict_under_others(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.categories.put(ME, SHOP, expected=None)
        world.in_force.forget()

        async def fails(account_id: str) -> None:
            raise StorageUnavailable("the disk is gone")

        world.store.find_categories = fails  # type: ignore[method-assign]  # the store as it misbehaves
        with pytest.raises(StorageUnavailable):
            await world.triage.triage_safely(LATE, caller=ME, charge=CHARGE, received_at_us=1)

    play(scenario)


def test_own_categories_stay_in_force_when_the_store_goes_away_after_a_change(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.stale_s = 300
        world.restart(world.model.name)
        await world.categories.put(ME, SHOP, expected=None)
        expected = (await world.ask()).verdict.category
        world.in_force.forget()
        asked = 0

        async def fails(account_id: str) -> None:
            nonlocal asked
            asked += 1
            raise StorageUnavailable("the database is gone")

        world.store.find_categories = fails  # type: ignore[method-assign]  # the store as it misbehaves
        for _ in range(20):
            assert (await world.ask()).verdict.category == expected
        assert asked == 1  # those who know do not ask again and again
        with pytest.raises(StorageUnavailable):
            await world.ask(OTHER)

    play(scenario)
