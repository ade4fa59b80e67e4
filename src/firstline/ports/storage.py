"""Accounts, keys, usage and the audit trail: everything that is not on the hot path.

Every method is one transaction. Writes are durable when they return. `StorageUnavailable` means that the store
could not be asked; nothing was changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from firstline.core.plans import Window
from firstline.core.taxonomy import Contract
from firstline.ports.journal import IdempotencyEntry

DEFAULT_VERSION: Final = "default"
"""Version of what an account has that never set anything of its own, or went back to that."""


class StorageUnavailable(Exception):
    """The store cannot be reached, read or written."""


class EmailTaken(Exception):
    """An account with this e-mail address exists."""


class KeyNotFound(Exception):
    """There is no such key in this account."""


class VersionChanged(Exception):
    """Another version is in force than the one that the change was made for."""


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


@dataclass(frozen=True, slots=True)
class CategoriesRow:
    """One version of the categories of an account.

    Attributes:
        version: by content; `DEFAULT_VERSION` for the shipped ones.
        created_at_us: when it came into force, for the last time if it did so more than once.
        body: `core.categories.to_data` as JSON.
        model: name of the model that it was trained on; empty for the shipped ones.
        trained: `learning.custom.dump_custom`; empty for the shipped ones, and for versions no longer in force.
    """

    account_id: str
    version: str
    created_at_us: int
    body: str
    model: str
    trained: bytes


@dataclass(frozen=True, slots=True)
class ThresholdsRow:
    """One version of the thresholds of an account; attributes as in `CategoriesRow`."""

    account_id: str
    version: str
    created_at_us: int
    body: str


@dataclass(frozen=True, slots=True)
class AskPolicyRow:
    """One version of when and how an account's messages go to providers; attributes as in `CategoriesRow`.

    Attributes:
        body: `core.asking.to_data` as JSON; null for the server's defaults.
    """

    account_id: str
    version: str
    created_at_us: int
    body: str


@dataclass(frozen=True, slots=True)
class SpendRow:
    """What one provider's model did for an account on one day; attributes as in `ports.journal.SpendDelta`."""

    starts_at_us: int
    provider: str
    model: str
    calls: int
    failures: int
    input_tokens: int
    output_tokens: int
    cost_usd_micros: int


class Storage(Protocol):
    """The store of accounts, keys, usage, spend, settings of accounts and audit entries."""

    async def find_key(self, key_hash: str) -> tuple[ApiKey, Account] | None:
        """A key, revoked ones included, with its account."""
        ...

    async def find_keys(self, key_hashes: Sequence[str]) -> Mapping[str, tuple[ApiKey, Account]]:
        """The same for some hundred keys at once, by hash; those that do not exist are absent."""
        ...

    async def find_account(self, email: str) -> Account | None:
        """An account by e-mail address, without regard to case."""
        ...

    async def add_account(
        self,
        account: Account,
        key: ApiKey | None,
        audit: AuditEntry,
        *,
        idempotency: IdempotencyEntry | None = None,
    ) -> None:
        """A new account, with its first key and what the request is answered if given.

        Raises: EmailTaken; StorageUnavailable also when the idempotency entry's key is there already.
        """
        ...

    async def set_plan(self, account_id: str, catalogue: Contract, plan: str, audit: AuditEntry) -> None:
        """Move an account to another plan of a catalogue."""
        ...

    async def add_key(self, key: ApiKey, audit: AuditEntry, *, idempotency: IdempotencyEntry | None = None) -> None:
        """A further key of an account, with what the request is answered if given.

        Raises: StorageUnavailable also when the idempotency entry's key is there already.
        """
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

    async def count_used(self, catalogue: Contract, window: Window, *, least: Mapping[str, int], now_us: int) -> int:
        """How many accounts have used so many requests of the window that `now_us` lies in.

        Args:
            least: by plan.
        """
        ...

    async def last_request_at_us(self, account_id: str) -> int | None:
        """When any key of the account was last used."""
        ...

    async def keep_version(self, kind: str, content_hash: str, body: str, *, audit: AuditEntry) -> None:
        """Keep one version of rules, policy or settings by its content hash, now that it is in force.

        Keeping the version that was last in force again changes nothing; any other one leaves the audit entry,
        whose action is `<kind>.change` and whose target is the hash. Each account has its own, and so has the server.
        """
        ...

    async def find_categories(self, account_id: str) -> CategoriesRow | None:
        """The categories in force for an account; None when it never set any."""
        ...

    async def put_categories(self, row: CategoriesRow, *, expected: str | None, audit: AuditEntry) -> CategoriesRow:
        """Put a version in force; all earlier ones are kept, without their trained bytes.

        Args:
            expected: the version that must be in force until then, or None for any.
        Returns: what is stored; its time is later than that of every other version, whatever the clock says.
        Raises: VersionChanged.
        """
        ...

    async def retrain_categories(self, row: CategoriesRow) -> bool:
        """Replace model and trained bytes of a version if it is still in force; whether it was."""
        ...

    async def find_thresholds(self, account_id: str) -> ThresholdsRow | None:
        """The thresholds in force for an account; None when it never set any."""
        ...

    async def put_thresholds(self, row: ThresholdsRow, *, expected: str | None, audit: AuditEntry) -> ThresholdsRow:
        """The same as `put_categories`, for thresholds.

        Raises: VersionChanged.
        """
        ...

    async def find_ask_policy(self, account_id: str) -> AskPolicyRow | None:
        """The ask policy in force for an account; None when it never set any."""
        ...

    async def put_ask_policy(self, row: AskPolicyRow, *, expected: str | None, audit: AuditEntry) -> AskPolicyRow:
        """The same as `put_categories`, for ask policies.

        Raises: VersionChanged.
        """
        ...

    async def provider_spend(self, account_id: str, *, since_us: int) -> Sequence[SpendRow]:
        """The days of an account that began at `since_us` or later: by day, then provider, then model."""
        ...

    async def find_idempotency(self, key_hash: str) -> IdempotencyEntry | None:
        """The answer kept under a key's hash, even one whose time is over."""
        ...

    async def drop_idempotency(self, key_hash: str, *, expired_at_us: int) -> None:
        """Delete the answer kept under a key's hash if its time was over by then."""
        ...

    async def prune(self, *, now_us: int) -> int:
        """Delete counters and idempotency entries whose time is over; the number of rows deleted.

        Days and months of usage and every day of spend are the ledger and stay.
        """
        ...

    async def ping(self) -> bool:
        """Whether a read works now."""
        ...
