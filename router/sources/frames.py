"""What the sources process and a worker say to each other: frames of a length, a kind and a body.

    source -> worker   TABLE     entries: field, record in turn
                       COMPLETE  JSON: the table was sent whole
                       CHANGES   operations: ``+field``, record (registered or changed); ``*field``, record (as before,
                                 but what it asks of its pool holds again); ``-field``, nothing (left)
                       STATE     JSON: once a second, and when something in it changes
    worker -> source   FAILED    fields: endpoints that failed in a way that prunes those that speak TLS

A field is ``route address``, as in the registry (docs/route-registry.md). Neither fields nor records hold a line break,
so that lists are lines. Knows bytes only: no socket, no table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import orjson

TABLE: Final = b"T"
COMPLETE: Final = b"C"
CHANGES: Final = b"O"
STATE: Final = b"S"
FAILED: Final = b"F"

HEAD_BYTES: Final = 5
MAX_BODY_BYTES: Final = 32 * 1024 * 1024
"""A thousand operations of the largest records (16 KiB) and routes (2 KiB)."""
MAX_LINES: Final = 1000
"""Entries or operations per frame."""


class BrokenStream(ConnectionError):
    """The other side sent what no stream sends: only a bug or a foreign process does."""


@dataclass(frozen=True, slots=True)
class State:
    """What a source says of itself."""

    age: float = 0.0
    """For how many seconds it has heard everything that is announced: 0 while it does not."""
    ready: bool = False
    """Whether a router that begins may serve what is announced so far."""
    suspended: bool = False
    """Whether nothing may be pruned now."""

    def packed(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def read(cls, body: bytes) -> State:
        """Raises BrokenStream."""
        try:
            return cls(**orjson.loads(body))
        except (orjson.JSONDecodeError, TypeError):
            raise BrokenStream(f"the state of a source is malformed: {body[:100]!r}") from None


def frame(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(HEAD_BYTES - 1, "big") + kind + body


def frame_of_lines(kind: bytes, lines: Sequence[bytes]) -> bytes:
    return frame(kind, b"\n".join(lines))


def head(text: bytes) -> tuple[int, bytes]:
    """Length of the body, and kind. Raises BrokenStream."""
    length = int.from_bytes(text[: HEAD_BYTES - 1], "big")
    if length > MAX_BODY_BYTES:
        raise BrokenStream(f"a frame of {length} bytes; the most is {MAX_BODY_BYTES}")
    return length, text[HEAD_BYTES - 1 :]


def lines(body: bytes) -> list[bytes]:
    return body.split(b"\n") if body else []


def pairs(body: bytes) -> list[tuple[bytes, bytes]]:
    """Two lines at a time. Raises BrokenStream."""
    found = lines(body)
    if len(found) % 2:
        raise BrokenStream("an odd number of lines")
    return list(zip(found[::2], found[1::2], strict=True))


def field(route: str, address: str) -> bytes:
    """The name of an endpoint of a route, as in the registry."""
    return f"{route} {address}".encode()
