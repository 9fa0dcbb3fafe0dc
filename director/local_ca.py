"""A certificate authority for one machine: made once, and certificates of it that are renewed before they end.

What is kept in its folder: ``ca.pem`` (to be trusted), ``ca-key.pem``, ``cert.pem`` (the served certificate, with the
authority's behind it) and ``key.pem``. Folder 0700, files 0600. It must never replace an authority that is still valid,
nor sign for a name that it was not made for: it carries name constraints (RFC 5280 section 4.2.1.10), so that whoever
trusts it trusts it for these names alone.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 90
RENEW_DAYS: Final = 30
"""A certificate with less left than this is replaced."""
AUTHORITY_NAME: Final = "Millrace development CA"
_SKEW: Final = timedelta(hours=1)
"""Valid from a little before now, for clients whose clock is behind."""
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class InvalidAuthority(Exception):
    """The folder holds files that are not a certificate authority; the message names what to remove."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server needs, and what its clients do: paths of PEM files."""

    chain: Path
    key: Path
    authority: Path


@dataclass(frozen=True, slots=True)
class LocalAuthority:
    """The authority of one folder, for ``names``: DNS names (``*.`` covers one label) and IP addresses."""

    folder: Path
    names: Sequence[str]

    @property
    def identity(self) -> Identity:
        return Identity(self.folder / "cert.pem", self.folder / "key.pem", self.folder / "ca.pem")

    def ensure(self, now: datetime | None = None) -> bool:
        """Make or renew what is missing or ends soon; whether anything changed. ``now`` is aware; None: the clock's.

        Raises InvalidAuthority; OSError: the folder cannot be used.
        """
        now = now or datetime.now(UTC)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        held = self._read_authority()
        if held is None or held[0].not_valid_after_utc - now < timedelta(days=CERTIFICATE_DAYS):
            held = self._make_authority(now)
        elif self._still_good(held[0], now):
            return False
        self._make_certificate(*held, now)
        return True

    def renewal(self) -> datetime:
        """When the certificate is due to be replaced. Raises OSError, ValueError: there is none that can be read."""
        leaf = x509.load_pem_x509_certificate(self.identity.chain.read_bytes())
        return leaf.not_valid_after_utc - timedelta(days=RENEW_DAYS)

    def _read_authority(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
        key_path = self.folder / "ca-key.pem"
        try:
            certificate = x509.load_pem_x509_certificate(self.identity.authority.read_bytes())
            key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InvalidAuthority(
                f"{self.folder} holds no certificate authority ({error}): remove that folder"
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise InvalidAuthority(f"{key_path} is not the key of {self.identity.authority}: remove {self.folder}")
        return certificate, key

    def _still_good(self, authority: x509.Certificate, now: datetime) -> bool:
        """Whether the certificate there is the authority's, is for these names, has its key, and does not end soon."""
        try:
            leaf = x509.load_pem_x509_certificate(self.identity.chain.read_bytes())
            key = serialization.load_pem_private_key(self.identity.key.read_bytes(), None)
            leaf.verify_directly_issued_by(authority)
            alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        return (
            key.public_key() == leaf.public_key()
            and list(alternatives) == _alternatives(self.names)
            and leaf.not_valid_after_utc - now > timedelta(days=RENEW_DAYS)
        )

    def _make_authority(self, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, AUTHORITY_NAME)])
        certificate = (
            _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.NameConstraints(_permitted(self.names), None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(self.folder / "ca-key.pem", _pem_of(key))
        _write(self.identity.authority, certificate.public_bytes(serialization.Encoding.PEM))
        return certificate, key

    def _make_certificate(
        self, authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey, now: datetime
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.names[0])])
        issuer_key = authority_key.public_key()
        leaf = (
            _builder(subject, authority.subject, key.public_key(), now, CERTIFICATE_DAYS)
            .add_extension(x509.SubjectAlternativeName(_alternatives(self.names)), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
            .sign(authority_key, hashes.SHA256())
        )
        encoding = serialization.Encoding.PEM
        _write(self.identity.key, _pem_of(key))
        _write(self.identity.chain, leaf.public_bytes(encoding) + authority.public_bytes(encoding))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _address(name: str) -> _Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    return [x509.IPAddress(address) if (address := _address(name)) else x509.DNSName(name) for name in names]


def _permitted(names: Sequence[str]) -> list[x509.GeneralName]:
    """The subtrees that hold all ``names``: a DNS name permits what is below it too (RFC 5280 section 4.2.1.10)."""
    roots = {name.removeprefix("*."): None for name in names if _address(name) is None}
    addresses = [ipaddress.ip_network(address) for name in names if (address := _address(name))]
    return [*(x509.DNSName(root) for root in roots), *(x509.IPAddress(network) for network in addresses)]


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, text: bytes) -> None:
    """Replace a file as a whole; it is nobody else's to read at any moment."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
