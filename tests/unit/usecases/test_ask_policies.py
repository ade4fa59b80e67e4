"""Ask policies over memory: what a server's own bounds do to them, what is kept in memory, and what was spent."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from firstline.adapters.local_model import LocalModel
from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.system import SystemClock, SystemIdentities
from firstline.adapters.trainer import DirectTrainer
from firstline.core.asking import MAX_TIMEOUT_S, MAX_TOKENS, AskPolicy, AskPolicyInvalid
from firstline.core.completion import Mode
from firstline.core.plans import Window, window_bounds
from firstline.core.policy import Policy
from firstline.ports.journal import Record, SpendDelta
from firstline.ports.storage import AuditEntry, StorageUnavailable
from firstline.usecases import in_force
from firstline.usecases.access import ANONYMOUS, Caller, demo_account
from firstline.usecases.accounts import Accounts
from firstline.usecases.ask_policies import AskPolicies, NothingOffered, Spent, check_ask_policy, spent
from firstline.usecases.in_force import AccountsInForce

ME, OTHER = Caller(ANONYMOUS), Caller(demo_account(2, "free"))
OWN = AskPolicy(mode=Mode.ALWAYS, timeout_s=4.0, allowed=("support@example.com",))
NOON_US = window_bounds(Window.MONTH, 1_795_000_000_000_000)[0] + 36 * 3_600 * 1_000_000
"""Noon of the second day of a month."""


class World:
    """Ask policies over one memory store; `restart` builds them anew with other defaults of the server."""

    def __init__(self, model: LocalModel) -> None:
        self.store = MemoryStore()
        self.model = model
        self.restart(AskPolicy())

    def restart(self, defaults: AskPolicy) -> None:
        accounts = Accounts(self.store, SystemClock(), SystemIdentities())
        trainer = DirectTrainer(self.model)
        self.in_force = AccountsInForce(accounts, trainer, model="m", policy=Policy(), asking=defaults)
        self.policies = AskPolicies(accounts, self.in_force, NothingOffered())


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


def test_an_own_policy_holds_whole_and_the_defaults_follow_the_server(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.policies.put(ME, OWN, expected=None)
        world.restart(AskPolicy(threshold=0.5, max_tokens=900))
        assert (await world.policies.get(ME)).asking == OWN
        assert (await world.policies.get(OTHER)).asking == AskPolicy(threshold=0.5, max_tokens=900)
        await world.policies.put(ME, None, expected=None)
        world.restart(AskPolicy(threshold=0.6))
        found = await world.policies.get(ME)
        assert (found.asking, found.asking_version) == (AskPolicy(threshold=0.6), "default")

    play(scenario)


def test_a_server_that_waits_less_than_before_bounds_what_was_set_before(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.policies.put(ME, OWN, expected=None)
        world.restart(AskPolicy(timeout_s=1.5))
        assert (await world.policies.get(ME)).asking == replace(OWN, timeout_s=1.5)
        with pytest.raises(AskPolicyInvalid, match=r"timeout_seconds must be between 0\.05 and 1\.5"):
            await world.policies.put(ME, OWN, expected=None)

    play(scenario)


def test_defaults_of_a_generous_server_fit_into_a_policy_of_an_account(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.restart(AskPolicy(timeout_s=10 * MAX_TIMEOUT_S, max_tokens=10 * MAX_TOKENS))
        wanted = replace(world.policies.defaults, mode=Mode.NEVER)
        found = await world.policies.put(ME, wanted, expected=None)
        assert (found.asking.timeout_s, found.asking.max_tokens) == (MAX_TIMEOUT_S, MAX_TOKENS)

    play(scenario)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, 0.049, 2.001, float("nan"), float("inf")])
def test_a_timeout_beyond_the_server_s_own_is_refused(timeout_s: float) -> None:
    with pytest.raises(AskPolicyInvalid) as raised:
        check_ask_policy(replace(OWN, timeout_s=timeout_s), offered={}, within=replace(OWN, timeout_s=2.0))
    assert raised.value.field == "timeout_seconds"


def test_long_allow_lists_count_towards_what_is_kept_in_memory(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        long = replace(OWN, allowed=tuple(f"{number:0200d}" for number in range(200)))
        await world.policies.put(ME, long, expected=None)
        monkeypatch.setattr(in_force, "MAX_BYTES", 50_000)
        await world.policies.put(OTHER, long, expected=None)
        assert world.in_force.cached(ME.account.id) is None
        assert world.in_force.cached(OTHER.account.id) is not None

    play(scenario)


def test_a_change_that_the_store_refuses_leaves_in_force_what_was(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.policies.put(ME, OWN, expected=None)

        async def fails(*_: object, **__: object) -> None:
            raise StorageUnavailable("the disk is full")

        monkeypatch.setattr(world.store, "put_ask_policy", fails)
        with pytest.raises(StorageUnavailable):
            await world.policies.put(ME, None, expected=None)
        assert (await world.policies.get(ME)).asking == OWN

    play(scenario)


def test_spend_counts_from_the_start_of_the_day_and_of_the_month(play: Play) -> None:
    async def scenario(world: World) -> None:
        account_id, day_us = ME.account.id, 86_400 * 1_000_000
        today = window_bounds(Window.DAY, NOON_US)[0]

        async def add(starts_at_us: int, micros: int) -> None:
            delta = SpendDelta(account_id, starts_at_us, "gemini", "flash", 1, 0, 10, 10, micros)
            await world.store.append(Record(spend=(delta,)))

        for starts_at_us, micros in ((today, 1), (today - day_us, 20), (today - 2 * day_us, 300)):
            await add(starts_at_us, micros)
        await add(window_bounds(Window.MONTH, NOON_US)[1], 4_000)
        found = await spent(world.store, account_id, now_us=NOON_US)
        assert (found.today_micros, found.month_micros) == (1, 21)
        (model,) = found.by_model
        assert (model.calls, model.cost_usd_micros) == (2, 21)
        assert await spent(world.store, OTHER.account.id, now_us=NOON_US) == Spent()

    play(scenario)
