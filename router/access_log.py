"""The access log: one line per exchange in Gorouter's format, written by a thread so that no request waits for a disk.

    app.example.com - [2025-01-01T10:00:00.000000000Z] "GET /x HTTP/1.1" 200 0 12 "-" "curl/8" "203.0.113.7:51000"
    "10.0.0.9:8080" x_forwarded_for:"203.0.113.7" x_forwarded_proto:"http" vcap_request_id:"..." response_time:0.004321
    gorouter_time:0.000210 app_id:"..." app_index:"0" instance_id:"..." x_cf_routererror:"-"

(one line). The loop's thread formats a line and appends it; the writer thread takes what has gathered every FLUSH_EVERY
seconds or FLUSH_BYTES bytes. Between them at most MAX_PENDING_BYTES wait: when the disk is slow, full or gone, further
lines are dropped and counted, and a request never waits. Nothing a client sends can end a line or a quoted field early.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import threading
import time
from collections import deque
from typing import Final, NamedTuple

from router.settings import Settings

FLUSH_EVERY: Final = 0.1
FLUSH_BYTES: Final = 64 * 1024
MAX_PENDING_BYTES: Final = 8 * 1024 * 1024
CLOSE_GRACE: Final = 1.0
"""How long close() waits for a disk that does not take the last lines, seconds."""
COMPLAIN_EVERY: Final = 10.0
"""At most one line of the router's own log about dropped lines in this many seconds."""
STDOUT: Final = "-"
_FILE_BYTES: Final = 256 * 1024
"""One write to a file: enough to be cheap, too little for its making to be felt by the loop."""
_PIPE_BYTES: Final = 4096
"""POSIX PIPE_BUF on Linux: what several processes write to one pipe at once without mixing it."""

_PLAIN: Final = bytes(c for c in range(0x20, 0x7F) if c not in b'"\\')
_QUOTES: Final = b'"' * 24 + b"\n"
"""What is left of a line without its plain characters, unless a value needs quoting."""
_LINE: Final = (
    b'%b - [%b%09dZ] "%b %b %b" %d %d %d "%b" "%b" "%b" "%b" x_forwarded_for:"%b" x_forwarded_proto:"%b"'
    b' vcap_request_id:"%b" response_time:%.6f gorouter_time:%.6f app_id:"%b" app_index:"%b" instance_id:"%b"'
    b' x_cf_routererror:"%b"\n'
)
_ESCAPES: Final = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v", "\\": "\\", '"': '"'}

_log = logging.getLogger("router.access-log")


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


class CannotLog(Exception):
    """The access log cannot be opened; the message names the file, the reason, and the setting."""


def open_for_lines(file: str) -> int:
    """A blocking descriptor that appends to ``file`` (``-``: standard output), mode 0644. Raises CannotLog."""
    if file == STDOUT:
        return os.dup(1)
    try:
        # Without O_NONBLOCK the opening of a FIFO would wait for its reader.
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise CannotLog(f"access_log.file {file}: {error.strerror}; make it writable or choose another file") from None
    os.set_blocking(descriptor, True)
    return descriptor


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
        self._file = file
        self._hide_forwarded_for = hide_forwarded_for
        self._hide_client = hide_client
        self._descriptor = open_for_lines(file)
        self._at_once = _PIPE_BYTES if stat.S_ISFIFO(os.fstat(self._descriptor).st_mode) else _FILE_BYTES
        self._second = -1
        self._second_text = b""
        self._lines: deque[bytes] = deque()
        # Each of these has one thread that writes it and so needs no lock: the first three the loop's, the others ours.
        self._offered = 0
        self._woken_at = 0
        self._refused = 0
        self._settled = 0
        self._failed = 0
        self._torn = False
        self._wake = threading.Event()
        self._closing = False
        self._complaint = threading.Lock()
        self._complained_at = -COMPLAIN_EVERY
        self._writer = threading.Thread(target=self._write_until_closed, name="access log", daemon=True)
        self._writer.start()

    @property
    def dropped(self) -> int:
        """Lines given up so far because the disk did not keep up or refused them."""
        return self._refused + self._failed

    def write(self, entry: Entry) -> None:
        """Format and queue one line; drops it, counted, when MAX_PENDING_BYTES are waiting already. Never blocks."""
        offered = self._offered
        if offered - self._settled > MAX_PENDING_BYTES:
            self._refused += 1
            if self._file != STDOUT:  # the complaint would go, and wait, where the lines go
                self._complain("the disk does not keep up")
            return
        line = self._line(entry)
        self._lines.append(line)
        self._offered = offered = offered + len(line)
        if offered - self._woken_at > FLUSH_BYTES:
            self._woken_at = offered
            self._wake.set()

    def close(self) -> None:
        """Write what is queued and close the file; after CLOSE_GRACE seconds what is left is given up."""
        self._closing = True
        self._wake.set()
        self._writer.join(CLOSE_GRACE)

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

    def _write_until_closed(self) -> None:
        closing = False
        while not closing:
            self._wake.wait(FLUSH_EVERY)
            self._wake.clear()
            closing = self._closing
            while self._lines:
                self._write(self._gathered())
        os.close(self._descriptor)

    def _gathered(self) -> bytes:
        """Whole lines, as many as may be written at once; at least one."""
        lines = [self._lines.popleft()]
        size = len(lines[0])
        while self._lines and size + len(self._lines[0]) <= self._at_once:
            lines.append(self._lines.popleft())
            size += len(lines[-1])
        return b"".join(lines)

    def _write(self, batch: bytes) -> None:
        # What got out before a disk refused may end inside a line; the next line must not be glued to it.
        mend = b"\n" if self._torn else b""
        text, done = mend + batch, 0
        try:
            while done < len(text):
                try:
                    done += os.write(self._descriptor, memoryview(text)[done:])
                except BlockingIOError:  # a standard output that somebody made non-blocking
                    select.select([], [self._descriptor], [])
        except OSError as error:
            self._failed += batch[max(0, done - len(mend)) :].count(b"\n")
            self._complain(error.strerror or str(error))
        if done:
            self._torn = text[done - 1] != ord("\n")
        self._settled += len(batch)

    def _complain(self, reason: str) -> None:
        with self._complaint:
            now = time.monotonic()
            if now - self._complained_at < COMPLAIN_EVERY:
                return
            self._complained_at = now
        _log.warning(
            "access-log-lines-dropped",
            extra={"data": {"file": self._file, "reason": reason, "dropped": self.dropped}},
        )


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
