"""Header compression (RFC 7541): a decoder with the dynamic table that the peer fills, an encoder that keeps none.

What the router sends are literals and references to the static table only. They cost a few more bytes than the best
possible encoding, but they mean the same on every connection: a head is encoded once and sent a thousand times. For
the same reason the decoder says when its table changed (``version``): as long as it did not, the same bytes mean the
same fields, and whoever keeps what they meant need not decode them again.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import Final

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

Pair = tuple[bytes, bytes]
"""A field's name and value."""

STATIC: Final[tuple[Pair, ...]] = tuple(HeaderTable.STATIC_TABLE)
"""RFC 7541 appendix A; its first entry has index 1."""
ENTRY_OVERHEAD: Final = 32
"""What an entry counts beyond its name and value (section 4.1)."""
DEFAULT_TABLE: Final = 4096
"""Bytes of dynamic table that a decoder grants its peer unless SETTINGS say otherwise."""
BOMB_FACTOR: Final = 4
"""A list that is this many times longer than allowed is not decoded further."""

_REMEMBERED_STRING: Final = 256
_LARGEST_SHIFT: Final = 21
"""Integers of more than four further octets are beyond any length or index that could be meant (section 5.1)."""


class CompressionError(Exception):
    """The block cannot be decoded, and no later one of the connection either (RFC 9113 section 4.3)."""


class Decoder:
    """Of one connection. ``max_list`` bounds what a block may unfold to, in bytes as section 4.1 counts them."""

    __slots__ = ("_dynamic", "_limit", "_max_list", "_size", "version")

    def __init__(self, max_list: int) -> None:
        self._dynamic: deque[Pair] = deque()
        """The newest entry first."""
        self._size = 0
        self._limit = DEFAULT_TABLE
        self._max_list = max_list
        self.version = 0
        """Changes whenever the dynamic table does."""

    def decode(self, block: bytes) -> list[Pair] | None:
        """The fields in their order; None if they are more than ``max_list``. Raises CompressionError."""
        pairs: list[Pair] = []
        listed = at = 0
        end = len(block)
        fields_begun = False
        try:
            while at < end:
                first = block[at]
                if first & 0x80:  # section 6.1: indexed
                    index = first & 0x7F
                    at += 1
                    if index == 0x7F:
                        index, at = _integer(block, at, 0x7F)
                    pair = self._entry(index)
                elif first & 0xE0 == 0x20:  # section 6.3: table size update, only in front
                    size, at = _integer(block, at + 1, 0x1F) if first & 0x1F == 0x1F else (first & 0x1F, at + 1)
                    if fields_begun:
                        raise CompressionError("table size update behind a field")
                    self._resize(size)
                    continue
                else:  # section 6.2: literal, with indexing (01) or without (0000, 0001)
                    mask = 0x3F if first & 0x40 else 0x0F
                    index = first & mask
                    at += 1
                    if index == mask:
                        index, at = _integer(block, at, mask)
                    if index:
                        name = self._entry(index)[0]
                    else:
                        name, at = _string(block, at)
                    value, at = _string(block, at)
                    pair = (name, value)
                    if mask == 0x3F:
                        self._insert(pair)
                fields_begun = True
                listed += len(pair[0]) + len(pair[1]) + ENTRY_OVERHEAD
                if listed <= self._max_list:
                    pairs.append(pair)
                elif listed > BOMB_FACTOR * self._max_list:
                    raise CompressionError("header list far beyond its limit")
        except IndexError:
            raise CompressionError("header block ends in the middle of a field") from None
        return pairs if listed <= self._max_list else None

    def _entry(self, index: int) -> Pair:
        if 0 < index <= len(STATIC):
            return STATIC[index - 1]
        position = index - len(STATIC) - 1
        if not 0 <= position < len(self._dynamic):
            raise CompressionError(f"no table entry {index}")
        return self._dynamic[position]

    def _insert(self, pair: Pair) -> None:
        self.version += 1
        size = len(pair[0]) + len(pair[1]) + ENTRY_OVERHEAD
        self._shrink_to(self._limit - size)
        if size <= self._limit:
            self._dynamic.appendleft(pair)
            self._size += size

    def _resize(self, limit: int) -> None:
        if limit > DEFAULT_TABLE:
            raise CompressionError(f"table size {limit} is more than was granted")
        self.version += 1
        self._limit = limit
        self._shrink_to(limit)

    def _shrink_to(self, size: int) -> None:
        while self._dynamic and self._size > size:
            name, value = self._dynamic.pop()
            self._size -= len(name) + len(value) + ENTRY_OVERHEAD


def _integer(block: bytes, at: int, value: int) -> tuple[int, int]:
    """The rest of an integer whose prefix is full (section 5.1), and where it ends."""
    shift = 0
    while True:
        octet = block[at]
        at += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
        shift += 7
        if shift > _LARGEST_SHIFT:
            raise CompressionError("integer too large")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """A string literal (section 5.2), and where it ends."""
    first = block[at]
    length = first & 0x7F
    at += 1
    if length == 0x7F:
        length, at = _integer(block, at, length)
    end = at + length
    if end > len(block):
        raise CompressionError("string longer than its block")
    text = block[at:end]
    if first & 0x80:
        return (_unfolded(text) if length <= _REMEMBERED_STRING else _unfolded.__wrapped__(text)), end
    return text, end


@lru_cache(4096)
def _unfolded(text: bytes) -> bytes:
    try:
        return decode_huffman(text)
    except HPACKDecodingError as error:
        raise CompressionError(str(error)) from None


# Encoding ---------------------------------------------------------------------------------------------------------

_STATIC_PAIRS: Final = {pair: bytes([0x80 | index]) for index, pair in reversed(list(enumerate(STATIC, 1))) if pair[1]}
_STATIC_NAMES: Final = {pair[0]: index for index, pair in reversed(list(enumerate(STATIC, 1)))}

_SECRET: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))
"""Fields that nobody on the way may put into a table, where other messages could probe for them (section 7.1.3)."""


def encoded(name: bytes, value: bytes) -> bytes:
    """One field as a reference to the static table or a literal; ``name`` in lower case."""
    known = _STATIC_PAIRS.get((name, value))
    if known is not None:
        return known
    kind = 0x10 if name in _SECRET else 0x00
    index = _STATIC_NAMES.get(name)
    head = bytes([kind]) + _text(name) if index is None else _number(index, 0x0F, kind)
    return head + _text(value)


def _text(text: bytes) -> bytes:
    return _number(len(text), 0x7F, 0) + text


def _number(value: int, mask: int, kind: int) -> bytes:
    if value < mask:
        return bytes([kind | value])
    octets = [kind | mask]
    value -= mask
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
