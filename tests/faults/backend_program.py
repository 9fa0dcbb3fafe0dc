"""A backend, run as a process of its own so that it can be killed: what it does with a request is in the path.

    /              200 with the backend's name            /never          accept the request and say nothing, ever
    /wait/MS       the same after so many milliseconds    /cut-head       reset in the middle of the response's head
    /send/BYTES    a body of this length                  /cut-body       reset in the middle of the body
    /take          read the body, answer its length       /end-body       end in good order in the middle of the body
    /take/RATE     the same at so many bytes a second     /garbage        answer what is no HTTP

Started as ``python backend_program.py NAME PORT`` (0: any); prints its port once it listens. Must import nothing but
the standard library, and never decide by itself to fail.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

BLOCK: Final = bytes(256 * 1024)
NEVER: Final = 3600.0


class Connection:
    """One connection from the router, in a thread of its own."""

    def __init__(self, sock: socket.socket, name: bytes) -> None:
        self._socket = sock
        self._name = name
        self._pending = b""
        self._body_left = 0
        self._behaviours: dict[str, Callable[[str], bool]] = {
            "": self._answer,
            "wait": self._wait,
            "send": self._send,
            "take": self._take,
            "never": self._never,
            "cut-head": self._cut_head,
            "cut-body": self._cut_body,
            "end-body": self._end_body,
            "garbage": self._garbage,
        }

    def serve(self) -> None:
        with self._socket:
            try:
                while self._one_request():
                    pass
            except (ConnectionError, TimeoutError):
                return

    def _one_request(self) -> bool:
        """Whether another may follow."""
        while b"\r\n\r\n" not in self._pending:
            data = self._socket.recv(65536)
            if not data:
                return False
            self._pending += data
        head, _, self._pending = self._pending.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        self._body_left = int(fields.get("content-length", "0"))
        _, what, *argument = lines[0].split(" ")[1].split("/")
        return self._behaviours[what](argument[0] if argument else "")

    def _reply(self, body: bytes) -> bool:
        self._socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        return True

    def _answer(self, _: str) -> bool:
        return self._reply(self._name)

    def _wait(self, milliseconds: str) -> bool:
        time.sleep(int(milliseconds) / 1000)
        return self._reply(self._name)

    def _send(self, length: str) -> bool:
        left = int(length)
        self._socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
        while left:
            part = min(left, len(BLOCK))
            self._socket.sendall(memoryview(BLOCK)[:part])
            left -= part
        return True

    def _take(self, rate: str) -> bool:
        taken = min(len(self._pending), self._body_left)
        self._pending = self._pending[taken:]
        room = bytearray(len(BLOCK))
        began = time.monotonic()
        while taken < self._body_left:
            if rate:
                time.sleep(max(0.0, began + taken / int(rate) - time.monotonic()))
            count = self._socket.recv_into(room, min(self._body_left - taken, int(rate) // 20 if rate else len(room)))
            if not count:
                return False
            taken += count
        return self._reply(b"%d" % taken)

    def _never(self, _: str) -> bool:
        self._socket.settimeout(NEVER)
        return bool(self._socket.recv(1))

    def _reset(self) -> bool:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def _cut_head(self, _: str) -> bool:
        self._socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
        time.sleep(0.02)
        return self._reset()

    def _cut_body(self, _: str) -> bool:
        self._end_body("")
        time.sleep(0.02)
        return self._reset()

    def _end_body(self, _: str) -> bool:
        self._socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(5000))
        return False

    def _garbage(self, _: str) -> bool:
        self._socket.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n\x00\xff")
        return False


def main(name: str, port: int) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            accepted, _ = listener.accept()
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=Connection(accepted, name.encode()).serve, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
