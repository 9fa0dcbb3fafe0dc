"""The gRPC health check: grpc.health.v1.Health/Check over HTTP/2, on a trio stream.

The two messages are small enough to be written and read here: a request of one string, an answer of one number. Must
never do more of gRPC than this one call, nor wait without the caller's timeout.

Sources: the gRPC protocol over HTTP/2 (PROTOCOL-HTTP2.md), the health checking protocol (health.proto) and the protobuf
wire format.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import trio

from router.registry.health import CheckFailed, address_of, connect

SERVING: Final = 1
MAX_ANSWER_BYTES: Final = 4096
_STATUS_NAMES: Final = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_CODE_NAMES: Final = {"5": "unknown service", "12": "the server has no health service", "14": "unavailable"}
"""The gRPC status codes that a health check commonly meets."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES: Final = 10
_MAX_SHORT_VARINT_BYTES: Final = 5
"""Of a tag or a length, which have 32 bits: protobuf refuses longer ones, even where only zeros follow."""


def encode_request(service: str) -> bytes:
    """A HealthCheckRequest in its gRPC frame; the empty service asks for the whole server."""
    name = service.encode()
    message = b"\x0a" + encode_varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def decode_answer(framed: bytes) -> int:
    """The status in a framed HealthCheckResponse; unknown fields are skipped.

    Raises CheckFailed: not one whole message.
    """
    if len(framed) < 5 or framed[0] != 0 or int.from_bytes(framed[1:5], "big") != len(framed) - 5:
        raise CheckFailed("the answer is not one plain gRPC message")
    status, at = 0, 5
    while at < len(framed):
        tag, at = decode_varint(framed, at, _MAX_SHORT_VARINT_BYTES)
        wire_type = tag & 7
        if not 0 < tag >> 3 < 2**29:
            raise CheckFailed(f"the answer holds a field of number {tag >> 3}")
        if wire_type == _VARINT:
            value, at = decode_varint(framed, at)
            if tag >> 3 == 1:
                status = value
        elif wire_type == _LENGTH:
            length, at = decode_varint(framed, at, _MAX_SHORT_VARINT_BYTES)
            at += length
        elif wire_type in (_FIXED32, _FIXED64):
            at += 4 if wire_type == _FIXED32 else 8
        else:
            raise CheckFailed(f"the answer holds a field of wire type {wire_type}")
    if at > len(framed):
        raise CheckFailed("the answer ends within a field")
    return status


def encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_varint(data: bytes, at: int, most: int = _MAX_VARINT_BYTES) -> tuple[int, int]:
    """The number that begins at an offset, and the offset after it. Raises CheckFailed: cut off or too long."""
    value = 0
    for index, byte in enumerate(data[at : at + most]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + index + 1
    raise CheckFailed("the answer ends within a number")


@dataclass(frozen=True, slots=True)
class GrpcCheck:
    """Passes where Health/Check answers SERVING."""

    host: str
    port: int
    service: str = ""
    """Empty: the whole server."""
    tls: ssl.SSLContext | None = None
    """Must offer ``h2`` by ALPN. Without it, cleartext with prior knowledge (RFC 9113 section 3.3)."""
    server_name: str = ""

    async def __call__(self) -> None:
        stream = await connect(self.host, self.port, self.tls, self.server_name)
        address = address_of(self.host, self.port)
        try:
            if isinstance(stream, trio.SSLStream) and stream.selected_alpn_protocol() != "h2":
                raise CheckFailed("the server does not speak HTTP/2 over TLS")
            call = _Call(self.service, address, "http" if self.tls is None else "https")
            await stream.send_all(call.opening())
            while not call.ended:
                more = await stream.receive_some(4096)
                if not more:
                    raise CheckFailed("closed without an answer")
                await stream.send_all(call.receive(bytes(more)))
            call.verdict()
        except trio.BrokenResourceError as error:
            raise CheckFailed(f"{address}: the connection broke") from error
        except CheckFailed as failure:
            raise CheckFailed(f"{address}: {failure}") from None
        finally:
            await trio.aclose_forcefully(stream)


@dataclass(slots=True)
class _Call:
    """The one exchange: bytes in, bytes out, no socket."""

    service: str
    authority: str
    scheme: str
    ended: bool = False
    _headers: dict[str, str] = field(default_factory=dict)
    _data: bytearray = field(default_factory=bytearray)
    _http2: h2.connection.H2Connection = field(
        default_factory=lambda: h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    )

    def opening(self) -> bytes:
        self._http2.initiate_connection()
        self._http2.send_headers(
            1,
            [
                (":method", "POST"),
                (":scheme", self.scheme),
                (":path", "/grpc.health.v1.Health/Check"),
                (":authority", self.authority),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("user-agent", "millrace-health"),
            ],
        )
        self._http2.send_data(1, encode_request(self.service), end_stream=True)
        return self._http2.data_to_send()

    def receive(self, received: bytes) -> bytes:
        """What must be sent in return. Raises CheckFailed: not HTTP/2, refused, or too large."""
        try:
            events = self._http2.receive_data(received)
        except h2.exceptions.ProtocolError:
            raise CheckFailed("the server does not speak HTTP/2") from None
        for event in events:
            match event:
                case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                    self._headers.update((str(name), str(value)) for name, value in event.headers)
                case h2.events.DataReceived():
                    self._data += event.data
                    if len(self._data) > MAX_ANSWER_BYTES:
                        raise CheckFailed(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
                case h2.events.StreamEnded():
                    self.ended = True
                case h2.events.StreamReset() if not self.ended:
                    raise CheckFailed(f"refused with HTTP/2 error {event.error_code}")
                case h2.events.ConnectionTerminated() if not self.ended:
                    raise CheckFailed("the server is going away")
        return self._http2.data_to_send()

    def verdict(self) -> None:
        """Raises CheckFailed where the ended call was not answered with SERVING."""
        if self._headers.get(":status") != "200":
            raise CheckFailed(f"answered {self._headers.get(':status')}, not a gRPC answer")
        code = self._headers.get("grpc-status", "")
        if code != "0":
            words = _CODE_NAMES.get(code) or unquote(self._headers.get("grpc-message", ""))
            raise CheckFailed(f"gRPC status {code or 'missing'}{words and ': '}{words[:80]}")
        status = decode_answer(bytes(self._data))
        if status != SERVING:
            raise CheckFailed(_STATUS_NAMES.get(status, f"health status {status}"))
