"""Generators for what wrk cannot do: ``python -m bench.epoll_load websocket|handshakes CONNECTIONS PORT SECONDS``.

A closed loop on plain epoll, which costs the load side's core less than an event loop would. At its end it prints one
line of JSON, as all generators do (see bench.load). It must never resume a TLS session, nor count a message or a
response that it did not see whole.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from time import perf_counter_ns
from typing import Final

import orjson

from bench.generator import unchecked
from bench.histogram import Histogram
from bench.scenarios import HOST, SMALL_PATH
from bench.websocket import ECHOED, SENT, UPGRADE

TIMEOUT_SECONDS: Final = 5.0
_REQUEST: Final = f"GET {SMALL_PATH} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)


class Exchange(ABC):
    """One connection and what is under way on it."""

    __slots__ = ("began", "socket")

    socket: socket.socket

    def __init__(self) -> None:
        self.began = perf_counter_ns()

    @abstractmethod
    def advance(self) -> int:
        """Do what can be done without waiting: the bytes of an answer that is now whole, else 0.

        Raises OSError, Broken.
        """

    @abstractmethod
    def begin_again(self) -> Exchange:
        """Ask again: on this connection, or on another that takes its place. Raises OSError."""


class Broken(Exception):
    """An answer that is not the one asked for; the argument is the kind of error."""


class Message(Exchange):
    """A WebSocket connection with one message under way."""

    __slots__ = ("_received",)

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(UPGRADE)
        head = b""
        while b"\r\n\r\n" not in head:
            received = self.socket.recv(65536)
            if not received:
                raise Broken("broken")
            head += received
        if not head.startswith(b"HTTP/1.1 101 ") or not head.endswith(b"\r\n\r\n"):
            raise Broken("status")
        self.socket.setblocking(False)
        self._received = b""
        self.begin_again()

    def begin_again(self) -> Exchange:
        self.began = perf_counter_ns()
        self.socket.send(SENT)
        return self

    def advance(self) -> int:
        received = self.socket.recv(4096)
        if received != ECHOED:
            self._received += received
            if not received or not ECHOED.startswith(self._received):
                raise Broken("broken")
            if len(self._received) < len(ECHOED):
                return 0
            self._received = b""
        return len(ECHOED)


class Handshake(Exchange):
    """A new TLS connection for one request."""

    __slots__ = ("_context", "_done", "_port", "_received", "_secure")

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__()
        self._port, self._context = port, context
        self._done, self._received = False, b""
        plain = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        plain.setblocking(False)
        self._secure = context.wrap_socket(plain, do_handshake_on_connect=False, server_hostname=HOST)
        self.socket = self._secure
        with suppress(ssl.SSLWantReadError):
            self._shake()

    def begin_again(self) -> Exchange:
        self.socket.close()
        return Handshake(self._port, self._context)

    def advance(self) -> int:
        try:
            if not self._done:
                self._shake()
            while True:
                received = self._secure.recv(65536)
                if not received:
                    raise Broken("broken")
                self._received += received
                if size := self._whole():
                    return size
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def _shake(self) -> None:
        """A step of the handshake; after the last one the request goes out. Reads nothing beyond the handshake."""
        self._secure.do_handshake()
        if self._secure.session_reused:
            raise Broken("resumed")
        self._done = True
        self._secure.send(_REQUEST)

    def _whole(self) -> int:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return 0
        length = _CONTENT_LENGTH.search(self._received, 0, end + 2)
        if length is None or len(self._received) > end + 4 + int(length[1]):
            raise Broken("broken")
        if len(self._received) < end + 4 + int(length[1]):
            return 0
        if self._received[8:13] != b" 200 ":
            raise Broken("status")
        return len(self._received)


class Loop:
    """All connections of one run, and its figures."""

    def __init__(self, kind: str, connections: int, port: int) -> None:
        self._kind, self._connections, self._port = kind, connections, port
        self._context = unchecked()
        self._poll = select.epoll()
        self._open: dict[int, Exchange] = {}
        self._latencies = Histogram()
        self._bytes = 0
        self._errors = {"connect": 0, "broken": 0, "timeout": 0, "status": 0, "resumed": 0}

    def _connect(self) -> None:
        try:
            exchange = Message(self._port) if self._kind == "websocket" else Handshake(self._port, self._context)
        except Broken as error:
            self._errors[error.args[0]] += 1
        except OSError:
            self._errors["connect"] += 1
        else:
            self._mind(exchange)

    def _mind(self, exchange: Exchange) -> None:
        number = exchange.socket.fileno()
        self._open[number] = exchange
        self._poll.register(number, select.EPOLLIN)

    def run(self, seconds: float) -> dict[str, object]:
        """Load for ``seconds``, connecting again what breaks, and return the figures."""
        began = perf_counter_ns()
        until = began + int(seconds * 1e9)
        while perf_counter_ns() < until:
            for _ in range(self._connections - len(self._open)):
                self._connect()
            if not self._open:
                select.select((), (), (), 0.02)
            for number, _event in self._poll.poll(0.1):
                self._advance(number)
        ended = perf_counter_ns()
        late = sum(ended - each.began > TIMEOUT_SECONDS * 1e9 for each in self._open.values())
        return {
            "requests": self._latencies.count,
            "seconds": (ended - began) / 1e9,
            "bytes": self._bytes,
            "p50_us": self._latencies.percentile(50),
            "p99_us": self._latencies.percentile(99),
            "errors": self._errors | {"timeout": late},
        }

    def _advance(self, number: int) -> None:
        exchange = self._open[number]
        try:
            size = exchange.advance()
            if not size:
                return
            self._latencies.record((perf_counter_ns() - exchange.began) // 1000)
            self._bytes += size
            following = exchange.begin_again()
        except (OSError, Broken) as error:
            self._errors[error.args[0] if isinstance(error, Broken) else "broken"] += 1
            del self._open[number]
            exchange.socket.close()
        else:
            if following is not exchange:
                del self._open[number]
                self._mind(following)


def main() -> None:
    kind, connections, port, seconds = sys.argv[1:]
    figures = Loop(kind, int(connections), int(port)).run(float(seconds))
    sys.stdout.write(orjson.dumps(figures).decode() + "\n")


if __name__ == "__main__":
    main()
