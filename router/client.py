"""One HTTP/1.x connection from a client: takes requests apart, one at a time, and writes their responses in order.

Theory of operation. Bytes that belong to no request yet wait in ``_tail``, whose length is bounded. At most one
exchange is under way; requests that were pipelined behind it wait.

    READY --head--> BUSY (body still coming | body complete) --over----------> READY
    READY --bad head--> LINGER           BUSY --upgrade, CONNECT--> TUNNEL (its transport has another protocol then)
    any --close--> LINGER: our side is shut, what still comes is thrown away, then closed

A connection that ends while an exchange is under way takes the exchange with it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from router.heads import answers, client_cert, header_order
from router.heads.answers import Answer, malformed
from router.heads.forwarding import RequestPlan, forwarded_from, origin
from router.heads.response_plan import ResponsePlan
from router.http1.body import IncomingBody
from router.http1.grammar import BadMessage
from router.http1.recode import Recoder
from router.http1.request import ASTERISK, RequestLine, check_partial_head
from router.http2.frames import PREFACE
from router.tunnel import WRITE_AT_ONCE, Tunnel, TunnelEnd, reset

if TYPE_CHECKING:
    from router.backend import BackendConnection
    from router.edge import Edge, Minded
    from router.exchange import Exchange

NEW, READY, BUSY, TUNNEL, LINGER = range(5)

REMEMBERED_BYTES: Final = 4096
"""Up to this many bytes, what has arrived is looked up among the heads that came before."""

MAX_EMPTY_LINES: Final = 8
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 1024 * 1024
"""How long, and for how much, a closing side listens on so that its last response is not lost to a reset."""


class ClientConnection(asyncio.Protocol):
    """Implements ``client_side.ClientSide`` for HTTP/1.0 and HTTP/1.1."""

    __slots__ = (
        "_body",
        "_checked",
        "_exchange",
        "_keep",
        "_layer",
        "_minor",
        "_parsing",
        "_peer",
        "_received",
        "_recoder",
        "_request_paused",
        "_stalled_at",
        "_state",
        "_tail",
        "_unread",
        "_write_paused",
        "cert_field",
        "deadline",
        "edge",
        "forward_fields",
        "ip",
        "origin",
        "scheme",
        "shard",
        "transport",
    )

    def __init__(
        self, edge: Edge, peer: tuple[str, int] | None = None, scheme: bytes = b"http", layer: Minded | None = None
    ) -> None:
        self.edge = edge
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before any use, by connection_made
        self._peer = peer or ("", 0)
        self._layer = layer
        self.ip = b""
        self.origin = b":0"
        """``ip:port``."""
        self.scheme = scheme
        self.forward_fields = b""
        self.cert_field = b""
        self.deadline = inf
        """Monotonic seconds; the edge's sweep calls ``expired`` after it."""
        self.shard = 0
        self._state = NEW
        self._exchange: Exchange | None = None
        self._tail = b""
        self._checked = 0
        """How many bytes of ``_tail`` are known to be able to begin a request head."""
        self._parsing = False
        self._minor = 1
        self._keep = True
        self._received = 0
        self._body: IncomingBody | None = None
        """Of the request under way, until it is whole."""
        self._recoder: Recoder | None = None
        self._write_paused = False
        self._request_paused = False
        self._stalled_at = -1
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP gives no other
        edge = self.edge
        self.transport = transport
        transport.set_write_buffer_limits(WRITE_AT_ONCE)
        peer = self._peer if self._peer[0] else transport.get_extra_info("peername")
        if peer:
            self._peer = peer
            self.ip, self.forward_fields = forwarded_from(peer[0], self.scheme)
            self.origin = origin(self.ip, peer[1])
        if edge.shows_client_certs and self.scheme == b"https":
            self.cert_field = client_cert.own_line(transport)
            self.forward_fields += client_cert.lines(edge.rules.client_cert_mode, b"", self.cert_field, tls=True)
        self.deadline = monotonic() + edge.read_header_timeout
        if self._layer is not None:
            edge.replace(self._layer, self)
            self._layer = None
        elif not edge.admit(self) and not self.inside:  # whose client has been admitted
            self._refuse(answers.too_many_clients())

    version: Final = b""
    inside = False

    # Requests ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state == READY and not self._write_paused:
            if not self._tail and len(data) <= REMEMBERED_BYTES:
                text, _, rest = data.partition(b"\r\n")
                edge = self.edge
                plan = edge.request_plans.get(rest)
                line = edge.request_lines.get(text)
                if plan is not None and line is not None and plan.common and line.common:
                    self._keep = True
                    self._minor = 1
                    self._state = BUSY
                    exchange = self._exchange = edge.exchange(edge, self, line, plan)
                    try:
                        exchange.begin(b"", True)
                    except Exception:
                        exchange.panicked()
                    return
            self._requests(data)
        elif state in (BUSY, READY):
            if self._body is not None:
                self._more_body(self._body, data)
            else:
                self._tail += data
                if len(self._tail) > self.edge.pipeline_buffer:
                    self.transport.pause_reading()
        elif state == NEW:
            self._begin(self._tail + data)
        else:
            self._unread += len(data)
            if self._unread > LINGER_BYTES:
                self.transport.abort()

    def _begin(self, data: bytes) -> None:
        """What the client says first: a request, or that it speaks HTTP/2 (RFC 9113 section 3.3).

        Only here: behind a proxy, a later preface might be somebody's body.
        """
        self._tail = b""
        if self.edge.http2_enabled and PREFACE.startswith(data[: len(PREFACE)]):
            if len(data) < len(PREFACE):
                self._tail = data
                return
            self._state = LINGER
            other = self.edge.http2_client(self._peer, self.scheme, self)
            self.transport.set_protocol(other)
            other.connection_made(self.transport)
            other.data_received(data)
            return
        self._state = READY
        self._requests(data)

    def _requests(self, data: bytes) -> None:
        """As many requests as ``data`` holds and the exchanges they begin are over at once."""
        edge = self.edge
        begun = bool(self._tail)
        empty_lines = 0
        checked, self._checked = self._checked, 0
        if begun:
            data = self._tail + data
            self._tail = b""
        self._parsing = True
        try:
            while data:
                end = data.find(b"\r\n\r\n", max(0, checked - 3))
                eol = data.find(b"\r\n")
                if eol == 0:  # RFC 9112 section 2.2: an empty line before the request line is no fault
                    empty_lines += 1
                    if empty_lines > MAX_EMPTY_LINES:
                        raise BadMessage(400, "empty lines instead of a request")
                    data = data[2:]
                    checked = 0
                    continue
                if end < 0 or end > edge.request_limits.head:
                    check_partial_head(data, edge.request_limits, checked)
                    if not begun:  # the head has this long as a whole, however it drips in
                        self.deadline = monotonic() + edge.read_header_timeout
                    self._tail = data
                    self._checked = len(data)
                    return
                begun = False
                checked = 0
                line_text = data[:eol]
                block = data[eol + 2 : end + 4]
                line = edge.request_lines.get(line_text) or edge.remember_line(line_text)
                plan = edge.request_plans.get(block) or edge.remember_request(block)
                self._minor = line.minor
                self._keep = (line.minor == 1 or plan.keep_alive) and not plan.close
                if not line.common or not plan.host:
                    plan = self._unusual(line, plan, block)
                self.deadline = inf
                if plan.chunked or plan.content_length > 0:
                    body, complete = self._begin_body(plan, data[end + 4 :])
                else:
                    body, complete = b"", True
                    self._tail = data[end + 4 :]
                    self._received = 0
                exchange = self._exchange = edge.exchange(edge, self, line, plan)
                exchange.request_bytes = self._received
                if line.semicolons:
                    exchange.deprecate_semicolons()
                self._state = BUSY
                if line.form == ASTERISK:
                    exchange.refuse(answers.options(), complete)
                elif not plan.host and not plan.checks_health:
                    exchange.refuse(answers.empty_host(), complete)
                elif line.method == b"CONNECT" and not edge.connect_allowed:
                    exchange.refuse(answers.tunnels_disabled(), complete)
                else:
                    try:
                        exchange.begin(body, complete)
                    except Exception:
                        exchange.panicked()
                if self._state != READY or self._write_paused:
                    return
                data = self._tail
                self._tail = b""
        except BadMessage as bad:
            self._bad(bad)
        finally:
            self._parsing = False

    def _unusual(self, line: RequestLine, plan: RequestPlan, block: bytes) -> RequestPlan:
        """Targets that name their host, requests without one (RFC 9112 section 3.2), upgrades by HTTP/1.0, and methods
        whose lack of a body is to be said."""
        if plan.host_field is None and line.minor == 1:
            raise BadMessage(400, "missing required Host header")
        if line.method == b"CONNECT" and (plan.chunked or plan.content_length > 0):
            raise BadMessage(400, "CONNECT with a body")
        if line.wants_length and plan.content_length < 0 and not plan.chunked:
            block = block[:-2] + b"Content-Length: 0\r\n\r\n"
            plan = self.edge.request_plans.get(block) or self.edge.remember_request(block)
        may_upgrade = line.minor == 1
        if (line.authority and line.authority != plan.host_field) or (plan.upgrade and not may_upgrade):
            return self.edge.rules.request_plan_for(block[:-2], line.authority, may_upgrade=may_upgrade)
        return plan

    def _begin_body(self, plan: RequestPlan, data: bytes) -> tuple[bytes, bool]:
        """Body bytes that came with the head, checked before anything of the request goes to a backend."""
        if plan.chunked and not self._minor:
            raise BadMessage(400, "Transfer-Encoding in an HTTP/1.0 request")
        body = IncomingBody(-1 if plan.chunked else plan.content_length, self.edge.max_body)
        used = body.feed(data)
        self._received = body.received
        if body.done:
            self._tail = data[used:]
            return data[:used], True
        self._body = body
        self.deadline = monotonic() + self.edge.progress_timeout
        return data, False

    def _more_body(self, body: IncomingBody, data: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        try:
            used = body.feed(data)
        except BadMessage as bad:
            self._keep = False
            self._body = None
            exchange.reject_rest(malformed(bad.status, bad.reason))
            return
        exchange.request_bytes = body.received
        complete = body.done
        if complete:
            self._body = None
            self.deadline = inf
            if used < len(data):
                self._tail = data[used:]
                data = data[:used]
        else:
            self.deadline = monotonic() + self.edge.progress_timeout
        exchange.request_body(data, complete)

    def pause_request(self) -> None:
        """The backend takes the request body more slowly than it comes."""
        self.deadline = inf
        self._request_paused = True
        self.transport.pause_reading()

    def resume_request(self) -> None:
        if self._body is not None:
            self.deadline = monotonic() + self.edge.progress_timeout
        self._request_paused = False
        self.transport.resume_reading()

    def _bad(self, bad: BadMessage) -> None:
        """A request that cannot be told from the next one, or breaks a limit: say so and close."""
        answer = malformed(bad.status, bad.reason)
        self.edge.metrics.refused(answer)
        if self.edge.access_log is not None:
            self.edge.access_log.refused(self.origin, answer)
        self._refuse(answer)

    def _refuse(self, answer: Answer) -> None:
        self._keep = False
        self.transport.write(self._answer_head(answer, b"") + answer.payload)
        self._linger()

    # Responses --------------------------------------------------------------------------------------------------

    def send_informational(self, plan: ResponsePlan) -> None:
        if self._minor == 1:  # RFC 9110 section 15.2: an HTTP/1.0 client knows no 1xx
            self.transport.write(plan.head + b"\r\n")

    def send_response(self, exchange: Exchange, plan: ResponsePlan, body: bytes, complete: bool, now: float) -> None:
        if plan.plain and self._keep and self._minor and exchange.request_complete and not self.edge.draining:
            self.transport.write(b"".join((plan.head, exchange.id_field, b"\r\n", body)))
            if not complete:
                self._recoder = None
            elif self._tail or self._parsing or self._write_paused or self._request_paused:
                self._over()
            else:
                self._exchange = None
                self._state = READY
                self.deadline = now + self.edge.idle_timeout
        else:
            self._send_unusual(exchange, plan, body, complete)

    def _send_unusual(self, exchange: Exchange, plan: ResponsePlan, body: bytes, complete: bool) -> None:
        """Responses whose framing, connection or fields are not the common ones (RFC 9112 sections 6.1, 6.3, 9.6)."""
        head, self._recoder, delimited = plan.framed_for(self._minor, exchange.line.is_head)
        stays = exchange.request_complete or not complete
        self._keep = self._keep and delimited and stays and not self.edge.draining
        date = b"" if plan.has_date else self.edge.date_field()
        request_id = b"" if plan.has_request_id else exchange.id_field
        if self.edge.rules.sorts:
            self.transport.write(_sorted_head(head + request_id, date + self._connection_field()))
        else:
            self.transport.write(b"".join((head, date, request_id, self._connection_field(), b"\r\n")))
        if body or complete:
            self.send_body(body, complete)

    def _connection_field(self) -> bytes:
        if not self._keep:
            return b"Connection: close\r\n"
        return b"" if self._minor else b"Connection: keep-alive\r\n"

    def send_body(self, data: bytes, complete: bool) -> None:
        if self._recoder is not None:
            data = self._recoder.recode(data, complete)
        self.transport.write(data)
        if complete:
            self._over()

    def send_answer(self, exchange: Exchange, answer: Answer) -> None:
        self._keep = self._keep and exchange.request_complete and not answer.closes and not self.edge.draining
        head = self._answer_head(answer, exchange.id_field)
        self.transport.write(head if exchange.line.is_head else head + answer.payload)
        self._over()

    def _answer_head(self, answer: Answer, more: bytes) -> bytes:
        """``more``: the request id's line, where there is a request."""
        edge = self.edge
        rewriting = edge.rules.rewriting
        status_line = b"HTTP/1.1 %d %b\r\n" % (answer.status, answers.reason(answer.status).encode())
        fields = rewriting.applied(answer.fields)
        if rewriting.hides_request_id:
            more = b""
        if edge.rules.sorts:
            return _sorted_head(status_line + fields + more, edge.date_field() + self._connection_field())
        return b"".join((status_line, fields, edge.date_field(), more, self._connection_field(), b"\r\n"))

    def pause_writing(self) -> None:
        """This client reads more slowly than its response comes."""
        self._write_paused = True
        self._stalled_at = self.transport.get_write_buffer_size()
        self.deadline = monotonic() + self.edge.progress_timeout
        if self._exchange is not None and self._exchange.backend is not None:
            self._exchange.backend.pause_response()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._stalled_at = -1
        if self._state == READY:
            self.deadline = monotonic() + self.edge.idle_timeout
            self._ready()
        elif self._state == BUSY:
            self.deadline = inf
            if self._exchange is not None and self._exchange.backend is not None:
                self._exchange.backend.resume_response()

    # Between exchanges ------------------------------------------------------------------------------------------

    def _over(self) -> None:
        """The exchange under way is over."""
        exchange = self._exchange
        if exchange is None:
            return
        self._exchange = None
        if not self._keep or not exchange.request_complete:
            self._body = None
            if exchange.request_complete and not self._tail:
                self._state = LINGER
                self.deadline = monotonic() + self.edge.progress_timeout
                self.transport.close()
            else:
                self._linger()
            return
        self._state = READY
        if self._request_paused:
            self._request_paused = False
            self.transport.resume_reading()
        if not self._write_paused:
            self.deadline = monotonic() + self.edge.idle_timeout
        if not self._parsing and not self._write_paused:
            self._ready()

    def _ready(self) -> None:
        """Take the next request if it has come already."""
        tail = self._tail
        if tail:
            self._tail = b""
            self.transport.resume_reading()
            self._requests(tail)

    def _linger(self) -> None:
        """Close our side, and the whole once the client has had time to read what we said."""
        self._state = LINGER
        self._tail = b""
        self._exchange = None
        self._stalled_at = self.transport.get_write_buffer_size() or -1
        self.deadline = monotonic() + (LINGER_SECONDS if self._stalled_at < 0 else self.edge.progress_timeout)
        if not self.transport.is_closing():
            self.transport.resume_reading()
            self.transport.write_eof()

    def break_off(self) -> None:
        """The response cannot be completed: a reset, lest what was sent passes for the whole."""
        self._exchange = None
        self._state = LINGER
        if self.transport.is_closing():
            return
        reset(self.transport)

    @property
    def is_idle(self) -> bool:
        return self._state in (NEW, READY)

    def close_if_idle(self) -> None:
        """For a drain: close unless an exchange or a tunnel is under way."""
        if self.is_idle:
            self.transport.close()

    def open_tunnel(self, exchange: Exchange, head: bytes, backend: BackendConnection, first: bytes) -> None:
        self._state = TUNNEL
        self._exchange = None
        self._body = None
        self.deadline = inf
        ours = TunnelEnd(self.transport, partial(self.edge.forget_client, self), stalled=self._write_paused)
        theirs = backend.tunnel_end()
        Tunnel(self.edge, exchange, ours, theirs)
        self.transport.write(head + b"\r\n")
        if first:
            theirs.data_received(first)
        tail = self._tail
        if tail:
            self._tail = b""
            ours.data_received(tail)
            if not theirs.stalled:
                self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.edge.forget_client(self)
        exchange = self._exchange
        self._exchange = None
        self._state = LINGER
        if exchange is not None:
            exchange.client_gone()

    def expired(self, now: float) -> None:
        """The deadline passed: what that means depends on what was being waited for."""
        if self._stalled_at >= 0:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._stalled_at:
                self._stalled_at = unsent
                self.deadline = now + self.edge.progress_timeout
                return
        if self._state == LINGER:
            self.transport.abort()
        elif self._stalled_at >= 0:
            self._give_up()
        elif self._state in (NEW, READY):
            if self._tail:
                self._bad(BadMessage(408, "the request head did not arrive in time"))
            else:
                self._state = LINGER
                self.deadline = now + LINGER_SECONDS
                self.transport.close()
        elif self._exchange is not None and self._body is not None:
            self.edge.metrics.rejected_requests += 1
            self._exchange.reject_rest(answers.request_timeout())
        else:
            self.deadline = inf  # left from before this exchange, which has deadlines of its own

    def _give_up(self) -> None:
        """The client reads nothing any more."""
        exchange = self._exchange
        self.break_off()
        if exchange is not None:
            exchange.client_gone()


class InnerClient(ClientConnection):
    """The router as its own client (`router.route_services.hairpin`): what it says of certificates is believed."""

    __slots__ = ()
    inside = True


def _sorted_head(head: bytes, ours: bytes) -> bytes:
    """A response head with its empty line, in Go's order; ``ours`` is what the server adds itself."""
    status_line, _, fields = head.partition(b"\r\n")
    return b"%b\r\n%b\r\n" % (status_line, header_order.of_response(fields, ours))
