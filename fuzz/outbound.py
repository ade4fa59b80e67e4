"""Targets that decide where something goes and who sent it: destinations, signatures, keys, traces."""

import base64
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from firstline.adapters.tracing.sampling import caller_of
from firstline.core.api_key import MAX_KEY_LENGTH, hash_of, hint_of, looks_like_key
from firstline.core.destination import MAX_URL, DestinationRefused, destination_of, is_allowed
from firstline.core.identity import TICKET, bare
from firstline.core.signature import (
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    SignatureInvalid,
    format_secret,
    signature_headers,
    verify,
)
from fuzz.target import Draw, Target, text_of, vectors

_NOW_S: Final = 1_795_000_000
_SECRET: Final = format_secret(b"0123456789abcdef0123456789abcdef")
_GLOBAL_BUT_OURS: Final = frozenset({"168.63.129.16"})


def lead(data: bytes) -> None:
    """What may be sent to leads to a public host, as every other reader of the URL sees it."""
    url = text_of(data)
    try:
        found = destination_of(url)
    except DestinationRefused as error:
        assert str(error).split(maxsplit=1)[0] in {"must", "may", "has"}, f"{error} completes no sentence"
        return
    assert len(url) <= MAX_URL
    assert url.isascii()
    assert found.https
    assert not found.loopback
    assert found.port == 443 or 1_024 <= found.port <= 65_535
    assert found.target.startswith("/")
    assert not set(found.target + found.host) & set(" \r\n\\@#" if "@" not in found.target else " \r\n\\#")
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert _same_host(parts.hostname, found.host), f"urllib would go to {parts.hostname}, this to {found.host}"
    assert (parts.port or 443) == found.port
    if found.address is None:
        assert _address(found.host) is None, "an address is taken for a name"
        return
    _check_public(found.address)


def allow_address(data: bytes) -> None:
    """An address that a resolver gives is public as `ipaddress` sees it, or nothing connects to it."""
    draw = Draw(data)
    kind, raw = draw.number(3), draw.rest()
    if kind == 2:
        text = text_of(raw)
    else:
        size = 4 if kind == 0 else 16
        text = str(ip_address(raw[:size].ljust(size, b"\0")))
    if is_allowed(text):
        _check_public(text)
    if is_allowed(text, loopback=True):
        assert ip_address(text).is_loopback


def _check_public(text: str) -> None:
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if text.startswith("64:ff9b::"):
            inside = IPv4Address(int(address) & 0xFFFFFFFF)
        if inside:
            assert inside.is_global, f"{text} leads to {inside}"
            return
    assert address.is_global, f"{text} is not public"
    assert not (address.is_multicast or address.is_loopback or address.is_private), text


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _same_host(one: str, other: str) -> bool:
    return (_address(one) or one.lower()) == (_address(other) or other)


def verify_signature(data: bytes) -> None:
    """What was signed is verified; changed, sent later or signed by another it is not; other headers are refused."""
    draw = Draw(data)
    given = {name: draw.line().decode("latin-1") for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)}
    flip, body = draw.number(256), draw.rest()
    try:
        verify(_SECRET, headers=given, body=body, now_s=_NOW_S)
    except SignatureInvalid as error:
        assert str(error)
    else:
        raise AssertionError("something passes that was not signed")
    headers = signature_headers([_SECRET], message_id="evt_1", timestamp_s=_NOW_S, body=body)
    verify(_SECRET, headers=headers, body=body, now_s=_NOW_S)
    changed = bytes([flip ^ 1]) + body if not body else bytes([body[0] ^ (flip or 1)]) + body[1:]
    for other, at_s in ((changed, _NOW_S), (body, _NOW_S + 1_000), (body, _NOW_S - 1_000)):
        try:
            verify(_SECRET, headers=headers, body=other, now_s=at_s)
        except SignatureInvalid:
            continue
        raise AssertionError("a signature holds for something else")


def read_secret(data: bytes) -> None:
    """A webhook secret is base64 or a ValueError; never an empty key."""
    secret = text_of(data)
    try:
        found = signature_headers([secret], message_id="evt_1", timestamp_s=_NOW_S, body=b"x")
    except ValueError:
        return
    assert base64.b64decode(secret.removeprefix("whsec_")), "an empty key signs"
    verify(secret, headers=found, body=b"x", now_s=_NOW_S)


def read_traceparent(data: bytes) -> None:
    """A trace has an id of 32 and a span one of 16 hexadecimal digits, neither zero; anything else is none."""
    found = caller_of(data.decode("latin-1"))
    if found is not None:
        for text, size in ((found.ids.trace, 32), (found.ids.span, 16)):
            assert len(text) == size
            assert int(text, 16) > 0
            assert text == text.lower()


def read_key(data: bytes) -> None:
    """A key has a shape and is shown by its end alone; an id has 32 hexadecimal digits."""
    text = text_of(data)
    if looks_like_key(text):
        assert len(text) <= MAX_KEY_LENGTH
        assert text.isascii()
        assert "\n" not in text
        assert len(hash_of(text)) == 64
        assert text not in hint_of(text)
        assert len(hint_of(text)) <= 14
    found = bare(text, prefix=TICKET)
    assert found is None or (len(found) == 32 and int(found, 16) >= 0 and text == TICKET + found)


def _url_seeds() -> Iterator[bytes]:
    for group in vectors("outbound_urls.json").values():
        for entry in group if isinstance(group, list) else ():
            yield (entry["url"] if isinstance(entry, dict) else str(entry)).encode()


def _signature_seeds() -> Iterator[bytes]:
    for case in vectors("signatures.json"):
        lines = [case.get(name) or "" for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)]
        yield "\n".join(lines).encode() + b"\n\x01" + case["body"].encode()


_PIECES: Final = (
    "https://",
    "[::ffff:",
    "[64:ff9b::",
    "0x7f",
    "127.0.0.1",
    "@",
    "%2e",
    "。",
    ":443",
    "xn--",
    ".local",
    "\\",
)

TARGETS: Final = (
    Target(
        "destination", "public, and the same host to every reader", ("core.destination",), lead, _url_seeds, _PIECES,
        2_100,
    ),
    Target(
        "resolved", "nothing private is connected to", ("core.destination",), allow_address,
        lambda: [b"\x00\x7f\0\0\1", b"\x01" + bytes(10) + b"\xff\xff\x0a\0\0\1", b"\x02fe80::1%eth0", b"\x02 1.1.1.1"],
        ("::ffff:", "64:ff9b::", "2002:", "2001:", "%"), 64,
    ),
    Target(
        "signature", "holds for what was signed and nothing else", ("core.signature",), verify_signature,
        _signature_seeds, ("v1,", "v1a,", "1795000000", "evt_"), 1_024,
    ),
    Target(
        "webhook-secret", "base64, or a ValueError", ("core.signature",), read_secret,
        lambda: [_SECRET.encode(), b"whsec_", b"====", b"AAAA\n"], ("whsec_", "=="), 256,
    ),
    Target(
        "traceparent", "ids that are not zero, or none", ("adapters.tracing.sampling",), read_traceparent,
        lambda: [b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01", b"cc-" + b"a" * 32 + b"-" + b"b" * 16 + b"-00-x"],
        ("00-", "-01", "ff-"), 600,
    ),
    Target(
        "keys-and-ids", "shown by their ends alone", ("core.api_key", "core.identity"), read_key,
        lambda: [*(entry["key"].encode() for entry in vectors("keys.json")), b"tkt_" + b"0a" * 16],
        ("atc_", "sk_live_", "tkt_"),
        256,
    ),
)  # fmt: skip
"""Of this module."""
