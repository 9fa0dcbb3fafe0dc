"""The access log as syslog messages (RFC 5424): one datagram each over UDP, one line each over TCP (RFC 6587).

    <14>1 2025-01-01T10:00:00.123Z router-1 vcap.gorouter 4711 - - BOM app.example.com - [2025-01-01T10:00:00...

Theory of operation. The queue's thread does everything that may wait: looking up the name, connecting, sending.

    UNCONNECTED --connected--> SENDING --the receiver closed, or an error--> UNCONNECTED, for a while that grows

While there is no connection lines wait in the queue, up to its bound, so that a receiver that restarts misses little.
What a TCP receiver had taken when it closed, and what a network loses of UDP, nobody can count.
"""

from __future__ import annotations

import os
import re
import socket
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from router.logs.line_queue import LineQueue

if TYPE_CHECKING:
    from router.config.settings import Logging

PRIORITY: Final = 14
"""Facility user, severity informational."""
BOM: Final = b"\xef\xbb\xbf"
"""What says that the message is UTF-8 (RFC 5424 section 6.4)."""
MAX_DATAGRAM: Final = 65_507
"""What fits into one over IPv4, bytes; a longer message is cut."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
"""Between two tries to connect, seconds."""
CONNECT_PATIENCE: Final = 5.0
SILENCE: Final = 30_000
"""How long a TCP receiver's host may leave what was sent unacknowledged, milliseconds."""
_BATCH_BYTES: Final = 64 * 1024
_FAMILIES: Final = {"": socket.AF_UNSPEC, "4": socket.AF_INET, "6": socket.AF_INET6}
_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:\s]+)):([0-9]{1,5})")


def receiver(address: str) -> tuple[str, int]:
    """Host and port of ``logging.syslog_addr``. Raises ValueError with what is wrong."""
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[3]) <= 65535:
        raise ValueError(f"{address!r} is not host:port, such as 127.0.0.1:514 or [::1]:6514")
    return match[1] or match[2], int(match[3])


class Syslog(LineQueue):
    """Call ``start``. Needs no receiver to begin with."""

    def __init__(self, settings: Logging, *, structured: bool = True) -> None:
        """``structured``: False leaves the field for structured data out, as Gorouter does. Raises ValueError."""
        super().__init__(f"{settings.syslog_network}://{settings.syslog_addr}")
        self._host, self._port = receiver(settings.syslog_addr)
        self._family = _FAMILIES[settings.syslog_network[3:]]
        self._stream = settings.syslog_network.startswith("tcp")
        self._most = settings.syslog_truncate
        self._structured = structured
        middle = b" - - " if structured else b" - "
        app = _name(settings.syslog or "gorouter.stdout", 48)
        who = b"%b %b %d" % (_name(socket.gethostname(), 255), app, os.getpid())
        self._start, self._end = b"<%d>1 " % PRIORITY, b" " + who + middle + BOM
        self._socket: socket.socket | None = None
        self._pause = 0.0
        self._not_before = 0.0

    # What the queue asks of us -----------------------------------------------------------------------------------

    def take(self) -> None:
        if self.closing:
            self._not_before = 0.0
        while self.lines and self._connected():
            if self._stream:
                self._send_lines(self._gathered())
            else:
                self._send_datagrams(self._gathered())

    def shut(self) -> None:
        """What could not be delivered is lost."""
        left = list(self.lines)
        self.settle(sum(map(len, left)), len(left))
        if self._socket is not None:
            self._socket.close()

    def _gathered(self) -> list[bytes]:
        lines = [self.lines.popleft()]
        size = len(lines[0])
        while self.lines and size < _BATCH_BYTES:
            lines.append(self.lines.popleft())
            size += len(lines[-1])
        return lines

    # The connection ----------------------------------------------------------------------------------------------

    def _connected(self) -> bool:
        if self._socket is not None and self._stream and _is_closed(self._socket):
            self._disconnect()
        if self._socket is None and time.monotonic() >= self._not_before:
            try:
                self._socket = self._connect()
            except OSError as error:
                self._fail(error)
        return self._socket is not None

    def _connect(self) -> socket.socket:
        kind = socket.SOCK_STREAM if self._stream else socket.SOCK_DGRAM
        problem = OSError("no address")
        for family, _, protocol, _, address in socket.getaddrinfo(self._host, self._port, self._family, kind):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(CONNECT_PATIENCE)
                sock.connect(address)
            except OSError as error:
                sock.close()
                problem = error
                continue
            sock.settimeout(None)
            if self._stream and hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE)
            return sock
        raise problem

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _fail(self, error: OSError) -> None:
        """Wait before the next try, the longer the more there were in a row."""
        self._disconnect()
        self._pause = min(LONGEST_PAUSE, 2 * self._pause or FIRST_PAUSE)
        self._not_before = time.monotonic() + self._pause
        self.complain(error.strerror or str(error), "access-log-not-streamed")

    # Messages ----------------------------------------------------------------------------------------------------

    def _send_lines(self, lines: list[bytes]) -> None:
        assert self._socket is not None
        before = self._before()
        messages = [before + self._cut(line[:-1], self._most) + b"\n" for line in lines]
        rest = memoryview(b"".join(messages))
        try:
            while rest:
                rest = rest[self._socket.send(rest) :]
        except OSError as error:
            self._fail(error)
            left = len(rest)
            while left > 0:  # the message that was cut off is said again as a whole
                left -= len(messages.pop())
                self.lines.appendleft(lines.pop())
        else:
            self._pause = 0.0
        self.settle(sum(map(len, lines)))

    def _send_datagrams(self, lines: list[bytes]) -> None:
        before = self._before()
        room = MAX_DATAGRAM - len(before)
        most = min(self._most, room) if self._most else room
        failed = sum(self._send_datagram(before + self._cut(line[:-1], most)) for line in lines)
        self.settle(sum(map(len, lines)), failed)

    def _send_datagram(self, message: bytes) -> int:
        """Returns how many were lost, as far as one can know: nobody receiving is said of one that was sent before."""
        refused = 0
        while self._socket is not None and refused < 2:
            try:
                self._socket.send(message)
            except ConnectionRefusedError:
                refused += 1
                self.complain("nobody receives there", "access-log-not-streamed")
            except OSError as error:
                self._fail(error)
            else:
                self._pause = 0.0
                return refused
        return refused + 1

    def _before(self) -> bytes:
        """What stands before a line that is sent now."""
        now = datetime.now(UTC)
        if self._structured:
            moment = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        else:
            moment = now.astimezone().isoformat(timespec="seconds").replace("+00:00", "Z")
        return self._start + moment.encode() + self._end

    @staticmethod
    def _cut(line: bytes, most: int) -> bytes:
        """At most so many bytes of it (0: all), and no half of a character at the end."""
        if not most or len(line) <= most:
            return line
        return line[:most].decode("utf-8", "ignore").encode()


def _is_closed(sock: socket.socket) -> bool:
    """Whether the receiver has closed its side. What it says, if it says anything, is nobody's."""
    try:
        while sock.recv(4096, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _name(text: str, most: int) -> bytes:
    """As a field of the header: printable ASCII without spaces (RFC 5424 section 6)."""
    return "".join(char if "!" <= char <= "~" else "_" for char in text)[:most].encode() or b"-"
