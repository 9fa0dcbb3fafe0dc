"""The first message of a TLS client, read without decrypting anything: which server it asks for, and which protocols.

Bytes in, values out: knows no socket, no certificate and no route. It must be strict where two readers could see two
different names (a second name, a name that is no host name, lengths that do not add up): whoever routes by the name
must not be talked into another choice than the server behind it. It never raises anything but NotTls.

Sources: RFC 8446 sections 4.1.2, 4.2 and 5.1; RFC 6066 section 3; RFC 7301 section 3.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_HELLO_BYTES: Final = 16 * 1024
"""Of the message with its header. The largest in use, with post-quantum keys, have about 2 KiB."""
MAX_RECORDS: Final = 64
"""How many records one message may be split over: with one byte in each, reading it would be work for nothing."""
MAX_BYTES: Final = MAX_HELLO_BYTES + 5 * MAX_RECORDS
"""More bytes than these are never needed: with them ``parse_client_hello`` gives a message or raises."""

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_MAX_RECORD: Final = 2**14
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_HOST_NAME: Final = 0
_NAME: Final = re.compile(rb"(?!.{254})[a-z0-9_]+(?:-+[a-z0-9_]+)*(?:\.[a-z0-9_]+(?:-+[a-z0-9_]+)*)*")


class NotTls(ValueError):
    """These bytes begin no ClientHello, or one that must not be trusted; the message says why."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What is worth knowing before a server is chosen."""

    server_name: str | None
    """The host asked for, in lower case; None if the client named none."""
    alpn: tuple[bytes, ...] | None
    """Protocols the client can speak, the preferred one first; None if it did not say."""


def parse_client_hello(data: bytes) -> ClientHello | None:
    """The ClientHello that ``data`` begins with; what follows it is not looked at. None: more bytes are needed.

    Raises NotTls, as soon as that is certain.
    """
    message = _message(data)
    if message is None:
        return None
    body = _Reader(message)
    body.take(2 + 32)  # version and random
    if len(body.block(1)) > 32:
        raise NotTls("session id longer than 32 bytes")
    suites = body.block(2)
    if not suites or len(suites) % 2:
        raise NotTls("a list of cipher suites of impossible length")
    if not body.block(1):
        raise NotTls("no compression methods")
    if body.at_end:  # before TLS 1.3 there may be no extensions at all
        return ClientHello(None, None)
    extensions = _extensions(_Reader(body.block(2)))
    if not body.at_end:
        raise NotTls("bytes after the extensions")
    name, alpn = extensions.get(_SERVER_NAME), extensions.get(_ALPN)
    return ClientHello(
        None if name is None else _server_name(_Reader(name)), None if alpn is None else _protocols(_Reader(alpn))
    )


def _message(data: bytes) -> bytes | None:
    """The body of the handshake message that may be split over several records (RFC 8446 section 5.1)."""
    parts: list[bytes] = []
    have = position = 0
    needed = 4
    while have < needed:
        header = data[position : position + 5]
        if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
            raise NotTls("no TLS handshake record")
        if len(header) < 5:
            return None
        size = int.from_bytes(header[3:])
        if not 0 < size <= _MAX_RECORD:
            raise NotTls(f"a record of {size} bytes")
        if len(parts) == MAX_RECORDS:
            raise NotTls(f"a message split over more than {MAX_RECORDS} records")
        part = data[position + 5 : position + 5 + size]
        if not have and part and part[0] != _CLIENT_HELLO:
            raise NotTls("another handshake message than a ClientHello")
        parts.append(part)
        have += len(part)
        if have >= 4 and needed == 4:
            needed = 4 + int.from_bytes(b"".join(parts)[1:4])
            if needed > MAX_HELLO_BYTES:
                raise NotTls(f"a ClientHello of {needed} bytes")
        if len(part) < size and have < needed:
            return None
        position += 5 + size
    return b"".join(parts)[4:needed]


def _extensions(reader: _Reader) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while not reader.at_end:
        kind = reader.number(2)
        if kind in found:  # RFC 8446 section 4.2
            raise NotTls(f"extension {kind} twice")
        found[kind] = reader.block(2)
    return found


def _server_name(reader: _Reader) -> str:
    names = _Reader(reader.block(2))
    if names.number(1) != _HOST_NAME:
        raise NotTls("a server name that is no host name")
    name = names.block(2).lower()
    if not names.at_end or not reader.at_end:  # no other kind of name was ever defined
        raise NotTls("more than one server name")
    if not _NAME.fullmatch(name):
        raise NotTls("a server name that is no host name")
    return name.decode("ascii")


def _protocols(reader: _Reader) -> tuple[bytes, ...]:
    names = _Reader(reader.block(2))
    found: list[bytes] = []
    while not names.at_end:
        found.append(names.block(1))
    if not reader.at_end or not found or b"" in found:
        raise NotTls("a malformed list of protocols")
    return tuple(found)


class _Reader:
    """Takes numbers and length-prefixed blocks off the front of some bytes."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._data)

    def take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._data):
            raise NotTls("a length that leads past the end of the ClientHello")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def block(self, size: int) -> bytes:
        """Bytes behind their length, which is a number of ``size`` bytes."""
        return self.take(self.number(size))
