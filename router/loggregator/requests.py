"""HttpStartStop events and copies of access log lines: what Loggregator is told of every single request (reference 8.6,
8.5).

A *server* event tells of a request as its client saw it, once it is over; a *client* event of an attempt at an
endpoint, up to the head of its response. Each request pays for the making of both, so everything is joined from parts
that are there already; what cannot be sent is dropped by `router.loggregator.metron`.
"""

from __future__ import annotations

from binascii import unhexlify
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from router.http1.request import ABSOLUTE
from router.loggregator.envelopes import HTTP_HEAD, HTTP_TAG, LOG_HEAD, LOG_TAG, METHODS
from router.loggregator.parts import PartsOf
from router.loggregator.wire import Timestamps, delimited, fixed_uint64, utf8, varint

if TYPE_CHECKING:
    from router.exchange import Exchange
    from router.http1.request import RequestLine
    from router.loggregator.metron import Metron
    from router.pool import Endpoint
    from router.response_plan import ResponsePlan

_START, _STOP, _ID, _SECOND_HALF, _PEER, _METHOD, _URI, _REMOTE, _AGENT, _STATUS, _LENGTH = (
    b"\x08", b"\x10", b"\x1a\x16\x08", b"\x10", b"\x20", b"\x28", b"\x32", b"\x3a", b"\x42", b"\x48", b"\x50",
)  # fmt: skip
"""What stands before the fields of HttpStartStop, in their order. A request's id is a message of a known length."""
_CLIENT, _SERVER = b"\x01", b"\x02"
_FORWARDED: Final = 15
_MESSAGE, _OUT_AT = b"\x0a", b"\x10\x01\x18"
"""Of LogMessage: what stands before the line, and after it before its time: that it is one of standard output."""
_NO_METHOD: Final = b"\x00"
_METHOD_BYTES: Final = {name: bytes((number,)) for name, number in METHODS.items()}
_TRACE: Final = b"\x8a\x01"
"""What stands before a tag of an envelope."""


