"""Sealing by AES-256-GCM under keys derived from secrets; see `ports.sealing`.

A secret becomes a key by HKDF with SHA-256, so it must be hard to guess: 32 random bytes, not a word. Sealed text is
`s1.`, eight hex digits that say which key, and nonce and ciphertext in URL-safe base64.
"""

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from firstline.ports.sealing import SealBroken

KEY_FILE: Final = "secret.key"
"""In the data folder of an embedded server that was given no SECRET_KEY."""

_VERSION: Final = "s1"
_NONCE_BYTES: Final = 12


class Sealer:
    """Implements `ports.sealing.Sealing`."""

    def __init__(self, accepted: Sequence[str | bytes], *, purpose: str = "store") -> None:
        """Args:
        accepted: secrets, newest first; the first one seals.
        purpose: keys of one purpose open nothing of another, whatever the secret.
        Raises: ValueError when there is no secret, or an empty one.
        """
        if not accepted or not all(accepted):
            raise ValueError("sealing takes at least one secret, and none that is empty")
        self._ciphers: dict[str, AESGCM] = {}
        for secret in accepted:
            key = _derived(secret.encode() if isinstance(secret, str) else secret, purpose)
            self._ciphers.setdefault(hashlib.sha256(key).hexdigest()[:8], AESGCM(key))
        self._newest = next(iter(self._ciphers))

    def seal(self, plain: bytes, *, context: str) -> str:
        """See the port."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._ciphers[self._newest].encrypt(nonce, plain, context.encode())
        return f"{_VERSION}.{self._newest}.{base64.urlsafe_b64encode(sealed).decode()}"

    def open(self, sealed: str, *, context: str) -> bytes:
        """See the port."""
        version, _, rest = sealed.partition(".")
        name, _, body = rest.partition(".")
        cipher = self._ciphers.get(name)
        if version != _VERSION or cipher is None:
            raise SealBroken
        try:
            raw = base64.b64decode(body, altchars=b"-_", validate=True)
            return cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], context.encode())
        except (InvalidTag, binascii.Error, ValueError):
            raise SealBroken from None


def secrets_of(secret_key: str | None) -> list[str]:
    """The secrets that a setting names, newest first."""
    return [part.strip() for part in (secret_key or "").split(",") if part.strip()]


def open_sealer(secret_key: str | None, *, key_folder: Path | None) -> Sealer | None:
    """The sealer of a server, or None where it may not keep a key of its own and was given none.

    Args:
        secret_key: the setting; several with commas, newest first.
        key_folder: where an embedded server keeps a key of its own; None where several servers share a database.
            One that was made before still opens what it sealed once SECRET_KEY is set.
    Raises: OSError when the key file cannot be read or made.
    """
    accepted: list[str | bytes] = [*secrets_of(secret_key)]
    if key_folder is not None:
        path = key_folder / KEY_FILE
        if path.exists() or not accepted:
            accepted.append(_key_in(path))
    return Sealer(accepted) if accepted else None


def _key_in(path: Path) -> str:
    if not path.exists():
        # Made whole before it has its name: a power cut leaves no half of a key.
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    key = path.read_text(encoding="ascii").strip()
    if not key:
        raise OSError(f"{path} is empty")
    return key


def _derived(secret: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"firstline {purpose}".encode()).derive(secret)
