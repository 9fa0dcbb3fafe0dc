"""The access log: one line per exchange in Gorouter's format.

    app.example.com - [2025-01-01T10:00:00.000000000Z] "GET /x HTTP/1.1" 200 0 12 "-" "curl/8" "203.0.113.7:51000"
    "10.0.0.9:8080" x_forwarded_for:"203.0.113.7" x_forwarded_proto:"http" vcap_request_id:"..." response_time:0.004321
    gorouter_time:0.000210 app_id:"..." app_index:"0" instance_id:"..." x_cf_routererror:"-"

(one line). The loop's thread formats it; a `router.line_queue` brings it where it goes, and drops it rather than ever
holding up a request. Nothing a client sends can end a line or a quoted field early.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from router.log_file import LogFile
from router.settings import Settings

_PLAIN: Final = bytes(c for c in range(0x20, 0x7F) if c not in b'"\\')
_QUOTES: Final = b'"' * 24 + b"\n"
"""What is left of a line without its plain characters, unless a value needs quoting."""
_LINE: Final = (
    b'%b - [%b%09dZ] "%b %b %b" %d %d %d "%b" "%b" "%b" "%b" x_forwarded_for:"%b" x_forwarded_proto:"%b"'
    b' vcap_request_id:"%b" response_time:%.6f gorouter_time:%.6f app_id:"%b" app_index:"%b" instance_id:"%b"'
    b' x_cf_routererror:"%b"\n'
)
_ESCAPES: Final = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v", "\\": "\\", '"': '"'}


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


class AccessLog:
    """An open access log. ``write`` is for one thread, the loop's."""

    @classmethod
    def from_settings(cls, settings: Settings) -> AccessLog | None:
        """The log that the settings ask for, None where they ask for none. Raises CannotLog."""
        if not settings.access_log.file:
            return None
        return cls(
            settings.access_log.file,
            hide_forwarded_for=settings.logging.disable_log_forwarded_for,
            hide_client=settings.logging.disable_log_source_ip,
        )

    def __init__(self, file: str, *, hide_forwarded_for: bool = False, hide_client: bool = False) -> None:
        """Opens ``file`` for appending (``-``: standard output) and starts the writer. Raises CannotLog."""
        self._hide_forwarded_for = hide_forwarded_for
        self._hide_client = hide_client
        self._second = -1
        self._second_text = b""
        self._file = LogFile(file)
        self._file.start()

    @property
    def dropped(self) -> int:
        """Lines given up so far because the disk did not keep up or refused them."""
        return self._file.dropped

    def write(self, entry: Entry) -> None:
        """Format and queue one line. Never blocks."""
        self._file.offer(self._line(entry))

    def close(self) -> None:
        """Write what is queued and close the file; what it does not take within a second is given up."""
        self._file.close()

    def _line(self, entry: Entry) -> bytes:
        started = entry.started
        second = int(started)
        if second != self._second:
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)).encode()
            self._second = second
        if self._hide_client or self._hide_forwarded_for:
            entry = self._without_hidden(entry)
        # One unpacking is cheaper than twenty attribute accesses, and so is one pass over the line than one per value.
        (host, _, method, target, version, status, received, sent, referer, agent, client, backend, forwarded_for,
         forwarded_proto, request_id, response_time, own_time, app, index, instance, error) = entry  # fmt: skip
        line = _LINE % (
            host, self._second_text, (started - second) * 1e9, method, target, version, status, received, sent,
            referer or b"-", agent or b"-", client or b"-", backend or b"-", forwarded_for or b"-",
            forwarded_proto or b"-", request_id or b"-", response_time, own_time,
            app or b"-", index or b"-", instance or b"-", error or b"-",
        )  # fmt: skip
        if line.translate(None, _PLAIN) != _QUOTES or not host or not status or response_time < 0 or own_time < 0:
            return quoted_line(entry, self._second_text)
        return line

    def _without_hidden(self, entry: Entry) -> Entry:
        if self._hide_client:
            entry = entry._replace(client=b"")
        return entry._replace(x_forwarded_for=None) if self._hide_forwarded_for else entry


def quoted_line(entry: Entry, second_text: bytes) -> bytes:
    """The line of an entry whose values may hold anything; ``second_text`` is its start to the second and a dot."""
    started = f"{second_text.decode()}{int((entry.started - int(entry.started)) * 1e9):09d}Z"
    host = quoted(entry.host)[1:-1] if entry.host else '"-"'
    request = quoted(b" ".join((entry.method, entry.target, entry.version)))
    figures = [str(entry.status) if entry.status else '"-"', str(entry.request_bytes), str(entry.response_bytes)]
    names = [dash_or_quoted(value) for value in (entry.referer, entry.user_agent, entry.client, entry.backend)]
    named = [
        f"x_forwarded_for:{dash_or_quoted(entry.x_forwarded_for)}",
        f"x_forwarded_proto:{dash_or_quoted(entry.x_forwarded_proto)}",
        f"vcap_request_id:{dash_or_quoted(entry.vcap_request_id)}",
        f"response_time:{_dash_or_seconds(entry.response_time)}",
        f"gorouter_time:{_dash_or_seconds(entry.gorouter_time)}",
        f"app_id:{dash_or_quoted(entry.app_id)}",
        f"app_index:{dash_or_quoted(entry.app_index)}",
        f"instance_id:{dash_or_quoted(entry.instance_id)}",
        f"x_cf_routererror:{dash_or_quoted(entry.router_error)}",
    ]
    return (" ".join([f"{host} - [{started}]", request, *figures, *names, *named]) + "\n").encode()


def dash_or_quoted(value: bytes | None) -> str:
    return quoted(value) if value else '"-"'


def _dash_or_seconds(value: float) -> str:
    return f"{value:.6f}" if value >= 0 else '"-"'


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
