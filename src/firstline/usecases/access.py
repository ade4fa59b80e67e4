"""Who is asking: keys into callers, with a cache that hears within a second of a change elsewhere.

After a change every key is read again before it is used, and all that were used lately are read in the background, so
that a revocation is known here before the store may go away. While the store cannot be asked, a caller that was known
stays known for a bounded time after it was read; a key that was read as revoked never comes back.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from firstline.core.api_key import Scope, hash_of, looks_like_key
from firstline.core.plans import MICROSECONDS
from firstline.core.taxonomy import Contract
from firstline.ports.clock import Clock
from firstline.ports.storage import Account, ApiKey, Storage, StorageUnavailable
from firstline.usecases.last_known import AWAY_S, STALE_S

CACHE_S: Final = 30
MAX_CACHED: Final = 50_000
READ_AT_ONCE: Final = 500
READ_AGAIN_S: Final = 1.0
"""Between reading all keys in use again, however often something changes."""

DEMO_KEYS: Final[Mapping[str, str]] = {
    "sk_test_demo_free_key_12345678901234567890": "free",
    "sk_test_demo_starter_key_1234567890123456": "starter",
    "sk_test_demo_pro_key_123456789012345678": "professional",
}
"""The published demo keys and their plan; valid in development alone."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    Attributes:
        account: whose quota is charged.
        key: the key used; None for the demo accounts and for keyless calls in development.
    """

    account: Account
    key: ApiKey | None = None

    @property
    def is_operator(self) -> bool:
        """Whether the key may create keys and paid accounts."""
        return self.key is not None and self.key.scope == Scope.OPERATE

    @property
    def actor(self) -> str:
        """How the audit trail and the access log name the caller."""
        return f"key_{self.key.id}" if self.key else f"acc_{self.account.id}"


class Refusal(StrEnum):
    """Why a key is not accepted."""

    MISSING = "missing"
    INVALID = "invalid"
    REVOKED = "revoked"


def demo_account(number: int, plan: str) -> Account:
    """A demo account; its id is fixed, so that its history survives restarts."""
    return Account(
        id=f"{number:032x}",
        email=f"demo-{number}@localhost",
        created_at_us=0,
        plans={Contract.CLASSIFIER: plan, Contract.DECISION: plan},
    )


ANONYMOUS: Final = demo_account(1, "enterprise")
"""Who calls the decision route from loopback without a key, in development."""

DEMO_ACCOUNTS: Final = {
    hash_of(key): demo_account(number, plan) for number, (key, plan) in enumerate(DEMO_KEYS.items(), start=2)
}


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read of a key.

    Attributes:
        at_us: when it was read because it was used.
        changes: how many changes had been seen when it was last read.
    """

    at_us: int
    changes: int
    answer: Caller | Refusal


