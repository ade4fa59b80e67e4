"""Events and deliveries about what is erased go, whether they were sent or not; all others stay."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select
from stores import ACCOUNT, NOW_US, account, entry

from firstline.adapters.sql.postgres_store import postgres_store
from firstline.adapters.sql.server_stores import ServerStore, sqlite_store
from firstline.adapters.sql.tables import outbox
from firstline.adapters.sql.webhook_erasure import WebhookBodies
from firstline.adapters.sql.webhook_tables import webhook_deliveries, webhook_endpoints, webhook_events
from firstline.ports.erasure import Erasing
from firstline.ports.history import Position

OTHER = "c" * 32
TABLES = (outbox, webhook_events, webhook_deliveries)


def subject(number: int) -> str:
    return f"tkt_{number:032x}"


def fill(connection: Connection) -> None:
    """For two accounts: an endpoint, events about tickets 1 to 3 that were fanned out, and as many that wait."""
    for owner, account_id in enumerate((ACCOUNT, OTHER)):
        endpoint = f"{owner:032x}"
        connection.execute(
            insert(webhook_endpoints).values(
                id=endpoint, account_id=account_id, url="x", description="", kinds="[]", secrets="[]",
                created_at_us=1, changed_at_us=1, state="enabled",
            )
        )  # fmt: skip
        for number in (1, 2, 3):
            event = {
                "id": f"{owner}{number:031x}",
                "account_id": account_id,
                "kind": "ticket.revised",
                "payload": f'{{"ticket":"{subject(number)}"}}',
                "created_at_us": NOW_US + number,
            }
            connection.execute(insert(outbox).values({**event, "id": f"f{owner}{number:030x}"}))
            connection.execute(insert(webhook_events).values(subject=subject(number), **event))
            connection.execute(
                insert(webhook_deliveries).values(
                    endpoint_id=endpoint, event_id=event["id"], subject=subject(number), state="pending", attempts=0,
                    created_at_us=1, next_at_us=1, lease_us=0, log="[]",
                )
            )  # fmt: skip


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def test_events_go_with_their_tickets_or_their_account(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        store = sqlite_store(tmp_path / "store.db", on_foreign_change=lambda: None, release=lambda: None)
    else:
        url = request.getfixturevalue("database_url")
        store = postgres_store(url, connections=4, timeout_s=5, on_foreign_change=lambda: None)

    async def counts(store: ServerStore) -> list[int]:
        return await store.write(
            lambda c: [int(c.execute(select(func.count()).select_from(table)).scalar_one()) for table in TABLES]
        )

    async def work() -> None:
        await store.start()
        try:
            for identity, email in ((ACCOUNT, "a@example.com"), (OTHER, "c@example.com")):
                await store.storage.add_account(account(identity, email=email), None, entry(identity[:8]))
            await store.write(fill)
            bodies = WebhookBodies(store.write)
            assert await bodies.erase(Erasing(ACCOUNT, customer_ref="c-1", before_us=NOW_US + 9)) == 0
            erasing = Erasing(ACCOUNT, tickets=[Position(NOW_US, subject(1).removeprefix("tkt_"))])
            assert await bodies.erase(erasing) == 2
            assert await counts(store) == [5, 5, 5]
            assert await bodies.erase(erasing) == 0
            assert await bodies.erase(Erasing(ACCOUNT, whole=True, before_us=NOW_US + 2)) == 2
            assert await counts(store) == [4, 4, 4]
            assert await bodies.erase(Erasing(ACCOUNT, whole=True, before_us=NOW_US + 9)) == 2
            assert await counts(store) == [3, 3, 3]
        finally:
            await store.close()

    asyncio.run(work())
