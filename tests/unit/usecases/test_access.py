"""Keys become callers, and what is remembered of a key never outlives a change of it."""

import asyncio
from dataclasses import replace

from firstline.adapters.memory_store import MemoryStore
from firstline.core.api_key import hash_of
from firstline.core.taxonomy import Contract
from firstline.ports.storage import Account, ApiKey, AuditEntry
from firstline.usecases.access import Access, Caller, Refusal

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
