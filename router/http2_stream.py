"""A stream of a client's HTTP/2 connection: what an exchange asks of its client, said in frames (RFC 9113 section 8).

Its head comes from the connection; bodies, trailers and ends are translated here, in both directions, and a stream that
becomes a tunnel (RFC 8441, CONNECT) is joined to its backend.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from wsproto.utilities import generate_accept_token

from router.heads import answers
from router.heads.answers import Answer, malformed
from router.heads.forwarding import RequestPlan
from router.heads.response_plan import ResponsePlan
from router.http1.recode import FromChunks
from router.http1.request import ASTERISK, RequestLine
from router.http2 import frames, translation
from router.http2.frames import SMALLEST_MAX_FRAME
from router.http2.hpack import Pair, encoded
from router.http2.stream import Stream
from router.http2.translation import Malformed
from router.http2_side import StreamSide
from router.http2_wire import TICK
from router.tunnel import Tunnel, TunnelEnd

if TYPE_CHECKING:
    from router.backend import BackendConnection
    from router.exchange import Exchange
    from router.http2_client import Http2Client

_REQUEST_ID: Final = encoded(b"x-vcap-request-id", bytes(36))[:-36]
"""All of that field but its value."""


class ClientStream(Stream):
    """Implements ``client_side.ClientSide``."""

    __slots__ = ("_body_left", "_early", "_exchange", "_key", "_recoder", "_unsent_seen", "side")

    connection: Http2Client

    def __init__(self, connection: Http2Client, number: int) -> None:
        super().__init__(connection, number)
        self._exchange: Exchange | None = None
        self._body_left = -1
        """Bytes of the request body to come, -1 where nobody said."""
        self._recoder: FromChunks | None = None
        self._unsent_seen = 0
        self._key = b""
        """Of the WebSocket handshake with the backend."""
        self._early = b""
        """What the client has sent for a tunnel that is not open yet: at most its window."""
        self.side: StreamSide | None = None
        """Once the stream is a tunnel."""

    version: Final = b"HTTP/2.0"
    inside: Final = False

    @property
    def origin(self) -> bytes:
        return self.connection.origin

    @property
    def forward_fields(self) -> bytes:
        return self.connection.forward_fields

    @property
    def cert_field(self) -> bytes:
        return self.connection.cert_field

    @property
    def ip(self) -> bytes:
        return self.connection.ip

    @property
    def scheme(self) -> bytes:
        return self.connection.scheme

    # The request ------------------------------------------------------------------------------------------------

    def begin(self, line: RequestLine, plan: RequestPlan, asks_for: int) -> None:
        connection = self.connection
        edge = connection.edge
        ended = self.remote_ended
        exchange = self._exchange = edge.exchange(edge, self, line, plan)
        if line.semicolons:
            exchange.deprecate_semicolons()
        if len(connection.streams) == 1:
            connection.deadline = min(exchange.started + TICK, connection._partial)
        if not ended:
            self.deadline = exchange.started + edge.progress_timeout
            self._body_left = plan.content_length
        if asks_for != translation.ORDINARY:
            self._begin_tunnel(exchange, asks_for)
        elif not plan.host and not plan.checks_health:
            exchange.refuse(answers.empty_host(), ended)
        elif line.form == ASTERISK:
            exchange.refuse(answers.options(), ended)
        elif edge.max_body and plan.content_length > edge.max_body:
            exchange.refuse(malformed(413, f"request body longer than {edge.max_body} bytes"), ended)
        else:
            try:
                exchange.begin(b"", ended)
            except Exception:
                exchange.panicked()
            if connection.crowded:
                self.pause_response()

    def _begin_tunnel(self, exchange: Exchange, asks_for: int) -> None:
        """CONNECT, extended or not: what the client sends from here on is not a body."""
        if not self.connection.edge.connect_allowed and asks_for == translation.CONNECT:
            exchange.refuse(answers.tunnels_disabled(), True)
        elif asks_for == translation.OTHER_PROTOCOL:
            exchange.refuse(answers.protocol_not_served(), True)
        elif exchange.plan.content_length > 0:
            exchange.refuse(malformed(400, "CONNECT with a body"), True)
        else:
            self.deadline = inf
            self._key = _key_of(exchange.plan)
            exchange.begin(b"", True)

    def refuse(self, answer: Answer) -> None:
        """Not even an exchange came of it."""
        edge = self.connection.edge
        self.connection.deadline = min(self.connection.deadline, monotonic() + TICK)
        edge.metrics.refused(answer)
        if edge.access_log is not None:
            edge.access_log.refused(self.origin, answer)
        self._send_answer(answer, b"", False)

    def take_headers(self, pairs: list[Pair] | None, end: bool) -> None:
        """Trailers (RFC 9113 section 8.1)."""
        try:
            if not end or pairs is None:
                raise Malformed("a header block in the middle of a body, or one that is too long")
            last = translation.trailer_chunk(pairs)
        except Malformed:
            self.connection.refuse(self.id, frames.PROTOCOL_ERROR)
            return
        if self.side is not None:
            self.side.take(b"", True)
        else:
            exchange = self._exchange
            self._take_body(b"", last if exchange is not None and exchange.plan.chunked else b"", True)

    def take_data(self, data: bytes, end: bool) -> None:
        exchange = self._exchange
        if self.side is not None:
            self.side.take(data, end)
        elif exchange is None:
            return
        elif exchange.request_complete:  # of a tunnel that is not open yet
            self._early += data
            self.hold()
        else:
            self._take_body(data, translation.chunk(data, end) if exchange.plan.chunked else data, end)

    def _take_body(self, data: bytes, piece: bytes, end: bool) -> None:
        """``piece`` is ``data`` as it crosses the router."""
        exchange = self._exchange
        if exchange is None:
            return
        edge = self.connection.edge
        exchange.request_bytes += len(data)
        if self._body_left >= 0:
            self._body_left -= len(data)
            if self._body_left < 0 or (end and self._body_left):  # RFC 9113 section 8.1.1
                self.connection.refuse(self.id, frames.PROTOCOL_ERROR)
                return
        if edge.max_body and exchange.request_bytes > edge.max_body:
            exchange.reject_rest(malformed(413, f"request body longer than {edge.max_body} bytes"))
            return
        self._mind()
        if piece or end:
            exchange.request_body(piece, end)

    def pause_request(self) -> None:
        self.hold()
        self._mind()

    def resume_request(self) -> None:
        if self.connection.crowded:  # the connection to the backend may be a new one
            self.pause_response()
        if self.held and not self._early:
            self.let_flow()
            self._mind()

    def _mind(self) -> None:
        """Time begins anew for what the client owes, the rest of its body or room for ours; it may owe nothing."""
        owes_body = not self.remote_ended and not self.held and self._exchange is not None
        owes = owes_body or self.unsent
        self.deadline = monotonic() + self.connection.edge.progress_timeout if owes else inf

    def take_reset(self, code: int) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()
        if self.side is not None and code != frames.NO_ERROR:
            self.side.error = ConnectionResetError(f"stream reset: {frames.error_name(code)}")

    # The response -----------------------------------------------------------------------------------------------

    def send_informational(self, plan: ResponsePlan) -> None:
        self._put_headers(translation.response_block(plan.head), False)

    def send_response(self, exchange: Exchange, plan: ResponsePlan, body: bytes, complete: bool, now: float) -> None:
        block = plan.http2
        if not block:
            block = plan.http2 = translation.response_block(plan.head)
        if not plan.has_request_id:
            block += _REQUEST_ID + exchange.id_field[19:-2]
        if not plan.has_date:
            block += translation.fields_block(self.connection.edge.date_field())
        if plan.bodiless or exchange.line.is_head:
            body = b""
        elif plan.chunked:
            self._recoder = FromChunks()
        if complete and not body:
            self._put_headers(block, True)
            self._over()
        else:
            self._put_headers(block, False)
            if body or complete:
                self.send_body(body, complete)

    def _put_headers(self, block: bytes, end: bool) -> None:
        flags = frames.END_STREAM if end else 0
        self.connection.put(frames.header_frames(self.id, block, flags, SMALLEST_MAX_FRAME))
        if end:
            self.end_local()

    def send_body(self, data: bytes, complete: bool) -> None:
        recoder = self._recoder
        if recoder is not None:
            data = recoder.recode(data, complete)
        if complete:
            if recoder is not None and recoder.trailers:
                if data:
                    self.send_data(data, False)
                self.send_trailers(translation.fields_block(recoder.trailers))
            else:
                self.send_data(data, True)
            self._over()
        elif data:
            self.send_data(data, False)

    def send_answer(self, exchange: Exchange, answer: Answer) -> None:
        self._send_answer(answer, _REQUEST_ID + exchange.id_field[19:-2], exchange.line.is_head)
        self._over()

    def _send_answer(self, answer: Answer, more: bytes, is_head: bool) -> None:
        edge = self.connection.edge
        rewriting = edge.rules.rewriting
        fields = translation.fields_block(rewriting.applied(answer.fields) + edge.date_field())
        if rewriting.hides_request_id:
            more = b""
        block = encoded(b":status", b"%d" % answer.status) + fields + more
        payload = b"" if is_head else answer.payload
        self._put_headers(block, not payload)
        if payload:
            self.send_data(payload, True)

    def _over(self) -> None:
        """The exchange is over; what is left of its response may still be waiting."""
        self._exchange = None
        self.connection.earn(2)
        if self.deadline != inf:
            self._mind()

    def end_local(self) -> None:
        """A response that is complete before its request ends the stream (RFC 9113 section 8.1)."""
        self.local_ended = True
        if self.remote_ended:
            self.connection.forget(self, forgiven=False)
        elif self.side is not None:
            self.side.local_ended()
        else:
            self.reset(frames.NO_ERROR)

    def break_off(self) -> None:
        self._exchange = None
        self.reset(frames.INTERNAL_ERROR)

    def stalled(self) -> None:
        if self.side is not None:
            self.side.stalled()
            return
        self._unsent_seen = len(self.unsent)
        self._mind()
        self.pause_response()
        self.connection.read_less()

    def pause_response(self) -> None:
        """Read no more of it from the backend."""
        if self._exchange is not None and self._exchange.backend is not None:
            self._exchange.backend.pause_response()

    def resume_response(self) -> None:
        """Read on, unless what was read is waiting still."""
        if not self.unsent and self._exchange is not None and self._exchange.backend is not None:
            self._exchange.backend.resume_response()

    def flowing(self) -> None:
        if self.side is not None:
            self.side.flowing()
            return
        self._mind()
        if not self.connection.crowded:
            self.resume_response()

    def expired(self, now: float) -> None:
        edge = self.connection.edge
        if self.unsent:
            if len(self.unsent) < self._unsent_seen:
                self._unsent_seen = len(self.unsent)
                self.deadline = now + edge.progress_timeout
            else:  # the client takes nothing any more
                self.reset(frames.CANCEL)
                self.take_reset(frames.CANCEL)
        elif self._exchange is not None and not self._exchange.request_complete and not self.held:
            edge.metrics.rejected_requests += 1
            self._exchange.reject_rest(answers.request_timeout())
        else:
            self.deadline = inf

    # Tunnels ----------------------------------------------------------------------------------------------------

    def open_tunnel(self, exchange: Exchange, head: bytes, backend: BackendConnection, first: bytes) -> None:
        if self._key:
            accept = _field(head, b"sec-websocket-accept")
            if accept != generate_accept_token(self._key):
                backend.abort()
                exchange.response_malformed("101 that does not accept this WebSocket")
                return
            block = translation.websocket_block(head)
        else:
            block = encoded(b":status", b"200") + _REQUEST_ID + exchange.id_field[19:-2]
        self._exchange = None
        self.deadline = inf
        edge = self.connection.edge
        broken = frames.CANCEL if self._key else frames.CONNECT_ERROR  # RFC 8441 section 5, RFC 9113 section 8.5
        side = self.side = StreamSide(self, edge.loop.call_soon, broken)
        ours = TunnelEnd(side, _nothing)
        theirs = backend.tunnel_end()
        Tunnel(edge, exchange, ours, theirs)
        self._put_headers(block, False)
        if first:
            theirs.data_received(first)
        early, self._early = self._early, b""
        if early:
            ours.data_received(early)
        if self.remote_ended:
            ours.eof_received()
        elif self.held and not theirs.stalled:
            self.let_flow()


def _nothing() -> None:
    """A stream is in no set of the edge's."""


def _key_of(plan: RequestPlan) -> bytes:
    return _field(plan.fields, b"sec-websocket-key") if plan.upgrade else b""


def _field(lines: bytes, wanted: bytes) -> bytes:
    """The value of the last field of that name; empty if there is none."""
    value = b""
    for line in lines.split(b"\r\n"):
        name, _, rest = line.partition(b":")
        if name.lower() == wanted:
            value = rest.strip(b" \t")
    return value
