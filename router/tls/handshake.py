"""A TLS handshake over a connected socket, by callbacks, either role; a `router.tls.layer.TlsLayer` follows it.

Theory of operation. ``begin`` makes the OpenSSL object (a server waits with that until it has seen a ClientHello, so
that a connection which says nothing costs nothing). Then bytes go back and forth until OpenSSL is content: the layer
takes over the socket's transport, and ``opened`` names the protocol inside. Or it is not: ``failed`` is called, once,
and the socket is closed. Knows no deadline: whoever makes a handshake minds it, and calls ``abort``.
"""

from __future__ import annotations

import asyncio
import ssl

from router.tls.layer import TlsLayer


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
            self._over = True
            layer = TlsLayer(self.transport, self._tls, self._incoming, self._outgoing)
            self.transport.set_protocol(layer)
            layer.begin(self.opened(layer))

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
