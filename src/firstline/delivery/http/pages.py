"""What is neither contract's own: the start page, health and probes, metrics, interactive documentation."""

import hmac
from collections.abc import Mapping
from importlib import resources
from typing import Final

from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from firstline import __version__
from firstline.bootstrap import App
from firstline.core.errors import API_KEY_REQUIRED, CATALOGUE, NOT_FOUND
from firstline.core.message import Message, facts_of
from firstline.core.taxonomy import Contract, Signal
from firstline.delivery.http.replies import ErrorReply, json_reply
from firstline.delivery.http.security_headers import page_policy

_CANARY: Final = "I will sue you"
_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
    "favicon.png": "image/png",
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="/docs/assets/favicon.png">
<style>
:root {{
  color-scheme: light dark;
  --ink: #1c2430; --paper: #fbfbf9; --soft: #667; --line: #d8dadf; --accent: #0b5cad;
}}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e8eaee; --paper: #14181f; --soft: #9aa3b2; --line: #313947; --accent: #7db8f5; }}
}}
body {{ margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }}
main {{ max-width: 44rem; margin: 0 auto; padding: 3rem 1.25rem; }}
h1 {{ font-size: 2rem; margin: 0 0 .25rem; letter-spacing: -.02em; }}
p.lead {{ color: var(--soft); margin-top: 0; }}
pre {{ border: 1px solid var(--line); border-radius: 8px; padding: 1rem; overflow-x: auto; font-size: .875rem; }}
a {{ color: var(--accent); }}
li {{ margin: .3rem 0; }}
</style>
</head>
<body><main>
<h1>{title}</h1>
{content}
</main></body>
</html>
"""
_LANDING: Final = """<p class="lead">Triage for customer messages. Version {version}, operational.</p>
<p>Ask it:</p>
<pre><code>curl {base}/v1/decision \\
  -H "Authorization: Bearer $KEY" \\
  -d '{{"message": "I will call my lawyer"}}'</code></pre>
<ul>
<li><a href="/docs">Interactive documentation</a> and <a href="/redoc">reference</a></li>
<li><a href="/v1/pricing">Plans</a></li>
<li><a href="/docs/errors">Errors</a></li>
<li><a href="/health">Health</a></li>
</ul>
"""


class Pages:
    """Handlers of the routes around the contracts."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def root(self, request: Request) -> Response:
        """A start page for browsers, a status for others."""
        if "text/html" in request.headers.get("accept", ""):
            base = str(request.base_url).rstrip("/")
            safe = "".join(character for character in base if character.isalnum() or character in ":/.-[]")
            content = _LANDING.format(version=__version__, base=safe)
            return _page("firstline", content, headers={"Vary": "Accept"})
        return json_reply(
            {
                "status": "operational",
                "service": "firstline",
                "version": __version__,
                "documentation": "/docs",
            },
            headers={"Vary": "Accept"},
        )

    async def health(self, request: Request) -> Response:
        """The parts, measured: the store by a write and a read, the rules by a known threat."""
        stores, rules = await self._app.probe(), self._rules_work()
        body = {
            "status": "healthy" if stores and rules else "degraded",
            "api": "operational" if stores else "cannot store verdicts",
            "storage": self._storage(stores),
            "rules_engine": "operational" if rules else "failed",
            "ai_layer": self._ai_layer(),
            "limits": "shared" if self._app.limiter.shared else "local",
        }
        return json_reply(body, status=200 if stores else 503)

    def _storage(self, works: bool) -> str:
        """Where verdicts go: into the store, into the spool, or nowhere."""
        if not works:
            return "unavailable"
        return "spooling" if self._app.is_spooling() else "ok"

    def _ai_layer(self) -> str:
        """Whether any provider can be asked, as their breakers say."""
        states = {self._app.asking.state(provider) for provider in self._app.asking.offered()}
        if not states:
            return "disabled"
        return "operational" if "available" in states else "unavailable"

    async def live(self, request: Request) -> Response:
        """Whether the process answers."""
        return json_reply({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Whether traffic should be sent here."""
        works = not self._app.draining and await self._app.probe() and self._rules_work()
        return json_reply({"status": "ok" if works else "unavailable"}, status=200 if works else 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus text; asks for a token when one is set."""
        token = self._app.settings.metrics_token
        if token is not None:
            given = request.headers.get("authorization", "")
            wanted = f"Bearer {token.get_secret_value()}"
            if not hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode()):
                raise ErrorReply(API_KEY_REQUIRED, "Send the scrape token as Authorization: Bearer.")
        self._app.metrics.queued_writes.set(self._app.queued())
        return Response(generate_latest(self._app.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def docs(self, request: Request) -> Response:
        """Interactive documentation; its files come from this server."""
        return _guarded(
            get_swagger_ui_html(
                openapi_url="/openapi.json",
                title="firstline",
                swagger_js_url="/docs/assets/swagger-ui-bundle.js",
                swagger_css_url="/docs/assets/swagger-ui.css",
                swagger_favicon_url="/docs/assets/favicon.png",
            )
        )

    async def redoc(self, request: Request) -> Response:
        """The reference; its files come from this server."""
        return _guarded(
            get_redoc_html(
                openapi_url="/openapi.json",
                title="firstline",
                redoc_js_url="/docs/assets/redoc.standalone.js",
                redoc_favicon_url="/docs/assets/favicon.png",
                with_google_fonts=False,
            )
        )

    async def errors(self, request: Request) -> Response:
        """Every public error code."""
        items = "\n".join(f'<li><a href="/docs/errors/{error.code}">{error.code}</a></li>' for error in CATALOGUE)
        return _page("Errors", f"<ul>\n{items}\n</ul>")

    async def error(self, request: Request) -> Response:
        """What one error code means and what to do."""
        found = next((error for error in CATALOGUE if error.code == request.path_params["code"]), None)
        if found is None:
            raise ErrorReply(NOT_FOUND)
        content = (
            f'<p class="lead">{found.code}, HTTP {found.status}</p>\n<p>{found.advice}</p>\n'
            '<p><a href="/docs/errors">All errors</a></p>'
        )
        return _page(found.title, content)

    async def asset(self, request: Request) -> Response:
        """A file of the documentation pages."""
        name = request.path_params["name"]
        media_type = _ASSETS.get(name)
        if media_type is None:
            raise ErrorReply(NOT_FOUND)
        data = resources.files("fastapi_offline").joinpath("static", name).read_bytes()
        return Response(data, media_type=media_type, headers={"Cache-Control": "public, max-age=86400"})

    def _rules_work(self) -> bool:
        facts = facts_of(Message(_CANARY, Contract.DECISION))
        return any(match.signal is Signal.LEGAL for match in self._app.triage.rules.evaluate(_CANARY, facts))


def _page(title: str, content: str, *, headers: Mapping[str, str] | None = None) -> Response:
    html = _PAGE.format(title=title, content=content)
    return HTMLResponse(html, headers={**(headers or {}), "Content-Security-Policy": page_policy(html)})


def _guarded(page: HTMLResponse) -> Response:
    """A page of an interactive documentation, with the policy that its scripts can live under."""
    html = bytes(page.body).decode()
    page.headers["Content-Security-Policy"] = page_policy(html, styles_by_script=True)
    return page
