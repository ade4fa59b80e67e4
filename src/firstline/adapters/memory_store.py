"""Journal and storage in memory: for tests and for the command line without a database.

Passes the same conformance suites as the durable stores, except that nothing outlives the process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from firstline.core.plans import Window, window_bounds
from firstline.core.taxonomy import Contract
from firstline.ports.feedback import FeedbackRow
from firstline.ports.journal import (
    IdempotencyEntry,
    OutboxEvent,
    Record,
    RecordRefused,
    RollupDelta,
    SpendDelta,
    TicketRow,
    VerdictRow,
)
from firstline.ports.storage import (
    DEFAULT_VERSION,
    Account,
    ApiKey,
    AskPolicyRow,
    AuditEntry,
    CategoriesRow,
    EmailTaken,
    KeyNotFound,
    SpendRow,
    StorageUnavailable,
    ThresholdsRow,
    VersionChanged,
)

_Row = TypeVar("_Row", CategoriesRow, ThresholdsRow, AskPolicyRow)


class MemoryStore:
    """Implements `ports.journal.Journal` and `ports.storage.Storage`."""

    def __init__(self) -> None:
        self.tickets: dict[str, TicketRow] = {}
        self.verdicts: dict[tuple[str, int], VerdictRow] = {}
        self.counters: dict[tuple[str, str, str, int, int], int] = {}
        self.idempotency: dict[str, IdempotencyEntry] = {}
        self.outbox: dict[str, OutboxEvent] = {}
        self.spend: dict[tuple[str, int, str, str], SpendDelta] = {}
        self.rollups: list[RollupDelta] = []
        self.feedback: dict[str, FeedbackRow] = {}
        self.audit: list[AuditEntry] = []
        self.versions: dict[tuple[str, str], str] = {}
        self.account_categories: dict[tuple[str, str], CategoriesRow] = {}
        self.account_thresholds: dict[tuple[str, str], ThresholdsRow] = {}
        self.account_asking: dict[tuple[str, str], AskPolicyRow] = {}
        self._accounts: dict[str, Account] = {}
        self._keys: dict[str, ApiKey] = {}

    async def append(self, record: Record) -> None:
        """See `ports.journal.Journal`."""
        self._check(record)
        self.tickets.update((row.id, row) for row in record.tickets)
        self.verdicts.update(((row.ticket_id, row.revision), row) for row in record.verdicts)
        for delta in record.counters:
            place = delta[:5]
            self.counters[place] = self.counters.get(place, 0) + delta.amount
        if record.key_use is not None:
            key = self._keys[record.key_use.key_id]
            self._keys[key.id] = replace(
                key,
                requests=key.requests + record.key_use.amount,
                last_used_at_us=max(key.last_used_at_us or 0, record.key_use.at_us),
            )
        if record.idempotency is not None:
            self.idempotency[record.idempotency.key_hash] = record.idempotency
        self.outbox.update((event.id, event) for event in record.outbox)
        for spent in record.spend:
            self._add_spend(spent)
        self.rollups += record.rollups

    def _add_spend(self, spent: SpendDelta) -> None:
        day = spent[:4]
        before = self.spend.get(day)
        amounts = (0,) * len(spent[4:]) if before is None else before[4:]
        self.spend[day] = SpendDelta(*day, *(one + other for one, other in zip(amounts, spent[4:], strict=True)))

    def _check(self, record: Record) -> None:
        known = {*self.tickets, *(row.id for row in record.tickets)}
        accounts = [row.account_id for row in record.tickets]
        accounts += [row.account_id for row in record.counters]
        accounts += [row.account_id for row in record.outbox]
        accounts += [row.account_id for row in record.spend]
        broken = (
            any(row.id in self.tickets for row in record.tickets)
            or len({row.id for row in record.tickets}) < len(record.tickets)
            or any((row.ticket_id, row.revision) in self.verdicts for row in record.verdicts)
            or len({(row.ticket_id, row.revision) for row in record.verdicts}) < len(record.verdicts)
            or any(row.ticket_id not in known for row in record.verdicts)
            or any(not 0 <= row.probability <= 1 or row.revision < 1 for row in record.verdicts)
            or any(account not in self._accounts for account in accounts)
            or (record.key_use is not None and record.key_use.key_id not in self._keys)
            or (record.idempotency is not None and record.idempotency.key_hash in self.idempotency)
            or any(event.id in self.outbox for event in record.outbox)
            or any(amount < 0 for row in record.spend for amount in row[4:])
        )
        if broken:
            raise RecordRefused("the record breaks a constraint")

    def account(self, account_id: str) -> Account:
        """An account by its id."""
        return self._accounts[account_id]

    async def find_key(self, key_hash: str) -> tuple[ApiKey, Account] | None:
        """See `ports.storage.Storage`, as for all methods below."""
        for key in self._keys.values():
            if key.hash == key_hash:
                return key, self._accounts[key.account_id]
        return None

    async def find_keys(self, key_hashes: Sequence[str]) -> Mapping[str, tuple[ApiKey, Account]]:
        found = {key_hash: await self.find_key(key_hash) for key_hash in key_hashes}
        return {key_hash: both for key_hash, both in found.items() if both is not None}

    async def find_account(self, email: str) -> Account | None:
        folded = email.strip().casefold()
        return next((account for account in self._accounts.values() if account.email.casefold() == folded), None)

    async def add_account(
        self,
        account: Account,
        key: ApiKey | None,
        audit: AuditEntry,
        *,
        idempotency: IdempotencyEntry | None = None,
    ) -> None:
        if await self.find_account(account.email) is not None:
            raise EmailTaken(account.email)
        self._keep(idempotency)
        self._accounts[account.id] = account
        if key is not None:
            self._keys[key.id] = key
        self.audit.append(audit)

    async def set_plan(self, account_id: str, catalogue: Contract, plan: str, audit: AuditEntry) -> None:
        account = self._accounts[account_id]
        self._accounts[account_id] = replace(account, plans={**account.plans, catalogue: plan})
        self.audit.append(audit)

    async def add_key(self, key: ApiKey, audit: AuditEntry, *, idempotency: IdempotencyEntry | None = None) -> None:
        self._keep(idempotency)
        self._keys[key.id] = key
        self.audit.append(audit)

    async def list_keys(self, account_id: str | None = None) -> Sequence[tuple[ApiKey, Account]]:
        keys = sorted(self._keys.values(), key=lambda key: (key.created_at_us, key.id))
        return [(key, self._accounts[key.account_id]) for key in keys if account_id in (None, key.account_id)]

    async def revoke_key(self, key_id: str, *, account_id: str | None, at_us: int, audit: AuditEntry) -> ApiKey:
        key = self._keys.get(key_id)
        if key is None or account_id not in (None, key.account_id):
            raise KeyNotFound(key_id)
        if key.revoked_at_us is None:
            key = self._keys[key_id] = replace(key, revoked_at_us=at_us)
            self.audit.append(audit)
        return key

    async def usage(self, account_id: str, catalogue: Contract, *, now_us: int) -> Mapping[Window, int]:
        found: dict[Window, int] = {}
        for window in Window:
            start, end = window_bounds(window, now_us)
            amount = self.counters.get((account_id, str(catalogue), str(window), start, end))
            if amount is not None:
                found[window] = amount
        return found

    async def count_used(self, catalogue: Contract, window: Window, *, least: Mapping[str, int], now_us: int) -> int:
        bounds = window_bounds(window, now_us)
        return sum(
            requests >= least.get(self._accounts[account_id].plans[catalogue], requests + 1)
            for (account_id, *place), requests in self.counters.items()
            if place == [str(catalogue), str(window), *bounds]
        )

    async def last_request_at_us(self, account_id: str) -> int | None:
        used = [key.last_used_at_us for key, _ in await self.list_keys(account_id) if key.last_used_at_us]
        return max(used, default=None)

    async def keep_version(self, kind: str, content_hash: str, body: str, *, audit: AuditEntry) -> None:
        place = (audit.action, audit.account_id)
        last = next((one.target for one in reversed(self.audit) if (one.action, one.account_id) == place), None)
        if last != content_hash:
            self.versions.setdefault((kind, content_hash), body)
            self.audit.append(audit)

    async def find_categories(self, account_id: str) -> CategoriesRow | None:
        return _newest(self.account_categories, account_id)

    async def put_categories(self, row: CategoriesRow, *, expected: str | None, audit: AuditEntry) -> CategoriesRow:
        stored = self._put(self.account_categories, row, expected, audit)
        for place, other in self.account_categories.items():
            if other.account_id == row.account_id and other.version != row.version:
                self.account_categories[place] = replace(other, trained=b"")
        return stored

    async def retrain_categories(self, row: CategoriesRow) -> bool:
        found = _newest(self.account_categories, row.account_id)
        if found is None or found.version != row.version:
            return False
        self.account_categories[row.account_id, row.version] = replace(found, model=row.model, trained=row.trained)
        return True

    async def find_thresholds(self, account_id: str) -> ThresholdsRow | None:
        return _newest(self.account_thresholds, account_id)

    async def put_thresholds(self, row: ThresholdsRow, *, expected: str | None, audit: AuditEntry) -> ThresholdsRow:
        return self._put(self.account_thresholds, row, expected, audit)

    async def find_ask_policy(self, account_id: str) -> AskPolicyRow | None:
        return _newest(self.account_asking, account_id)

    async def put_ask_policy(self, row: AskPolicyRow, *, expected: str | None, audit: AuditEntry) -> AskPolicyRow:
        return self._put(self.account_asking, row, expected, audit)

    async def provider_spend(self, account_id: str, *, since_us: int) -> Sequence[SpendRow]:
        found = [self.spend[day] for day in sorted(self.spend) if day[0] == account_id and day[1] >= since_us]
        return [SpendRow(*row[1:]) for row in found]

    def _put(self, rows: dict[tuple[str, str], _Row], row: _Row, expected: str | None, audit: AuditEntry) -> _Row:
        found = _newest(rows, row.account_id)
        if expected not in (None, found.version if found else DEFAULT_VERSION):
            raise VersionChanged
        if found is not None:
            row = replace(row, created_at_us=max(row.created_at_us, found.created_at_us + 1))
        rows[row.account_id, row.version] = row
        self.audit.append(audit)
        return row

    async def find_idempotency(self, key_hash: str) -> IdempotencyEntry | None:
        return self.idempotency.get(key_hash)

    async def drop_idempotency(self, key_hash: str, *, expired_at_us: int) -> None:
        found = self.idempotency.get(key_hash)
        if found is not None and found.expires_at_us <= expired_at_us:
            del self.idempotency[key_hash]

    def _keep(self, entry: IdempotencyEntry | None) -> None:
        if entry is None:
            return
        if entry.key_hash in self.idempotency:
            raise StorageUnavailable("the idempotency key is there already")
        self.idempotency[entry.key_hash] = entry

    async def prune(self, *, now_us: int) -> int:
        short = {str(Window.MINUTE), str(Window.HOUR)}
        kept_us = 2 * 86_400 * 1_000_000
        ended = [place for place in self.counters if place[2] in short and place[4] < now_us - kept_us]
        expired = [key for key, entry in self.idempotency.items() if entry.expires_at_us < now_us]
        for place in ended:
            del self.counters[place]
        for key in expired:
            del self.idempotency[key]
        return len(ended) + len(expired)

    async def ping(self) -> bool:
        return True


def _newest(rows: Mapping[tuple[str, str], _Row], account_id: str) -> _Row | None:
    own = [row for (owner, _), row in rows.items() if owner == account_id]
    return max(own, key=lambda row: row.created_at_us, default=None)
