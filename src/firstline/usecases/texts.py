"""Texts at rest: sealed under a key of their account where the server has a secret, plain where it has none.

A kept text never begins with white space, and neither do the JSON texts of a verdict: a space in front says that what
follows is sealed. Of a verdict only what a provider has said is sealed; everything else holds no word of a message.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import orjson

from firstline.core.verdict import has_completion
from firstline.ports.clock import Clock
from firstline.ports.data_keys import DataKey, DataKeys
from firstline.ports.journal import TicketRow, VerdictRow
from firstline.ports.sealing import SealBroken, Sealing
from firstline.usecases.last_known import LastKnown

MAX_CACHED: Final = 10_000
MARK: Final = " "

OpenKeys = Callable[[Sequence[bytes]], Sealing]
"""Seals under the first of some keys and opens under all of them."""


class TextState(StrEnum):
    """What is there of a text."""

    KEPT = "kept"
    NONE = "none"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class AccountSeal:
    """Seals and opens the texts of one account."""

    sealing: Sealing

    def ticket(self, row: TicketRow) -> TicketRow:
        """The row with its text sealed."""
        return row if row.text is None else row._replace(text=self._sealed(row.text, _place(row.id, "text")))

    def verdict(self, row: VerdictRow) -> VerdictRow:
        """The row with a provider's words sealed; the same row where no provider has answered."""
        if row.evidence is None or not has_completion(orjson.loads(row.evidence)):
            return row
        said = orjson.dumps([row.recommended_action, row.reasons]).decode()
        return row._replace(
            recommended_action="",
            reasons=self._sealed(said, _place(row.ticket_id, f"reasons:{row.revision}")),
            evidence=self._sealed(row.evidence, _place(row.ticket_id, f"evidence:{row.revision}")),
        )

    def _sealed(self, text: str, place: str) -> str:
        return MARK + self.sealing.seal(text.encode(), context=place)


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens what was stored of an account, sealed or not."""

    sealing: Sealing | None

    def text(self, row: TicketRow) -> tuple[str | None, TextState]:
        """The text of a ticket, and what is there of it."""
        if row.text is None:
            return None, TextState.NONE
        opened = self._opened(row.text, _place(row.id, "text"))
        return opened, TextState.UNREADABLE if opened is None else TextState.KEPT

    def verdict(self, row: VerdictRow) -> VerdictRow:
        """The row as it was before it was sealed; without reasons and evidence where it cannot be opened."""
        if not row.reasons.startswith(MARK):
            return row
        said = self._opened(row.reasons, _place(row.ticket_id, f"reasons:{row.revision}"))
        action, reasons = orjson.loads(said) if said is not None else ("", "[]")
        evidence = row.evidence and self._opened(row.evidence, _place(row.ticket_id, f"evidence:{row.revision}"))
        return row._replace(recommended_action=action, reasons=reasons, evidence=evidence)

    def _opened(self, stored: str, place: str) -> str | None:
        if not stored.startswith(MARK):
            return stored
        if self.sealing is None:
            return None
        try:
            return self.sealing.open(stored[len(MARK) :], context=place).decode()
        except SealBroken:
            return None


class Texts:
    """The seals of accounts, made when they are first needed."""

    def __init__(
        self,
        keys: DataKeys,
        *,
        sealing: Sealing | None,
        open_keys: OpenKeys,
        new_key: Callable[[], bytes],
        clock: Clock,
        stale_s: int = 0,
    ) -> None:
        """Args:
        sealing: under the server's secrets; None where it has none, and texts are stored as they are.
        new_key: 32 random bytes.
        stale_s: how long after a change a seal may be used while its key cannot be read.
        """
        self._keys = keys
        self._sealing = sealing
        self._open_keys = open_keys
        self._new_key = new_key
        self._clock = clock
        self._last_known = LastKnown(clock, stale_s=stale_s)
        self._seals: OrderedDict[str, tuple[int, AccountSeal]] = OrderedDict()

    @property
    def sealed(self) -> bool:
        """Whether new texts are sealed."""
        return self._sealing is not None

    def cached(self, account_id: str) -> AccountSeal | None:
        """An account's seal, if it is at hand."""
        found = self._seals.get(account_id)
        return found[1] if found is not None and found[0] == self._last_known.number else None

    async def seal_of(self, account_id: str) -> AccountSeal | None:
        """What seals an account's texts; None where they are stored as they are.

        Raises: StorageUnavailable; SealBroken when the account's key is sealed under a secret that is not accepted.
        """
        if self._sealing is None:
            return None
        found = self.cached(account_id)
        if found is not None:
            return found
        before = self._seals.get(account_id)
        known = before[1] if before is not None and self._last_known.may_use(before[0]) else None
        sealing = self._sealing
        return await self._last_known.read_or(known, lambda: self._read(account_id, sealing))

    async def opener_of(self, account_id: str) -> Opener:
        """What opens an account's texts; those whose key is gone stay closed.

        Raises: StorageUnavailable.
        """
        if self._sealing is None:
            return Opener(None)
        found = self.cached(account_id)
        if found is not None:
            return Opener(found.sealing)
        keys = await self._keys.find(account_id)
        try:
            return Opener(self._opened(keys) if keys else None)
        except SealBroken:
            return Opener(None)

    async def destroy(self, account_id: str) -> int:
        """Destroy the keys of an account; what comes next gets a new one.

        Raises: StorageUnavailable.
        """
        destroyed = await self._keys.destroy(account_id, at_us=self._clock.now_us())
        self._seals.pop(account_id, None)
        return destroyed

    def forget(self) -> None:
        """Keys may have been destroyed elsewhere: what is cached is read again before it is used."""
        self._last_known.note_change()

    async def reseal(self, newest: Sealing) -> int:
        """Seal every key under the newest secret that is not yet; how many that were.

        Raises: StorageUnavailable.
        """
        changed = 0
        for key in await self._keys.all() if self._sealing is not None else ():
            try:
                newest.open(key.sealed, context=_context(key.account_id))
            except SealBroken:
                plain = self._open(key)
                await self._keys.reseal(key, newest.seal(plain, context=_context(key.account_id)))
                changed += 1
        return changed

    def _open(self, key: DataKey) -> bytes:
        if self._sealing is None:
            raise SealBroken
        return self._sealing.open(key.sealed, context=_context(key.account_id))

    def _opened(self, keys: Sequence[DataKey]) -> Sealing:
        return self._open_keys([self._open(key) for key in keys])

    async def _read(self, account_id: str, sealing: Sealing) -> AccountSeal:
        number = self._last_known.number
        keys = await self._keys.find(account_id)
        if not keys:
            fresh = sealing.seal(self._new_key(), context=_context(account_id))
            keys = await self._keys.add(account_id, fresh, at_us=self._clock.now_us())
        return self._keep(account_id, AccountSeal(self._opened(keys)), number=number)

    def _keep(self, account_id: str, seal: AccountSeal, *, number: int) -> AccountSeal:
        newer = self._seals.get(account_id)
        if newer is None or newer[0] <= number:
            self._seals[account_id] = (number, seal)
        while len(self._seals) > MAX_CACHED:
            self._seals.popitem(last=False)
        return seal


def can_open(keys: Sequence[DataKey], sealing: Sealing | None) -> bool:
    """Whether every key opens under the server's secrets."""
    try:
        for key in keys:
            if sealing is None:
                return False
            sealing.open(key.sealed, context=_context(key.account_id))
    except SealBroken:
        return False
    return True


def _context(account_id: str) -> str:
    return f"data_key:{account_id}"


def _place(ticket_id: str, what: str) -> str:
    return f"{ticket_id}:{what}"
