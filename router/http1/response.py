"""Response heads from backends: status line, fields, and how the body is framed (RFC 9112 sections 4 and 6.3)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from router.http1.fields import Line, field_lines, our_line
from router.http1.grammar import BadMessage, Limits, broken_line_end, content_length, list_members

MAX_STATUS_LINE: Final = 512

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?")


class ResponseHead:
    """A checked response head. ``content_length`` is -1 where none was given; ``reason`` may be empty."""

    __slots__ = ("chunked", "connection", "content_length", "lines", "minor", "reason", "status")

    def __init__(self, status: int, minor: int, reason: bytes) -> None:
        self.status = status
        self.minor = minor
        self.reason = reason
        self.lines: list[Line] = []
        self.content_length = -1
        self.chunked = False
        self.connection: frozenset[bytes] = frozenset()

    @property
    def bodiless(self) -> bool:
        """1xx, 204 and 304 end with their head whatever their fields say."""
        return self.status < 200 or self.status in (204, 304)


def parse_head(head: bytes, limits: Limits) -> ResponseHead:
    """A whole head with its final empty line. Raises BadMessage (502) for what cannot be framed beyond doubt."""
    line, _, block = head[:-2].partition(b"\r\n")
    if len(line) > MAX_STATUS_LINE:
        raise BadMessage(502, f"status line longer than {MAX_STATUS_LINE} bytes")
    minor, status, reason = _status_line(line)
    if block.count(b"\r\n") > limits.fields:
        raise BadMessage(502, "Too many response headers")
    response = ResponseHead(status, minor, reason)
    try:
        response.lines = field_lines(block)
        for field in [field for field in response.lines if field.special]:
            _take(response, field)
    except BadMessage as bad:
        raise BadMessage(502, bad.reason) from None
    if response.chunked and response.content_length >= 0:
        raise BadMessage(502, "both Content-Length and Transfer-Encoding")
    return response


@lru_cache(256)
def _status_line(line: bytes) -> tuple[int, int, bytes]:
    """Minor version, status and reason. Raises BadMessage (502)."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadMessage(502, "malformed status line")
    return int(match[1]), int(match[2]), match[3] or b""


def _take(response: ResponseHead, line: Line) -> None:
    """What one line says of framing and connection (RFC 9112 sections 6.1, 6.3 and 9.3)."""
    if line.name == b"content-length":
        length = content_length(line.value)
        if response.content_length not in (-1, length):
            raise BadMessage(502, "Content-Length fields that differ")
        if response.content_length >= 0 or line.value != b"%d" % length:
            response.lines = [other for other in response.lines if other.name != b"content-length"]
            response.lines.append(our_line(b"Content-Length", b"%d" % length))
        response.content_length = length
    elif line.name == b"transfer-encoding":
        if response.chunked or line.value.lower() != b"chunked":
            raise BadMessage(502, "Transfer-Encoding other than chunked")
        if response.minor == 0:
            raise BadMessage(502, "Transfer-Encoding in an HTTP/1.0 response")
        response.chunked = True
    elif line.name == b"connection":
        response.connection |= frozenset(list_members(line.value))


def check_partial_head(data: bytes, limits: Limits) -> None:
    """Refuse early what can no longer become a response head. Raises BadMessage (502)."""
    if not b"HTTP/1.".startswith(data[:7]) or broken_line_end(data):
        raise BadMessage(502, "this does not look like HTTP/1.1")
    if len(data) > limits.head:
        raise too_long(limits)


def too_long(limits: Limits) -> BadMessage:
    """In the words that operators grep for: Go's."""
    text = f"net/http: server response headers exceeded {limits.head} bytes; aborted"
    return BadMessage(502, f"net/http: HTTP/1.x transport connection broken: {text}")
