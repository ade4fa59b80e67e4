"""Which web origins may call firstline from a browser: a list of exact ones, or all of them."""

import re
from typing import Final

ANY: Final = "*"
MOST: Final = 100

_ORIGIN: Final = re.compile(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:]+\])(?::([0-9]{1,5}))?")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_DEFAULT_PORTS: Final = {"https": "443", "http": "80"}


def origins_of(text: str) -> frozenset[str]:
    """The origins of a list with commas, as browsers write them.

    Returns: `{"*"}` for all of them, an empty set for none.
    Raises: ValueError with a sentence that names the part at fault.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > MOST:
        raise ValueError(f"at most {MOST} origins can be listed")
    if ANY in parts and len(parts) > 1:
        raise ValueError("* already means every origin; list nothing beside it")
    return frozenset(part if part == ANY else _origin(part) for part in parts)


def _origin(part: str) -> str:
    shown = part if len(part) <= 100 and part.isprintable() else "one of them"
    found = _ORIGIN.fullmatch(part.lower())
    if found is None or (found[3] is not None and not 0 < int(found[3]) <= 65_535):
        raise ValueError(
            f"{shown} is no origin; write each as https://host or https://host:port, without a path or a wildcard"
        )
    scheme, host, port = found.groups()
    if scheme == "http" and host not in _LOOPBACK:
        raise ValueError(f"{shown} must begin with https://; http:// is allowed for localhost alone")
    return f"{scheme}://{host}" if port in (None, _DEFAULT_PORTS[scheme]) else f"{scheme}://{host}:{int(port)}"
