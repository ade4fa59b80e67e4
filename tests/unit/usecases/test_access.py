"""Keys become callers, and what is remembered of a key never outlives a change of it that was read."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from firstline.adapters.memory_store import MemoryStore
from firstline.core.api_key import hash_of
from firstline.core.taxonomy import Contract
from firstline.ports.storage import Account, ApiKey, AuditEntry, StorageUnavailable
from firstline.usecases.access import CACHE_S, Access, Caller, Refusal

NOW_US = 1_795_000_000_000_000
SECRET = "atc_" + "k" * 32
ACCOUNT = Account("a" * 32, "a@example.com", NOW_US, {Contract.CLASSIFIER: "free", Contract.DECISION: "free"})
KEY = ApiKey("b" * 32, ACCOUNT.id, hash_of(SECRET), "atc_…kkkk", "default", "triage", NOW_US)
AUDIT = AuditEntry("c" * 32, NOW_US, "cli", "test", ACCOUNT.id)


class Still:
    """A clock that stands."""

    def now_us(self) -> int:
        return NOW_US

    def monotonic_s(self) -> float:
        return 0.0


class SlowStore(MemoryStore):
    """Gives what it read before the key was revoked, after everybody was told to forget it."""

    access: Access

    async def find_key(self, key_hash: str) -> tuple[ApiKey, Account] | None:
        found = await super().find_key(key_hash)
        if found is not None and found[0].revoked_at_us is None:
            self._keys[KEY.id] = replace(KEY, revoked_at_us=NOW_US)
            self.access.forget()
        return found


def test_a_key_that_was_revoked_while_it_was_read_is_refused_the_next_time() -> None:
    async def work() -> None:
        store = SlowStore()
        await store.add_account(ACCOUNT, KEY, AUDIT)
        store.access = Access(store, clock=Still())
        assert isinstance(await store.access.authenticate(SECRET, development=False), Caller)
        assert await store.access.authenticate(SECRET, development=False) is Refusal.REVOKED

    asyncio.run(work())


def test_a_key_is_read_once_and_again_after_it_is_forgotten() -> None:
    async def work() -> None:
        store = MemoryStore()
        await store.add_account(ACCOUNT, KEY, AUDIT)
        access = Access(store, clock=Still())
        assert isinstance(await access.authenticate(SECRET, development=False), Caller)
        await store.revoke_key(KEY.id, account_id=None, at_us=NOW_US, audit=AUDIT)
        assert isinstance(await access.authenticate(SECRET, development=False), Caller)
        access.forget()
        assert await access.authenticate(SECRET, development=False) is Refusal.REVOKED

    asyncio.run(work())


class Set:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at_us = NOW_US

    def now_us(self) -> int:
        return self.at_us

    def monotonic_s(self) -> float:
        return 0.0

    def pass_s(self, seconds: float) -> None:
        self.at_us += int(seconds * 1_000_000)


class StoreThatGoes(MemoryStore):
    """Can be away; counts how often it is asked."""

    away = False
    asked = 0

    async def find_key(self, key_hash: str) -> tuple[ApiKey, Account] | None:
        self.asked += 1
        if self.away:
            raise StorageUnavailable("away")
        return await super().find_key(key_hash)

    async def find_keys(self, key_hashes: Sequence[str]) -> Mapping[str, tuple[ApiKey, Account]]:
        if self.away:
            raise StorageUnavailable("away")
        return await super().find_keys(key_hashes)


async def in_background() -> None:
    """What was begun goes on as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def known_then_away(stale_s: int = 300) -> tuple[StoreThatGoes, Access, Set]:
    store, clock = StoreThatGoes(), Set()
    await store.add_account(ACCOUNT, KEY, AUDIT)
    access = Access(store, clock=clock, stale_s=stale_s)
    await access.authenticate(SECRET, development=False)
    store.away = True
    return store, access, clock


def test_a_known_key_is_served_while_the_store_is_away_for_a_bounded_time() -> None:
    async def work() -> None:
        _, access, clock = await known_then_away()
        clock.pass_s(CACHE_S + 1)
        assert isinstance(await access.authenticate(SECRET, development=False), Caller)
        clock.pass_s(300 - CACHE_S)
        with pytest.raises(StorageUnavailable):
            await access.authenticate(SECRET, development=False)

    asyncio.run(work())


