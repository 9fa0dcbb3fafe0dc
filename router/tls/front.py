"""TLS towards clients: one handshake, from the first byte to the HTTP connection that follows it.

What OpenSSL through Python cannot do is done here before OpenSSL sees a byte: a client whose protocols (ALPN) are none
of ours is told so (RFC 7301 section 3.2), and one that speaks plain HTTP is told that as well. A handshake that does
not get on is closed at its deadline by the edge's sweep; until a ClientHello is whole, all it costs is the bytes sent.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

from router.tls.client_hello import MAX_BYTES, NotTls, parse_client_hello
from router.tls.contexts import H2
from router.tls.handshake import Handshake, PeerRefused
from router.tls.layer import TlsLayer

if TYPE_CHECKING:
    from router.edge import Edge, Minded
    from router.tls.certificates import Certificates
    from router.tls.subjects import SubjectRules

NO_APPLICATION_PROTOCOL: Final = b"\x15\x03\x01\x00\x02\x02\x78"
"""A fatal alert 120 as a whole record (RFC 8446 section 6)."""
PLAIN_HTTP: Final = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
"""As Go's server says it."""
_ALPN: Final = re.compile(rb"\x00\x10..\x00.", re.DOTALL).search
"""What the extension with a client's protocols begins with (RFC 7301 section 3.1), or what looks like it."""
_log = logging.getLogger("router.tls")
_LETTERS: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _is_one_record(data: bytes) -> bool:
    """Whether all of the first record is here and holds all of the first message (RFC 8446 sections 4 and 5.1)."""
    record = int.from_bytes(data[3:5], "big")
    return len(data) >= 5 + record and int.from_bytes(data[6:9], "big") + 4 <= record


class TlsFront:
    """What the handshakes of one listener share."""

    def __init__(
        self,
        edge: Edge,
        certificates: Certificates,
        protocols: Sequence[str],
        timeout: float,
        subjects: SubjectRules | None = None,
    ) -> None:
        """``protocols`` for ALPN; with none of them, whatever a client offers is ignored. ``timeout`` in seconds."""
        self.edge = edge
        self.certificates = certificates
        self.protocols = frozenset(name.encode() for name in protocols)
        self.timeout = timeout
        self.subjects = subjects
        """What the certificates of clients have to say besides being good."""
        self._marks = tuple(bytes((len(name),)) + name for name in self.protocols)

    def accept(self, peer: tuple[str, int] | None = None, layer: Minded | None = None) -> FrontHandshake:
        """The protocol of a new connection; ``peer`` and ``layer`` as in ``Edge.client``."""
        return FrontHandshake(self, peer, layer)

    def agrees(self, data: bytes) -> bool | None:
        """Whether a protocol can be agreed on with the client that begins so. None: more bytes are needed."""
        if not self.protocols or any(mark in data for mark in self._marks):
            return True  # the marks stand somewhere: if not in the list of protocols after all, HTTP/1.1 is spoken
        if _is_one_record(data) and not _ALPN(data):
            return True
        try:
            hello = parse_client_hello(data)
        except NotTls:
            return True  # OpenSSL finds the right alert
        if hello is None:
            return None if len(data) < MAX_BYTES else True
        return hello.alpn is None or not self.protocols.isdisjoint(hello.alpn)


class FrontHandshake(Handshake):
    """Minded by the edge until its place is taken by the connection that follows."""

    __slots__ = ("_begun", "_front", "_hello", "_layer", "_peer", "deadline", "shard")

    def __init__(self, front: TlsFront, peer: tuple[str, int] | None, layer: Minded | None) -> None:
        super().__init__()
        self._front = front
        self._peer = peer
        self._layer = layer
        self._hello = b""
        self._begun = False
        self.deadline = monotonic() + front.timeout
        """Monotonic seconds; the edge's sweep calls ``expired`` after it."""
        self.shard = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP gives no other
        super().connection_made(transport)
        edge = self._front.edge
        if self._layer is not None:
            edge.replace(self._layer, self)
            self._layer = None
        elif not edge.admit(self):
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self._begun:
            self.advance(data)
            return
        if self._over:
            return
        data = self._hello + data
        agrees = self._front.agrees(data)
        if data[0] in _LETTERS:
            self._refuse(PLAIN_HTTP, "the client speaks plain HTTP")
        elif agrees is None:
            self._hello = data
        elif not agrees:
            self._refuse(NO_APPLICATION_PROTOCOL, "no protocol in common")
        else:
            self._hello = b""
            self._begun = True
            self.begin(self._front.certificates.context, server_side=True)
            self.advance(data)

    def _refuse(self, last_words: bytes, why: str) -> None:
        self._begun = True
        self.transport.write(last_words)
        self.fail(ssl.SSLError(why))

    def opened(self, layer: TlsLayer) -> asyncio.Protocol:
        edge = self._front.edge
        edge.metrics.tls_handshakes += 1
        edge.metrics.tls_handshakes_resumed += layer.resumed
        if layer.alpn == H2:
            return edge.http2_client(self._peer, b"https", self)
        return edge.client(self._peer, b"https", self)

    def objection(self) -> str:
        subjects = self._front.subjects
        return subjects.objection(self._tls) if subjects is not None else ""

    def failed(self, error: Exception) -> None:
        if isinstance(error, PeerRefused):
            data = {"client": self._peer or self.transport.get_extra_info("peername"), "why": str(error)}
            _log.info("client-certificate-refused", extra={"data": data})
        if self._begun or self._hello:  # else somebody only looked whether the port is open
            self._front.edge.metrics.tls_handshakes_failed += 1

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._front.edge.forget_client(self)

    def expired(self, now: float) -> None:
        """Too slow, or it does not read why it was refused."""
        if not self._over:
            self._front.edge.metrics.tls_handshakes_timed_out += 1
        self.abort()

    @property
    def is_idle(self) -> bool:
        return not self._begun and not self._hello

    def close_if_idle(self) -> None:
        """For a drain: nothing was sent yet, so nothing is lost."""
        if self.is_idle:
            self.transport.close()
