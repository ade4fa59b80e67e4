"""Accounts, keys, usage and audit on SQL, for `ports.storage.Storage`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, case, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from firstline.adapters.sql import own_settings
from firstline.adapters.sql.runners import SHORT_S, Writes, read_in_threads
from firstline.adapters.sql.tables import (
    account_asking,
    account_categories,
    account_thresholds,
    accounts,
    api_keys,
    journal_groups,
    key_uses,
    provider_spend,
    usage,
    versions,
)
from firstline.adapters.sql.tables import audit as audit_table
from firstline.adapters.sql.tables import idempotency as idempotency_table
from firstline.core.plans import Window, window_bounds
from firstline.core.taxonomy import Contract
from firstline.ports.journal import IdempotencyEntry
from firstline.ports.storage import (
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
)

_PLAN_COLUMN = {Contract.CLASSIFIER: accounts.c.classifier_plan, Contract.DECISION: accounts.c.decision_plan}
_KEPT_WINDOWS_US = 2 * 86_400 * 1_000_000


class SqlStorage:
    """Implements `ports.storage.Storage`; reads on a pool of connections, writes where it is told to."""

    def __init__(self, engine: Engine, write: Writes) -> None:
        self._read = read_in_threads(engine, timeout_s=SHORT_S)
        self._write = write

    async def find_key(self, key_hash: str) -> tuple[ApiKey, Account] | None:
        """See the port."""
        rows = await self._read(lambda c: c.execute(_keys().where(api_keys.c.hash == key_hash)).mappings().all())
        return _key_and_account(rows[0]) if rows else None

    async def find_keys(self, key_hashes: Sequence[str]) -> Mapping[str, tuple[ApiKey, Account]]:
        """See the port."""
        query = _keys().where(api_keys.c.hash.in_(key_hashes))
        rows = await self._read(lambda c: c.execute(query).mappings().all())
        return {row["hash"]: _key_and_account(row) for row in rows}

    async def find_account(self, email: str) -> Account | None:
        """See the port."""
        query = select(accounts).where(accounts.c.email_folded == email.strip().casefold())
        rows = await self._read(lambda c: c.execute(query).mappings().all())
        return account_of(rows[0]) if rows else None

    async def add_account(
        self,
        account: Account,
        key: ApiKey | None,
        audit: AuditEntry,
        *,
        idempotency: IdempotencyEntry | None = None,
    ) -> None:
        """See the port."""

        def task(connection: Connection) -> None:
            try:
                connection.execute(
                    insert(accounts).values(
                        id=account.id,
                        email=account.email,
                        email_folded=account.email.strip().casefold(),
                        created_at_us=account.created_at_us,
                        classifier_plan=account.plans[Contract.CLASSIFIER],
                        decision_plan=account.plans[Contract.DECISION],
                        keep_text=int(account.keep_text),
                    )
                )
            except IntegrityError:
                raise EmailTaken(account.email) from None
            if key is not None:
                _insert_key(connection, key)
            insert_idempotency(connection, idempotency)
            insert_audit(connection, audit)

        await self._write(task)

    async def set_plan(self, account_id: str, catalogue: Contract, plan: str, audit: AuditEntry) -> None:
        """See the port."""

        def task(connection: Connection) -> None:
            statement = update(accounts).where(accounts.c.id == account_id)
            connection.execute(statement.values({_PLAN_COLUMN[catalogue]: plan}))
            insert_audit(connection, audit)

        await self._write(task)

    async def add_key(self, key: ApiKey, audit: AuditEntry, *, idempotency: IdempotencyEntry | None = None) -> None:
        """See the port."""

        def task(connection: Connection) -> None:
            _insert_key(connection, key)
            insert_idempotency(connection, idempotency)
            insert_audit(connection, audit)

        await self._write(task)

    async def list_keys(self, account_id: str | None = None) -> Sequence[tuple[ApiKey, Account]]:
        """See the port."""
        query = _keys().order_by(api_keys.c.created_at_us, api_keys.c.id)
        if account_id is not None:
            query = query.where(api_keys.c.account_id == account_id)
        rows = await self._read(lambda c: c.execute(query).mappings().all())
        return [_key_and_account(row) for row in rows]

    async def revoke_key(self, key_id: str, *, account_id: str | None, at_us: int, audit: AuditEntry) -> ApiKey:
        """See the port."""

        def task(connection: Connection) -> ApiKey:
            query = _keys().where(api_keys.c.id == key_id)
            if account_id is not None:
                query = query.where(api_keys.c.account_id == account_id)
            row = connection.execute(query).mappings().first()
            if row is None:
                raise KeyNotFound(key_id)
            if row["revoked_at_us"] is None:
                statement = update(api_keys).where(api_keys.c.id == key_id)
                connection.execute(statement.values(revoked_at_us=at_us))
                insert_audit(connection, audit)
            key, _ = _key_and_account({**row, "revoked_at_us": row["revoked_at_us"] or at_us})
            return key

        return await self._write(task)

    async def usage(self, account_id: str, catalogue: Contract, *, now_us: int) -> Mapping[Window, int]:
        """See the port."""
        query = select(usage.c.window, usage.c.starts_at_us, usage.c.requests).where(
            usage.c.account_id == account_id,
            usage.c.catalogue == str(catalogue),
            usage.c.starts_at_us.in_([window_bounds(window, now_us)[0] for window in Window]),
        )
        rows = await self._read(lambda c: c.execute(query).all())
        return {
            Window(window): requests
            for window, starts_at_us, requests in rows
            if window_bounds(Window(window), now_us)[0] == starts_at_us
        }

    async def count_used(self, catalogue: Contract, window: Window, *, least: Mapping[str, int], now_us: int) -> int:
        """See the port. An index finds the window by its end."""
        start_us, end_us = window_bounds(window, now_us)
        query = (
            select(func.count())
            .select_from(usage)
            .join(accounts, accounts.c.id == usage.c.account_id)
            .where(
                usage.c.ends_at_us == end_us,
                usage.c.starts_at_us == start_us,
                usage.c.window == str(window),
                usage.c.catalogue == str(catalogue),
                usage.c.requests >= case(dict(least), value=_PLAN_COLUMN[catalogue]),
            )
        )
        return int(await self._read(lambda c: c.execute(query).scalar_one()))

    async def last_request_at_us(self, account_id: str) -> int | None:
        """See the port."""
        query = (
            select(func.max(key_uses.c.last_used_at_us))
            .join(api_keys, api_keys.c.id == key_uses.c.key_id)
            .where(api_keys.c.account_id == account_id)
        )
        found: int | None = await self._read(lambda c: c.execute(query).scalar())
        return found

    async def keep_version(self, kind: str, content_hash: str, body: str, *, audit: AuditEntry) -> None:
        """See the port."""

        def task(connection: Connection) -> None:
            last = select(audit_table.c.target).where(
                audit_table.c.action == audit.action, audit_table.c.account_id.is_not_distinct_from(audit.account_id)
            )
            if connection.execute(last.order_by(audit_table.c.id.desc()).limit(1)).scalar() == content_hash:
                return
            known = select(versions.c.kind).where(versions.c.kind == kind, versions.c.content_hash == content_hash)
            if connection.execute(known).first() is None:
                row = {"kind": kind, "content_hash": content_hash, "body": body, "created_at_us": audit.at_us}
                connection.execute(insert(versions).values(row))
            insert_audit(connection, audit)

        await self._write(task)

    async def find_categories(self, account_id: str) -> CategoriesRow | None:
        """See the port."""
        row = await self._read(lambda c: own_settings.newest(c, account_categories, account_id))
        return CategoriesRow(**row) if row else None

    async def put_categories(self, row: CategoriesRow, *, expected: str | None, audit: AuditEntry) -> CategoriesRow:
        """See the port."""

        def task(connection: Connection) -> CategoriesRow:
            stored = own_settings.put(connection, account_categories, asdict(row), expected=expected)
            insert_audit(connection, audit)
            return CategoriesRow(**stored)

        return await self._write(task)

    async def retrain_categories(self, row: CategoriesRow) -> bool:
        """See the port."""
        return await self._write(lambda connection: own_settings.retrain(connection, row))

    async def find_thresholds(self, account_id: str) -> ThresholdsRow | None:
        """See the port."""
        row = await self._read(lambda c: own_settings.newest(c, account_thresholds, account_id))
        return ThresholdsRow(**row) if row else None

    async def put_thresholds(self, row: ThresholdsRow, *, expected: str | None, audit: AuditEntry) -> ThresholdsRow:
        """See the port."""

        def task(connection: Connection) -> ThresholdsRow:
            stored = own_settings.put(connection, account_thresholds, asdict(row), expected=expected)
            insert_audit(connection, audit)
            return ThresholdsRow(**stored)

        return await self._write(task)

    async def find_ask_policy(self, account_id: str) -> AskPolicyRow | None:
        """See the port."""
        row = await self._read(lambda c: own_settings.newest(c, account_asking, account_id))
        return AskPolicyRow(**row) if row else None

    async def put_ask_policy(self, row: AskPolicyRow, *, expected: str | None, audit: AuditEntry) -> AskPolicyRow:
        """See the port."""

        def task(connection: Connection) -> AskPolicyRow:
            stored = own_settings.put(connection, account_asking, asdict(row), expected=expected)
            insert_audit(connection, audit)
            return AskPolicyRow(**stored)

        return await self._write(task)

    async def provider_spend(self, account_id: str, *, since_us: int) -> Sequence[SpendRow]:
        """See the port."""
        day = provider_spend.c
        query = select(*(column for column in day if column.name != "account_id"))
        query = query.where(day.account_id == account_id, day.starts_at_us >= since_us)
        query = query.order_by(day.starts_at_us, day.provider, day.model)
        rows = await self._read(lambda c: c.execute(query).all())
        return [SpendRow(*row) for row in rows]

    async def find_idempotency(self, key_hash: str) -> IdempotencyEntry | None:
        """See the port."""
        query = select(idempotency_table).where(idempotency_table.c.key_hash == key_hash)
        row = await self._read(lambda c: c.execute(query).mappings().first())
        return IdempotencyEntry(**{name: row[name] for name in IdempotencyEntry._fields}) if row else None

    async def drop_idempotency(self, key_hash: str, *, expired_at_us: int) -> None:
        """See the port."""
        own = idempotency_table.c
        statement = delete(idempotency_table).where(own.key_hash == key_hash, own.expires_at_us <= expired_at_us)
        await self._write(lambda c: c.execute(statement).rowcount)

    async def prune(self, *, now_us: int) -> int:
        """See the port. Counters of minutes and hours go two days after their end."""

        def task(connection: Connection) -> int:
            short = usage.c.window.in_([str(Window.MINUTE), str(Window.HOUR)])
            counters = delete(usage).where(short, usage.c.ends_at_us < now_us - _KEPT_WINDOWS_US)
            entries = delete(idempotency_table).where(idempotency_table.c.expires_at_us < now_us)
            connection.execute(delete(journal_groups).where(journal_groups.c.at_us < now_us - _KEPT_WINDOWS_US))
            return connection.execute(counters).rowcount + connection.execute(entries).rowcount

        return await self._write(task)

    async def ping(self) -> bool:
        """See the port."""
        return bool(await self._read(lambda c: c.exec_driver_sql("SELECT 1").scalar() == 1))


def _keys() -> Any:
    return (
        select(
            api_keys,
            accounts.c.email,
            accounts.c.created_at_us.label("account_created_at_us"),
            accounts.c.classifier_plan,
            accounts.c.decision_plan,
            accounts.c.keep_text,
            func.coalesce(key_uses.c.requests, 0).label("requests"),
            key_uses.c.last_used_at_us,
        )
        .join(accounts, accounts.c.id == api_keys.c.account_id)
        .outerjoin(key_uses, key_uses.c.key_id == api_keys.c.id)
    )


def _key_and_account(row: Mapping[Any, Any]) -> tuple[ApiKey, Account]:
    key = ApiKey(
        id=row["id"],
        account_id=row["account_id"],
        hash=row["hash"],
        hint=row["hint"],
        name=row["name"],
        scope=row["scope"],
        created_at_us=row["created_at_us"],
        is_test=bool(row["is_test"]),
        revoked_at_us=row["revoked_at_us"],
        requests=row["requests"],
        last_used_at_us=row["last_used_at_us"],
    )
    account = account_of({**row, "id": row["account_id"], "created_at_us": row["account_created_at_us"]})
    return key, account


def account_of(row: Mapping[Any, Any]) -> Account:
    """An account as its row has it."""
    return Account(
        id=row["id"],
        email=row["email"],
        created_at_us=row["created_at_us"],
        plans={Contract.CLASSIFIER: row["classifier_plan"], Contract.DECISION: row["decision_plan"]},
        keep_text=bool(row["keep_text"]),
    )


def _insert_key(connection: Connection, key: ApiKey) -> None:
    connection.execute(
        insert(api_keys).values(
            id=key.id,
            account_id=key.account_id,
            hash=key.hash,
            hint=key.hint,
            name=key.name,
            scope=key.scope,
            is_test=int(key.is_test),
            created_at_us=key.created_at_us,
            revoked_at_us=key.revoked_at_us,
        )
    )


def insert_idempotency(connection: Connection, entry: IdempotencyEntry | None) -> None:
    """A kept answer, if there is one, in the transaction of what it answers.

    Raises: StorageUnavailable when another request has kept one under its key.
    """
    if entry is None:
        return
    try:
        connection.execute(insert(idempotency_table).values(entry._asdict()))
    except IntegrityError:
        raise StorageUnavailable("the idempotency key is there already") from None


def insert_audit(connection: Connection, entry: AuditEntry) -> None:
    """An entry of the audit trail, in the transaction of what it tells of."""
    connection.execute(
        insert(audit_table).values(
            id=entry.id,
            at_us=entry.at_us,
            actor=entry.actor,
            action=entry.action,
            account_id=entry.account_id,
            target=entry.target,
            detail=orjson.dumps(entry.detail).decode(),
        )
    )
