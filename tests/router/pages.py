"""The supervisor's pages without a supervisor: an overview that says what a test tells it to, on real ports."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

import uvloop

from router.config.settings import Settings, Status, StatusRoutes
from router.status.overview import NoWorker
from router.status.status_ports import StatusPorts
from tests.router.wire import PATIENCE, Message, Wire

PEOPLE = Settings(status=Status(enable_nontls_health_checks=False, routes=StatusRoutes(0)))
"""Only the port on loopback."""


class Told:
    """An overview that says what a test tells it to."""

    def __init__(self) -> None:
        self.why = ""
        self.parts: list[bytes] | None = [b'{"a.example.com"', b':["x"]}']
        self.breaks = False
        self.taken = 0
        self.level = "info"

    def trouble(self) -> str:
        return self.why

    async def metrics(self) -> str:
        return "millrace_requests_total 1\n"

    async def prometheus(self) -> str:
        return "total_requests 1\n"

    async def varz(self) -> str:
        return '{"type": "Router"}\n'

    async def stacks(self) -> str:
        return "stacks\n"

    @property
    def log_level(self) -> str:
        return self.level

    def set_log_level(self, level: str) -> None:
        self.level = level

    async def routes(self) -> AsyncGenerator[bytes, None]:
        if self.parts is None:
            raise NoWorker
        for part in self.parts:
            self.taken += 1
            yield part
        if self.breaks:
            raise ConnectionError("the worker is gone")


class Running:
    """The ports that these settings ask for, on a loop of their own."""

    def __init__(self, wanted: Settings = PEOPLE) -> None:
        self.told = Told()
        self._settings = wanted
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self.ports = StatusPorts(self.told, self._settings)
        self.opened = await self.ports.open()
        self.port = self.opened["routes_port"]
        self._ready.set()
        await self._over.wait()
        await self.ports.close()

    @property
    def connections(self) -> int:
        """That are being answered."""
        return sum(len(server._connections) for server in self.ports._servers)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def connect(self, name: str = "routes_port") -> Wire:
        return Wire(socket.create_connection(("127.0.0.1", self.opened[name]), PATIENCE))

    def raw(self, request: bytes, name: str = "routes_port") -> bytes:
        wire = self.connect(name)
        wire.send(request)
        answer = wire.read_to_end()
        wire.close()
        return answer

    def ask(
        self,
        path: str,
        method: str = "GET",
        version: str = "HTTP/1.1",
        *,
        name: str = "routes_port",
        context: ssl.SSLContext | None = None,
        auth: bytes | None = None,
        body: bytes = b"",
    ) -> Message:
        """``auth``: user and password, with a colon between."""
        wire = self.connect(name)
        if context is not None:
            wire.socket = context.wrap_socket(wire.socket, server_hostname="localhost")
        shown = b"Authorization: Basic " + base64.b64encode(auth) + b"\r\n" if auth is not None else b""
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        wire.send(f"{method} {path} {version}\r\nHost: h\r\n".encode() + shown + length + b"\r\n" + body)
        message = wire.message(bodiless=method == "HEAD")
        assert wire.is_closed()
        wire.close()
        return message


@contextmanager
def pages(wanted: Settings) -> Iterator[Running]:
    running = Running(wanted)
    try:
        yield running
    finally:
        running.close()
