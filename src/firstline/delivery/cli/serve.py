"""`firstline serve`: what is printed once the server listens, and what stops it before."""

import json
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Final

from firstline import __version__
from firstline.bootstrap import App, build
from firstline.delivery.cli.terminal import Mistake
from firstline.settings import Settings, load_settings

_SAMPLE: Final = {"message": "I will sue you"}


def serve(
    *,
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    workers: int,
    no_history: bool,
    no_text: bool,
) -> None:
    """Serve until stopped; an argument of None leaves the setting as it is.

    Raises: Mistake, SettingsInvalid, CannotStart.
    """
    settings = load_settings(
        host=host,
        port=port,
        data_dir=data_dir,
        history=False if no_history else None,
        history_text=False if no_text else None,
    )
    if workers > 1:
        raise Mistake(_why_not(workers, settings))
    app = build(settings)
    from firstline.delivery.http.server import run  # after everything that can refuse to start, for it takes a while

    def greet(url: str) -> None:
        # Whoever reads standard output may be gone; the server stays.
        with suppress(OSError):
            print(greeting(url, app), flush=True)

    run(settings, app=app, on_ready=greet)


def _why_not(workers: int, settings: Settings) -> str:
    start = f"--workers {workers} is not possible: a server is one process."
    if settings.database_url is None:
        return f"{start} Several servers need PostgreSQL (FIRSTLINE_DATABASE_URL), for one process writes SQLite."
    return f"{start} Start {workers} of them on ports of their own; they share the database."


def greeting(url: str, app: App) -> str:
    """What an operator wants to know of a server that has just begun to listen.

    Args:
        url: of the server, without a slash at its end.
    """
    sample = f"-d {shlex.quote(json.dumps(_SAMPLE))}"
    lines = [f"firstline {__version__} listens on {url}", f"Documentation: {url}/docs"]
    if app.asking.configured:
        models = (f"{provider} ({models[0]})" for provider, models in app.asking.offered().items())
        lines.append(f"Language models, asked where the local one is not sure: {', '.join(models)}")
    if app.development:
        lines += [
            "Development: this machine needs no key for decisions. Try it:",
            "",
            f"  curl {url}/v1/decision {sample}",
        ]
    else:
        place = f" --data-dir {shlex.quote(str(app.settings.data_dir.resolve()))}"
        if app.settings.database_url is not None:  # which the shell that makes the key needs too
            place = ""
        lines += [
            "Make a key, then try it:",
            "",
            f"  KEY=$(firstline keys create --email you@example.com{place})",
            f'  curl {url}/v1/decision -H "Authorization: Bearer $KEY" {sample}',
        ]
    return "\n".join([*lines, "", "Ctrl-C stops it."])
