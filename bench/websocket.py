"""WebSocket bytes that are made once, and the backend that answers them: ``python -m bench.websocket PORT``.

The backend upgrades whoever asks and then sends one frame for each that comes, of the same payload, without looking at
it: messages are all alike, so this is an echo at the lowest price. It answers any other request as the bench's backend
does. It must never be what is measured: plain epoll, one read and one write per message.
"""

from __future__ import annotations

import base64
import hashlib
import re
import select
import socket
import sys
from typing import Final

from bench.scenarios import HOST, MESSAGE_BYTES, SMALL_BYTES, SMALL_PATH

_PAYLOAD: Final = b"m" * MESSAGE_BYTES
SENT: Final = bytes((0x82, 0x80 | MESSAGE_BYTES)) + bytes(4) + _PAYLOAD
"""One binary message from a client; masked with zeros, as it must be masked (RFC 6455 section 5.3)."""
ECHOED: Final = bytes((0x82, MESSAGE_BYTES)) + _PAYLOAD

_NONCE: Final = base64.b64encode(bytes(16))
UPGRADE: Final = (
    f"GET {SMALL_PATH} HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_NONCE.decode()}\r\n\r\n"
).encode()
_ACCEPT_SUFFIX: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = re.compile(rb"\r\nsec-websocket-key:[ \t]*(\S+)", re.IGNORECASE)
_SMALL: Final = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (SMALL_BYTES, b"x" * SMALL_BYTES)


def answer_to(head: bytes) -> bytes:
    """What the backend answers to a request's head: 101 to one that has a key, else 200."""
    key = _KEY.search(head)
    if key is None:
        return _SMALL
    accept = base64.b64encode(hashlib.sha1(key[1] + _ACCEPT_SUFFIX).digest())  # noqa: S324 - RFC 6455 wants this one
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
    )


class Peer:
    """One connection to the backend."""

    __slots__ = ("_open", "_waiting", "socket")

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self._open = False
        self._waiting = b""

    def answered(self) -> bool:
        """Read once and answer; False when the connection has ended."""
        received = self.socket.recv(65536)
        if self._open and received == SENT and not self._waiting:
            self.socket.send(ECHOED)
            return True
        if not received:
            return False
        self._waiting += received
        while not self._open and b"\r\n\r\n" in self._waiting:
            head, _, self._waiting = self._waiting.partition(b"\r\n\r\n")
            answer = answer_to(head + b"\r\n")
            self._open = answer is not _SMALL
            self.socket.sendall(answer)
        if self._open:
            whole, rest = divmod(len(self._waiting), len(SENT))
            self._waiting = self._waiting[len(self._waiting) - rest :]
            self.socket.sendall(ECHOED * whole)
        return True


def serve(port: int) -> None:
    """Until killed. Raises OSError: the port is taken."""
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    peers: dict[int, Peer] = {}
    while True:
        for number, _event in poll.poll():
            peer = peers.get(number)
            if peer is None:
                accepted = listener.accept()[0]
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[accepted.fileno()] = Peer(accepted)
                poll.register(accepted, select.EPOLLIN)
                continue
            try:
                alive = peer.answered()
            except OSError:
                alive = False
            if not alive:
                peers.pop(number).socket.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
