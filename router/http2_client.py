"""An HTTP/2 connection from a client (RFC 9113): every stream is an exchange of its own.

Theory of operation. A header block becomes the HTTP/1.1 head that says the same (`router.http2.translation`) and
so a plan; the stream it opens is the exchange's ``ClientSide``. Blocks that a client repeats are looked up by their
bytes, for as long as its compression table stays what it was.

    HEADERS --> stream --begin--> exchange --send_response, send_body--> HEADERS, DATA, trailers
                  |                  |
                  |                  +-- 101 or CONNECT: the stream becomes one side of a tunnel
                  +-- RST_STREAM, end of the connection: exchange.client_gone

A drain is said twice (section 6.8): first that the router is leaving, and once the client must have heard that, which
stream was the last. The connection closes when its last stream is over.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from wsproto.utilities import generate_nonce

from router.heads import client_cert
from router.heads.answers import malformed
from router.heads.forwarding import RequestPlan, forwarded_from, origin
from router.http1.grammar import BadMessage
from router.http1.request import RequestLine
from router.http2 import frames, translation
from router.http2.connection import CONNECTION_WINDOW
from router.http2.frames import DEFAULT_WINDOW, LARGEST_WINDOW, PREFACE
from router.http2.stream import Fault
from router.http2.translation import Malformed, RequestHead
from router.http2_stream import ClientStream
from router.http2_wire import Http2Wire

if TYPE_CHECKING:
    import asyncio

    from router.edge import Edge, Minded

REMEMBERED: Final = 64
"""How many header blocks are remembered per connection; then the memory starts anew."""
REMEMBERED_BYTES: Final = 512
"""Longer ones are not remembered."""
REMEMBERED_TEXT: Final = 2048
"""Nor are those that stand for more than this: one octet may stand for kilobytes."""
UNSENT: Final = 1024 * 1024
"""Bytes of responses that may wait for one client's windows; beyond, no further backend is read for it."""

Head = tuple[RequestLine, RequestPlan, int]
"""A request, and what it asks for beyond an ordinary one."""


