"""One line of the access log, in Gorouter's format to the character (gorouter reference 8.5).

    app.example.com - [2025-01-01T10:00:00.000000000Z] "GET /x HTTP/1.1" 200 0 12 "-" "curl/8" "203.0.113.7:51000"
    "10.0.0.9:8080" x_forwarded_for:"203.0.113.7" x_forwarded_proto:"http" vcap_request_id:"..." response_time:0.004321
    gorouter_time:0.000210 app_id:"..." app_index:"0" instance_id:"..." x_cf_routererror:"-"

(one line). An ``Entry`` holds the values, ``text_of`` is the careful way from there to a line: the values may hold any
bytes, and none of them can end a line or a quoted field early. `router.logs.log_entry` knows a quick way for exchanges,
which gives the same lines. Pure functions; nothing here knows a socket, a file or a clock.
"""

from __future__ import annotations

import re
import time
from typing import Final, NamedTuple

UDP_LIMIT: Final = 65_400
"""A longer line is shortened where it has to fit into a datagram, bytes."""
SHORT_LIMIT: Final = 1_000
"""What is left of a header then, bytes."""
LONG_LIMIT: Final = 20_000
"""What is left of a request's target, and of the extra headers together."""

_HEADER: Final = re.compile(rb' [^ ":]+:"(?:[^"\\]|\\.)*"')
_ESCAPES: Final = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v", "\\": "\\", '"': '"'}
_PLAIN: Final = bytes(c for c in range(0x20, 0x7F) if c not in b'"\\')


class Entry(NamedTuple):
    """What is known of one exchange at its end. What came from the wire is bytes as it came; None means not there."""

    host: bytes
    started: float
    """When the request's head was complete, seconds since the epoch."""
    method: bytes
    target: bytes
    version: bytes
    """``HTTP/1.1``."""
    status: int
    """What the client saw; 0 when it saw none."""
    request_bytes: int
    """Body bytes read from the client."""
    response_bytes: int
    """Body bytes written to the client."""
    referer: bytes | None
    user_agent: bytes | None
    client: bytes
    """``ip:port``."""
    backend: bytes
    """``ip:port`` of the last endpoint tried, empty where none was."""
    x_forwarded_for: bytes | None
    """As sent to the backend, like the next two."""
    x_forwarded_proto: bytes | None
    vcap_request_id: bytes | None
    response_time: float
    """Seconds from the request to the end of the response's body."""
    gorouter_time: float
    """The part of response_time that the router itself took."""
    app_id: bytes
    app_index: bytes
    instance_id: bytes
    router_error: bytes
    fields: bytes = b""
    """What ``logging.extra_access_log_fields`` asks for, as text: `` failed_attempts:1 tls_time:"-"``."""
    headers: bytes = b""
    """What ``extra_headers_to_log`` and tracing ask for, as text: `` x_request_start:"1700000000123" b3:"-"``."""


class Clock:
    """Writes moments as ``2025-01-01T10:00:00.``, the same second once."""

    __slots__ = ("_make", "_second", "_text")

    def __init__(self, *, local: bool = False) -> None:
        """``local``: as Gorouter does, local time, and the Z behind it is not true."""
        self._make = time.localtime if local else time.gmtime
        self._second = -1
        self._text = b""

    def to_the_second(self, second: int) -> bytes:
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S.", self._make(second)).encode()
            self._second = second
        return self._text


def text_of(entry: Entry, clock: Clock) -> bytes:
    """The line, without a newline."""
    second = int(entry.started)
    moment = f"{clock.to_the_second(second).decode()}{int((entry.started - second) * 1e9):09d}Z"
    start = f"{host_text(entry.host).decode()} - [{moment}]"
    request = quoted(b" ".join((entry.method, entry.target, entry.version)))
    figures = [str(entry.status) if entry.status else '"-"', str(entry.request_bytes), str(entry.response_bytes)]
    names = [dash_or_quoted(value) for value in (entry.referer, entry.user_agent, entry.client, entry.backend)]
    named = [
        f"x_forwarded_for:{dash_or_quoted(entry.x_forwarded_for)}",
        f"x_forwarded_proto:{dash_or_quoted(entry.x_forwarded_proto)}",
        f"vcap_request_id:{dash_or_quoted(entry.vcap_request_id)}",
        f"response_time:{dash_or_seconds(entry.response_time)}",
        f"gorouter_time:{dash_or_seconds(entry.gorouter_time)}",
        f"app_id:{dash_or_quoted(entry.app_id)}",
        f"app_index:{dash_or_quoted(entry.app_index)}",
        f"instance_id:{dash_or_quoted(entry.instance_id)}",
    ]
    error = f" x_cf_routererror:{dash_or_quoted(entry.router_error)}"
    return " ".join((start, request, *figures, *names, *named)).encode() + entry.fields + error.encode() + entry.headers


def shortened(entry: Entry, clock: Clock) -> bytes:
    """The line as Loggregator gets it instead of one that is longer than UDP_LIMIT."""
    shorter = entry._replace(
        target=_shorter(entry.target, b"REQUEST-URI", LONG_LIMIT),
        referer=entry.referer and _shorter(entry.referer, b"REFERER"),
        user_agent=entry.user_agent and _shorter(entry.user_agent, b"USER-AGENT"),
        x_forwarded_for=entry.x_forwarded_for and _shorter(entry.x_forwarded_for, b"X-FORWARDED-FOR"),
        x_forwarded_proto=entry.x_forwarded_proto and _shorter(entry.x_forwarded_proto, b"X-FORWARDED-PROTO"),
    )
    return text_of(shorter._replace(headers=_fewer(entry.headers)), clock)


def _fewer(headers: bytes) -> bytes:
    """As many of the extra headers as stay below the limit."""
    length = 0
    for header in _HEADER.finditer(headers):
        length += len(header[0]) + (2 if header[0].endswith(b':"-"') else 0)  # the original counts an empty one so
        if length >= LONG_LIMIT:
            return headers[: header.start()] + b" ...EXTRA-REQUEST-HEADERS-TOO-LONG-TO-LOG--TRUNCATED"
    return headers


def _shorter(value: bytes, name: bytes, limit: int = SHORT_LIMIT) -> bytes:
    """Halved until it fits, with a note of what it was."""
    while len(value) > limit:
        value = value[: len(value) // 2] + b"...%b-TOO-LONG-TO-LOG--TRUNCATED" % name
    return value


def host_text(host: bytes | None) -> bytes:
    """The one field without quotes around it, where there is one."""
    return inside_quotes(host) if host else b'"-"'


def dash_or_seconds(value: float) -> str:
    return f"{value:.6f}" if value >= 0 else '"-"'


def dash_or_quoted(value: bytes | None) -> str:
    return quoted(value) if value else '"-"'


def inside_quotes(value: bytes) -> bytes:
    """``quoted`` without the quotes, quickly where nothing needs one."""
    return quoted(value)[1:-1].encode() if value.translate(None, _PLAIN) else value


def quoted(value: bytes) -> str:
    """As Go's strconv.Quote: printable characters as they are, everything else escaped, invalid UTF-8 byte by byte."""
    return '"' + "".join(map(_escaped, value.decode("utf-8", "surrogateescape"))) + '"'


def _escaped(char: str) -> str:
    code = ord(char)
    if char in _ESCAPES:
        return "\\" + _ESCAPES[char]
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable():
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
