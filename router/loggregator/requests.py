"""HttpStartStop events and copies of access log lines: what Loggregator is told of every single request (reference 8.6,
8.5).

A *server* event tells of a request as its client saw it, once it is over; a *client* event of an attempt at an
endpoint, up to the head of its response. Each request pays for the making of both, so everything is joined from parts
that are there already; what cannot be sent is dropped by `router.loggregator.metron`.
"""

from __future__ import annotations

from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from router.http1.request import ABSOLUTE
from router.loggregator.envelopes import HTTP_HEAD, HTTP_TAG, LOG_HEAD, LOG_TAG, METHODS
from router.loggregator.parts import PartsOf
from router.loggregator.wire import Timestamps, fixed_uint64_of_hex, utf8, varint

if TYPE_CHECKING:
    from router.exchange import Exchange
    from router.heads.response_plan import ResponsePlan
    from router.http1.request import RequestLine
    from router.loggregator.metron import Metron
    from router.pool import Endpoint

_START, _STOP, _ID, _SECOND_HALF, _PEER, _METHOD, _URI, _REMOTE, _AGENT, _STATUS, _LENGTH = (
    b"\x08", b"\x10", b"\x1a\x16\x08", b"\x10", b"\x20", b"\x28", b"\x32", b"\x3a", b"\x42", b"\x48", b"\x50",
)  # fmt: skip
"""What stands before the fields of HttpStartStop, in their order. A request's id is a message of a known length."""
_CLIENT, _SERVER = b"\x01", b"\x02"
_FORWARDED: Final = b"\x7a"
_MESSAGE, _OUT_AT = b"\x0a", b"\x10\x01\x18"
"""Of LogMessage: what stands before the line, and after it before its time: that it is one of standard output."""
_NO_METHOD: Final = b"\x00"
_METHOD_BYTES: Final = {name: bytes((number,)) for name, number in METHODS.items()}
_TAG, _NAME, _TEXT = b"\x8a\x01", b"\x0a", b"\x12"
"""What stands before a tag of an envelope, and in it before its name and its text."""
_TRACE_ID: Final = _TAG + b"\x2c" + _NAME + b"\x08trace_id" + _TEXT + b"\x20"
_SPAN_ID: Final = _TAG + b"\x1b" + _NAME + b"\x07span_id" + _TEXT + b"\x10"
"""What stands before 32 and 16 digits."""


