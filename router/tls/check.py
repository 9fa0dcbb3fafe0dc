"""What is wrong with the TLS settings as a whole, said before anything starts: each line names the key and the fix."""

from __future__ import annotations

import ssl

from router.config.settings import Settings, TlsPem
from router.tls.certificates import read_entry
from router.tls.contexts import VERSIONS, UnknownCipher, cipher_names, server_context
from router.tls.pem import BadKeyPair, read_certificates, read_pair
from router.tls.subjects import subject_of, text_of, trusted_cas


def problems(settings: Settings) -> list[str]:
    """One line per thing to mend; empty if TLS can be served, to clients where asked for and to endpoints."""
    found = []
    try:
        cipher_names(settings.cipher_suites)
    except UnknownCipher as error:
        found.append(
            f"cipher_suites: {error} is no cipher suite up to TLS 1.2 that OpenSSL knows; remove it or mend its name "
            "(those of TLS 1.3 are always on)"
        )
    for number, pem in enumerate(settings.ca_certs):
        found += _trust_problem(f"ca_certs[{number}]", pem)
    if settings.client_ca_certs:
        found += _trust_problem("client_ca_certs", settings.client_ca_certs)
    for key, section in (("nats", settings.nats), ("routing_api", settings.routing_api)):
        if section.ca_certs:
            found += _trust_problem(f"{key}.ca_certs", section.ca_certs)
    for key, given in _own_certificates(settings):
        found += _own_problems(key, given)
    if settings.enable_ssl:
        found += _front_problems(settings, ready=not found)
    elif settings.disable_http:
        found.append("disable_http: without enable_ssl no traffic port is left; set enable_ssl or remove disable_http")
    return found


def _trust_problem(key: str, pem: str) -> list[str]:
    try:
        read_certificates(pem)
    except BadKeyPair as error:
        return [f"{key}: {error}; give one or more certificates, each with its BEGIN and END lines"]
    return []


def _own_certificates(settings: Settings) -> list[tuple[str, dict[str, str]]]:
    """Sections with a certificate that the router shows, but for those of the traffic port: two keys, two texts."""
    status = settings.status.tls
    found = [
        (name, {"cert_chain": section.cert_chain, "private_key": section.private_key})
        for name, section in (
            ("backends", settings.backends),
            ("route_services", settings.route_services),
            ("nats", settings.nats),
            ("routing_api", settings.routing_api),
        )
    ]
    return [*found, ("status.tls", {"certificate": status.certificate, "key": status.key})]


def _own_problems(section: str, given: dict[str, str]) -> list[str]:
    (cert, chain), (key, private) = given.items()
    if not chain and not private:
        return []
    if not chain or not private:
        there, missing = (cert, key) if chain else (key, cert)
        return [f"{section}.{missing} is not set, but {section}.{there} is; give both or neither"]
    try:
        read_pair(chain, private)
    except BadKeyPair as error:
        return [f"{section}.{key if error.part == 'key' else cert} {error}"]
    return []


def _front_problems(settings: Settings, *, ready: bool) -> list[str]:
    found = []
    if VERSIONS.index(settings.min_tls_version) > VERSIONS.index(settings.max_tls_version):
        found.append(f"min_tls_version: {settings.min_tls_version} is above max_tls_version; lower it")
    if (
        settings.client_cert_validation != "none"
        and settings.only_trust_client_ca_certs
        and not settings.client_ca_certs
    ):
        found.append(
            "client_ca_certs is not set, but only_trust_client_ca_certs says to trust nothing else; "
            "set client_ca_certs, or client_cert_validation: none"
        )
    found += _subject_problems(settings)
    if not settings.tls_pem:
        found.append(
            "tls_pem is empty, but enable_ssl needs a certificate; give an item with cert_chain and private_key, "
            "or with cert_file and key_file"
        )
    for number, entry in enumerate(settings.tls_pem):
        found += _entry_problems(f"tls_pem[{number}]", entry, settings, ready=ready and not found)
    return found


def _subject_problems(settings: Settings) -> list[str]:
    """A rule for a CA that signs nobody would let everybody in that it was meant to keep out."""
    if not settings.enable_verify_client_certificate_metadata:
        return []
    try:
        known = set(map(subject_of, trusted_cas(settings)))
    except BadKeyPair:
        return []  # said already, of client_ca_certs
    return [
        f"verify_client_certificate_metadata[{number}].issuer_in_chain: no CA in client_ca_certs has the subject "
        f"{text_of(rule.issuer_in_chain)}; mend the name, each field of it, or add the CA"
        for number, rule in enumerate(settings.verify_client_certificate_metadata)
        if rule.issuer_in_chain not in known
    ]


def _entry_problems(key: str, entry: TlsPem, settings: Settings, *, ready: bool) -> list[str]:
    if bool(entry.cert_file or entry.key_file) == bool(entry.cert_chain or entry.private_key):
        return [f"{key}: give cert_chain and private_key, or cert_file and key_file"]
    cert, private = ("cert_file", "key_file") if entry.cert_file or entry.key_file else ("cert_chain", "private_key")
    if "PRIVATE KEY" in entry.cert_chain:
        return [f"{key}.cert_chain: holds a private key, which would be shown; move it to private_key"]
    missing = [name for name in (cert, private) if not getattr(entry, name)]
    if missing:
        return [f"{key}.{missing[0]} is not set"]
    try:
        pair = read_entry(entry)
        if ready:
            server_context(settings, (pair,), ())
    except BadKeyPair as error:
        return [f"{key}.{private if error.part == 'key' else cert} {error}"]
    except OSError as error:
        if isinstance(error, ssl.SSLError):
            return [f"{key}.{cert}: OpenSSL refuses it: {error.reason or error}"]
        return [f"{key}: cannot read {error.filename}: {error.strerror}"]
    return []
