"""``verify_client_certificate_metadata``: under some CAs only certificates with certain subjects are good.

Follows gorouter reference 6.1. Asked once per handshake, after the chain of the client's certificate has been verified.
A rule holds where its CA is in the chain, or could be: above the last certificate that OpenSSL looked at there may be
further CAs of the configuration that have signed it. Names are compared field by field, the values of one field in
their order; what a name says beyond the fields that a rule may hold is not looked at. Opens no connection.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from router.config.settings import DistinguishedName, MetadataRule, Settings
from router.tls.pem import read_certificates

_LISTS: Final = {
    "country": NameOID.COUNTRY_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizational_unit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "province": NameOID.STATE_OR_PROVINCE_NAME,
    "street_address": NameOID.STREET_ADDRESS,
    "postal_code": NameOID.POSTAL_CODE,
}
_SINGLE: Final = {"common_name": NameOID.COMMON_NAME, "serial_number": NameOID.SERIAL_NUMBER}
REMEMBERED: Final = 16 * 1024
"""How many certificates that were let in are remembered; then the memory starts anew."""
_DER: Final = 2
"""What CPython's objects inside call it."""


class SubjectRules:
    """Of one router. ``cas``: the CAs of the configuration."""

    def __init__(self, rules: Iterable[MetadataRule], cas: Sequence[x509.Certificate]) -> None:
        self._allowed: dict[DistinguishedName, set[DistinguishedName]] = {}
        for rule in rules:
            self._allowed.setdefault(rule.issuer_in_chain, set()).update(rule.valid_cert_subjects)
        self._cas = cas
        self._issuers = lru_cache(64)(self._find_issuers)
        self._let_in: set[bytes] = set()
        """Digests of certificates."""

    @classmethod
    def from_settings(cls, settings: Settings) -> SubjectRules | None:
        """None where nothing is to be checked."""
        if not settings.enable_verify_client_certificate_metadata or not settings.verify_client_certificate_metadata:
            return None
        return cls(settings.verify_client_certificate_metadata, trusted_cas(settings))

    def objection(self, tls: ssl.SSLObject) -> str:
        """Why the client of a handshake that is complete may not go on; empty if it may.

        A resumed session has no chain, and in TLS 1.3 even a client that was refused may hold a ticket. So what was let
        in is remembered; for what is not, the chain must be found among the CAs of the configuration.
        """
        shown = tls.getpeercert(binary_form=True)
        if not shown:
            return ""
        key = sha256(shown).digest()
        if tls.session_reused:
            return "" if key in self._let_in else self.objection_to(shown, ()) or self._unknown(shown)
        objection = self.objection_to(shown, verified_chain(tls)[1:])
        if not objection:
            if len(self._let_in) >= REMEMBERED:
                self._let_in.clear()
            self._let_in.add(key)
        return objection

    def _unknown(self, shown: bytes) -> str:
        certificate = x509.load_der_x509_certificate(shown)
        known = any(ca == certificate or _has_signed(ca, certificate) for ca in self._cas)
        return "" if known else "the session is resumed, and nobody knows any more by which CA it began"

    def objection_to(self, shown: bytes, chain: Sequence[bytes]) -> str:
        """``shown`` and what leads from it to a CA that is trusted, all DER."""
        certificate = x509.load_der_x509_certificate(shown)
        issuers = self._issuers(tuple(chain)) if chain else self._ancestors([certificate])
        for issuer, allowed in self._allowed.items():
            if issuer in issuers and (subject := subject_of(certificate)) not in allowed:
                return f"subject {text_of(subject)} is not one of those allowed under {text_of(issuer)}"
        return ""

    def _find_issuers(self, chain: tuple[bytes, ...]) -> frozenset[DistinguishedName]:
        return self._ancestors([x509.load_der_x509_certificate(each) for each in chain])

    def _ancestors(self, certificates: list[x509.Certificate]) -> frozenset[DistinguishedName]:
        """The subjects of these and of all CAs of the configuration above them."""
        found = list(certificates)
        for certificate in found:
            found += [ca for ca in self._cas if ca not in found and _has_signed(ca, certificate)]
        return frozenset(map(subject_of, found))


def trusted_cas(settings: Settings) -> list[x509.Certificate]:
    """Those that rules can speak of. Raises BadKeyPair."""
    return read_certificates(settings.client_ca_certs) if settings.client_ca_certs else []


def subject_of(certificate: x509.Certificate) -> DistinguishedName:
    """What a certificate says whose it is; of a field that holds one value the last counts."""
    name = certificate.subject
    lists = {field: tuple(_values(name, oid)) for field, oid in _LISTS.items()}
    single = {field: (_values(name, oid) or [""])[-1] for field, oid in _SINGLE.items()}
    return DistinguishedName(**lists, **single)  # type: ignore[arg-type]  # each table has the fields of one kind


def text_of(name: DistinguishedName) -> str:
    """For messages: ``organization=a,common_name=b``."""
    said = [(field, getattr(name, field)) for field in (*_LISTS, *_SINGLE)]
    return ",".join(f"{field}={'+'.join(v) if isinstance(v, tuple) else v}" for field, v in said if v) or "(empty)"


def verified_chain(tls: Any) -> list[bytes]:
    """Of the peer's certificate, DER, its own first. Python says it since 3.13; before, the object inside knows."""
    if hasattr(tls, "get_verified_chain"):
        return list(tls.get_verified_chain())
    inside = tls._sslobj
    return [certificate.public_bytes(_DER) for certificate in inside.get_verified_chain() or ()]


def _values(name: x509.Name, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in name.get_attributes_for_oid(oid)]


def _has_signed(ca: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):  # another name, another kind of key, another key
        return False
    return True