class Access:
    """Turns keys into callers."""

    def __init__(self, storage: Storage, *, clock: Clock, stale_s: int = STALE_S) -> None:
        """Args:
        stale_s: how long after it was read a caller stays known while the store cannot be asked.
        """
        self._storage = storage
        self._clock = clock
        self._stale_us = stale_s * MICROSECONDS
        self._cache: OrderedDict[str, _Known] = OrderedDict()
        self._changes = 0
        self._away_until_us = 0
        self._asking: asyncio.Task[Caller | Refusal] | None = None
        self._reading_again: asyncio.Task[None] | None = None
        self.on_read: Callable[[Caller], None] = lambda _: None
        """Told of a caller whose key was read because it was used: at first, every 30 s and after changes."""

    async def authenticate(self, key: str | None, *, development: bool) -> Caller | Refusal:
        """Who a key belongs to.

        Args:
            key: as the request carries it; None when it carries none.
            development: whether the demo keys are valid for this request.
        Raises: StorageUnavailable when the key is not known and the store cannot be asked.
        """
        if not key:
            return Refusal.MISSING
        if not looks_like_key(key):
            return Refusal.INVALID
        key_hash = hash_of(key)
        demo = DEMO_ACCOUNTS.get(key_hash)
        if demo is not None:
            return Caller(demo) if development else Refusal.INVALID
        now_us = self._clock.now_us()
        cached = self._cache.get(key_hash)
        if cached is not None and cached.changes == self._changes and _lasts(cached, CACHE_S * MICROSECONDS, now_us):
            return cached.answer
        if self._away_until_us:
            return await self._while_away(key_hash, now_us)
        known = self._still_known(key_hash, now_us)
        if known is None:
            return await self._ask(key_hash, now_us)
        try:
            async with asyncio.timeout(AWAY_S):  # a store that hangs is away as well
                return await self._ask(key_hash, now_us)
        except (StorageUnavailable, TimeoutError):
            self._away_until_us = self._clock.now_us() + AWAY_S * MICROSECONDS
            return known

    def forget(self) -> None:
        """A key, a plan or an account has changed, nobody knows which: each is read before it is used again."""
        self._changes += 1

    def read_again(self) -> None:
        """Read the keys that were used lately in the background after a change; call from the event loop."""
        if self._cache and self._reading_again is None:
            self._reading_again = asyncio.create_task(self._read_again())
            self._reading_again.add_done_callback(self._read_again_ended)

    def refuse(self, key_hash: str) -> None:
        """A key was revoked here: it is refused from now on, also when the store can no longer be asked."""
        self.forget()  # what is being read at this moment is older
        self._remember(key_hash, _Known(self._clock.now_us(), self._changes, Refusal.REVOKED))

    async def close(self) -> None:
        """End what runs in the background."""
        tasks = [task for task in (self._asking, self._reading_again) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _still_known(self, key_hash: str, now_us: int) -> Caller | Refusal | None:
        """What is known while the store is away: of those that were refused nothing changes by it."""
        cached = self._cache.get(key_hash)
        if cached is None or not _lasts(cached, self._stale_us, now_us):
            return None
        if cached.answer is Refusal.INVALID and cached.changes != self._changes:
            return None  # the change may have been that it was made
        return cached.answer

    async def _while_away(self, key_hash: str, now_us: int) -> Caller | Refusal:
        """Nobody who is known waits for a store that has just failed; one of them asks again now and then."""
        known = self._still_known(key_hash, now_us)
        if known is None:
            return await self._ask(key_hash, now_us)
        if now_us >= self._away_until_us and self._asking is None:
            self._asking = asyncio.create_task(self._ask(key_hash, now_us))
            self._asking.add_done_callback(self._asked)
        return known

    def _asked(self, asking: "asyncio.Task[Caller | Refusal]") -> None:
        self._asking = None
        if not asking.cancelled():
            asking.exception()  # who asked has been answered already

    async def _ask(self, key_hash: str, now_us: int) -> Caller | Refusal:
        changes = self._changes
        try:
            found = await self._storage.find_key(key_hash)
        except StorageUnavailable:
            self._away_until_us = self._clock.now_us() + AWAY_S * MICROSECONDS
            raise
        self._away_until_us = 0
        known = _Known(now_us, changes, _answer(found))
        self._learn(key_hash, known)
        if isinstance(known.answer, Caller):
            self.on_read(known.answer)
        return known.answer

    def _learn(self, key_hash: str, known: _Known) -> None:
        """Remember what was read, unless it may have been read before a change: then only what was known is worse.

        A caller of whom nothing was known is remembered all the same, in doubt, to be read again.
        """
        if (
            known.changes == self._changes
            or known.answer is Refusal.REVOKED
            or (isinstance(known.answer, Caller) and key_hash not in self._cache)
        ):
            self._remember(key_hash, known)
        elif known.answer is Refusal.INVALID:
            self._cache.pop(key_hash, None)

    def _remember(self, key_hash: str, known: _Known) -> None:
        self._cache[key_hash] = known
        self._cache.move_to_end(key_hash)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)

    async def _read_again(self) -> None:
        """Read the keys that were used lately, until none of them is older than the last change."""
        while in_doubt := self._in_doubt():
            try:
                for first in range(0, len(in_doubt), READ_AT_ONCE):
                    await self._read_some(in_doubt[first : first + READ_AT_ONCE])
            except StorageUnavailable:
                self._away_until_us = self._clock.now_us() + AWAY_S * MICROSECONDS
            await asyncio.sleep(READ_AGAIN_S)

    def _in_doubt(self) -> Sequence[str]:
        now_us = self._clock.now_us()
        return [
            key_hash for key_hash, known in self._cache.items()
            if known.changes != self._changes and isinstance(known.answer, Caller)
            and _lasts(known, self._stale_us, now_us)
        ]  # fmt: skip

    async def _read_some(self, key_hashes: Sequence[str]) -> None:
        changes = self._changes
        found = await self._storage.find_keys(key_hashes)
        self._away_until_us = 0
        for key_hash in key_hashes:
            before = self._cache.get(key_hash)
            if before is not None and before.changes < changes:  # else it was read meanwhile
                self._learn(key_hash, _Known(before.at_us, changes, _answer(found.get(key_hash))))

    def _read_again_ended(self, ended: "asyncio.Task[None]") -> None:
        self._reading_again = None
        if not ended.cancelled():
            ended.exception()  # whoever uses a key reads it anyhow


def _answer(found: tuple[ApiKey, Account] | None) -> Caller | Refusal:
    if found is None:
        return Refusal.INVALID
    if found[0].revoked_at_us is not None:
        return Refusal.REVOKED
    return Caller(found[1], found[0])


def _lasts(known: _Known, for_us: int, now_us: int) -> bool:
    return known.at_us <= now_us < known.at_us + for_us
