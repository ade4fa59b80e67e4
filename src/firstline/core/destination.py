"""Where the server may send what others tell it to send: strict URLs, public addresses.

A URL is read by one narrow grammar, and everything that two readers could take for different hosts is refused:
numbers in other bases, missing parts, trailing dots, letters beyond ASCII, user names, back-slashes, escapes. A name
is only as good as its addresses, so those are checked whenever a connection is to be made, each by itself.

Sources: RFC 3986; the special-purpose registries of RFC 6890; RFC 6052, 3056, 4380, 5214 for addresses in addresses.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

MAX_URL: Final = 2_048
MAX_NAME: Final = 253
LOWEST_OTHER_PORT: Final = 1_024

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?)"
)
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

_OWN_NAMES: Final = frozenset(
    {"localhost", "local", "localdomain", "internal", "intranet", "private", "corp", "home", "lan", "arpa", "onion",
     "test", "invalid", "example"}
)  # fmt: skip
"""Last labels that no public name has."""

_NOT_PUBLIC_4: Final = tuple(
    map(
        IPv4Network,
        ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
         "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
         "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
         "240.0.0.0/4"),
    )
)  # fmt: skip
"""168.63.129.16 is public by its number and Azure's own inside of Azure."""

_GLOBAL_6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"))
)
"""Within `_GLOBAL_6`; 2001::/23 holds Teredo, 2002::/16 is 6to4."""

_NAT64: Final = IPv6Network("64:ff9b::/96")
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})


class DestinationRefused(ValueError):
    """A URL or an address that nothing is sent to; the message completes "The URL …" and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a URL leads.

    Attributes:
        host: a name in lower case, or an address without brackets.
        address: the address, when the host is one.
        target: path and query, beginning with a slash.
        loopback: whether it may lead to this machine, and to nothing else.
    """

    https: bool
    host: str
    port: int
    target: str
    address: str | None = None
    loopback: bool = False

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.https else 80) else f"{host}:{self.port}"


def destination_of(url: str, *, loopback: bool = False) -> Destination:
    """Where a URL leads, if it may lead there at all.

    Args:
        loopback: whether this machine may be addressed, by http too: in development alone.
    Raises: DestinationRefused.
    """
    if len(url) > MAX_URL:
        raise DestinationRefused(f"must be at most {MAX_URL} characters long")
    found = _URL.fullmatch(url)
    if found is None:
        raise DestinationRefused(
            "must be https://host/path in plain ASCII, without user name, fragment, spaces or back-slashes; write a "
            "name with other letters as its xn-- form"
        )
    https, given, target = found["scheme"] == "https", found["host"], found["target"]
    if _BAD_ESCAPE.search(target):
        raise DestinationRefused("has a % that is no escape")
    host, address = _host(given)
    own = loopback and (address.is_loopback if address is not None else host == "localhost")
    if not own:
        _check_public(host, address)
        if not https:
            raise DestinationRefused("must begin with https://")
    port = int(found["port"]) if found["port"] else (443 if https else 80)
    if not 1 <= port <= 65_535 or (port < LOWEST_OTHER_PORT and port != 443 and not own):
        raise DestinationRefused(f"may have the port 443 or one from {LOWEST_OTHER_PORT} to 65535")
    if not target.startswith("/"):
        target = f"/{target}"
    return Destination(https, host, port, target, str(address) if address is not None else None, own)


def is_allowed(address: str, *, loopback: bool = False) -> bool:
    """Whether a connection may be made to an address.

    Args:
        address: as a resolver gives it.
        loopback: whether this machine is meant; then nothing else is.
    """
    parsed = _address(address)
    if parsed is None:
        return False
    return parsed.is_loopback if loopback else _is_public(parsed)


def _host(given: str) -> tuple[str, IPv4Address | IPv6Address | None]:
    if given.startswith("["):
        inside = _address(given[1:-1])
        if not isinstance(inside, IPv6Address):
            raise DestinationRefused("has brackets without an IPv6 address in them")
        return str(inside), inside
    host = given.lower()
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise DestinationRefused("must name a host of letters, digits and inner hyphens, without a dot at its end")
    if _NUMBER.fullmatch(labels[-1]):  # a reader that knows inet_aton would take it for a number
        address = _address(host)
        if not isinstance(address, IPv4Address):
            raise DestinationRefused("must write an IPv4 address as four decimal numbers")
        return host, address
    return host, None


def _check_public(host: str, address: IPv4Address | IPv6Address | None) -> None:
    if address is not None:
        if not _is_public(address):
            raise DestinationRefused("must lead to a public address")
        return
    labels = host.split(".")
    if len(labels) < 2 or labels[-1] in _OWN_NAMES:
        raise DestinationRefused("must have a public host name")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    if "%" in text:  # a zone
        return None
    for kind in (IPv4Address, IPv6Address):
        try:
            return kind(text)
        except AddressValueError:
            continue
    return None


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    value = int(address)
    if address in _NAT64:  # how a network without IPv4 reaches it
        return _is_public(IPv4Address(value & 0xFFFFFFFF))
    if address not in _GLOBAL_6 or any(address in network for network in _NOT_PUBLIC_6):
        return False
    return (value >> 32) & 0xFFFFFFFF not in _ISATAP