def test_a_store_that_hangs_counts_as_away_for_those_who_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firstline.usecases.access.AWAY_S", 0)

    class Hangs(StoreThatGoes):
        async def find_key(self, key_hash: str) -> tuple[ApiKey, Account] | None:
            if self.away:
                await asyncio.Event().wait()
            return await super().find_key(key_hash)

    async def work() -> None:
        store, clock = Hangs(), Set()
        await store.add_account(ACCOUNT, KEY, AUDIT)
        access = Access(store, clock=clock)
        await access.authenticate(SECRET, development=False)
        store.away = True
        clock.pass_s(CACHE_S + 1)
        assert isinstance(await access.authenticate(SECRET, development=False), Caller)

    asyncio.run(work())


def test_an_unknown_key_is_not_answered_while_the_store_is_away() -> None:
    async def work() -> None:
        _, access, _ = await known_then_away()
        with pytest.raises(StorageUnavailable):
            await access.authenticate("atc_" + "u" * 32, development=False)

    asyncio.run(work())


def test_a_known_key_does_not_wait_again_and_again_for_a_store_that_is_away() -> None:
    async def work() -> None:
        store, access, clock = await known_then_away()
        clock.pass_s(CACHE_S + 1)
        before = store.asked
        for _ in range(50):
            assert isinstance(await access.authenticate(SECRET, development=False), Caller)
        assert store.asked == before + 1

    asyncio.run(work())


def test_a_change_that_was_seen_just_before_the_store_went_away_costs_no_key() -> None:
    async def work() -> None:
        _, access, clock = await known_then_away()
        access.forget()
        assert isinstance(await access.authenticate(SECRET, development=False), Caller)
        clock.pass_s(300)
        with pytest.raises(StorageUnavailable):
            await access.authenticate(SECRET, development=False)
        await access.close()

    asyncio.run(work())


def test_without_trust_no_key_is_served_after_a_change_was_seen() -> None:
    async def work() -> None:
        _, access, _ = await known_then_away(stale_s=0)
        access.forget()
        with pytest.raises(StorageUnavailable):
            await access.authenticate(SECRET, development=False)
        await access.close()

    asyncio.run(work())


def test_a_revocation_elsewhere_is_known_before_the_store_goes_away_though_nobody_used_the_key() -> None:
    async def work() -> None:
        store, access, _ = await known_then_away()
        store.away = False
        await store.revoke_key(KEY.id, account_id=None, at_us=NOW_US, audit=AUDIT)
        access.forget()
        access.read_again()
        await in_background()
        store.away = True
        assert await access.authenticate(SECRET, development=False) is Refusal.REVOKED
        await access.close()

    asyncio.run(work())


def test_a_key_revoked_here_is_refused_when_the_store_goes_away_at_once() -> None:
    async def work() -> None:
        store, access, _ = await known_then_away()
        store.away = False
        key = await store.revoke_key(KEY.id, account_id=None, at_us=NOW_US, audit=AUDIT)
        store.away = True
        access.refuse(key.hash)
        assert await access.authenticate(SECRET, development=False) is Refusal.REVOKED
        await access.close()

    asyncio.run(work())


def test_a_key_that_is_revoked_here_while_it_is_read_stays_revoked() -> None:
    class Slow(StoreThatGoes):
        gate: asyncio.Event

        async def find_key(self, key_hash: str) -> tuple[ApiKey, Account] | None:
            found = await super().find_key(key_hash)
            await self.gate.wait()
            return found

    async def work() -> None:
        store = Slow()
        store.gate = asyncio.Event()
        await store.add_account(ACCOUNT, KEY, AUDIT)
        access = Access(store, clock=Still())
        reading = asyncio.create_task(access.authenticate(SECRET, development=False))
        await in_background()
        access.refuse(KEY.hash)
        store.gate.set()
        await reading
        store.away = True
        assert await access.authenticate(SECRET, development=False) is Refusal.REVOKED
        await access.close()

    asyncio.run(work())


