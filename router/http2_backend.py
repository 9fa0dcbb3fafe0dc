"""An HTTP/2 connection to an endpoint that says ``protocol: http2``: many exchanges on one connection.

Theory of operation. Over TLS the protocol is offered by ALPN; without TLS it is spoken by prior knowledge (RFC 9113
section 3.3). Exchanges that come while the connection is being opened wait on it (``Awaited``). Requests and responses
are the HTTP/1.1 heads that the exchange knows, translated; bodies without a length cross the router in chunks.

    exchange --dial--> Awaited --open--> BackendStream: send_head --> HEADERS, DATA, trailers
                         |                    |
                         +-- no connection    +-- RST_STREAM, GOAWAY, end of the connection:
                             -> dial_failed       attempt_failed before the response's head, response_broken after it

A stream that its backend has certainly not looked at (above GOAWAY's last stream, REFUSED_STREAM) may be repeated
whatever its method (section 8.7).
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from router.backend import BackendConnection, added_lines, reason
from router.dialing import Dial, DialFailure
from router.heads.response_plan import ResponsePlan
from router.http1.grammar import BadMessage
from router.http1.recode import FromChunks
from router.http1.request import ABSOLUTE, RequestLine
from router.http2 import frames, translation
from router.http2.connection import CONNECTION_WINDOW, RESET_COST
from router.http2.frames import DEFAULT_WINDOW, LARGEST_WINDOW, PREFACE, SMALLEST_MAX_FRAME
from router.http2.hpack import Pair
from router.http2.stream import Fault, Stream
from router.http2.translation import Malformed
from router.http2_wire import TICK, Http2Wire

if TYPE_CHECKING:
    import asyncio

    from router.edge import Edge
    from router.exchange import Exchange
    from router.pool import Endpoint

AWAITED: Final = 100
"""How many exchanges may wait for one connection to open."""


class Awaited:
    """An exchange's place on a connection that is being opened."""

    __slots__ = ("connection", "exchange")

    def __init__(self, connection: Http2Backend, exchange: Exchange) -> None:
        self.connection = connection
        self.exchange = exchange

    def abort(self) -> None:
        """The exchange does not wait any more."""
        self.connection.forget_awaited(self)

    def pause_response(self) -> None:
        """There is none yet."""

    def resume_response(self) -> None:
        """As ``pause_response``."""


