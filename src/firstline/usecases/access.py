"""Who is asking: keys into callers, with a cache that forgets within a second of a change elsewhere."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from firstline.core.api_key import Scope, hash_of, looks_like_key
from firstline.core.plans import MICROSECONDS
from firstline.core.taxonomy import Contract
from firstline.ports.clock import Clock
from firstline.ports.storage import Account, ApiKey, Storage

CACHE_S: Final = 30
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

    def __init__(self, storage: Storage, *, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._cache: OrderedDict[str, tuple[int, Caller | Refusal]] = OrderedDict()
        self._forgotten = 0

    async def authenticate(self, key: str | None, *, development: bool) -> Caller | Refusal:
        """Who a key belongs to.

        Args:
            key: as the request carries it; None when it carries none.
            development: whether the demo keys are valid for this request.
        Raises: StorageUnavailable when the key is not known yet and the store cannot be asked.
        """
        if not key:
            return Refusal.MISSING
        if not looks_like_key(key):
            return Refusal.INVALID
        key_hash = hash_of(key)
        demo = DEMO_ACCOUNTS.get(key_hash)
        if demo is not None:
            return Caller(demo) if development else Refusal.INVALID
        cached = self._cache.get(key_hash)
        now_us = self._clock.now_us()
        if cached is not None and cached[0] - CACHE_S * MICROSECONDS <= now_us < cached[0]:
            return cached[1]
        forgotten = self._forgotten
        found = await self._storage.find_key(key_hash)
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
        self._cache[key_hash] = (now_us + CACHE_S * MICROSECONDS, answer)
        return answer

    def forget(self) -> None:
        """Drop everything that is cached: a key, a plan or an account has changed."""
        self._forgotten += 1
        self._cache.clear()