def test_a_key_that_was_read_as_revoked_never_comes_back_though_a_change_was_seen_meanwhile() -> None:
    class ChangesMeanwhile(StoreThatGoes):
        access: Access | None = None

        async def find_key(self, key_hash: str) -> tuple[ApiKey, Account] | None:
            found = await super().find_key(key_hash)
            if self.access is not None:
                self.access.forget()
            return found

    async def work() -> None:
        store = ChangesMeanwhile()
        await store.add_account(ACCOUNT, KEY, AUDIT)
        store.access = access = Access(store, clock=Still())
        store.access = None
        await access.authenticate(SECRET, development=False)
        await store.revoke_key(KEY.id, account_id=None, at_us=NOW_US, audit=AUDIT)
        store.access = access
        access.forget()
        assert await access.authenticate(SECRET, development=False) is Refusal.REVOKED
        store.away = True
        assert await access.authenticate(SECRET, development=False) is Refusal.REVOKED
        await access.close()

    asyncio.run(work())


def test_a_key_that_is_gone_is_not_served_on_trust_though_a_change_was_seen_meanwhile() -> None:
    class LosesIt(StoreThatGoes):
        access: Access

        async def find_key(self, key_hash: str) -> tuple[ApiKey, Account] | None:
            found = await super().find_key(key_hash)
            if found is None:
                self.access.forget()
            return found

    async def work() -> None:
        store = LosesIt()
        await store.add_account(ACCOUNT, KEY, AUDIT)
        store.access = access = Access(store, clock=Still())
        await access.authenticate(SECRET, development=False)
        del store._keys[KEY.id]
        access.forget()
        assert await access.authenticate(SECRET, development=False) is Refusal.INVALID
        store.away = True
        with pytest.raises(StorageUnavailable):
            await access.authenticate(SECRET, development=False)
        await access.close()

    asyncio.run(work())


def test_a_key_made_just_before_the_store_went_away_is_not_called_wrong() -> None:
    async def work() -> None:
        store, access, _ = await known_then_away()
        store.away = False
        fresh = "atc_" + "f" * 32
        assert await access.authenticate(fresh, development=False) is Refusal.INVALID
        access.forget()
        store.away = True
        with pytest.raises(StorageUnavailable):
            await access.authenticate(fresh, development=False)
        await access.close()

    asyncio.run(work())


def test_who_is_read_because_of_a_request_is_told_of() -> None:
    async def work() -> None:
        store, access, clock = await known_then_away()
        store.away = False
        told: list[Caller] = []
        access.on_read = told.append
        await access.authenticate(SECRET, development=False)
        assert told == []
        clock.pass_s(CACHE_S)
        await access.authenticate(SECRET, development=False)
        assert [caller.account for caller in told] == [ACCOUNT]

    asyncio.run(work())


def test_a_revoked_key_stays_refused_while_the_store_is_away() -> None:
    async def work() -> None:
        store, access, clock = await known_then_away()
        store.away = False
        await store.revoke_key(KEY.id, account_id=None, at_us=NOW_US, audit=AUDIT)
        access.forget()
        assert await access.authenticate(SECRET, development=False) is Refusal.REVOKED
        store.away = True
        clock.pass_s(CACHE_S + 1)
        assert await access.authenticate(SECRET, development=False) is Refusal.REVOKED

    asyncio.run(work())


def test_a_key_revoked_during_the_outage_is_refused_once_the_store_is_back() -> None:
    async def work() -> None:
        store, access, clock = await known_then_away()
        clock.pass_s(CACHE_S + 1)
        assert isinstance(await access.authenticate(SECRET, development=False), Caller)
        await store.revoke_key(KEY.id, account_id=None, at_us=NOW_US, audit=AUDIT)
        store.away = False
        clock.pass_s(2)
        await access.authenticate(SECRET, development=False)
        for _ in range(5):
            await asyncio.sleep(0)
        assert await access.authenticate(SECRET, development=False) is Refusal.REVOKED

    asyncio.run(work())


def test_a_key_read_for_the_first_time_while_something_changes_is_known_when_the_store_goes_away() -> None:
    class ChangesOnce(StoreThatGoes):
        access: Access
        changed = False

        async def find_key(self, key_hash: str) -> tuple[ApiKey, Account] | None:
            found = await super().find_key(key_hash)
            if not self.changed:
                self.changed = True
                self.access.forget()
            return found

    async def work() -> None:
        store = ChangesOnce()
        await store.add_account(ACCOUNT, KEY, AUDIT)
        store.access = access = Access(store, clock=Still())
        await access.authenticate(SECRET, development=False)
        store.away = True
        assert isinstance(await access.authenticate(SECRET, development=False), Caller)
        await access.close()

    asyncio.run(work())
