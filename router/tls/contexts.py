"""OpenSSL contexts from settings: which versions, which ciphers, whom to trust. The one place that configures OpenSSL.

Renegotiation and compression are off everywhere; resumption by tickets is on.
"""

from __future__ import annotations

import re
import ssl
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Final

from router.config.settings import Settings
from router.tls.key_pair import KeyPair, install

DEFAULT_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Up to TLS 1.2: forward secrecy and authenticated encryption, which RFC 9113 section 9.2.2 asks for as well."""
H2: Final = "h2"
HTTP1: Final = "http/1.1"

_VERSIONS: Final = {
    "TLSv1.0": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
VERSIONS: Final = tuple(_VERSIONS)
"""Oldest first."""
_CERTIFICATE: Final = re.compile("-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----", re.ASCII)
_MODES: Final = {"none": ssl.CERT_NONE, "request": ssl.CERT_OPTIONAL, "require": ssl.CERT_REQUIRED}


class UnknownCipher(ValueError):
    """The message names the cipher suite."""


def server_context(settings: Settings, pairs: Sequence[KeyPair], protocols: Sequence[str]) -> ssl.SSLContext:
    """For clients. ``pairs``: at most one per kind of key; ``protocols`` for ALPN, the preferred one first.

    Raises ssl.SSLError: a key that OpenSSL finds too weak.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _common(context, settings)
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE  # all of ours are strong: the client knows what it does fast
    _limit_versions(context, settings)
    context.num_tickets = 1  # as Go does: two cost every handshake, and serve only who opens two connections at once
    context.verify_mode = _MODES[settings.client_cert_validation]
    if context.verify_mode != ssl.CERT_NONE:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        trusted = [settings.client_ca_certs]
        if not settings.only_trust_client_ca_certs:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
            trusted += settings.ca_certs
        _trust(context, trusted)
    for pair in pairs:
        install(pair.chain, pair.key, context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def backend_context(settings: Settings, protocols: Sequence[str]) -> ssl.SSLContext:
    """For endpoints (gorouter reference 6.2): TLS 1.2 and 1.3, names by subject alternative names only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _common(context, settings)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as Go does: whatever is in the list is trusted
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    _trust(context, settings.ca_certs)
    if settings.backends.cert_chain:
        install(settings.backends.cert_chain, settings.backends.private_key, context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def service_context(settings: Settings) -> ssl.SSLContext:
    """For route services (gorouter reference 6.3): the versions that clients are offered, and maybe no check at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _common(context, settings)
    _limit_versions(context, settings)
    context.hostname_checks_common_name = False
    if settings.skip_ssl_validation:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        _trust(context, settings.ca_certs)
    if settings.route_services.cert_chain:
        install(settings.route_services.cert_chain, settings.route_services.private_key, context)
    return context


def platform_context(ca_certs: str, cert_chain: str, private_key: str) -> ssl.SSLContext:
    """For the platform's own services, NATS, the Routing API and the UAA (gorouter reference 6.3); all PEM.

    ``ca_certs`` empty: the system's. ``cert_chain`` empty: no certificate is shown. Raises ssl.SSLError: OpenSSL
    refuses one of them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM")
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if ca_certs:
        context.load_verify_locations(cadata=ca_certs)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if cert_chain:
        install(cert_chain, private_key, context)
    return context


def _common(context: ssl.SSLContext, settings: Settings) -> None:
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(_cipher_string(settings))


def _limit_versions(context: ssl.SSLContext, settings: Settings) -> None:
    if settings.min_tls_version in ("TLSv1.0", "TLSv1.1"):
        context.set_ciphers(f"{_cipher_string(settings)}:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # whoever sets TLS 1.0 in a file has been told by its name
        context.maximum_version = _VERSIONS[settings.max_tls_version]
        context.minimum_version = _VERSIONS[settings.min_tls_version]


def _trust(context: ssl.SSLContext, texts: Sequence[str]) -> None:
    certificates = [found for text in texts for found in _CERTIFICATE.findall(text)]
    if certificates:
        context.load_verify_locations(cadata="\n".join(certificates))


def _cipher_string(settings: Settings) -> str:
    return ":".join(cipher_names(settings.cipher_suites)) or DEFAULT_CIPHERS


def cipher_names(text: str) -> list[str]:
    """OpenSSL's names of cipher suites up to TLS 1.2, from a list of OpenSSL's or IANA's names with colons between.

    Raises UnknownCipher.
    """
    names = []
    for given in filter(None, (part.strip() for part in text.split(":"))):
        name = _openssl_name(given)
        if name not in _known_ciphers():
            raise UnknownCipher(given)
        names.append(name)
    return names


def _openssl_name(name: str) -> str:
    """``ECDHE-RSA-AES128-GCM-SHA256`` from ``TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256``; other names as they are."""
    if not name.startswith("TLS_"):
        return name
    exchange, _, cipher = name.removeprefix("TLS_").partition("_WITH_")
    cipher = re.sub(r"AES_(\d+)", r"AES\1", cipher).replace("_CBC_", "_")
    if cipher.startswith("CHACHA20_POLY1305"):
        cipher = "CHACHA20_POLY1305"
    return (cipher if exchange == "RSA" else f"{exchange}_{cipher}").replace("_", "-")


@cache
def _known_ciphers() -> frozenset[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return frozenset(cipher["name"] for cipher in context.get_ciphers() if not cipher["name"].startswith("TLS_"))
