"""Accounts, keys, usage and the audit trail: everything that is not on the hot path.

Every method is one transaction. Writes are durable when they return. `StorageUnavailable` means that the store
could not be asked; nothing was changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from firstline.core.plans import Window
from firstline.core.taxonomy import Contract


class StorageUnavailable(Exception):
    """The store cannot be reached, read or written."""


class EmailTaken(Exception):
    """An account with this e-mail address exists."""


class KeyNotFound(Exception):
    """There is no such key in this account."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays and whose data it is.

    Attributes:
        id: 32 hexadecimal digits.
        email: as given at registration, trimmed; unique without regard to case.
        plans: name of the plan by catalogue.
        keep_text: whether the text of tickets is stored.
    """

    id: str
    email: str
    created_at_us: int
    plans: Mapping[Contract, str]
    keep_text: bool = True


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret.

    Attributes:
        hash: hex SHA-256 of the key.
        hint: prefix and last four characters.
        scope: `core.api_key.Scope` value.
    """

    id: str
    account_id: str
    hash: str
    hint: str
    name: str
    scope: str
    created_at_us: int
    is_test: bool = False
    revoked_at_us: int | None = None
    requests: int = 0
    last_used_at_us: int | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A change of keys, accounts or settings: who did what to which thing.

    Attributes:
        actor: `key_…`, `cli`, `address:…` or `system`.
        detail: plain data without secrets.
    """

    id: str
    at_us: int
    actor: str
    action: str
    account_id: str | None
    target: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


class Storage(Protocol):
    """The store of accounts, keys, usage and audit entries."""

    async def find_key(self, key_hash: str) -> tuple[ApiKey, Account] | None:
        """A key, revoked ones included, with its account."""
        ...

    async def find_account(self, email: str) -> Account | None:
        """An account by e-mail address, without regard to case."""
        ...

    async def add_account(self, account: Account, key: ApiKey | None, audit: AuditEntry) -> None:
        """A new account, with its first key if given.

        Raises: EmailTaken.
        """
        ...

    async def set_plan(self, account_id: str, catalogue: Contract, plan: str, audit: AuditEntry) -> None:
        """Move an account to another plan of a catalogue."""
        ...

    async def add_key(self, key: ApiKey, audit: AuditEntry) -> None:
        """A further key of an account."""
        ...

    async def list_keys(self, account_id: str | None = None) -> Sequence[tuple[ApiKey, Account]]:
        """The keys of an account, or of all accounts, oldest first."""
        ...

    async def revoke_key(self, key_id: str, *, account_id: str | None, at_us: int, audit: AuditEntry) -> ApiKey:
        """Revoke a key for good; revoking it again changes nothing.

        Args:
            account_id: only a key of this account, or None for any.
        Raises: KeyNotFound.
        """
        ...

    async def usage(self, account_id: str, catalogue: Contract, *, now_us: int) -> Mapping[Window, int]:
        """Requests counted in the windows that `now_us` lies in; a window without any is absent."""
        ...

    async def last_request_at_us(self, account_id: str) -> int | None:
        """When any key of the account was last used."""
        ...

    async def keep_version(self, kind: str, content_hash: str, body: str, *, audit: AuditEntry) -> None:
        """Keep one version of rules, policy or settings by its content hash, now that it is in force.

        Keeping the version that was last in force again changes nothing; any other one leaves the audit entry,
        whose action is `<kind>.change` and whose target is the hash.
        """
        ...

    async def prune(self, *, now_us: int) -> int:
        """Delete counters and idempotency entries whose time is over; the number of rows deleted."""
        ...

    async def ping(self) -> bool:
        """Whether a read works now."""
        ...
