"""The order that Go gives to fields on HTTP/1 wires, for who sets ``millrace.header_order: sorted``.

Go keeps the fields of a message in a map, so their order is not the sender's: a few come first, the rest are sorted by
name, and fields of one name keep their order among themselves (gorouter reference 4.1 and 8.8). Works on field lines
that are checked already; never changes one.
"""

from __future__ import annotations

from typing import Final

from router.http1.names import canonical

_FIRST: Final = {
    b"Host": 0,
    b"User-Agent": 1,
    b"Content-Length": 2,
    b"Transfer-Encoding": 2,
    b"Trailer": 3,
}
_OTHERS: Final = len(_FIRST)
_CODING: Final = b"Transfer-Encoding"


def of_request(fields: bytes) -> bytes:
    """Field lines of a request, each with its CRLF: Host, User-Agent and what frames the body, then the rest."""
    lines: list[bytes] = fields.splitlines(keepends=True)
    lines.sort(key=_place)
    return b"".join(lines)


def of_response(fields: bytes, ours: bytes) -> bytes:
    """Field lines of a response; behind them ``ours``, which the server adds at the end, and Transfer-Encoding."""
    lines: list[bytes] = fields.splitlines(keepends=True)
    lines.sort(key=_name)
    coding = [line for line in lines if _name(line) == _CODING]
    return b"".join((*(line for line in lines if _name(line) != _CODING), ours, *coding))


def _name(line: bytes) -> bytes:
    return canonical(line.partition(b":")[0])


def _place(line: bytes) -> tuple[int, bytes]:
    name = _name(line)
    return _FIRST.get(name, _OTHERS), name
