"""The Protocol Buffers wire format, as far as dropsonde envelopes need it: varints, strings, messages within messages.

A varint may be longer than it has to be, as long as it is not longer than ten bytes. That is used for numbers that are
always large (`fixed_timestamp`, `uuid`): their length is then known beforehand, and they are made without a loop.
"""

from __future__ import annotations

import struct
from binascii import unhexlify
from typing import Final

VARINT, EIGHT_BYTES, DELIMITED = 0, 1, 2
"""Wire types."""

UNKNOWN_FIELD: Final = 2047
"""A field number that no message of ours has: every reader passes over it."""

_PAIRS: Final = [bytes((n & 127 | 128, n >> 7 | 128)) for n in range(1 << 14)]
"""14 bits as two groups of a varint that goes on."""
_LAST_PAIRS: Final = [bytes((n & 127 | 128, n >> 7)) for n in range(1 << 8)]
"""8 bits as the last two groups."""
_SMALL: Final = [bytes((n,)) if n < 128 else bytes((n & 127 | 128, n >> 7)) for n in range(1 << 14)]
"""Whole varints of up to two groups."""
_TWO_HALVES: Final = struct.Struct("<II").unpack


def varint(number: int) -> bytes:
    """Of a number up to 64 bits; negative ones as int32 and int64 are written."""
    if 0 <= number < 1 << 14:
        return _SMALL[number]
    number &= (1 << 64) - 1
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def tag(field: int, wire_type: int) -> bytes:
    """What stands before a field's value."""
    return varint(field << 3 | wire_type)


def delimited(field: int, data: bytes) -> bytes:
    """A field of bytes, a string or a message."""
    return tag(field, DELIMITED) + varint(len(data)) + data


def text(field: int, value: str) -> bytes:
    return delimited(field, value.encode("utf-8", "replace"))


def number(field: int, value: int) -> bytes:
    """A field of an int32, int64, uint64 or an enum."""
    return tag(field, VARINT) + varint(value)


def utf8(value: bytes) -> bytes:
    """What a client may have sent in any encoding, as a string must be: what is no UTF-8 is replaced."""
    return value if value.isascii() else value.decode("utf-8", "replace").encode()


class Timestamps:
    """Nanoseconds since the epoch, as varints of TIMESTAMP_LENGTH bytes. Of times that are near each other."""

    __slots__ = ("_high", "_high_groups")

    def __init__(self) -> None:
        self._high = -1
        self._high_groups = b""

    def varint(self, nanoseconds: int) -> bytes:
        high = nanoseconds >> 28
        if high != self._high:
            self._high = high
            self._high_groups = _PAIRS[high & 0x3FFF] + _PAIRS[high >> 14 & 0x3FFF] + bytes((high >> 28,))
        return _PAIRS[nanoseconds & 0x3FFF] + _PAIRS[nanoseconds >> 14 & 0x3FFF] + self._high_groups


TIMESTAMP_LENGTH: Final = 9
"""Enough until the year 2262."""


def fixed_uint64_of_hex(digits: bytes) -> bytes:
    """A varint of ten bytes, of eight bytes given as 16 hexadecimal digits, the least significant byte first."""
    low, high = _TWO_HALVES(unhexlify(digits))
    pairs = _PAIRS
    return b"".join(
        (
            pairs[low & 0x3FFF],
            pairs[low >> 14 & 0x3FFF],
            pairs[low >> 28 | high << 4 & 0x3FFF],
            pairs[high >> 10 & 0x3FFF],
            _LAST_PAIRS[high >> 24],
        )
    )


def padding(length: int) -> bytes:
    """A field that says nothing, of exactly so many bytes; at least three."""
    start = tag(UNKNOWN_FIELD, DELIMITED)
    for size_of_length in (1, 2, 3):
        body = length - len(start) - size_of_length
        if body >= 0 and len(varint(body)) == size_of_length:
            return start + varint(body) + bytes(body)
    if length < len(start) + 1:
        raise ValueError(f"no field is {length} bytes long")
    return padding(length - 3) + padding(3)
