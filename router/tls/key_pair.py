"""One certificate with its key: read from PEM, checked against each other, and its names.

Parsing only; chooses nothing and opens no connection. A private key must never appear in a message, a log line or a
repr that starts here, nor lie in a file that others may read.
"""

from __future__ import annotations

import os
import ssl
import tempfile
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa


class BadKeyPair(ValueError):
    """Certificate or key cannot be used; ``part`` says which (``cert`` or ``key``), the message why."""

    def __init__(self, part: str, why: str) -> None:
        super().__init__(why)
        self.part = part


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate chain and the key of its first certificate, which belong together."""

    chain: str
    """PEM."""
    key: str = field(repr=False)
    """PEM, not encrypted."""
    names: tuple[str, ...]
    """DNS names, in lower case: the subject alternative names, or the common name where there are none of those."""
    kind: str
    """``rsa`` or ``ecdsa``."""
    expires: datetime
    """In UTC."""


def read_pair(chain: str, key: str) -> KeyPair:
    """From PEM. Raises BadKeyPair."""
    certificates = read_certificates(chain)
    certificate = certificates[0]
    try:
        private = serialization.load_pem_private_key(key.encode(), password=None)
    except TypeError:
        raise BadKeyPair("key", "is encrypted; give the key without a passphrase") from None
    except Exception as error:  # the library raises what it likes for what it cannot read
        raise BadKeyPair("key", f"is no private key in PEM ({type(error).__name__})") from None
    if isinstance(private, rsa.RSAPrivateKey):
        kind = "rsa"
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        kind = "ecdsa"
    else:
        raise BadKeyPair("key", "is neither an RSA nor an ECDSA key")
    if private.public_key() != certificate.public_key():
        raise BadKeyPair("key", "does not belong to the first certificate of the chain")
    only_certificates = "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in certificates)
    return KeyPair(only_certificates, key, _names(certificate), kind, _expiry(certificate))


def read_certificates(pem: str) -> list[x509.Certificate]:
    """All certificates in a PEM text, at least one. Raises BadKeyPair."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return x509.load_pem_x509_certificates(pem.encode())
    except Exception as error:
        raise BadKeyPair("cert", f"is no certificate in PEM ({type(error).__name__})") from None


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return tuple(str(attribute.value).lower() for attribute in common)
    except ValueError:
        raise BadKeyPair("cert", "has alternative names that cannot be read") from None
    return tuple(name.lower() for name in san.get_values_for_type(x509.DNSName))


def _expiry(certificate: x509.Certificate) -> datetime:
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=UTC)


def install(pair: KeyPair, context: ssl.SSLContext) -> None:
    """Put the pair into a context. Raises ssl.SSLError: OpenSSL finds it too weak.

    Python reads keys from files only, so this makes one: in memory where the system can, else for this user alone.
    """
    text = f"{pair.key.rstrip()}\n{pair.chain}".encode()
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("key-pair"), "wb") as file:
            file.write(text)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=_no_password)
    else:
        with tempfile.NamedTemporaryFile(mode="wb") as named:
            named.write(text)
            named.flush()
            context.load_cert_chain(named.name, password=_no_password)


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # without this, OpenSSL would ask at the terminal
