"""An account's keys: list, add, revoke."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firstline.core.api_key import KeyKind
from firstline.ports.storage import Account, ApiKey
from firstline.usecases.access import Caller
from firstline.usecases.accounts import Accounts, KeepKey, NewKey


@dataclass(frozen=True, slots=True)
class Keys:
    """Manages keys.

    Attributes:
        on_revoked: told of the hash of a key that was revoked here.
    """

    accounts: Accounts
    on_revoked: Callable[[str], None]

    async def list(self, caller: Caller) -> Sequence[ApiKey]:
        """The keys of the caller's account, oldest first."""
        return [key for key, _ in await self.accounts.storage.list_keys(caller.account.id)]

    async def list_all(self) -> Sequence[tuple[ApiKey, Account]]:
        """The keys of every account, for an operator."""
        return await self.accounts.storage.list_keys()

    async def add(self, caller: Caller, *, name: str, keep: KeepKey | None = None) -> NewKey:
        """A further key of the caller's account; it shares the account's limits."""
        new = self.accounts.new_key(caller.account, name=name, kind=KeyKind.CLASSIFIER)
        audit = self.accounts.entry(caller.actor, "key.create", caller.account.id, target=f"key_{new.key.id}")
        await self.accounts.storage.add_key(new.key, audit, idempotency=keep(new) if keep else None)
        return new

    async def revoke(self, key_id: str, *, account_id: str | None, actor: str) -> ApiKey:
        """Revoke a key for good; this process refuses it from now on, others within a second.

        Args:
            account_id: only a key of this account, or None for any.
        Raises: KeyNotFound.
        """
        audit = self.accounts.entry(actor, "key.revoke", account_id, target=f"key_{key_id}")
        key = await self.accounts.storage.revoke_key(
            key_id, account_id=account_id, at_us=self.accounts.clock.now_us(), audit=audit
        )
        self.on_revoked(key.hash)
        return key
