"""TLS of the server: a certificate and its key from files, taken anew when they change.

TLS 1.2 is the oldest version, with forward secret ciphers alone; TLS 1.3 has no others. What was served stays in force
while new files do not fit each other, which is how a renewal looks for a moment.
"""

import os
import ssl
import stat
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from firstline.bootstrap_stores import CannotStart

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
HANDSHAKE_S: Final = 10.0
CLOSE_S: Final = 5.0
CERT: Final = "FIRSTLINE_TLS_CERT"
KEY: Final = "FIRSTLINE_TLS_KEY"
MAX_BYTES: Final = 1 << 20

_Marks = tuple[tuple[int, int, int], ...]


class Certificate:
    """A certificate chain and its key; `context` hands the newest ones to every connection."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Raises: CannotStart with what is wrong with the files."""
        self._cert = cert
        self._key = key
        self._marks = self._seen()
        self._newest, self.expires_at = _open(cert, key)
        self.context, _ = _open(cert, key)
        self.context.sni_callback = self._use_newest

    def renew(self, *, anyway: bool = False) -> bool:
        """Take the files anew if they have changed.

        Args:
            anyway: also when they look the same.
        Returns: whether other files are in force now.
        Raises: CannotStart when the new ones cannot be used; the old ones stay in force.
        """
        marks = self._seen()
        if marks == self._marks and not anyway:
            return False
        self._marks = marks
        self._newest, self.expires_at = _open(self._cert, self._key)
        return True

    def _use_newest(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called in every handshake, whether or not the client names a server."""
        connection.context = self._newest

    def _seen(self) -> _Marks:
        return tuple(_mark(path) for path in (self._cert, self._key))


def certificate_of(cert: Path | None, key: Path | None) -> Certificate | None:
    """The certificate to serve with; None for a server without TLS.

    Raises: CannotStart.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise CannotStart(f"{CERT} and {KEY} belong together: set both, or neither.")
    return Certificate(cert, key)


def _mark(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def _open(cert: Path, key: Path) -> tuple[ssl.SSLContext, datetime]:
    """A context that serves with the files, and when the certificate expires."""
    found = _certificate(_read(cert, name=CERT))
    private = _private_key(_read(key, name=KEY))
    if _public(private) != found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise CannotStart(f"{KEY} is not the key of the certificate in {CERT}.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.load_cert_chain(cert, key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        reason = str(getattr(error, "reason", None) or type(error).__name__).replace("_", " ").lower()
        raise CannotStart(f"{CERT} and {KEY} cannot be used: {reason}.") from None
    return context, found.not_valid_after_utc


def _read(path: Path, *, name: str) -> bytes:
    try:
        with open(path, "rb", opener=_at_once) as file:  # Path.open takes no opener
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CannotStart(f"{name}: it names no regular file.")
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or "it is no path").lower()
        raise CannotStart(f"{name}: the file cannot be read: {why}.") from None
    if len(data) > MAX_BYTES:
        raise CannotStart(f"{name}: the file is larger than {MAX_BYTES >> 20} MiB.")
    return data


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for whoever writes into a pipe: a renewal happens between requests."""
    return os.open(path, flags | os.O_NONBLOCK)


def _certificate(data: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(data)[0]
    except ValueError:
        raise CannotStart(f"{CERT}: the file holds no certificate in PEM format.") from None


def _private_key(data: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(data, password=None)
    except TypeError:
        raise CannotStart(f"{KEY}: the key wants a passphrase, which nobody could type; give it without one.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CannotStart(f"{KEY}: the file holds no private key in PEM format.") from None


def _public(key: PrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
