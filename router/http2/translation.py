"""Messages from HTTP/2 to the HTTP/1.1 heads that say the same, and back (RFC 9113 section 8; RFC 8441).

A head that came by HTTP/2 is written down as the request line and field block (or the response head) of HTTP/1.1 and
goes on to the one parser, the one set of rules and the one memory that all heads share. What HTTP/1.1 cannot say
(pseudo-header fields out of order, upper case, fields of the connection, control bytes that would end a line) is
refused before a byte of it is written.

A body without a length has the framing of chunks between the two sides of the router, and so its trailers; the block
says so by a Transfer-Encoding line that no HTTP/2 peer ever sees.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from router.heads.answers import reason
from router.http1.chunked import MAX_TRAILER
from router.http1.grammar import NEVER_IN_TRAILERS, VOUCHED_FOR
from router.http1.request import WITH_LENGTH
from router.http2.hpack import Pair, encoded

ORDINARY, CONNECT, WEBSOCKET, OTHER_PROTOCOL = range(4)
"""What a request asks for; OTHER_PROTOCOL: extended CONNECT with a protocol that is not served."""

_REMEMBERED: Final = 4096
_REMEMBERED_BYTES: Final = 512

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(
    rb"(?:[^\x00-\x08\x0a-\x1f\x7f \t](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x08\x0a-\x1f\x7f \t])?)?"
)
"""Section 8.2.1, and no control byte, as HTTP/1.1 has it."""
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*")
"""RFC 3986 section 3.1."""
_OF_THE_CONNECTION: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Section 8.2.2."""
_REQUEST_PSEUDO: Final = frozenset((b":authority", b":method", b":path", b":protocol", b":scheme"))


class Malformed(Exception):
    """A message that breaks section 8: its stream is reset (section 8.1.1)."""


class RequestHead(NamedTuple):
    line: bytes
    """Without its CRLF."""
    block: bytes
    """Field lines with their CRLF, and the empty line."""
    asks_for: int


@lru_cache(_REMEMBERED)
def _line(name: bytes, value: bytes) -> bytes:
    """A field line with its CRLF; empty for one that HTTP/1.1 has no use for. Raises Malformed."""
    if not _NAME.fullmatch(name):
        raise Malformed("field name")
    if not _VALUE.fullmatch(value):
        raise Malformed("field value")
    if name in _OF_THE_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
        raise Malformed("field of the connection")
    return b"%b: %b\r\n" % (name, value)


_long_line: Final = _line.__wrapped__


def _field_line(pair: Pair) -> bytes:
    name, value = pair
    return _line(name, value) if len(value) <= _REMEMBERED_BYTES else _long_line(name, value)


def request_head(pairs: list[Pair], ended: bool) -> RequestHead:
    """A request's head (section 8.3.1). ``ended``: no body follows. Raises Malformed.

    Whether the target and the authority are any good is the HTTP/1.1 parser's to say.
    """
    pseudo: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    cookies: list[bytes] = []
    host: bytes | None = None
    length: bytes | None = None
    for pair in pairs:
        name, value = pair
        if name[:1] == b":":
            if name not in _REQUEST_PSEUDO or name in pseudo or lines or cookies or host is not None:
                raise Malformed("pseudo-header field unknown, twice, or behind others")
            if not _VALUE.fullmatch(value):
                raise Malformed("pseudo-header field value")
            pseudo[name] = value
            continue
        line = _field_line(pair)
        if name == b"cookie":
            cookies.append(value)
        elif name == b"host":
            if host is not None:
                raise Malformed("more than one Host field")
            host = value
        else:
            if name == b"content-length":
                length = value
            lines.append(line)
    authority = pseudo.get(b":authority", host)
    if host is not None and host != authority:
        raise Malformed("Host and :authority differ")
    method = pseudo.get(b":method")
    path = pseudo.get(b":path")
    if not method:
        raise Malformed("no :method")
    asks_for = ORDINARY
    if method == b"CONNECT":
        if b":protocol" not in pseudo:
            if path is not None or b":scheme" in pseudo or not authority:
                raise Malformed("CONNECT with :path or :scheme, or without :authority")
            return RequestHead(b"CONNECT %b HTTP/1.1" % authority, _block(authority, lines, cookies), CONNECT)
        asks_for = WEBSOCKET if pseudo[b":protocol"].lower() == b"websocket" else OTHER_PROTOCOL
        method = b"GET"
    elif b":protocol" in pseudo:
        raise Malformed(":protocol without CONNECT")
    if not path or (path[:1] != b"/" and path != b"*"):
        raise Malformed("no :path, or one that does not begin with a slash")
    if not _SCHEME.fullmatch(pseudo.get(b":scheme", b"")):
        raise Malformed("no :scheme, or none that could be one")
    if ended and length is not None and length.strip(b"0"):
        raise Malformed("content-length without content")
    if asks_for == ORDINARY and length is None:
        if not ended:
            lines.append(b"transfer-encoding: chunked\r\n")
        elif method in WITH_LENGTH:
            lines.append(b"content-length: 0\r\n")
    return RequestHead(b"%b %b HTTP/1.1" % (method, path), _block(authority, lines, cookies), asks_for)