class RequestEvents:
    """One per worker. Its methods are called by exchanges, in the loop."""

    def __init__(self, metron: Metron, parts: PartsOf, *, server: bool, client: bool) -> None:
        self._send = metron.send
        self._parts = parts
        self._server = server
        self._client = client
        self._time = Timestamps().varint
        self._half = b""
        """The first half of a request's id, as text; its digits, and what is made of it, are in the next two."""
        self._digits = b""
        self._first = b""
        self._came: bytes | None = None
        """An X-Forwarded-For as it came; what is made of it is in the next."""
        self._forwarded = b""

    # What exchanges tell ------------------------------------------------------------------------------------------

    def answered_at_once(self, exchange: Exchange, took: float) -> None:
        """A response came whole, and the exchange is over."""
        stop = time_ns()
        start = stop - int(took * 1e9)
        stop_time = self._time(stop)
        endpoint = exchange.endpoint
        assert endpoint is not None
        http, _, tags = self._parts(endpoint)
        second, request_id = self._id(exchange)
        request = self._request(exchange)
        result = b"".join((_STATUS, varint(exchange.status), _LENGTH, varint(exchange.response_bytes), http))
        forwarded = self._forwarded_members(exchange.plan.forwarded_for)
        if self._client:
            began = self._time(start + int((_attempt_began(exchange) - exchange.started) * 1e9))
            sent = forwarded + _forwarded_member(exchange.client.ip)
            self._emit(began, stop_time, request_id, _CLIENT, request, result, sent, b"")
        if self._server:
            traced = tags + self._trace(exchange, second)
            self._emit(self._time(start), stop_time, request_id, _SERVER, request, result, forwarded, traced)

    def over(self, exchange: Exchange, took: float) -> None:
        """An exchange is over otherwise; of its attempts all has been told."""
        if not self._server:
            return
        stop = time_ns()
        http, _, tags = self._parts(exchange.endpoint) if exchange.endpoint is not None else (b"", b"", b"")
        second, request_id = self._id(exchange)
        self._emit(
            self._time(stop - int(took * 1e9)),
            self._time(stop),
            request_id,
            _SERVER,
            self._request(exchange),
            b"".join((_STATUS, varint(exchange.status), _LENGTH, varint(exchange.response_bytes), http)),
            self._forwarded_members(exchange.plan.forwarded_for),
            tags + self._trace(exchange, second),
        )

    def head_came(self, exchange: Exchange, plan: ResponsePlan) -> None:
        """The head of a response whose end is still to come, or of a tunnel."""
        self._attempt(exchange, _attempt_began(exchange), plan.status, plan.content_length)

    def attempt_failed(self, exchange: Exchange, began: float) -> None:
        """``began``: monotonic seconds."""
        self._attempt(exchange, began, 0, 0)

    def copy_line(self, line: bytes, endpoint: Endpoint) -> None:
        """An access log line of a request to an application."""
        now = self._time(time_ns())
        _, log, tags = self._parts(endpoint)
        message = b"".join((_MESSAGE, varint(len(line)), line, _OUT_AT, now, log))
        self._send(b"".join((LOG_HEAD, now, LOG_TAG, varint(len(message)), message, tags)))

    # Envelopes ----------------------------------------------------------------------------------------------------

    def _attempt(self, exchange: Exchange, began: float, status: int, length: int) -> None:
        """``length``: -1 where nobody knows."""
        if not self._client:
            return
        stop = time_ns()
        endpoint = exchange.endpoint
        assert endpoint is not None
        http = self._parts(endpoint).http
        self._emit(
            self._time(stop - int((monotonic() - began) * 1e9)),
            self._time(stop),
            self._id(exchange)[1],
            _CLIENT,
            self._request(exchange),
            b"".join((_STATUS, varint(status), _LENGTH, varint(length), http)),
            self._forwarded_members(exchange.plan.forwarded_for) + _forwarded_member(exchange.client.ip),
            b"",
        )

    def _emit(
        self,
        start: bytes,
        stop: bytes,
        request_id: bytes,
        peer: bytes,
        request: bytes,
        result: bytes,
        forwarded: bytes,
        tags: bytes,
    ) -> None:
        event = b"".join((_START, start, _STOP, stop, request_id, _PEER, peer, request, result, forwarded))
        self._send(b"".join((HTTP_HEAD, stop, HTTP_TAG, varint(len(event)), event, tags)))

    def _id(self, exchange: Exchange) -> tuple[bytes, bytes]:
        """The digits of the second half of the request's id, and its field. The first half is the same for many
        requests, and so not made each time."""
        line = exchange.id_field
        half = line[19:37]
        if half != self._half:
            self._half = half
            self._digits = half.replace(b"-", b"")
            self._first = _ID + fixed_uint64_of_hex(self._digits) + _SECOND_HALF
        second = line[38:42] + line[43:55]
        return second, self._first + fixed_uint64_of_hex(second)

    def _request(self, exchange: Exchange) -> bytes:
        """The fields that all events of a request share: method, URI, the client's address, user agent."""
        line, plan, client = exchange.line, exchange.plan, exchange.client
        scheme, host, remote, agent = client.scheme, plan.host_field or b"", client.origin, plan.user_agent or b""
        path = line.target.partition(b"?")[0]
        if b"%" in path or not path.isascii() or line.form == ABSOLUTE:
            path = _decoded(path, line)
        if not host.isascii() or not agent.isascii():
            host, agent = utf8(host), utf8(agent)
        return b"".join(
            (
                _METHOD, _METHOD_BYTES.get(line.method, _NO_METHOD),
                _URI, varint(len(scheme) + 3 + len(host) + len(path)), scheme, b"://", host, path,
                _REMOTE, varint(len(remote)), remote,
                _AGENT, varint(len(agent)), agent,
            )
        )  # fmt: skip

    def _forwarded_members(self, came: bytes | None) -> bytes:
        """Of an X-Forwarded-For. The one that was asked for last is at hand: it is its plan's, and so the same object
        each time."""
        if came is not self._came:
            self._came = came
            members = came.split(b",") if came else ()
            self._forwarded = b"".join([_forwarded_member(utf8(member.strip(b" \t"))) for member in members])
        return self._forwarded

    def _trace(self, exchange: Exchange, second: bytes) -> bytes:
        """Two tags: where to find the request among traces. Without a trace of the client's, its id says it."""
        if exchange.plan.trace is None:
            return b"".join((_TRACE_ID, self._digits, second, _SPAN_ID, second))
        ids = exchange.trace_ids
        return _tag(b"trace_id", ids.trace) + _tag(b"span_id", ids.span)


def _attempt_began(exchange: Exchange) -> float:
    """Monotonic seconds: the end of the attempt before it, if there was one."""
    attempts = exchange.attempts
    return exchange.sent_at if attempts is None else attempts.failed_at or exchange.sent_at


def _decoded(path: bytes, line: RequestLine) -> bytes:
    """Of a target, without its query: what is percent-encoded is what it stands for."""
    if line.form == ABSOLUTE:
        path = path.partition(b"://")[2][len(line.authority) :]
    return utf8(unquote_to_bytes(path))


def _forwarded_member(member: bytes) -> bytes:
    return b"".join((_FORWARDED, varint(len(member)), member))


def _tag(name: bytes, value: bytes) -> bytes:
    entry = b"".join((_NAME, varint(len(name)), name, _TEXT, varint(len(value)), value))
    return b"".join((_TAG, varint(len(entry)), entry))