class Http2Backend(Http2Wire["BackendStream"]):
    """Implements ``dialing.Dialer``."""

    __slots__ = ("_awaited", "_dial", "_proven", "_retired", "endpoint")

    def __init__(self, edge: Edge, endpoint: Endpoint) -> None:
        super().__init__(edge, edge.response_limits.head)
        self.endpoint = endpoint
        self._awaited: list[Awaited] = []
        self._dial: Dial | None = Dial(edge, endpoint, self, http2=True)
        self._proven = False
        """Whether a response has come by it: what goes wrong later says nothing about the endpoint."""
        self._retired = False
        """Whether it takes no more exchanges."""
        endpoint.http2 = [*endpoint.http2, self]
        self._dial.begin_dial()

    # Opening ----------------------------------------------------------------------------------------------------

    def has_room(self) -> bool:
        if self._dial is not None:
            known = [other.peer_max_streams for other in self.endpoint.http2 if other.open]
            return len(self._awaited) < min(known, default=AWAITED)
        return len(self.streams) < self.peer_max_streams

    @property
    def open(self) -> bool:
        return self._dial is None

    def take(self, exchange: Exchange) -> BackendStream | Awaited:
        """A stream for the exchange, or the wait for one."""
        if self._dial is None:
            return self._open()
        awaited = Awaited(self, exchange)
        self._awaited.append(awaited)
        return awaited

    def forget_awaited(self, awaited: Awaited) -> None:
        if awaited in self._awaited:
            self._awaited.remove(awaited)

    def _open(self) -> BackendStream:
        self.newest += 2 if self.newest else 1
        if self.newest >= LARGEST_WINDOW:  # the last number there is (section 5.1.1)
            self.retire()
        stream = self.streams[self.newest] = BackendStream(self, self.newest)
        return stream

    def dialed(self, dial: Dial, http2: bool) -> asyncio.Protocol:
        self._dial = None
        opening = dial.opening()
        for awaited in self._awaited:
            awaited.exchange.note_opening(opening)
        if http2 or not self.endpoint.record.tls_port:
            self.edge.replace_backend(dial, self)
            return self
        return self._fall_back(dial)

    def _fall_back(self, dial: Dial) -> asyncio.Protocol:
        """The endpoint does not speak HTTP/2 after all: from now on nobody asks it to."""
        self.endpoint.http2 = ()
        self.endpoint.http1_only = True
        first = self._awaited.pop(0).exchange if self._awaited else None
        while self._awaited:
            self._awaited.pop(0).exchange.dial_again()
        if first is not None:
            return first.dialed(dial, False)
        unused = BackendConnection(self.edge, self.endpoint, None)
        self.edge.replace_backend(dial, unused)
        return unused

    def dial_failed(self, failure: DialFailure) -> None:
        self._dial = None
        self._over = self._shut = True
        self.retire()
        while self._awaited:  # one by one: what it brings about may end others, which then wait no longer
            self._awaited.pop(0).exchange.dial_failed(failure)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP gives no other
        super().connection_made(transport)
        edge = self.edge
        edge.metrics.backend_connections_opened += 1
        self.out.append(PREFACE)
        self.put(
            frames.settings(
                {frames.SETTINGS_ENABLE_PUSH: 0, frames.SETTINGS_MAX_HEADER_LIST_SIZE: edge.response_limits.head}
            )
        )
        self.receive_window = CONNECTION_WINDOW
        self.put(frames.window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW))
        self.deadline = self.idle_until = monotonic() + edge.backend_idle_timeout
        while self._awaited:
            self._awaited.pop(0).exchange.connected(self._open())
        if self._retired and not self.streams:
            self.end()
        self.flush()

    # Life -------------------------------------------------------------------------------------------------------

    def new_stream(self, number: int, _block: bytes, _end: bool) -> None:
        raise Fault(frames.PROTOCOL_ERROR, f"stream {number}, which nobody opened")

    def stream_forgotten(self, stream: BackendStream) -> None:
        if not self.streams and not self._over:
            if self._retired:
                self.end()
            else:
                self.idle_until = monotonic() + self.edge.backend_idle_timeout
                self.deadline = min(self.idle_until, self._partial)

    def stream_proved(self) -> None:
        """A response's head has come."""
        self._proven = True

    @property
    def proven(self) -> bool:
        return self._proven

    def ping_answered(self) -> None:
        """Nobody asked."""

    @property
    def is_idle(self) -> bool:
        return not self.streams and self._dial is None and not self._over

    def retire(self) -> None:
        """Take no more exchanges, and close when the last one is over."""
        self._retired = True
        self.endpoint.http2 = [other for other in self.endpoint.http2 if other is not self]
        if self.is_idle:
            self.end()

    def close(self) -> None:
        self.retire()

    def idle_too_long(self) -> None:
        self.retire()

    def go_away(self, last_stream: int) -> None:
        unseen = [stream for number, stream in self.streams.items() if number > last_stream]
        self.retire()
        for stream in unseen:
            if self.streams.get(stream.id) is stream:
                self.forget(stream, forgiven=True)
                stream.unseen("http2: server sent GOAWAY and closed the connection")

    def fail(self, fault: Fault) -> None:
        self.retire()
        for stream in list(self.streams.values()):
            self.forget(stream, forgiven=True)
            stream.broken(str(fault))
        super().fail(fault)

    def reset_all(self) -> None:
        for stream in list(self.streams.values()):
            self.forget(stream, forgiven=True)
            stream.take_reset(frames.INTERNAL_ERROR)

    def abort(self) -> None:
        """Close at once; nothing is told to any exchange."""
        self._over = self._shut = True
        self.streams.clear()
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = self._shut = True
        self.edge.forget(self)
        self.retire()
        text = f"read tcp {self.endpoint.address}: read: {reason(exc)}" if exc is not None else "EOF"
        for stream in list(self.streams.values()):
            self.forget(stream, forgiven=True)
            stream.lost(text, marks=exc is not None)


