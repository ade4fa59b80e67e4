"""`firstline db upgrade`: the schema, brought up to date by hand."""

import time
from pathlib import Path

from firstline.adapters.sql.engine import open_engine
from firstline.adapters.sql.migrate import migrate, revision_of
from firstline.bootstrap_stores import database_path, place_of_database
from firstline.settings import Settings, load_settings


def upgrade_database(*, data_dir: Path | None) -> None:
    """Upgrade and say what was done.

    Raises: SettingsInvalid, CannotStart, StorageUnavailable.
    """
    settings = load_settings(data_dir=data_dir)
    if settings.database_url is not None:
        _upgrade_postgres(settings, settings.database_url.get_secret_value())
        return
    path = database_path(settings.data_dir)
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


def _upgrade_postgres(settings: Settings, url: str) -> None:
    from firstline.adapters.sql.postgres_engine import open_postgres
    from firstline.adapters.sql.postgres_partitions import make_partitions
    from firstline.adapters.sql.postgres_schema import schema_of, upgrade

    place = place_of_database(settings)
    engine = open_postgres(url, timeout_s=settings.database_timeout_seconds)
    try:
        before = schema_of(engine)
        upgrade(engine)
        after = schema_of(engine)
        with engine.begin() as connection:
            make_partitions(connection, now_us=time.time_ns() // 1_000)
    finally:
        engine.dispose()
    if before == after:
        print(f"{place} is up to date (schema {after}).")
    elif before is None:
        print(f"Made the tables in {place} (schema {after}).")
    else:
        print(f"Upgraded {place} from schema {before} to {after}.")
