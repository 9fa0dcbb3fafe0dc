"""Frames (RFC 9113 sections 4 and 6): their numbers, and the bytes of those that the router sends."""

from __future__ import annotations

from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first (section 3.4)."""

HEADER: Final = Struct(">BHBBL")
"""Length (high octet, low octets), type, flags, stream."""
HEADER_BYTES: Final = 9
SMALLEST_MAX_FRAME: Final = 16384
"""Bytes of payload that every peer takes, and all that the router takes."""
DEFAULT_WINDOW: Final = 65535
LARGEST_WINDOW: Final = 2**31 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

SETTINGS_HEADER_TABLE_SIZE: Final = 0x1
SETTINGS_ENABLE_PUSH: Final = 0x2
SETTINGS_MAX_CONCURRENT_STREAMS: Final = 0x3
SETTINGS_INITIAL_WINDOW_SIZE: Final = 0x4
SETTINGS_MAX_FRAME_SIZE: Final = 0x5
SETTINGS_MAX_HEADER_LIST_SIZE: Final = 0x6
SETTINGS_ENABLE_CONNECT_PROTOCOL: Final = 0x8
"""RFC 8441 section 3."""

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
SETTINGS_TIMEOUT: Final = 0x4
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
CONNECT_ERROR: Final = 0xA
ENHANCE_YOUR_CALM: Final = 0xB
HTTP_1_1_REQUIRED: Final = 0xD

_NAMES: Final = {
    NO_ERROR: "NO_ERROR",
    PROTOCOL_ERROR: "PROTOCOL_ERROR",
    INTERNAL_ERROR: "INTERNAL_ERROR",
    FLOW_CONTROL_ERROR: "FLOW_CONTROL_ERROR",
    SETTINGS_TIMEOUT: "SETTINGS_TIMEOUT",
    STREAM_CLOSED: "STREAM_CLOSED",
    FRAME_SIZE_ERROR: "FRAME_SIZE_ERROR",
    REFUSED_STREAM: "REFUSED_STREAM",
    CANCEL: "CANCEL",
    COMPRESSION_ERROR: "COMPRESSION_ERROR",
    CONNECT_ERROR: "CONNECT_ERROR",
    ENHANCE_YOUR_CALM: "ENHANCE_YOUR_CALM",
    0xC: "INADEQUATE_SECURITY",
    HTTP_1_1_REQUIRED: "HTTP_1_1_REQUIRED",
}

_WORD: Final = Struct(">L")
_TWO_WORDS: Final = Struct(">LL")
_SETTING: Final = Struct(">HL")


def error_name(code: int) -> str:
    """As RFC 9113 section 7 calls it."""
    return _NAMES.get(code, f"error {code}")


def frame_header(kind: int, flags: int, stream: int, length: int) -> bytes:
    return HEADER.pack(length >> 16, length & 0xFFFF, kind, flags, stream)


def header_frames(stream: int, block: bytes, flags: int, max_frame: int) -> bytes:
    """A header block as HEADERS, with CONTINUATION where it is longer than one frame may be (section 6.10)."""
    if len(block) <= max_frame:
        return frame_header(HEADERS, flags | END_HEADERS, stream, len(block)) + block
    parts = [frame_header(HEADERS, flags, stream, max_frame), block[:max_frame]]
    for start in range(max_frame, len(block), max_frame):
        part = block[start : start + max_frame]
        last = END_HEADERS if start + max_frame >= len(block) else 0
        parts += (frame_header(CONTINUATION, last, stream, len(part)), part)
    return b"".join(parts)


def settings(values: dict[int, int]) -> bytes:
    payload = b"".join(_SETTING.pack(key, value) for key, value in values.items())
    return frame_header(SETTINGS, 0, 0, len(payload)) + payload


SETTINGS_ACK: Final = frame_header(SETTINGS, ACK, 0, 0)


def rst_stream(stream: int, code: int) -> bytes:
    return frame_header(RST_STREAM, 0, stream, 4) + _WORD.pack(code)


def window_update(stream: int, increment: int) -> bytes:
    return frame_header(WINDOW_UPDATE, 0, stream, 4) + _WORD.pack(increment)


def goaway(last_stream: int, code: int, why: str) -> bytes:
    payload = _TWO_WORDS.pack(last_stream, code) + why.encode()
    return frame_header(GOAWAY, 0, 0, len(payload)) + payload


def ping(payload: bytes, flags: int = 0) -> bytes:
    return frame_header(PING, flags, 0, 8) + payload
