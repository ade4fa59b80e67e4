"""Creating requests that are sent again: the same key and body get the answer that the first one got, for 24 hours.

Only answers of requests that took effect are kept, each in the transaction of that effect. They are sealed under the
caller's own key, of which the store has a hash, so that nobody can read them who does not send the key again.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Protocol

from firstline.core.plans import MICROSECONDS
from firstline.ports.clock import Clock
from firstline.ports.journal import IdempotencyEntry, Journal, Record
from firstline.ports.storage import Storage

KEPT_S: Final = 86_400
MAX_KEY_LENGTH: Final = 255
MIN_UNSECURED_KEY_LENGTH: Final = 16
"""Of a key on a route without an API key, where whoever knows it is given the answer."""


class KeyReused(Exception):
    """The key was used for a request with another body."""


class Sealer(Protocol):
    """Keeps an answer so that only the holder of the caller's key can read it."""

    def seal(self, answer: bytes, *, key: str, bound_to: str) -> str:
        """A text to store; `bound_to` must be the same when it is opened."""
        ...

    def open(self, sealed: str, *, key: str, bound_to: str) -> bytes:
        """The answer.

        Raises: ValueError when it was sealed under another key, bound to something else, or is damaged.
        """
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a creating request was answered."""

    status: int
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Once:
    """A creating request that is to take effect once.

    Attributes:
        key: as the caller sent it; never stored.
        key_hash, body_hash: as in `ports.journal.IdempotencyEntry`.
    """

    key: str
    key_hash: str
    body_hash: str


def once(key: str, *, scope: str, route: str, content: bytes) -> Once:
    """A request by its caller's key.

    Args:
        scope: whose key it is: `acc_…`, or `address:…` where there is no account yet.
        route: method and path.
        content: everything that makes it another request when it differs.
    """
    named = "\0".join((scope, route, key)).encode()
    return Once(key, hashlib.sha256(named).hexdigest(), hashlib.sha256(content).hexdigest())


class Idempotency:
    """Keeps answers and finds them again."""

    def __init__(self, storage: Storage, journal: Journal, sealer: Sealer, clock: Clock) -> None:
        self._storage = storage
        self._journal = journal
        self._sealer = sealer
        self._clock = clock

    async def find(self, asked: Once) -> Answer | None:
        """What the request was answered before; None when it was not, or more than 24 hours ago.

        Raises: KeyReused, StorageUnavailable.
        """
        entry = await self._storage.find_idempotency(asked.key_hash)
        if entry is None:
            return None
        now_us = self._clock.now_us()
        if entry.expires_at_us <= now_us:
            await self._storage.drop_idempotency(asked.key_hash, expired_at_us=now_us)
            return None
        if entry.body_hash != asked.body_hash:
            raise KeyReused
        opened = self._sealer.open(entry.response, key=asked.key, bound_to=asked.key_hash)
        media_type, _, body = opened.partition(b"\n")
        return Answer(entry.status, media_type.decode(), body)

    def entry(
        self, asked: Once, answer: Answer, *, account_id: str, at_us: int, kept_from_us: int | None = None
    ) -> IdempotencyEntry:
        """What to store beside the request's effect, in the same transaction.

        Args:
            account_id: whose data the answer is.
            at_us: when the request's tickets were received, so that erasing a ticket finds the answer that shows it.
            kept_from_us: when the request came, where that was later.
        """
        content = answer.media_type.encode() + b"\n" + answer.body
        return IdempotencyEntry(
            asked.key_hash,
            account_id,
            asked.body_hash,
            answer.status,
            self._sealer.seal(content, key=asked.key, bound_to=asked.key_hash),
            at_us,
            (at_us if kept_from_us is None else kept_from_us) + KEPT_S * MICROSECONDS,
        )

    async def keep(self, asked: Once, answer: Answer, *, account_id: str) -> None:
        """Store an answer after its effect, where the effect could not take it along.

        A process killed between the two leaves the effect without the answer.

        Raises: JournalUnavailable.
        """
        entry = self.entry(asked, answer, account_id=account_id, at_us=self._clock.now_us())
        await self._journal.append(Record(idempotency=entry))
