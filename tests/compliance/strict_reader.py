"""An independent, naive and strict reader of HTTP/1.1 byte streams, to compare the router's reading with.

Shares no code with the router: whatever the two read differently is a fault of one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
HEX = frozenset(b"0123456789abcdefABCDEF")


class Malformed(Exception):
    """The bytes break the grammar."""


class Incomplete(Exception):
    """More bytes could make it a whole message."""


@dataclass
class Read:
    """One message. ``body`` is as on the wire, with its chunk framing; ``end`` is where the next message begins."""

    first: list[bytes]
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    end: int = field(default=0)

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]

    @property
    def options(self) -> set[bytes]:
        """Connection options."""
        return {option.strip(b" \t").lower() for line in self.all(b"connection") for option in line.split(b",")}


def read_request(data: bytes, start: int) -> Read:
    while data.startswith(b"\r\n", start):
        start += 2
    message = _head(data, start)
    if len(message.first) != 3 or message.first[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise Malformed("request line")
    if not set(message.first[0]) <= TOKEN or not message.first[0]:
        raise Malformed("method")
    if b"\t" in message.first[1]:
        raise Malformed("target")
    _body(data, message, _length(message), False)
    return message


def read_response(data: bytes, start: int, to_head: bool, ended: bool) -> Read:
    """``to_head``: it answers HEAD; ``ended``: the stream ends after ``data``."""
    message = _head(data, start)
    if message.first[0] != b"HTTP/1.1" or len(message.first) < 3 or not message.first[1].isdigit():
        raise Malformed("status line")
    status = int(message.first[1])
    length = _length(message)
    if to_head or status < 200 or status in (204, 304):
        return message
    if length is None and not message.all(b"transfer-encoding"):
        if not ended:
            raise Incomplete
        message.body, message.end = data[message.end :], len(data)
        return message
    _body(data, message, length, True)
    return message


def _head(data: bytes, start: int) -> Read:
    end = data.find(b"\r\n\r\n", start)
    if end < 0:
        raise Incomplete
    first, *lines = data[start:end].split(b"\r\n")
    if any((byte < 32 and byte != 9) or byte == 127 for byte in first):
        raise Malformed("control byte in the first line")
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or not set(name) <= TOKEN:
            raise Malformed("field name")
        if any((byte < 32 and byte != 9) or byte == 127 for byte in value):
            raise Malformed("field value")
        fields.append((name.lower(), value.strip(b" \t")))
    return Read(first.split(b" "), fields, b"", end + 4)


def _length(message: Read) -> int | None:
    codings = message.all(b"transfer-encoding")
    lengths = {member.strip(b" \t") for value in message.all(b"content-length") for member in value.split(b",")}
    if codings and (lengths or len(codings) > 1 or codings[0].lower() != b"chunked"):
        raise Malformed("Transfer-Encoding")
    if any(not length.isdigit() for length in lengths) or len({int(length) for length in lengths}) > 1:
        raise Malformed("Content-Length")
    return int(lengths.pop()) if lengths else None


def _body(data: bytes, message: Read, length: int | None, is_response: bool) -> None:
    start = message.end
    if message.all(b"transfer-encoding"):
        message.end = _chunks(data, start)
    elif length is not None:
        if len(data) < start + length:
            raise Incomplete
        message.end = start + length
    else:
        assert not is_response
    message.body = data[start : message.end]


def _chunks(data: bytes, position: int) -> int:
    """Where the chunked body that begins at ``position`` ends."""
    while True:
        line, position = _line(data, position)
        size = line.partition(b";")[0]
        size = size.rstrip(b" \t") if b";" in line else size
        if not size or not set(size) <= HEX:
            raise Malformed("chunk size")
        if not int(size, 16):
            break
        position += int(size, 16)
        if data[position : position + 2] != b"\r\n":
            if b"\r\n".startswith(data[position : position + 2]):
                raise Incomplete
            raise Malformed("end of a chunk")
        position += 2
    while True:
        line, position = _line(data, position)
        if not line:
            return position
        name, colon, _ = line.partition(b":")
        if not colon or not name or not set(name) <= TOKEN:
            raise Malformed("trailer")


def _line(data: bytes, position: int) -> tuple[bytes, int]:
    end = data.find(b"\n", position)
    if end < 0:
        raise Incomplete
    line = data[position:end]
    if not line.endswith(b"\r") or any((byte < 32 and byte != 9) or byte == 127 for byte in line[:-1]):
        raise Malformed("line")
    return line[:-1], end + 1
