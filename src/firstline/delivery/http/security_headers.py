"""What every answer tells browsers and caches beside its own headers, be it an endpoint's or the connection's."""

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Final

from firstline.core.origins import origins_of
from firstline.delivery.http.cors import Cors, Header
from firstline.settings import Settings

HSTS: Final = b"max-age=31536000"

_ALWAYS: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_NOT_KEPT: Final = (b"cache-control", b"no-store")
_INERT: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_INLINE: Final = re.compile(r"<(script|style)\b[^>]*>(.*?)</\1>", re.DOTALL)


class AnswerHeaders:
    """Completes the headers of answers; an answer's own Cache-Control and Content-Security-Policy stay."""

    def __init__(self, *, origins: str = "", tls_only: bool = False) -> None:
        """Args:
        origins: those that may call from a browser, as the setting lists them.
        tls_only: whether browsers are told to come by TLS for a year.
        """
        allowed = origins_of(origins)
        self.cors = Cors(allowed) if allowed else None
        self._always = (*_ALWAYS, (b"strict-transport-security", HSTS)) if tls_only else _ALWAYS

    @classmethod
    def of(cls, settings: Settings, *, development: bool) -> "AnswerHeaders":
        """Those of a server.

        Args:
            development: then nobody is told to come by TLS: it would hold for everything else on localhost as well.
        """
        return cls(origins=settings.cors_origins, tls_only=settings.tls_cert is not None and not development)

    def complete(self, own: list[Header], *, request: Sequence[Header]) -> None:
        """Add what is missing.

        Args:
            own: headers of the answer, which grow.
            request: headers of the request, names in lower case.
        """
        kept = shown = False
        for name, _ in own:
            if name == b"cache-control":
                kept = True
            elif name == b"content-security-policy":
                shown = True
        own += self._always
        if not kept:
            own.append(_NOT_KEPT)
        if not shown:
            own.append(_INERT)
        if self.cors is not None:
            own += self.cors.headers(request)


def page_policy(html: str, *, styles_by_script: bool = False) -> str:
    """The content security policy of a page whose files come from this server.

    What stands in the page itself is allowed by its hash, so that nothing put into it later would run.

    Args:
        styles_by_script: whether its scripts make styles and workers as they go.
    """
    found: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in _INLINE.findall(html):
        if not text:
            continue
        found[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
    scripts = " ".join(["'self'", *found["script"]])
    styles = "'self' 'unsafe-inline'" if styles_by_script else " ".join(["'self'", *found["style"]])
    rules = [
        "default-src 'none'",
        f"script-src {scripts}",
        f"style-src {styles}",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
    if styles_by_script:
        rules.append("worker-src blob:")
    return "; ".join(rules)