class RequestEvents:
    """One per worker. Its methods are called by exchanges, in the loop."""

    def __init__(self, metron: Metron, parts: PartsOf, *, server: bool, client: bool) -> None:
        self._metron = metron
        self._parts = parts
        self._server = server
        self._client = client
        self._times = Timestamps()
        self._half = b""
        """The first half of a request's id, as text; what is made of it is in the next."""
        self._first = b""

    # What exchanges tell ------------------------------------------------------------------------------------------

    def answered_at_once(self, exchange: Exchange, took: float) -> None:
        """A response came whole, and the exchange is over."""
        stop = time_ns()
        start = stop - int(took * 1e9)
        stop_time = self._times.varint(stop)
        about = self._about(exchange)
        endpoint = exchange.endpoint
        assert endpoint is not None
        http, _, tags = self._parts(endpoint)
        result = _result(exchange.status, exchange.response_bytes)
        if self._client:
            sent = start + int((_attempt_began(exchange) - exchange.started) * 1e9)
            self._emit(
                self._times.varint(sent), stop_time, about, _CLIENT, result + http, _forwarded(exchange, True), b""
            )
        if self._server:
            self._emit(
                self._times.varint(start),
                stop_time,
                about,
                _SERVER,
                result + http,
                _forwarded(exchange, False),
                tags + _trace(exchange),
            )

    def over(self, exchange: Exchange, took: float) -> None:
        """An exchange is over otherwise; of its attempts all has been told."""
        if not self._server:
            return
        stop = time_ns()
        http, _, tags = self._parts(exchange.endpoint) if exchange.endpoint is not None else (b"", b"", b"")
        self._emit(
            self._times.varint(stop - int(took * 1e9)),
            self._times.varint(stop),
            self._about(exchange),
            _SERVER,
            _result(exchange.status, exchange.response_bytes) + http,
            _forwarded(exchange, False),
            tags + _trace(exchange),
        )

    def head_came(self, exchange: Exchange, plan: ResponsePlan) -> None:
        """The head of a response whose end is still to come, or of a tunnel."""
        self._attempt(exchange, _attempt_began(exchange), plan.status, plan.content_length)

    def attempt_failed(self, exchange: Exchange, began: float) -> None:
        """``began``: monotonic seconds."""
        self._attempt(exchange, began, 0, 0)

    def copy_line(self, line: bytes, endpoint: Endpoint) -> None:
        """An access log line of a request to an application."""
        now = self._times.varint(time_ns())
        _, log, tags = self._parts(endpoint)
        message = b"".join((_MESSAGE, varint(len(line)), line, _OUT_AT, now, log))
        self._metron.send(b"".join((LOG_HEAD, now, LOG_TAG, varint(len(message)), message, tags)))

    # Envelopes ----------------------------------------------------------------------------------------------------

    def _attempt(self, exchange: Exchange, began: float, status: int, length: int) -> None:
        if not self._client:
            return
        stop = time_ns()
        endpoint = exchange.endpoint
        assert endpoint is not None
        self._emit(
            self._times.varint(stop - int((monotonic() - began) * 1e9)),
            self._times.varint(stop),
            self._about(exchange),
            _CLIENT,
            _result(status, length) + self._parts(endpoint).http,
            _forwarded(exchange, True),
            b"",
        )

    def _about(self, exchange: Exchange) -> tuple[bytes, bytes]:
        """The fields that all events of a request share: its id; and method, URI, client, user agent."""
        line, plan, client = exchange.line, exchange.plan, exchange.client
        host = utf8(plan.host_field or b"")
        uri = b"%b://%b%b" % (client.scheme, host, _path(line))
        remote = client.origin
        agent = plan.user_agent or b""
        if not agent.isascii():
            agent = utf8(agent)
        return self._id(exchange.id_field), b"".join(
            (
                _METHOD, _METHOD_BYTES.get(line.method, _NO_METHOD),
                _URI, varint(len(uri)), uri,
                _REMOTE, varint(len(remote)), remote,
                _AGENT, varint(len(agent)), agent,
            )
        )  # fmt: skip

    def _id(self, field: bytes) -> bytes:
        """From the line with the request id. Its first half is the same for many requests."""
        half = field[19:37]
        if half != self._half:
            self._half = half
            self._first = _ID + fixed_uint64(_little(half.replace(b"-", b""))) + _SECOND_HALF
        return self._first + fixed_uint64(_little(field[38:42] + field[43:55]))

    def _emit(
        self,
        start: bytes,
        stop: bytes,
        about: tuple[bytes, bytes],
        peer: bytes,
        result: bytes,
        forwarded: bytes,
        tags: bytes,
    ) -> None:
        request_id, request = about
        event = b"".join((_START, start, _STOP, stop, request_id, _PEER, peer, request, result, forwarded))
        self._metron.send(b"".join((HTTP_HEAD, stop, HTTP_TAG, varint(len(event)), event, tags)))


def _result(status: int, length: int) -> bytes:
    """``length``: of the body; -1 where nobody knows."""
    return b"".join((_STATUS, varint(status), _LENGTH, varint(length)))


def _little(digits: bytes) -> int:
    return int.from_bytes(unhexlify(digits), "little")


def _attempt_began(exchange: Exchange) -> float:
    """Monotonic seconds: the end of the attempt before it, if there was one."""
    attempts = exchange.attempts
    return (attempts.failed_at if attempts is not None else 0.0) or exchange.sent_at


def _path(line: RequestLine) -> bytes:
    """Of the target, decoded; an event's URI has no query."""
    path = line.target.partition(b"?")[0]
    if line.form == ABSOLUTE:
        path = path.partition(b"://")[2][len(line.authority) :]
    return utf8(unquote_to_bytes(path)) if b"%" in path or not path.isascii() else path


def _forwarded(exchange: Exchange, sent: bool) -> bytes:
    """The members of X-Forwarded-For, as it came or as it was ``sent``."""
    came = exchange.plan.forwarded_for
    members = [member.strip(b" \t") for member in came.split(b",")] if came else []
    if sent:
        members.append(exchange.client.ip)
    return b"".join([delimited(_FORWARDED, utf8(member)) for member in members])


def _trace(exchange: Exchange) -> bytes:
    """Two tags: where to find the request among traces."""
    ids = exchange.trace_ids
    return _tag(b"trace_id", ids.trace) + _tag(b"span_id", ids.span)


def _tag(name: bytes, value: bytes) -> bytes:
    entry = b"\x0a%b%b\x12%b%b" % (varint(len(name)), name, varint(len(value)), value)
    return _TRACE + varint(len(entry)) + entry
