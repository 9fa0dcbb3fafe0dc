"""Reads certificates and keys from PEM, checks them against each other, and finds the names of a certificate.

Parsing only; chooses nothing and opens no connection. Only what must know names imports this: the library behind it
costs every process 12 MiB. A private key must never appear in a message that starts here.
"""

from __future__ import annotations

import warnings
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from router.tls.key_pair import KeyPair


class BadKeyPair(ValueError):
    """Certificate or key cannot be used; ``part`` says which (``cert`` or ``key``), the message why."""

    def __init__(self, part: str, why: str) -> None:
        super().__init__(why)
        self.part = part


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
