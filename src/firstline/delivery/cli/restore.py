"""`firstline restore`: what it says about what it has done."""

import time
from pathlib import Path

from firstline.bootstrap_restore import BackupFailed, Options, Restored, restore_backup
from firstline.bootstrap_stores import place_of_database
from firstline.delivery.cli.backup import Steps
from firstline.delivery.cli.terminal import Mistake, counted, say
from firstline.settings import Settings, load_settings


def restore(source: Path, *, force: bool, webhooks: bool, progress: bool, data_dir: Path | None) -> None:
    """Put a backup where the settings say.

    Raises: Mistake, SettingsInvalid, CannotStart.
    """
    settings, began = load_settings(data_dir=data_dir), time.monotonic()
    try:
        with Steps(asked=progress) as steps:
            done = restore_backup(settings, source, Options(force=force, webhooks=webhooks), on_rows=steps)
    except BackupFailed as error:
        raise Mistake(str(error)) from None
    tables = done.manifest.tables
    parts = ", ".join(counted(tables[name].rows, name[:-1]) for name in ("accounts", "tickets", "verdicts"))
    seconds = time.monotonic() - began
    print(f"Restored {place_of_database(settings)} as of {done.manifest.began_at}: {parts}, in {seconds:.1f} s.")
    for line in _remarks(settings, done, webhooks=webhooks):
        say(line)


def _remarks(settings: Settings, done: Restored, *, webhooks: bool) -> list[str]:
    """What the operator should know besides."""
    said = []
    tables = {name: table.rows for name, table in done.manifest.tables.items()}
    if done.aside:
        said.append(f"What was there lies in {' and '.join(done.aside)}.")
    if done.changed:
        said.append(f"{counted(done.changed, 'text')} had a NUL, which is U+FFFD now.")
    if tables.get("account_data_keys") and settings.secret_key is None:
        said.append("Texts in it are encrypted: the server needs the SECRET_KEY that they were stored under.")
    if tables.get("webhook_endpoints"):
        if not webhooks:
            said.append("Every webhook is disabled.")
        elif settings.secret_key is None and not (settings.data_dir / "secret.key").exists():
            said.append("It has webhooks: the server needs the SECRET_KEY or the secret.key that they were made under.")
    if done.manifest.spool is not None and done.manifest.spool.records:
        said.append(f"{counted(done.manifest.spool.records, 'record')} of a spool will be stored at the next start.")
    if done.manifest.jobs is None and tables.get("jobs"):
        said.append("The files of jobs are not in it: jobs that were not finished will fail.")
    return said
