"""Answers sealed under the key that their caller sends: AES-256-GCM, the cipher's key by HKDF-SHA256 from the caller's.

The store holds neither key. A stored text is base64 of version, salt, nonce and ciphertext; every text has a salt of
its own, so that the same key never seals twice under the same cipher key.
"""

import base64
import binascii
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_VERSION: Final = b"\x01"
_SALT: Final = 16
_NONCE: Final = 12
_PURPOSE: Final = b"firstline idempotent answer"


class SealedAnswers:
    """Implements `usecases.idempotency.Sealer`."""

    def seal(self, answer: bytes, *, key: str, bound_to: str) -> str:
        """See the protocol."""
        salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
        sealed = _cipher(key, salt).encrypt(nonce, answer, bound_to.encode())
        return base64.b64encode(_VERSION + salt + nonce + sealed).decode()

    def open(self, sealed: str, *, key: str, bound_to: str) -> bytes:
        """See the protocol."""
        try:
            data = base64.b64decode(sealed, validate=True)
        except binascii.Error:
            raise ValueError("no sealed answer") from None
        salt, nonce = data[1 : 1 + _SALT], data[1 + _SALT : 1 + _SALT + _NONCE]
        if data[:1] != _VERSION or len(nonce) != _NONCE:
            raise ValueError("no sealed answer")
        try:
            return _cipher(key, salt).decrypt(nonce, data[1 + _SALT + _NONCE :], bound_to.encode())
        except InvalidTag:
            raise ValueError("sealed under another key") from None


def _cipher(key: str, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), length=32, salt=salt, info=_PURPOSE).derive(key.encode()))
