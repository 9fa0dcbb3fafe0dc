"""A TLS handshake over a connected socket, by callbacks, either role; a `router.tls.layer.TlsLayer` follows it.

Theory of operation. ``begin`` makes the OpenSSL object (a server waits with that until it has seen a ClientHello, so
that a connection which says nothing costs nothing). Then bytes go back and forth until OpenSSL is content: the layer
takes over the socket's transport, and ``opened`` names the protocol inside. Or it is not: ``failed`` is called, once,
and the socket is closed. Knows no deadline: whoever makes a handshake minds it, and calls ``abort``.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Final

from router.tls.layer import TlsLayer

_BAD_CERTIFICATE: Final = b"\x15\x03\x03\x00\x02\x02\x2a"
"""A fatal alert 42 as a whole record (RFC 5246 section 7.2)."""
_MISPLACED: Final = b"\x16\x03\x03\x00\x01\x00"
"""A record of the handshake in the clear, after it."""


class PeerRefused(Exception):
    """The peer's certificate is good, but it is not to be let in; the message says why."""


class HandshakeFailed(Exception):
    """The connection ended in the middle of the handshake."""


class Handshake(asyncio.Protocol):
    """One side of a handshake under way. Subclasses say what comes of it."""

    __slots__ = ("_incoming", "_outgoing", "_over", "_tls", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before any use, by connection_made
        self._tls: ssl.SSLObject
        self._incoming: ssl.MemoryBIO
        self._outgoing: ssl.MemoryBIO
        self._over = False

    def opened(self, layer: TlsLayer) -> asyncio.Protocol:
        """The handshake is complete; returns the protocol for the inside, or calls the layer's ``abort``."""
        raise NotImplementedError

    def objection(self) -> str:
        """Why the peer, whose certificate is good, is refused all the same; empty if it is not. For subclasses."""
        return ""

    def failed(self, error: Exception) -> None:
        """It is not, and will not be: ssl.SSLError, HandshakeFailed, or what the socket said."""
        raise NotImplementedError

    def begin(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """Start to speak TLS. A name that cannot be one counts as a failed handshake."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        try:
            self._tls = context.wrap_bio(
                self._incoming,
                self._outgoing,
                server_side=server_side,
                server_hostname=server_hostname,
                session=session,
            )
        except ValueError as error:  # UnicodeError among them
            self.fail(error)
            return
        if not server_side:
            self.advance(b"")

    def advance(self, data: bytes) -> None:
        """More bytes from the peer."""
        if self._over:
            return
        self._incoming.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()
            self.fail(error)
        else:
            if objection := self.objection():
                self._refuse_peer(objection)
                return
            self._over = True
            layer = TlsLayer(self.transport, self._tls, self._incoming, self._outgoing)
            self.transport.set_protocol(layer)
            layer.begin(self.opened(layer))

    def _refuse_peer(self, why: str) -> None:
        """Let the handshake fail although OpenSSL has completed it.

        In TLS 1.2 the peer still waits for our last message, so the alert that Go sends can go in its place, in the
        clear as everything before that message. In TLS 1.3 the peer is through, and Python has no call to send an alert
        of our choice: OpenSSL is shown a record that has no place there, upon which it sends a fatal one.
        """
        if self._tls.version() == "TLSv1.3":
            self._incoming.read()
            self._incoming.write(_MISPLACED)
            with suppress(ssl.SSLError):
                self._tls.read(1)
            self._flush()
        else:
            self._outgoing.read()
            self._outgoing.write(_BAD_CERTIFICATE)
            self._flush()
        self.fail(PeerRefused(why))

    def _flush(self) -> None:
        if self._outgoing.pending and not self.transport.is_closing():
            self.transport.write(self._outgoing.read())

    def fail(self, error: Exception) -> None:
        """Close the socket and tell, unless it is over already."""
        if self._over:
            return
        self._over = True
        if self.transport is not None:
            self.transport.close()
        self.failed(error)

    def abort(self) -> None:
        """Close at once; ``failed`` is not called."""
        self._over = True
        self.transport.abort()

    # From the socket --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP gives no other
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.advance(data)

    def eof_received(self) -> bool:
        self.fail(HandshakeFailed("EOF"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(exc or HandshakeFailed("EOF"))
