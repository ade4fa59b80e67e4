"""`firstline health`: whether a server answers, for health checks of containers and for people.

The standard library alone asks, so that a check every few seconds costs little. Proxies of the environment are not
used and redirects are not followed: the answer is that of the server itself.
"""

import json
import ssl
import sys
from http.client import HTTPException, RemoteDisconnected
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import BaseHandler, HTTPRedirectHandler, HTTPSHandler, ProxyHandler, build_opener

from firstline.delivery.cli.terminal import FOUND_WRONG, Mistake, printable
from firstline.settings import Settings, load_settings

_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1", "": "127.0.0.1"}  # noqa: S104  # not bound
_MAX_URL: Final = 500
_MAX_ANSWER: Final = 1_000


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def check_health(*, url: str | None, live: bool, timeout_s: float) -> int:
    """Ask a server once and say in a sentence how it is; the exit code, 1 when it is not well.

    Args:
        url: of the server; None asks the one that the settings describe.
        live: whether to ask only if the process answers, and not if it should get traffic.
        timeout_s: how long each step of the answer may take.
    Raises: Mistake, SettingsInvalid.
    """
    base = _checked(url) if url is not None else _own(load_settings())
    problem = _problem(base, live=live, timeout_s=timeout_s, trusted=url is None)
    word = "alive" if live else "ready"
    sys.stdout.write(f"{base} is {word}.\n" if problem is None else f"{base} {problem}\n")
    return 0 if problem is None else FOUND_WRONG


def _checked(url: str) -> str:
    """Raises: Mistake."""
    try:
        parts = urlsplit(url)
        wrong = len(url) > _MAX_URL or not url.isprintable() or " " in url or not parts.hostname or parts.port == 0
    except ValueError:
        wrong = True
    if wrong or parts.scheme not in {"http", "https"} or parts.username is not None or parts.query or parts.fragment:
        raise Mistake(
            f"--url must be an http or https address of at most {_MAX_URL} characters, without a user, query or "
            "fragment, such as http://127.0.0.1:8000."
        )
    return url.rstrip("/")


def _own(settings: Settings) -> str:
    """The address of the server that these settings start, as seen from the same machine."""
    if settings.port == 0:
        raise Mistake("FIRSTLINE_PORT is 0, which takes any free port; say which with --url.")
    host = _EVERYWHERE.get(settings.host, settings.host).strip("[]")
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://[{host}]:{settings.port}" if ":" in host else f"{scheme}://{host}:{settings.port}"


def _problem(base: str, *, live: bool, timeout_s: float, trusted: bool) -> str | None:
    """What is wrong with a server, or None.

    Args:
        trusted: whether the address is our own, which no certificate is made out to.
    """
    path = "/health/live" if live else "/health/ready"
    handlers: list[BaseHandler] = [ProxyHandler({}), _NoRedirects()]
    if base.startswith("https:"):
        context = ssl.create_default_context()
        if trusted:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        handlers.append(HTTPSHandler(context=context))
    opener = build_opener(*handlers)
    try:
        with opener.open(base + path, timeout=timeout_s) as response:
            body = response.read1(_MAX_ANSWER)
    except HTTPError as error:
        error.close()
        if error.code == 503:
            return "is not ready: it says that it cannot serve now." if not live else "is not alive: it answered 503."
        return f"answered {error.code}; is it a firstline server?"
    except TimeoutError:
        return f"did not answer within {timeout_s:g} s."
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            return f"did not answer within {timeout_s:g} s."
        return f"cannot be reached: {_why(error.reason)}."
    except (OSError, HTTPException, ValueError) as error:
        return f"cannot be reached: {_why(error)}."
    return None if _says_ok(body) else "answered something else; is it a firstline server?"


def _says_ok(body: bytes) -> bool:
    try:
        answer = json.loads(body)
    except ValueError:
        return False
    return isinstance(answer, dict) and answer.get("status") == "ok"


def _why(reason: object) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted, {printable(reason.verify_message).lower()}"
    if isinstance(reason, ssl.SSLError):
        return "it does not speak TLS as expected"
    if isinstance(reason, RemoteDisconnected):
        return "it ended the connection without an answer"
    if isinstance(reason, HTTPException):
        return "it does not speak HTTP"
    text = getattr(reason, "strerror", None) or type(reason).__name__
    return printable(str(text)).lower().rstrip(".")
