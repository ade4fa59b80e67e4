"""Certificates made for a test: a chain of one, signed by itself, for localhost and 127.0.0.1."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, in PEM format."""

    cert: bytes
    key: bytes
    locked_key: bytes
    serial: int

    def write(self, cert: Path, key: Path) -> None:
        """Put both in place, each at once, as those do that renew certificates."""
        for path, data in ((key, self.key), (cert, self.cert)):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(data)
            fresh.replace(path)


def make_pair() -> Pair:
    """A fresh pair."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"firstline {serial}")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain, locked = (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)
        for how in (NoEncryption(), BestAvailableEncryption(b"pass phrase"))
    )
    return Pair(cert.public_bytes(Encoding.PEM), plain, locked, serial)


def trusting(*pairs: Pair) -> ssl.SSLContext:
    """What a careful client uses, which trusts these certificates alone."""
    return ssl.create_default_context(cadata="".join(pair.cert.decode() for pair in pairs))
