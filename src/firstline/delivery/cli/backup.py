"""`firstline backup`: what it says while it works, and about what it has made."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from firstline.bootstrap_backup import ArchiveDamaged, BackupFailed, Made, Wishes, make_backup, verified
from firstline.delivery.cli.terminal import FOUND_WRONG, MISTAKE, Mistake, counted, say
from firstline.settings import load_settings

_REDRAW_S: Final = 0.2
_LINE_S: Final = 10.0
_TOLD: Final = ("accounts", "tickets", "verdicts", "jobs")


class Steps:
    """Says how far a backup or a restore is: on a terminal, or where it is asked to."""

    def __init__(self, *, asked: bool) -> None:
        self._on_screen = sys.stderr.isatty()
        self._shown = asked or self._on_screen
        self._last = time.monotonic()

    def __enter__(self) -> "Steps":
        return self

    def __exit__(self, *_: object) -> None:
        if self._on_screen:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __call__(self, step: str, table: str, rows: int) -> None:
        """Told by the work, again and again."""
        now = time.monotonic()
        if not self._shown or now - self._last < (_REDRAW_S if self._on_screen else _LINE_S):
            return
        self._last = now
        line = f"{step} {table}: {counted(rows, 'row')}"
        if self._on_screen:
            print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
        else:
            say(line)


def back_up(target: str, *, jobs: bool, secret_key: bool, progress: bool, as_json: bool, data_dir: Path | None) -> int:
    """Make a backup and print its path; the exit code.

    Raises: Mistake, SettingsInvalid, CannotStart.
    """
    settings, began = load_settings(data_dir=data_dir), time.monotonic()
    try:
        with Steps(asked=progress) as steps:
            made = make_backup(settings, target, Wishes(jobs=jobs, secret_key=secret_key), on_rows=steps)
    except BackupFailed as error:
        raise Mistake(str(error)) from None
    if as_json:
        _print_json(made)
    else:
        print(made.path, flush=True)
        say(f"{_content(made)}, {_size(made.size)} in {time.monotonic() - began:.1f} s.")
        say(f"Fingerprint: {made.fingerprint}")
    manifest = made.manifest
    if settings.spool_dir is None and settings.database_url is not None:
        say("Not in it: what servers have in spools; each knows its own.")
    if manifest.jobs is not None and manifest.jobs.missing:
        say(
            f"{counted(manifest.jobs.missing, 'job')} in it without all files: they are not in "
            f"{settings.data_dir / 'jobs'}. Run it where they are, or leave them out with --no-jobs."
        )
        return FOUND_WRONG
    return 0


def verify(files: Sequence[Path], *, progress: bool, as_json: bool) -> int:
    """Check backups and say what they are; the exit code."""
    code = 0
    for path in files:
        try:
            with Steps(asked=progress) as steps:
                made = verified(path, on_rows=steps)
        except ArchiveDamaged as error:
            say(f"firstline: {error}")
            code = max(code, FOUND_WRONG)
            continue
        except BackupFailed as error:
            say(f"firstline: {error}")
            code = MISTAKE
            continue
        if as_json:
            _print_json(made)
        else:
            when, database = made.manifest.began_at, made.manifest.database
            print(f"{path}: whole. {when}, {database}, schema {made.manifest.schema_revision}, {_content(made)}.")
            print(f"Fingerprint: {made.fingerprint}", flush=True)
    return code


def _content(made: Made) -> str:
    manifest = made.manifest
    rows = {name: manifest.tables[name].rows for name in _TOLD if name in manifest.tables}
    parts = [counted(number, name[:-1]) for name, number in rows.items() if number or name != "jobs"]
    if manifest.spool is not None and manifest.spool.records:
        parts.append(counted(manifest.spool.records, "record") + " of the spool")
    if manifest.secret_key:
        parts.append("secret.key")
    return ", ".join(parts)


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"


def _print_json(made: Made) -> None:
    manifest: dict[str, Any] = made.manifest.model_dump(mode="json")
    manifest["tables"] = {name: table["rows"] for name, table in manifest["tables"].items()}
    data = {"path": str(made.path), "bytes": made.size, "fingerprint": made.fingerprint, **manifest}
    sys.stdout.write(orjson.dumps(data).decode() + "\n")
