"""Signatures of webhooks by the Standard Webhooks specification 1.0: HMAC-SHA256 over id, time and body."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

SECRET_PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
TOLERANCE_S: Final = 300
"""How far the time of a delivery may lie from the receiver's."""

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"

_VERSION: Final = "v1"
_LEAST_BYTES: Final = 24
_MOST_BYTES: Final = 64


class SignatureInvalid(ValueError):
    """A delivery that was not signed with the secret, or not now."""


def format_secret(random: bytes) -> str:
    """Random bytes as a secret that people can copy.

    Raises: ValueError unless there are 24 to 64 bytes.
    """
    if not _LEAST_BYTES <= len(random) <= _MOST_BYTES:
        raise ValueError(f"a webhook secret has {_LEAST_BYTES} to {_MOST_BYTES} bytes")
    return SECRET_PREFIX + base64.b64encode(random).decode()


def signature_headers(secrets: Sequence[str], *, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three headers of a delivery, with one signature for each live secret, in their order.

    Args:
        message_id: the same for every attempt, so that a receiver knows what it has seen; holds no full stop.
        timestamp_s: of this attempt, seconds since 1970 UTC.
    Raises: ValueError for a secret that is none.
    """
    signatures = [f"{_VERSION},{_signature(secret, message_id, timestamp_s, body)}" for secret in secrets]
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(timestamp_s),
        SIGNATURE_HEADER: " ".join(signatures),
    }


def verify(secret: str, *, headers: Mapping[str, str], body: bytes, now_s: float) -> None:
    """What a receiver does; unknown versions of signatures are passed over.

    Args:
        headers: by lower-case name.
    Raises: SignatureInvalid, ValueError for a secret that is none.
    """
    message_id, sent = headers.get(ID_HEADER, ""), headers.get(TIMESTAMP_HEADER, "")
    if not message_id or not (sent.isascii() and sent.isdigit() and len(sent) <= 12):
        raise SignatureInvalid("a header is missing or malformed")
    if abs(now_s - int(sent)) > TOLERANCE_S:
        raise SignatureInvalid("it was sent at another time")
    expected = f"{_VERSION},{_signature(secret, message_id, int(sent), body)}".encode()
    given = headers.get(SIGNATURE_HEADER, "").split(" ")
    if not any(hmac.compare_digest(expected, one.encode()) for one in given):
        raise SignatureInvalid("no signature fits")


def _signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a webhook secret is base64 after its prefix") from None
    if not key:
        raise ValueError("a webhook secret is not empty")
    signed = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
