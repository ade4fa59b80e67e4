"""Stores of every kind behind one handle, and rows to put into them."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.sql.postgres_store import postgres_store
from firstline.adapters.sql.server_stores import sqlite_store
from firstline.core.plans import Window, window_bounds
from firstline.core.taxonomy import Contract
from firstline.ports.journal import IdempotencyEntry, Journal, Record, SpendDelta, TicketRow, VerdictRow
from firstline.ports.storage import Account, ApiKey, AuditEntry, Storage
from services import look

KINDS = ("memory", "sqlite", pytest.param("postgres", marks=pytest.mark.service))
NOW_US = 1_795_000_000_000_000
ACCOUNT = "a" * 32
KEY = "b" * 32
DAY_US = 86_400 * 1_000_000

_TABLES = {
    "tickets",
    "verdicts",
    "usage",
    "key_uses",
    "idempotency",
    "outbox",
    "audit",
    "versions",
    "account_categories",
    "account_thresholds",
    "account_asking",
    "provider_spend",
}


@dataclass
class Store:
    """A journal and a storage on the same rows.

    Attributes:
        look: the rows that a statement gives, seen from outside; None in memory.
    """

    journal: Journal
    storage: Storage
    look: Callable[[str], list[tuple[Any, ...]]] | None

    def count(self, table: str) -> int:
        """Rows of a table, seen from outside."""
        assert table in _TABLES
        if self.look is not None:
            return int(self.look(f"SELECT count(*) FROM {table}")[0][0])
        assert isinstance(self.storage, MemoryStore)
        if table == "key_uses":
            return sum(found.requests > 0 for found, _ in asyncio.run(self.storage.list_keys()))
        return len(getattr(self.storage, {"usage": "counters", "provider_spend": "spend"}.get(table, table)))


@asynccontextmanager
async def open_store(kind: str, folder: Path, *, url: str | None = None) -> AsyncIterator[Store]:
    """A store of a kind with one account and one key in it; closed at the end."""
    if kind == "memory":
        memory = MemoryStore()
        await memory.add_account(account(), key(), entry("1"))
        yield Store(memory, memory, None)
        return
    if kind == "sqlite":
        path = folder / "store.db"
        store = sqlite_store(path, on_foreign_change=lambda: None, release=lambda: None)
        seen = partial(_look, path)
    else:
        assert url is not None
        store = postgres_store(url, connections=8, timeout_s=5, on_foreign_change=lambda: None)
        seen = partial(look, url)
    await store.start()
    await store.storage.add_account(account(), key(), entry("1"))
    try:
        yield Store(store.journal, store.storage, seen)
    finally:
        await store.close()


def _look(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def account(identity: str = ACCOUNT, *, email: str = "a@example.com") -> Account:
    """An account on the free plans."""
    return Account(identity, email, NOW_US, {Contract.CLASSIFIER: "free", Contract.DECISION: "free"})


def key(identity: str = KEY, *, account_id: str = ACCOUNT, at_us: int = NOW_US, **fields: Any) -> ApiKey:
    """A key of an account."""
    return ApiKey(identity, account_id, f"hash-{identity}", "atc_…abcd", "default", "triage", at_us, **fields)


def entry(number: str, *, action: str = "test", target: str = "key_x") -> AuditEntry:
    """An audit entry; its id is the number."""
    return AuditEntry(number.rjust(32, "0"), NOW_US, "cli", action, ACCOUNT, target, {"n": number})


def ticket(
    number: int, *, account_id: str = ACCOUNT, text: str | None = "VPN «down» \U0001f525\n\"x\" \\ 'y'"
) -> TicketRow:
    """A ticket row; its id is the number."""
    return TicketRow(f"{number:032x}", account_id, NOW_US + number, "decision", "email", "en", text, "customer", None)


def verdict(number: int, *, revision: int = 1, probability: float = 0.75) -> VerdictRow:
    """A verdict row of the ticket with the same number."""
    return VerdictRow(
        f"{number:032x}",
        revision,
        ACCOUNT,
        NOW_US,
        "Other",
        "medium",
        "standard_response",
        probability,
        0.5,
        0.05,
        0,
        "local",
        "Answer.",
        "[]",
        '{"v":1}',
        1_234,
    )


def idempotency(name: str, *, expires_at_us: int = NOW_US + 10) -> IdempotencyEntry:
    """An idempotency entry."""
    return IdempotencyEntry(name, ACCOUNT, "body", 201, "sealed", NOW_US, expires_at_us)


def spend(
    *,
    account_id: str = ACCOUNT,
    day: int = 0,
    provider: str = "gemini",
    model: str = "small",
    amounts: tuple[int, int, int, int, int] = (3, 1, 900, 60, 250),
) -> SpendDelta:
    """Spend of a provider's model on a day, counted from the one that `NOW_US` lies in."""
    starts_at_us = window_bounds(Window.DAY, NOW_US)[0] + day * DAY_US
    return SpendDelta(account_id, starts_at_us, provider, model, *amounts)


def record(number: int, **fields: Any) -> Record:
    """A ticket with its verdict, and whatever else is given."""
    return Record(tickets=(ticket(number),), verdicts=(verdict(number),), **fields)
