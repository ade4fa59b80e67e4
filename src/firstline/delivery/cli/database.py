"""`firstline db upgrade`: the schema, brought up to date by hand."""

from pathlib import Path

from firstline.adapters.sql.engine import open_engine
from firstline.adapters.sql.migrate import migrate, revision_of
from firstline.bootstrap import database_path
from firstline.settings import load_settings


def upgrade_database(*, data_dir: Path | None) -> None:
    """Upgrade and say what was done.

    Raises: SettingsInvalid, CannotStart, StorageUnavailable.
    """
    path = database_path(load_settings(data_dir=data_dir).data_dir)
    before = revision_of(path)
    engine = open_engine(path)
    try:
        copy = migrate(engine, path)
    finally:
        engine.dispose()
    after = revision_of(path)
    if before == after:
        print(f"{path} is up to date (schema {after}).")
    elif before is None:
        print(f"Made {path} (schema {after}).")
    else:
        print(f"Upgraded {path} from schema {before} to {after}; the copy from before is {copy}.")