class Http2Client(Http2Wire["ClientStream"]):
    __slots__ = (
        "_crowded",
        "_heads",
        "_heads_at",
        "_last_named",
        "_layer",
        "_leaving",
        "_open_heads",
        "_peer",
        "_preface",
        "cert_field",
        "forward_fields",
        "ip",
        "origin",
        "scheme",
    )

    def __init__(
        self, edge: Edge, peer: tuple[str, int] | None = None, scheme: bytes = b"http", layer: Minded | None = None
    ) -> None:
        super().__init__(edge, edge.request_limits.head)
        self._peer = peer or ("", 0)
        self._layer = layer
        self.scheme = scheme
        self.ip = b""
        self.origin = b":0"
        """``ip:port``."""
        self.forward_fields = b""
        self.cert_field = b""
        self._preface = PREFACE
        """What of the preface has not come yet."""
        self._heads: dict[bytes, Head] = {}
        """What blocks of requests without a body mean, while the compression table is at version ``_heads_at``."""
        self._open_heads: dict[bytes, Head] = {}
        """The same for requests that go on."""
        self._heads_at = 0
        self._crowded = False
        """Whether so much waits for the client's windows that no backend is read for it."""
        self._leaving = False
        """Whether GOAWAY has named the last stream."""
        self._last_named = LARGEST_WINDOW
        """Which it was."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP gives no other
        super().connection_made(transport)
        edge = self.edge
        peer = self._peer if self._peer[0] else transport.get_extra_info("peername")
        if peer:
            self._peer = peer
            self.ip, self.forward_fields = forwarded_from(peer[0], self.scheme)
            self.origin = origin(self.ip, peer[1])
        if edge.shows_client_certs and self.scheme == b"https":
            self.cert_field = client_cert.own_line(transport)
            self.forward_fields += client_cert.lines(edge.rules.client_cert_mode, b"", self.cert_field, tls=True)
        self.deadline = self.idle_until = monotonic() + edge.read_header_timeout
        admitted = True
        if self._layer is not None:
            edge.replace(self._layer, self)
            self._layer = None
        else:
            admitted = edge.admit(self)
        values = {
            frames.SETTINGS_MAX_CONCURRENT_STREAMS: edge.max_streams,
            frames.SETTINGS_MAX_HEADER_LIST_SIZE: edge.request_limits.head,
        }
        if edge.connect_allowed:
            values[frames.SETTINGS_ENABLE_CONNECT_PROTOCOL] = 1
        self.put(frames.settings(values))
        self.receive_window = CONNECTION_WINDOW
        self.put(frames.window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW))
        if not admitted:
            self.fail(Fault(frames.REFUSED_STREAM, "this router has reached its connection limit"))
        elif edge.draining:
            self.begin_drain()

    def data_received(self, data: bytes) -> None:
        if self._preface and not self._over:
            expected, self._preface = self._preface, self._preface[len(data) :]
            if not data.startswith(expected[: len(data)]):
                self.fail(Fault(frames.PROTOCOL_ERROR, "this is not the preface of HTTP/2"))
                return
            data = data[len(expected) :]
            if self._preface or not data:
                return
        super().data_received(data)

    # Streams ----------------------------------------------------------------------------------------------------

    def new_stream(self, number: int, block: bytes, end: bool) -> None:
        if not number & 1:
            raise Fault(frames.PROTOCOL_ERROR, "a client's stream with an even number")
        self.newest = number
        head = (self._heads if end else self._open_heads).get(block)
        if head is None:
            try:
                head = self._understand(block, end)
            except Malformed:
                self.edge.metrics.requests += 1
                self.edge.metrics.rejected_requests += 1
                self.edge.metrics.without_lookup += 1
                self.refuse(number, frames.PROTOCOL_ERROR)
                return
            except BadMessage as bad:
                if self._has_room(number):
                    self._open(number, end).refuse(malformed(bad.status, bad.reason))
                return
        if self._has_room(number):
            self._open(number, end).begin(*head)

    def _has_room(self, number: int) -> bool:
        """Whether the stream may be opened; if not, it is refused."""
        if len(self.streams) < self.edge.max_streams and not self._leaving:
            return True
        self.refuse(number, frames.REFUSED_STREAM)
        return False

    def _open(self, number: int, end: bool) -> ClientStream:
        stream = self.streams[number] = ClientStream(self, number)
        stream.remote_ended = end
        return stream

    def _understand(self, block: bytes, end: bool) -> Head:
        """Raises Malformed, BadMessage, CompressionError."""
        edge = self.edge
        pairs = self.decoder.decode(block)
        if self.decoder.version != self._heads_at:
            self._heads_at = self.decoder.version
            self._heads.clear()
            self._open_heads.clear()
            worth_keeping = False
        else:
            worth_keeping = len(block) <= REMEMBERED_BYTES
        if pairs is None:
            raise BadMessage(431, f"request head longer than {edge.request_limits.head} bytes")
        text = translation.request_head(pairs, end)
        line = edge.request_lines.get(text.line) or edge.remember_line(text.line)
        if text.asks_for == translation.WEBSOCKET:
            line_plan = edge.rules.request_plan(_handshake(text))
            return line, line_plan, text.asks_for  # the handshake's key is this request's alone
        plan = edge.request_plans.get(text.block) or edge.remember_request(text.block)
        head = (line, plan, text.asks_for)
        if worth_keeping and len(text.line) + len(text.block) <= REMEMBERED_TEXT:
            heads = self._heads if end else self._open_heads
            if len(heads) >= REMEMBERED:
                heads.clear()
            heads[block] = head
        return head

    def stream_forgotten(self, stream: ClientStream) -> None:
        if stream.side is not None:
            stream.side.over()
        if self._crowded:
            self._read_on_if_room()
        if not self.streams and not self._over:
            if self._leaving:
                self.end()
            else:
                self.idle_until = monotonic() + self.edge.idle_timeout
                self.deadline = min(self.idle_until, self._partial)

    def pump_waiting(self) -> None:
        super().pump_waiting()
        if self._crowded:
            self._read_on_if_room()

    def _too_much_unsent(self) -> bool:
        return sum([len(stream.unsent) for stream in self.streams.values()]) > UNSENT

    def read_less(self) -> None:
        """A stream has stalled: if too much is waiting now, stop reading for all the others, too."""
        if not self._crowded and self._too_much_unsent():
            self._crowded = True
            for stream in self.streams.values():
                stream.pause_response()

    def _read_on_if_room(self) -> None:
        if not self._too_much_unsent():
            self._crowded = False
            for stream in list(self.streams.values()):
                stream.resume_response()

    @property
    def crowded(self) -> bool:
        """Whether a stream that begins is not to be read for yet."""
        return self._crowded

    # Ends -------------------------------------------------------------------------------------------------------

    def reset_all(self) -> None:
        for stream in list(self.streams.values()):
            self.forget(stream, forgiven=True)
            stream.take_reset(frames.INTERNAL_ERROR)

    def go_away(self, last_stream: int) -> None:
        if not self.streams:
            self._leaving = True
            self.end()

    def fail(self, fault: Fault) -> None:
        self._last_named = min(self.newest, self._last_named)
        self.put(frames.goaway(self._last_named, fault.code, fault.why))
        self.end()

    def begin_drain(self) -> None:
        """Tell the client that the router is leaving (section 6.8)."""
        if not self._over:
            self.put(frames.goaway(LARGEST_WINDOW, frames.NO_ERROR, ""))
            self.put(frames.ping(b"draining"))

    def ping_answered(self) -> None:
        if self.edge.draining:
            self._leave()

    def _leave(self) -> None:
        if not self._leaving and not self._over:
            self._leaving = True
            self._last_named = self.newest
            self.put(frames.goaway(self.newest, frames.NO_ERROR, ""))
            if not self.streams:
                self.end()

    @property
    def is_idle(self) -> bool:
        return not self.streams

    def close_if_idle(self) -> None:
        """For a drain: close unless a stream is open, and let no new one begin."""
        self._leave()

    def idle_too_long(self) -> None:
        if self.blocked:
            self.transport.abort()
        else:
            self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self.edge.forget_client(self)
        self._over = self._shut = True
        self.reset_all()


def _handshake(head: RequestHead) -> bytes:
    """The field lines of the HTTP/1.1 handshake that asks for the same WebSocket (RFC 8441 section 5)."""
    lines = head.block[:-2]
    if b"sec-websocket-key:" in lines:  # means nothing here, and must not stand beside ours
        lines = b"".join(line for line in lines.splitlines(keepends=True) if not line.startswith(b"sec-websocket-key:"))
    return b"%bConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: %b\r\n" % (lines, generate_nonce())
