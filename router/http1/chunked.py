"""The chunked coding (RFC 9112 section 7.1): one strict scanner, used to pass chunks on and to take them apart.

Theory of operation. The scanner is fed bytes as they arrive and says how many of them belong to this body. It keeps
only a line that is not whole yet (bounded) and how much of a chunk is still to come, so its memory does not depend on
the body. Passing on: the caller forwards exactly the bytes that were consumed; a line that is not whole yet is
consumed only while it can still become a valid one, so that what was forwarded is always the beginning of a valid body.
Taking apart: the caller gives a list that receives the data without its framing.

    SIZE --size line--> DATA --all bytes--> DATA_END --CRLF--> SIZE
    SIZE --size 0-----> TRAILER --empty line--> DONE
"""

from __future__ import annotations

import re
from typing import Final

from router.http1.grammar import FIELD_LINES, NEVER_IN_TRAILERS, TOKEN, VOUCHED_FOR, BadMessage

SIZE, DATA, DATA_END, TRAILER, DONE = range(5)

MAX_SIZE_LINE: Final = 256
"""Bytes of a chunk-size line with its extensions."""
MAX_TRAILER: Final = 8 * 1024
MAX_OVERHEAD_RATIO: Final = 16
"""Extensions and sizes may outweigh data this many times, plus 16 KiB, before it counts as an attack."""

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_BEGINNINGS: Final = {
    SIZE: re.compile(rb"(?:[0-9A-Fa-f]{1,15}(?:(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?\r?|[ \t]*))?"),
    DATA_END: re.compile(rb"\r?"),
    TRAILER: re.compile(rb"(?:" + TOKEN + rb"(?::[^\x00-\x08\x0a-\x1f\x7f]*\r?)?|\r)?"),
}
"""What a line may look like while its LF has not come."""


class ChunkScanner:
    """Scans one chunked body. ``status`` goes into the BadMessage it raises: 400 for requests, 502 for responses."""

    __slots__ = ("_left", "_overhead", "_state", "_status", "_tail", "_trailer_bytes", "payload", "trailers")

    def __init__(self, status: int = 400) -> None:
        self._state = SIZE
        self._left = 0
        self._tail = b""
        self.payload = 0
        """Bytes of data so far, without framing."""
        self._overhead = 0
        self._trailer_bytes = 0
        self.trailers = b""
        """Field lines behind the last chunk, each with its CRLF."""
        self._status = status

    @property
    def done(self) -> bool:
        return self._state == DONE

    def feed(self, data: bytes, out: list[bytes] | None = None) -> int:
        """How many bytes of ``data`` belong to this body; fewer than all of them only once ``done``.

        ``out`` receives the chunks' data. Raises BadMessage for anything that is not exactly the grammar.
        """
        position = 0
        end = len(data)
        while position < end:
            state = self._state
            if state == DATA:
                take = min(self._left, end - position)
                if out is not None:
                    out.append(data[position : position + take])
                position += take
                self.payload += take
                self._left -= take
                if self._left:
                    break
                self._state = DATA_END
            elif state == DONE:
                break
            else:
                line, position = self._line(data, position)
                if line is None:
                    break
                self._take_line(line)
        return position

    def _line(self, data: bytes, position: int) -> tuple[bytes | None, int]:
        """The next whole line without CRLF, or None while it is not whole, and where to go on."""
        lf = data.find(b"\n", position)
        if lf < 0:
            self._tail += data[position:]
            if len(self._tail) > (MAX_TRAILER if self._state == TRAILER else MAX_SIZE_LINE):
                raise BadMessage(self._status, "chunk-size line or trailer too long")
            if _BEGINNINGS[self._state].fullmatch(self._tail) is None:
                raise BadMessage(self._status, "malformed chunk framing")
            if self._state == TRAILER and b":" in self._tail:
                self._check_trailer_name(self._tail)
            return None, len(data)
        line = data[position : lf + 1]
        if self._tail:
            line = self._tail + line
            self._tail = b""
        if line[-2:-1] != b"\r":
            raise BadMessage(self._status, "bare LF in chunked body")
        return line[:-2], lf + 1

    def _take_line(self, line: bytes) -> None:
        if self._state == DATA_END:
            if line:
                raise BadMessage(self._status, "chunk longer than its size")
            self._state = SIZE
        elif self._state == SIZE:
            match = _SIZE_LINE.fullmatch(line) if len(line) <= MAX_SIZE_LINE else None
            if match is None:
                raise BadMessage(self._status, "malformed chunk size")
            self._overhead += len(line)
            if self._overhead > 16 * 1024 + MAX_OVERHEAD_RATIO * self.payload:
                raise BadMessage(self._status, "chunked body with more framing than data")
            self._left = int(match[1], 16)
            self._state = DATA if self._left else TRAILER
        elif not line:
            self._state = DONE
        else:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > MAX_TRAILER:
                raise BadMessage(self._status, "trailers too long")
            self.trailers += line + b"\r\n"
            if FIELD_LINES.fullmatch(line + b"\r\n") is None:
                raise BadMessage(self._status, "malformed trailer field")
            self._check_trailer_name(line)

    def _check_trailer_name(self, line: bytes) -> None:
        name = line.partition(b":")[0].lower()
        if name in NEVER_IN_TRAILERS or name.startswith(VOUCHED_FOR):
            raise BadMessage(self._status, "trailer field that frames or routes a message")