def _block(authority: bytes | None, lines: list[bytes], cookies: list[bytes]) -> bytes:
    if cookies:  # section 8.2.3
        lines.append(b"cookie: %b\r\n" % b"; ".join(cookies))
    host = b"Host: %b\r\n" % authority if authority is not None else b""
    return b"".join((host, *lines, b"\r\n"))


def response_head(pairs: list[Pair], ended: bool) -> bytes:
    """A response's head as HTTP/1.1 has it, without the empty line (section 8.3.2). Raises Malformed."""
    status: bytes | None = None
    lines: list[bytes] = []
    has_length = False
    for pair in pairs:
        name, value = pair
        if name[:1] == b":":
            if name != b":status" or status is not None or lines:
                raise Malformed("pseudo-header field unknown, twice, or behind others")
            status = value
            continue
        has_length = has_length or name == b"content-length"
        lines.append(_field_line(pair))
    if status is None or len(status) != 3 or not status.isdigit() or status == b"101" or status < b"100":
        raise Malformed("no :status, or none that HTTP/2 knows")
    if not ended and not has_length and status >= b"200":
        lines.append(b"transfer-encoding: chunked\r\n")
    text = b"HTTP/1.1 %b %b\r\n%b" % (status, reason(int(status)).encode(), b"".join(lines))
    return text[:-2]


def trailer_chunk(pairs: list[Pair]) -> bytes:
    """The end of a body in chunks, with these trailers (section 8.1). Raises Malformed."""
    lines = [_field_line(pair) for pair in pairs]
    if any(name in NEVER_IN_TRAILERS or name.startswith(VOUCHED_FOR) for name, _ in pairs):
        raise Malformed("trailer field that frames or routes a message")
    text = b"".join(lines)
    if len(text) - 2 * len(lines) > MAX_TRAILER:
        raise Malformed("trailers too long")
    return b"0\r\n%b\r\n" % text


def chunk(data: bytes, end: bool) -> bytes:
    """A piece of a body as a chunk, with the last one where it ends."""
    if not data:
        return b"0\r\n\r\n" if end else b""
    return b"%x\r\n%b\r\n%b" % (len(data), data, b"0\r\n\r\n" if end else b"")


# From HTTP/1.1 -----------------------------------------------------------------------------------------------------

_UPGRADING: Final = frozenset((b"sec-websocket-accept", b"sec-websocket-key"))
"""Fields of an HTTP/1.1 handshake that extended CONNECT has no use for (RFC 8441 section 5)."""


@lru_cache(_REMEMBERED)
def _encoded_line(line: bytes) -> bytes:
    name, _, value = line.partition(b":")
    name = name.lower()
    if name in _OF_THE_CONNECTION or name == b"host":
        return b""
    return encoded(name, value.strip(b" \t"))


def fields_block(lines: bytes) -> bytes:
    """Field lines, each with its CRLF, as a header block; those that only HTTP/1.1 has are left out."""
    return b"".join(
        [
            _encoded_line(line) if len(line) <= _REMEMBERED_BYTES else _encoded_line.__wrapped__(line)
            for line in lines.split(b"\r\n")
            if line
        ]
    )


class Shape:
    """Field lines that differ from others of their kind only in characters of their values, never in a length.

    They are encoded by where their values stand. What is new in every message would only push other lines out of the
    memory that ``fields_block`` has.
    """

    __slots__ = ("_values",)

    def __init__(self, example: bytes) -> None:
        """``example``: such lines, each with its CRLF."""
        self._values: list[tuple[bytes, int, int]] = []
        """What precedes each value in a header block, and where the value stands among the lines."""
        at = 0
        for line in example.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b": ")
            end = at + len(line)
            self._values.append((encoded(name.lower(), value)[: -len(value)], end - len(value), end))
            at = end + 2

    def block(self, lines: bytes) -> bytes:
        """Such lines as a header block."""
        return b"".join([before + lines[start:end] for before, start, end in self._values])


def response_block(head: bytes) -> bytes:
    """A response head without its empty line, or with it, as a header block."""
    status_line, _, lines = head.partition(b"\r\n")
    return encoded(b":status", status_line[9:12]) + fields_block(lines)


def websocket_block(head: bytes) -> bytes:
    """A 101 that accepts a WebSocket, as extended CONNECT says it (RFC 8441 section 5)."""
    lines = head.partition(b"\r\n")[2].split(b"\r\n")
    kept = [line for line in lines if line and line.partition(b":")[0].lower() not in _UPGRADING]
    return encoded(b":status", b"200") + fields_block(b"\r\n".join(kept))


def request_block(method: bytes, target: bytes, authority: bytes, scheme: bytes) -> bytes:
    """A request's pseudo-header fields (section 8.3.1), with which its header block begins."""
    return b"".join(
        (
            encoded(b":method", method),
            encoded(b":scheme", scheme),
            encoded(b":authority", authority) if authority else b"",
            encoded(b":path", target),
        )
    )
