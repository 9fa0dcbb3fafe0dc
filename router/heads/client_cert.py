"""X-Forwarded-Client-Cert: whether a client's certificate is passed on, and whose word is taken for it (reference 6.4).

    mode             no certificate shown    certificate shown (mutual TLS)
    always_forward   the client's field      the client's field
    forward          removed                 the client's field
    sanitize_set     removed                 replaced by the certificate itself

What a route service sends back (``returned``: its signature was verified) carries what the router put in on the first
way, so that it is left alone where it came by TLS. The decision is ``treatment``, a pure function; the field of a
connection's own certificate is made once per connection.
"""

from __future__ import annotations

import asyncio
import base64
from enum import Enum
from typing import Final

ALWAYS_FORWARD: Final = "always_forward"
FORWARD: Final = "forward"
SANITIZE_SET: Final = "sanitize_set"
MODES: Final = (ALWAYS_FORWARD, FORWARD, SANITIZE_SET)
NAME: Final = b"x-forwarded-client-cert"


class Treatment(Enum):
    """What becomes of the lines that a client has sent."""

    KEEP = "keep"
    REMOVE = "remove"
    REPLACE = "replace"


def treatment(mode: str, *, mutual: bool, tls: bool, returned: bool = False) -> Treatment:
    """For a request by a connection that is ``tls`` or not, whose client has shown a certificate (``mutual``) or not.

    ``returned``: it is verified traffic back from a route service. Of such traffic ``forward`` removes the field
    always, so that applications never see what a route service may have made up.
    """
    if mode == ALWAYS_FORWARD:
        return Treatment.KEEP
    if mode == FORWARD:
        return Treatment.KEEP if mutual and not returned else Treatment.REMOVE
    if returned and tls:
        return Treatment.KEEP
    return Treatment.REPLACE if mutual else Treatment.REMOVE


def lines(mode: str, sent: bytes, own: bytes, *, tls: bool, returned: bool = False) -> bytes:
    """The field lines for the backend. ``sent``: the client's; ``own``: that of the certificate it has shown."""
    match treatment(mode, mutual=bool(own), tls=tls, returned=returned):
        case Treatment.KEEP:
            return sent
        case Treatment.REPLACE:
            return own
    return b""


def own_line(transport: asyncio.BaseTransport) -> bytes:
    """The field line of the certificate that the client of a TLS connection has shown; empty if it has shown none."""
    tls = transport.get_extra_info("ssl_object")
    shown = tls.getpeercert(True) if tls is not None else None
    return b"X-Forwarded-Client-Cert: %b\r\n" % base64.b64encode(shown) if shown else b""
