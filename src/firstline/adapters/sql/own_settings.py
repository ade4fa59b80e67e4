"""Versions of an account's categories, thresholds and ask policy: the newest one is in force, and none is deleted."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update

from firstline.adapters.sql.tables import account_categories
from firstline.ports.storage import DEFAULT_VERSION, CategoriesRow, VersionChanged


def newest(connection: Connection, table: Table, account_id: str) -> Mapping[Any, Any] | None:
    """The row in force for an account, or None."""
    query = select(table).where(table.c.account_id == account_id).order_by(table.c.created_at_us.desc()).limit(1)
    return connection.execute(query).mappings().first()


def put(connection: Connection, table: Table, row: Mapping[str, Any], *, expected: str | None) -> Mapping[str, Any]:
    """Put a row in force, later than all others of its account; one with the same version is replaced.

    Raises: VersionChanged when another version than the expected one is in force.
    """
    query = select(table.c.version, table.c.created_at_us).where(table.c.account_id == row["account_id"])
    found = connection.execute(query.order_by(table.c.created_at_us.desc()).limit(1)).first()
    if expected not in (None, found[0] if found else DEFAULT_VERSION):
        raise VersionChanged
    if found is not None:
        row = {**row, "created_at_us": max(row["created_at_us"], found[1] + 1)}
    same = (table.c.account_id == row["account_id"], table.c.version == row["version"])
    connection.execute(delete(table).where(*same))
    if "trained" in table.c:  # an earlier version is trained again if it comes back
        connection.execute(update(table).where(table.c.account_id == row["account_id"]).values(trained=b""))
    connection.execute(insert(table).values(**row))
    return row


def retrain(connection: Connection, row: CategoriesRow) -> bool:
    """Replace model and trained bytes of a version that is in force; whether it was."""
    found = newest(connection, account_categories, row.account_id)
    if found is None or found["version"] != row.version:
        return False
    same = (account_categories.c.account_id == row.account_id, account_categories.c.version == row.version)
    connection.execute(update(account_categories).where(*same).values(model=row.model, trained=row.trained))
    return True
