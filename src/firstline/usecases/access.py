"""Who is asking: keys into callers, with a cache that forgets within a second of a change elsewhere.

While the store cannot be asked, a caller that was known before any change was seen stays known for a bounded time.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from firstline.core.api_key import Scope, hash_of, looks_like_key
from firstline.core.plans import MICROSECONDS
from firstline.core.taxonomy import Contract
from firstline.ports.clock import Clock
from firstline.ports.storage import Account, ApiKey, Storage, StorageUnavailable

CACHE_S: Final = 30
STALE_S: Final = 300
AWAY_S: Final = 1
"""How long those who are known wait for the store, and after a failure for how long it is not asked again."""

MAX_CACHED: Final = 50_000

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


class Access:
    """Turns keys into callers."""

    def __init__(self, storage: Storage, *, clock: Clock, stale_s: int = STALE_S) -> None:
        """Args:
        stale_s: how long after it was read a caller stays known while the store cannot be asked.
        """
        self._storage = storage
        self._clock = clock
        self._stale_us = stale_s * MICROSECONDS
        self._cache: OrderedDict[str, tuple[int, Caller | Refusal]] = OrderedDict()
        self._forgotten = 0
        self._away_until_us = 0
        self._asking: asyncio.Task[Caller | Refusal] | None = None

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
        known = self._known(key_hash, now_us, for_us=CACHE_S * MICROSECONDS)
        if known is not None:
            return known
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
        """Drop everything that is cached: a key, a plan or an account has changed."""
        self._forgotten += 1
        self._cache.clear()

    def _known(self, key_hash: str, now_us: int, *, for_us: int) -> Caller | Refusal | None:
        cached = self._cache.get(key_hash)
        if cached is None or not cached[0] <= now_us < cached[0] + for_us:
            return None
        return cached[1]

    def _still_known(self, key_hash: str, now_us: int) -> Caller | Refusal | None:
        """What is known while the store is away: of those that were refused nothing changes by it."""
        return self._known(key_hash, now_us, for_us=self._stale_us)

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
        forgotten = self._forgotten
        try:
            found = await self._storage.find_key(key_hash)
        except StorageUnavailable:
            self._away_until_us = self._clock.now_us() + AWAY_S * MICROSECONDS
            raise
        self._away_until_us = 0
        answer: Caller | Refusal
        if found is None:
            answer = Refusal.INVALID
        elif found[0].revoked_at_us is not None:
            answer = Refusal.REVOKED
        else:
            answer = Caller(found[1], found[0])
        if forgotten != self._forgotten:  # it may have been read before the change
            return answer
        if len(self._cache) >= MAX_CACHED:
            self._cache.popitem(last=False)
        self._cache[key_hash] = (now_us, answer)
        return answer
