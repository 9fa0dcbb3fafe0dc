"""One HTTP/1.1 connection to a backend: sends a request, reads its response, waits for the next.

Theory of operation. The connection serves one exchange at a time and is on its endpoint's idle list in between.

    IDLE --send_head--> HEAD --final head--> BODY --end--> IDLE | closed
                         |  ^                  |
                         |  +--- 1xx           +--> the backend broke off: exchange.response_broken
                         +--> 101: TUNNEL; its transport has another protocol then

Whatever ends the connection comes through ``connection_lost``, and only there is it decided what that means for the
exchange. ``abort`` first forgets the exchange, so that nothing calls back into one that is over.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from router.heads import client_cert, header_order
from router.heads.response_plan import ResponsePlan
from router.http1.chunked import ChunkScanner
from router.http1.grammar import BadMessage
from router.http1.response import check_partial_head
from router.tls import failures
from router.tunnel import WRITE_AT_ONCE, TunnelEnd

if TYPE_CHECKING:
    from router.edge import Edge
    from router.exchange import Exchange
    from router.pool import Endpoint

IDLE, HEAD, BODY, TUNNEL, CLOSED = range(5)

_UNTIL_CLOSE: Final = -1
_WHOLE_RESPONSE: Final = 16 * 1024
"""Up to this many bytes, a response that arrived at once is worth taking apart by copying."""


class BackendConnection(asyncio.Protocol):
    __slots__ = (
        "_last",
        "_left",
        "_reading_paused",
        "_returns",
        "_reusable",
        "_reused",
        "_scanner",
        "_stalled_at",
        "_state",
        "_tail",
        "deadline",
        "edge",
        "endpoint",
        "exchange",
        "shard",
        "transport",
    )

    def __init__(self, edge: Edge, endpoint: Endpoint, exchange: Exchange | None) -> None:
        self.edge = edge
        self.endpoint = endpoint
        self.exchange: Exchange | None = exchange
        self.deadline = inf
        """Monotonic seconds; the edge's sweep calls ``expired`` after it."""
        self.shard = 0
        self._state = IDLE
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before any use, by connection_made
        self._tail = b""
        self._left = 0
        self._scanner: ChunkScanner | None = None
        self._reading_paused = False
        self._reused = False
        self._returns = False
        """Whether it has been idle before and may be again, as far as requests say."""
        self._last = False
        """Whether the backend has been told to close it."""
        self._reusable = False
        self._stalled_at = -1

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP gives no other
        self.transport = transport
        transport.set_write_buffer_limits(WRITE_AT_ONCE)
        self._state = IDLE
        self.deadline = inf
        self.edge.metrics.backend_connections_opened += 1
        if self.exchange is None:
            transport.abort()
        else:
            self.exchange.connected(self)

    # The request ------------------------------------------------------------------------------------------------

    def send_head(self, exchange: Exchange, body: bytes) -> None:
        """Begin an exchange: the client's lines in their order, then ours; ``body`` is what there is of the body."""
        self.exchange = exchange
        self._state = HEAD
        edge = self.edge
        now = exchange.started
        self.deadline = exchange.began + (edge.response_timeout if exchange.request_complete else edge.endpoint_timeout)
        plan = exchange.plan
        endpoint = self.endpoint
        if plan.plain:
            self.transport.write(
                b"".join(
                    (
                        exchange.line.wire,
                        plan.fields,
                        exchange.client.forward_fields,
                        edge.start_field if now < edge.start_field_until else edge.renew_start_field(now),
                        exchange.own_lines,
                        endpoint.fields or endpoint.identity(),
                        edge.backend_head_end,
                        body,
                    )
                )
            )
        else:
            self.transport.write(self._unusual_head(exchange) + body)

    def _unusual_head(self, exchange: Exchange) -> bytes:
        """The head of a request that says something itself about who forwarded it and when."""
        plan = exchange.plan
        added = added_lines(self.edge, exchange, self.endpoint, exchange.own_lines)
        if plan.odd:
            return self._odd_head(exchange, plan.fields + added)
        return b"".join((exchange.line.wire, plan.fields, added, self.edge.backend_head_end))

    def _odd_head(self, exchange: Exchange, fields: bytes) -> bytes:
        """The head of a request whose fields are to be in Go's order, or that decides about its connection itself."""
        edge = self.edge
        plan = exchange.plan
        if edge.rules.sorts:
            fields = header_order.of_request(fields)
        if plan.last:
            self._last = True
            self._returns = False
        return b"".join((exchange.line.wire, fields, b"\r\n" if plan.last or plan.upgrade else edge.backend_head_end))

    def send_body(self, data: bytes, complete: bool) -> None:
        """More of the request body; ``complete`` ends it, and the wait for the response begins."""
        self.transport.write(data)
        if complete and self._stalled_at < 0:
            self._await_head()

    def _await_head(self) -> None:
        edge = self.edge
        exchange = self.exchange
        if exchange is not None and self._state == HEAD:
            until = exchange.began + edge.endpoint_timeout
            self.deadline = min(until, monotonic() + edge.response_timeout) if exchange.request_complete else until

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client.pause_request()
            self._stalled_at = self.transport.get_write_buffer_size()
            self.deadline = min(self.deadline, monotonic() + self.edge.progress_timeout)

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self._stalled_at = -1
            self._await_head()
            self.exchange.client.resume_request()

    # The response -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state == HEAD:
            if len(data) <= _WHOLE_RESPONSE and not self._tail:
                head, _, body = data.partition(b"\r\n\r\n")
                plan = self.edge.response_plans.get(head)
                exchange = self.exchange
                if (
                    plan is not None
                    and plan.body_length == len(body)
                    and exchange.request_complete  # type: ignore[union-attr]  # there is one in this state
                    and not exchange.line.is_head  # type: ignore[union-attr]
                ):
                    now = monotonic()
                    endpoint = self.endpoint
                    idle = endpoint.idle
                    edge = self.edge
                    if (
                        self._returns
                        and plan.reusable
                        and idle is not None
                        and len(idle) < edge.max_idle
                        and endpoint.routes
                        and self._stalled_at < 0
                        and not self._reading_paused
                    ):  # as _release would, without its questions
                        self.exchange = None
                        self._state = IDLE
                        self.deadline = now + edge.backend_idle_timeout
                        idle.append(self)
                    else:
                        self._release(plan.reusable, now)
                    exchange.respond(plan, body, True, now)  # type: ignore[union-attr]
                    return
            self._take_head(data)
        elif state == BODY:
            self._take_body(data)
        else:
            self.close()  # bytes that nobody asked for: whatever they are, they are no response

    def _take_head(self, data: bytes) -> None:
        exchange = self.exchange
        assert exchange is not None
        edge = self.edge
        if self._tail:
            data = self._tail + data
            self._tail = b""
        try:
            while True:
                end = data.find(b"\r\n\r\n")
                if end < 0:
                    check_partial_head(data, edge.response_limits)
                    self._tail = data
                    return
                plan = edge.response_plans.get(data[:end]) or edge.remember_response(data[:end])
                data = data[end + 4 :]
                if plan.status >= 200:
                    break
                if plan.status == 101:
                    self._upgrade(exchange, plan, data)
                    return
                exchange.informational(plan)
                if not data:
                    return
            self._begin_body(exchange, plan, data)
        except BadMessage as bad:
            self._malformed(bad.reason)

    def _begin_body(self, exchange: Exchange, plan: ResponsePlan, data: bytes) -> None:
        """The final head is read; ``data`` is what came of the body (RFC 9112 section 6.3)."""
        now = monotonic()
        have = len(data)
        if plan.bodiless or exchange.line.is_head:
            left = 0
        elif plan.chunked:
            scanner = ChunkScanner(502)
            left = scanner.feed(data)
            if not scanner.done:
                self._scanner = scanner
                left = have + 1
        else:
            left = plan.content_length
        if 0 <= left <= have:
            self._release(plan.reusable and have == left and exchange.request_complete, now)
            exchange.respond(plan, data[:left], True, now)
        else:
            self._left = left - have if left >= 0 else _UNTIL_CLOSE
            self._reusable = plan.reusable
            self._state = BODY
            self._await_body(exchange, now)
            exchange.respond(plan, data, False, now)

    def _take_body(self, data: bytes) -> None:
        exchange = self.exchange
        assert exchange is not None
        now = monotonic()
        scanner = self._scanner
        if scanner is not None:
            try:
                used = scanner.feed(data)
            except BadMessage:
                self._broken()
                return
            complete = scanner.done
        else:
            used = len(data)
            if self._left != _UNTIL_CLOSE:
                used = min(used, self._left)
                self._left -= used
            complete = not self._left
        if not complete:
            self._await_body(exchange, now)
            exchange.more(data, False)
        else:
            self._release(self._reusable and used == len(data) and exchange.request_complete, now)
            exchange.more(data[:used], True)

    def _await_body(self, exchange: Exchange, now: float) -> None:
        edge = self.edge
        self.deadline = min(now + edge.progress_timeout, exchange.began + edge.endpoint_timeout)

    def _upgrade(self, exchange: Exchange, plan: ResponsePlan, first: bytes) -> None:
        if not exchange.plan.upgrade:
            self._malformed("101 that was not asked for")
        else:
            exchange.upgraded(plan, first)

    def tunnel_end(self) -> TunnelEnd:
        """From here on the connection carries bytes, not messages: to be joined to the client's side at once."""
        self._state = TUNNEL
        self.exchange = None
        self.deadline = inf
        return TunnelEnd(self.transport, partial(self.edge.forget, self), stalled=self._stalled_at >= 0)

    def pause_response(self) -> None:
        """The client reads more slowly than we do."""
        if self.exchange is not None and self._state in (HEAD, BODY):
            self.deadline = self.exchange.began + self.edge.endpoint_timeout
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_response(self) -> None:
        if self._reading_paused and self.exchange is not None:
            if self._state == HEAD:
                self._await_head()
            else:
                self._await_body(self.exchange, monotonic())
            self._reading_paused = False
            self.transport.resume_reading()

    # Ends -------------------------------------------------------------------------------------------------------

    def _release(self, reusable: bool, now: float) -> None:
        """The response is complete: wait for the next exchange, or close."""
        self.exchange = None
        endpoint = self.endpoint
        if self._stalled_at >= 0 or self._last:  # its backend has not read the request, or is about to close
            reusable = False
        if reusable and endpoint.routes:
            idle = endpoint.idle
            if idle is None:
                idle = endpoint.idle = []
            edge = self.edge
            if len(idle) < edge.max_idle:
                self._state = IDLE
                self.deadline = now + edge.backend_idle_timeout
                self._reused = self._returns = True
                self._scanner = None
                if self._reading_paused:
                    self._reading_paused = False
                    self.transport.resume_reading()
                idle.append(self)
                return
        self.abort()

    def idle_since(self) -> float:
        """Monotonic seconds; only of a connection that is idle."""
        return self.deadline - self.edge.backend_idle_timeout

    @property
    def is_idle(self) -> bool:
        return self._state == IDLE

    def close(self) -> None:
        """Leave the idle list and close."""
        if self._state == IDLE and self.endpoint.idle and self in self.endpoint.idle:
            self.endpoint.idle.remove(self)
        self._state = CLOSED
        self.transport.close()

    def abort(self) -> None:
        """Close at once; nothing more is told to the exchange."""
        self.exchange = None
        self._state = CLOSED
        self.transport.abort()

    def _let_go(self) -> Exchange | None:
        exchange = self.exchange
        self.exchange = None
        return exchange

    def _malformed(self, why: str) -> None:
        exchange = self._let_go()
        self.abort()
        if exchange is not None:
            exchange.response_malformed(why, reused=self._reused)

    def _broken(self) -> None:
        exchange = self._let_go()
        self.abort()
        if exchange is not None:
            exchange.response_broken()

    def eof_received(self) -> bool:
        if self._state == BODY and self._left == _UNTIL_CLOSE and self._scanner is None:
            if self.transport.get_extra_info("truncated"):  # over TLS only the peer's own word is an end
                self._broken()
                return False
            exchange = self._let_go()
            self._state = CLOSED
            if exchange is not None:
                exchange.more(b"", True)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.edge.forget(self)
        state = self._state
        if state == HEAD and self.exchange is not None:
            exchange = self._let_go()
            assert exchange is not None
            if self._tail:
                exchange.response_malformed("unexpected EOF", reused=self._reused)
            else:
                self._no_response(exchange, exc)
        elif state == BODY:
            self._broken()
        elif state == IDLE:
            self.close()
        self._state = CLOSED

    def _no_response(self, exchange: Exchange, error: Exception | None) -> None:
        if error is None:
            exchange.attempt_failed("EOF", reused=self._reused, marks=False)
        elif failures.is_refused_certificate(error):
            # TLS 1.3: the client's side of the handshake is over before the server has looked at its certificate. Not
            # for a connection that has served before: then the server has changed its mind.
            failure = failures.of(error)
            exchange.attempt_failed(failure.text, dialing=not self._reused, status=failure.status)
        else:
            text = f"read tcp {self.endpoint.address}: read: {reason(error)}"
            exchange.attempt_failed(text, reused=self._reused)

    def expired(self, now: float) -> None:
        """The deadline passed: what that means depends on what was being waited for."""
        if self._state == IDLE:
            self.close()
        elif self._stalled_at >= 0:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._stalled_at:
                self._stalled_at = unsent
                self.deadline = now + self.edge.progress_timeout
            else:
                self._timed_out("timeout writing the request")
        elif not self._websocket_may_wait(now):
            what = "the rest of the response" if self._state == BODY else "response headers"
            self._timed_out(f"timeout awaiting {what}")

    def _websocket_may_wait(self, now: float) -> bool:
        """``endpoint_timeout`` is not for who asks for a WebSocket (gorouter reference 3.7): sets a later deadline."""
        exchange = self.exchange
        if self._state != HEAD or exchange is None or exchange.plan.upgrade.lower() != b"websocket":
            return False
        self.deadline = exchange.began + self.edge.head_timeout
        return now < self.deadline

    def _timed_out(self, text: str) -> None:
        body = self._state == BODY
        exchange = self._let_go()
        self.abort()
        if exchange is not None:
            if body:
                exchange.response_timed_out(text)
            else:
                exchange.attempt_timed_out(text, reused=self._reused)


def added_lines(edge: Edge, exchange: Exchange, endpoint: Endpoint, own: bytes) -> bytes:
    """What the router says itself about who forwarded a request, when, and for whom (gorouter reference 4.1).

    ``own``: the request's own lines, if they are not said apart.
    """
    plan = exchange.plan
    client = exchange.client
    before = plan.forwarded_for + b", " if plan.forwarded_for else b""
    parts = [b"X-Forwarded-For: %b%b\r\n" % (before, client.ip)]
    if client.inside:
        parts.append(plan.client_cert)
    elif client.cert_field or plan.client_cert:
        mode, tls = edge.rules.client_cert_mode, client.scheme == b"https"
        parts.append(client_cert.lines(mode, plan.client_cert, client.cert_field, tls=tls, returned=plan.returned))
    if plan.forwarded_proto is None:
        parts.append(b"X-Forwarded-Proto: %b\r\n" % client.scheme)
    if plan.needs_start:
        parts.append(edge.renew_start_field(exchange.started))
    parts += (own, endpoint.fields or endpoint.identity())
    return b"".join(parts)


def reason(error: BaseException) -> str:
    """What the operating system said, in the words that operators grep for."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
