"""TLS for the pages of the supervisor: versions 1.2 and 1.3, and where scrapers must show who they are, both ways."""

from __future__ import annotations

import ssl

from router.tls.contexts import DEFAULT_CIPHERS, HTTP1
from router.tls.key_pair import install


def pages_context(chain: str, key: str, trusted: str = "") -> ssl.SSLContext:
    """All PEM. With ``trusted``, a client must show a certificate that one of these CAs signed. Raises ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(DEFAULT_CIPHERS)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([HTTP1])
    install(chain, key, context)
    if trusted:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=trusted)
    return context
