"""Archives for tests: small ones, and forged ones whose seals fit."""

import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import insert

from firstline.adapters.backup.archive_reader import Archive, opened
from firstline.adapters.backup.archive_writer import SEAL, SEAL_BYTES
from firstline.adapters.backup.snapshot import TABLES
from firstline.adapters.sql.engine import open_engine
from firstline.adapters.sql.migrate import migrate
from firstline.adapters.sql.tables import accounts
from firstline.bootstrap_backup import Wishes, make_backup
from firstline.settings import load_settings

KNOWN: Final = frozenset(TABLES)


@cache
def small_archive() -> bytes:
    """An archive of a SQLite file with two accounts."""
    with tempfile.TemporaryDirectory(prefix="firstline-backup-") as name:
        folder = Path(name)
        path = folder / "firstline.db"
        engine = open_engine(path)
        migrate(engine, path)
        with engine.begin() as connection:
            for number in "ab":
                row = {"id": number * 32, "email": f"{number}@example.com", "email_folded": f"{number}@example.com"}
                plans = {"classifier_plan": "free", "decision_plan": "free", "keep_text": 1, "created_at_us": 1}
                connection.execute(insert(accounts).values(row | plans))
        engine.dispose()
        settings = load_settings(env_file=None, data_dir=folder)
        made = make_backup(settings, str(folder / "small.zip"), Wishes(), on_rows=lambda *_: None)
        return made.path.read_bytes()


@contextmanager
def archive_of(data: bytes) -> Iterator[Archive]:
    """An archive opened from memory."""
    yield Archive(io.BytesIO(data), KNOWN)


def opened_file(path: Path) -> Any:
    """An archive opened from a file."""
    return opened(path, KNOWN)


def forged(
    data: bytes,
    *,
    manifest: Mapping[str, Any] | None = None,
    members: Mapping[str, bytes] | None = None,
    without: tuple[str, ...] = (),
    honest: bool = True,
) -> bytes:
    """An archive with other content and a seal that fits.

    Args:
        manifest: members of it that are replaced.
        members: files that are replaced or added.
        without: files that are left out.
        honest: whether the manifest has the sizes and hashes of tables that were replaced.
    """
    source = zipfile.ZipFile(io.BytesIO(data))
    found = {name: source.read(name) for name in source.namelist() if name not in without} | dict(members or {})
    said = json.loads(found["manifest.json"]) | dict(manifest or {})
    for name in members or {}:
        table = name.removeprefix("tables/").removesuffix(".jsonl")
        if honest and table in said["tables"]:
            body = found[name]
            fresh = {"rows": body.count(b"\n"), "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            said["tables"][table] |= fresh
    found["manifest.json"] = json.dumps(said).encode()
    return sealed(found)


def sealed(members: Mapping[str, bytes]) -> bytes:
    """Files as an archive with a seal that fits."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
        archive.comment = bytes(SEAL_BYTES)
    whole = out.getvalue()[:-SEAL_BYTES]
    return whole + SEAL + hashlib.sha256(whole).hexdigest().encode()
