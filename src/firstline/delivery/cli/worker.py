"""`firstline worker`: work on jobs beside a server, or beside several on PostgreSQL."""

import asyncio
import signal
from pathlib import Path

from firstline import __version__
from firstline.bootstrap import App, build
from firstline.bootstrap_stores import place_of_database
from firstline.settings import load_settings


def work(*, data_dir: Path | None, processes: int | None) -> None:
    """Work until stopped; what is not finished then is given back.

    Args:
        processes: that decide; None for the setting, and one per core where that is 0 or not set.
    Raises: SettingsInvalid, CannotStart, StorageUnavailable.
    """
    settings = load_settings(data_dir=data_dir, job_processes=processes)
    if settings.job_processes == 0:
        settings = settings.model_copy(update={"job_processes": None})
    app = build(settings, serves=False)
    print(f"firstline {__version__} works on the jobs of {place_of_database(settings)}. Ctrl-C stops it.", flush=True)
    asyncio.run(_until_stopped(app))


async def _until_stopped(app: App) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await app.start()
    try:
        await stop.wait()
    finally:
        await app.close()
