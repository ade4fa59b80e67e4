"""`firstline worker`: work on jobs beside a server, or beside several on PostgreSQL."""

import asyncio
import signal
import socket
from contextlib import AsyncExitStack
from pathlib import Path

from firstline import __version__
from firstline.bootstrap import App, build
from firstline.bootstrap_stores import place_of_database
from firstline.core.completion import Mode
from firstline.settings import Settings, load_settings


def work(*, data_dir: Path | None, processes: int | None, metrics_port: int | None) -> None:
    """Work until stopped; what is not finished then is given back.

    Args:
        processes: that decide; None for the setting, and one per core where that is 0 or not set.
        metrics_port: where metrics are answered; None for the setting.
    Raises: SettingsInvalid, CannotStart, StorageUnavailable.
    """
    settings = load_settings(data_dir=data_dir, job_processes=processes, worker_port=metrics_port)
    # Jobs ask no language model: none is opened, which saves memory and a breaker in the metrics that is never open.
    changed: dict[str, object] = {"ai_mode": Mode.NEVER}
    if settings.job_processes == 0:
        changed["job_processes"] = None
    settings = settings.model_copy(update=changed)
    listener = _listener(settings)
    app = build(settings, serves=False)
    print(f"firstline {__version__} works on the jobs of {place_of_database(settings)}. Ctrl-C stops it.", flush=True)
    asyncio.run(_until_stopped(app, listener))


def _listener(settings: Settings) -> socket.socket | None:
    """Raises: CannotStart."""
    if settings.worker_port is None:
        return None
    from firstline.delivery.http.server import base_url, listen

    listener = listen(settings.host, settings.worker_port, option="--metrics-port")
    print(f"Metrics: {base_url(listener, settings.host)}/metrics", flush=True)
    return listener


async def _until_stopped(app: App, listener: socket.socket | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as ends:
        ends.push_async_callback(app.close)
        await app.start()
        if listener is not None:
            from firstline.delivery.http.worker_server import answering

            await ends.enter_async_context(answering(app, listener=listener))
        await stop.wait()
