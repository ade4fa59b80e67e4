"""What a restore does alike on both databases: the schema, rows, comparison, and what is set right afterwards."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, update

from firstline.adapters.backup.archive_reader import Archive
from firstline.adapters.backup.failures import ArchiveDamaged, BackupFailed
from firstline.adapters.backup.row_lines import Kind, line_of, row_of
from firstline.adapters.backup.snapshot import Shape, Snapshot
from firstline.adapters.sql.job_tables import job_chunks
from firstline.adapters.sql.sql_storage import insert_audit
from firstline.adapters.sql.tables import HEAD_REVISION
from firstline.adapters.sql.webhook_tables import webhook_deliveries, webhook_endpoints
from firstline.adapters.system import SystemIdentities
from firstline.ports.storage import AuditEntry
from firstline.ports.webhooks import DeliveryState, DisabledReason, EndpointState

OnRows = Callable[[str, int], None]

_NUL: Final = "\x00"


class Loaded:
    """A table while it is loaded: what its lines have to be afterwards."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.changed = 0
        """Texts in which a character was replaced that the database cannot store."""

    def add(self, line: bytes) -> None:
        self._hash.update(line)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def check_revision(archive: Archive) -> str:
    """The schema of an archive, if this firstline can make it.

    Raises: BackupFailed.
    """
    revision = archive.manifest.schema_revision
    if revision > HEAD_REVISION:
        raise BackupFailed(f"It has schema {revision}, newer than this firstline's {HEAD_REVISION}; upgrade firstline.")
    if revision == "0000":
        raise ArchiveDamaged("Its schema is none of firstline.")
    return revision


def migrate_to(connection: Connection, revision: str) -> None:
    """Bring a database to a schema.

    Raises: what a driver raises.
    """
    # Alembic takes a third of a second to import.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "firstline.adapters.sql:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def same_shapes(archive: Archive, shapes: Sequence[Shape]) -> None:
    """Nothing where an archive has the tables and columns of the schema that it names.

    Raises: BackupFailed.
    """
    tables = archive.manifest.tables
    if tables.keys() != {shape.name for shape in shapes}:
        raise BackupFailed("It cannot be restored: it has other tables than its schema.")
    for shape in shapes:
        if set(tables[shape.name].shape) != set(shape.columns):
            raise BackupFailed(f"It cannot be restored: {shape.name} has other columns than its schema.")


def rows_of(
    archive: Archive, shape: Shape, loaded: Loaded, *, strict: bool, on_rows: OnRows
) -> Iterator[Sequence[Sequence[Any]]]:
    """The rows of a table, many at a time, with the columns in the archive's order.

    Args:
        strict: whether the database stores no NUL and holds texts to their length, as PostgreSQL does.
    Raises: BackupFailed.
    """
    columns = archive.manifest.tables[shape.name].shape
    read, write = row_of(columns), line_of(columns)
    texts = [
        (place, column.name, shape.limits.get(column.name))
        for place, column in enumerate(columns)
        if strict and column.kind is Kind.TEXT
    ]
    number = 0
    for lines in archive.lines(shape.name):
        rows = []
        for line in lines:
            number += 1
            try:
                row = read(line)
            except ValueError:
                raise ArchiveDamaged(f"Row {number} of {shape.name} cannot be read.") from None
            changed = 0
            for place, name, limit in texts:
                value = row[place]
                if value is None:
                    continue
                if _NUL in value:
                    row[place] = value.replace(_NUL, "\ufffd")
                    changed += 1
                if limit is not None and len(value) > limit:
                    raise BackupFailed(
                        f"Row {number} of {shape.name} does not fit: {name} has {len(value)} characters, and at most "
                        f"{limit} are allowed."
                    )
            loaded.changed += changed
            loaded.add(write(row) if changed else line)
            rows.append(row)
        yield rows
        on_rows(shape.name, number)


def compare(snapshot: Snapshot, archive: Archive, loaded: Mapping[str, Loaded], *, on_rows: OnRows) -> None:
    """Read everything again from the database.

    Raises: BackupFailed when it is not what was loaded.
    """
    for shape in snapshot.shapes():
        columns = archive.manifest.tables[shape.name].shape
        write, found, count = line_of(columns), hashlib.sha256(), 0
        ordered = Shape(shape.name, columns, shape.key, shape.limits)
        for rows in snapshot.rows(ordered):
            found.update(b"".join(map(write, rows)))
            count += len(rows)
            on_rows(shape.name, count)
        if found.hexdigest() != loaded[shape.name].sha256:
            raise BackupFailed(f"{shape.name} is not in the database as it is in the backup; nothing was kept.")


def set_right(connection: Connection, archive: Archive, *, webhooks: bool) -> None:
    """Give back what others held when the backup was made, and leave a trace in the audit trail.

    Args:
        webhooks: whether endpoints go on being sent to.
    """
    free = {"state": "ready", "token": None, "lease_until_us": None}
    connection.execute(update(job_chunks).where(job_chunks.c.state == "leased").values(free))
    pending = webhook_deliveries.c.state == DeliveryState.PENDING
    connection.execute(update(webhook_deliveries).where(pending).values(lease_us=0))
    now_us = time.time_ns() // 1_000
    if not webhooks:
        enabled = webhook_endpoints.c.state == EndpointState.ENABLED
        off = {"state": EndpointState.DISABLED, "disabled_reason": DisabledReason.OWNER, "changed_at_us": now_us}
        connection.execute(update(webhook_endpoints).where(enabled).values(off))
    manifest = archive.manifest
    detail = {"made_at": manifest.began_at, "fingerprint": archive.fingerprint, "schema": manifest.schema_revision}
    insert_audit(
        connection, AuditEntry(SystemIdentities().new_id(), now_us, "cli", "database.restore", None, None, detail)
    )
