"""The application for any ASGI server: `uvicorn firstline.asgi:app`.

Settings come from the environment and `.env`. A mistake in them stops the import with a sentence. `firstline serve`
adds what only a server of our own can: bounds on headers and slow clients.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from firstline.bootstrap import build
from firstline.bootstrap_stores import CannotStart
from firstline.delivery.http.app import create_asgi
from firstline.settings import SettingsInvalid, load_settings


def create_app() -> ASGIApp:
    """A fresh application from the environment.

    Raises: SystemExit with a sentence when it cannot start.
    """
    try:
        return create_asgi(build(load_settings()))
    except (SettingsInvalid, CannotStart) as error:
        raise SystemExit(f"firstline cannot start: {error}") from None


class _Lazy:
    """Builds the application when the server first calls it, so that importing this module opens nothing."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            self._app = create_app()
        await self._app(scope, receive, send)


app = _Lazy()