class BackendStream(Stream):
    """What an exchange asks of a backend connection, for one exchange."""

    __slots__ = ("_exchange", "_left", "_no_body", "_plan", "_recoder", "_started", "_unsent_seen")

    connection: Http2Backend

    def __init__(self, connection: Http2Backend, number: int) -> None:
        super().__init__(connection, number)
        self._exchange: Exchange | None = None
        self._started = 0.0
        self._plan: ResponsePlan | None = None
        """Of the final response, once its head has come."""
        self._left = -1
        """Bytes of the response's body to come, -1 where nobody said."""
        self._no_body = False
        self._recoder: FromChunks | None = None
        self._unsent_seen = 0

    # The request ------------------------------------------------------------------------------------------------

    def send_head(self, exchange: Exchange, body: bytes) -> None:
        """Begin the exchange; ``body`` is what there is of the body."""
        self._exchange = exchange
        self._started = exchange.began
        connection = self.connection
        edge = connection.edge
        plan = exchange.plan
        line = exchange.line
        scheme = b"https" if connection.endpoint.record.tls_port else b"http"
        fields = plan.http2
        if not fields:
            fields = plan.http2 = translation.fields_block(plan.fields)
        block = b"".join(
            (
                translation.request_block(line.method, _path(line), plan.host_field or b"", scheme),
                fields,
                translation.fields_block(added_lines(edge, exchange, connection.endpoint, b"")),
                exchange.own_block,
            )
        )
        complete = exchange.request_complete
        if plan.chunked:
            self._recoder = FromChunks()
        ended = complete and not body
        flags = frames.END_STREAM if ended else 0
        connection.put(frames.header_frames(self.id, block, flags, SMALLEST_MAX_FRAME))
        connection.earn(RESET_COST + 2)  # whatever becomes of it is what the backend was asked for
        self.local_ended = ended
        self._await_head(exchange)
        connection.deadline = min(connection.deadline, self._started + TICK)
        if not ended and (body or complete):
            self.send_body(body, complete)

    def send_body(self, data: bytes, complete: bool) -> None:
        """More of the request body; ``complete`` ends it, and the wait for the response begins."""
        recoder = self._recoder
        if recoder is not None:
            data = recoder.recode(data, complete)
        if complete and recoder is not None and recoder.trailers:
            if data:
                self.send_data(data, False)
            self.send_trailers(translation.fields_block(recoder.trailers))
        elif data or complete:
            self.send_data(data, complete)
        if complete and not self.unsent and self._exchange is not None:
            self._await_head(self._exchange)

    def _await_head(self, exchange: Exchange) -> None:
        edge = self.connection.edge
        until = self._started + edge.endpoint_timeout
        if self._plan is None:
            complete = exchange.request_complete
            self.deadline = min(until, monotonic() + edge.response_timeout) if complete else until

    def stalled(self) -> None:
        self._unsent_seen = len(self.unsent)
        self.deadline = min(self.deadline, monotonic() + self.connection.edge.progress_timeout)
        if self._exchange is not None:
            self._exchange.client.pause_request()

    def flowing(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            if self._plan is None:
                self._await_head(exchange)
            else:
                self._await_body(monotonic())
            if not exchange.request_complete:
                exchange.client.resume_request()

    # The response -----------------------------------------------------------------------------------------------

    def take_headers(self, pairs: list[Pair] | None, end: bool) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        edge = self.connection.edge
        try:
            if pairs is None:
                raise BadMessage(502, "http2: response header list larger than advertised limit")
            if self._plan is not None:
                self._take_trailers(exchange, self._plan, pairs, end)
                return
            text = translation.response_head(pairs, end)
            plan = edge.response_plans.get(text) or edge.remember_response(text)
            if plan.status < 200:
                if end:
                    raise Malformed("an interim response that ends the stream")
                exchange.informational(plan)
                return
            self._no_body = plan.bodiless or exchange.line.is_head
            self._left = -1 if self._no_body else plan.content_length
            if end and self._left > 0:
                raise Malformed("content-length without content")
        except (Malformed, BadMessage) as error:
            self._give_up(str(error))
            return
        self._plan = plan
        self.connection.stream_proved()
        now = monotonic()
        if end:
            self._complete()
        else:
            self._await_body(now)
        exchange.respond(plan, b"", end, now)

    def _take_trailers(self, exchange: Exchange, plan: ResponsePlan, pairs: list[Pair], end: bool) -> None:
        """Raises Malformed."""
        last = translation.trailer_chunk(pairs)
        if not end or self._left > 0:
            raise Malformed("trailers in the middle of a body")
        self._complete()
        exchange.more(last if plan.chunked and not self._no_body else b"", True)

    def take_data(self, data: bytes, end: bool) -> None:
        exchange, plan = self._exchange, self._plan
        if exchange is None:
            return
        if plan is None or (data and self._no_body):
            self._give_up("DATA that belongs to no response")
            return
        if self._left >= 0:
            self._left -= len(data)
            if self._left < 0 or (end and self._left):
                self._give_up("a body of another length than its content-length")
                return
        if plan.chunked and not self._no_body:
            data = translation.chunk(data, end)
        if end:
            self._complete()
            exchange.more(data, True)
        elif data:
            self._await_body(monotonic())
            exchange.more(data, False)

    def _await_body(self, now: float) -> None:
        edge = self.connection.edge
        self.deadline = min(now + edge.progress_timeout, self._started + edge.endpoint_timeout)

    def _complete(self) -> None:
        """The response is whole; what is left of the request is nobody's."""
        self._exchange = None
        self.deadline = inf
        if not self.local_ended:
            self.reset(frames.NO_ERROR)

    def pause_response(self) -> None:
        """The client reads more slowly than the backend sends."""
        if self._exchange is not None:
            self.deadline = self._started + self.connection.edge.endpoint_timeout
            self.hold()

    def resume_response(self) -> None:
        if self.held and self._exchange is not None:
            if self._plan is None:
                self._await_head(self._exchange)
            else:
                self._await_body(monotonic())
            self.let_flow()

    # Ends -------------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Give the stream up; nothing more is told to the exchange."""
        self._exchange = None
        self.reset(frames.CANCEL)

    def _give_up(self, why: str) -> None:
        self.reset(frames.PROTOCOL_ERROR)
        self.broken(why)

    def broken(self, why: str) -> None:
        """What came was no response, or not the rest of one."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if self._plan is None:
            exchange.response_malformed(why)
        else:
            exchange.response_broken()

    def unseen(self, text: str) -> None:
        """The backend has certainly not looked at the request."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if self._plan is None:
            exchange.attempt_failed(text, dialing=True, again=True, marks=False)
        else:
            exchange.response_broken()

    def lost(self, text: str, *, marks: bool) -> None:
        """The connection is gone."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if self._plan is None:
            exchange.attempt_failed(text, reused=self.connection.proven, marks=marks)
        else:
            exchange.response_broken()

    def take_reset(self, code: int) -> None:
        text = f"stream error: stream ID {self.id}; {frames.error_name(code)}"
        exchange = self._exchange
        if exchange is not None and code == frames.REFUSED_STREAM and self._plan is None:
            self._exchange = None
            exchange.attempt_failed(text, dialing=True, again=True, marks=False)
        elif exchange is not None and self._plan is None:
            self._exchange = None
            exchange.attempt_failed(text, marks=False)
        else:
            self.broken(text)

    def expired(self, now: float) -> None:
        edge = self.connection.edge
        exchange = self._exchange
        if exchange is None:
            self.deadline = inf
        elif self.unsent and len(self.unsent) < self._unsent_seen:
            self._unsent_seen = len(self.unsent)
            self.deadline = now + edge.progress_timeout
        else:
            unsent = bool(self.unsent)
            self._exchange = None
            self.reset(frames.CANCEL)
            if self._plan is not None:
                exchange.response_timed_out("timeout awaiting the rest of the response")
            else:
                exchange.attempt_timed_out(
                    "timeout writing the request" if unsent else "timeout awaiting response headers"
                )


def _path(line: RequestLine) -> bytes:
    """What ``:path`` says of a target (RFC 9113 section 8.3.1)."""
    if line.form != ABSOLUTE:
        return line.target
    rest = line.target.partition(b"://")[2][len(line.authority) :]
    if not rest and line.method == b"OPTIONS":
        return b"*"
    return rest if rest[:1] == b"/" else b"/" + rest
