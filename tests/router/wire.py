"""Real sockets for the tests of the data plane: an edge on a loop of its own, scripted backends, a raw client."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import uvloop

from router.config.settings import Settings
from router.edge import Edge
from router.listeners import Listeners
from router.logs.access_log import AccessLog
from router.metrics.counters import Metrics
from router.registry.records import EndpointRecord
from router.table import RouteTable

PATIENCE = 10.0
"""Seconds after which waiting for a condition counts as its failure."""


def wait_until(condition: Callable[[], object], what: str = "condition", within: float = PATIENCE) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within} s")
        time.sleep(0.005)


class RunningEdge:
    """An edge with its listener, in a thread; with ``enable_ssl`` a second one on ``tls_port``."""

    def __init__(self, settings: Settings, access_log: AccessLog | None) -> None:
        self.metrics = Metrics()
        self.table = RouteTable(settings.empty_pool_timeout)
        self._settings = settings
        self._access_log = access_log
        self._loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()), daemon=True)
        self.errors: list[str] = []
        self._servers: list[asyncio.Server] = []

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self.errors.append(str(context)))
        self._stop = asyncio.Event()
        self.edge = Edge(self._settings, self.table, self.metrics, self._access_log, self._loop)
        self.edge.start()
        server = await self._loop.create_server(self.edge.client, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        if self._settings.enable_ssl:
            self.listeners = Listeners(self._settings, self.edge)
            https = self.listeners.protocol("https")
            tls_server = await self._loop.create_server(https, "127.0.0.1", 0, backlog=1024)
            self.tls_port = tls_server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        for one in (server, *self._servers):
            one.close()
        self.edge.abort()
        await asyncio.sleep(0.01)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self.errors, self.errors

    def listen(self, protocol: Callable[[], asyncio.Protocol]) -> int:
        """One more listener on the edge's loop; returns its port."""
        opening = self._loop.create_server(protocol, "127.0.0.1", 0, backlog=1024)
        server = asyncio.run_coroutine_threadsafe(opening, self._loop).result(PATIENCE)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def do(self, function: Callable[..., object], *arguments: object) -> object:
        """Call on the edge's own loop and give back what it returned."""
        done = threading.Event()
        result: list[object] = []

        def call() -> None:
            result.append(function(*arguments))
            done.set()

        self._loop.call_soon_threadsafe(call)
        assert done.wait(PATIENCE)
        return result[0]

    def register(self, route: str, port: int, **fields: object) -> None:
        self.do(self.table.upsert, route, EndpointRecord(host="127.0.0.1", port=port, **fields))  # type: ignore[arg-type]

    def unregister(self, route: str, port: int) -> None:
        self.do(self.table.remove, route, f"127.0.0.1:{port}")

    def connect(self) -> Wire:
        return Wire(socket.create_connection(("127.0.0.1", self.port), PATIENCE))


@contextmanager
def running_edge(settings: Settings | None = None, access_log: AccessLog | None = None) -> Iterator[RunningEdge]:
    edge = RunningEdge(settings or Settings(), access_log)
    edge.start()
    try:
        yield edge
    finally:
        edge.stop()


@dataclass
class Message:
    """A message as it stood on the wire."""

    first: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    raw_body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.first.split(b" ")[1])

    def get(self, name: str) -> bytes | None:
        """The value of a field, None if absent; fails on a repeated one."""
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name.lower().encode()]


@dataclass
class Wire:
    """One end of a connection, read message by message."""

    socket: socket.socket
    pending: bytes = b""
    seen: bytes = field(default=b"", repr=False)
    """All that was ever received."""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self.pending += data
        self.seen += data
        return bool(data)

    def read_exactly(self, count: int) -> bytes:
        while len(self.pending) < count:
            assert self._more(), f"closed after {self.pending!r}"
        data, self.pending = self.pending[:count], self.pending[count:]
        return data

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self.pending:
            assert self._more(), f"closed after {self.pending!r}"
        return self.read_exactly(self.pending.index(mark) + len(mark))

    def read_to_end(self) -> bytes:
        with suppress(ConnectionResetError):
            while self._more():
                pass
        data, self.pending = self.pending, b""
        return data

    def is_closed(self) -> bool:
        """Whether the peer closes without sending anything more."""
        return self.read_to_end() == b""

    def head(self) -> Message:
        lines = self.read_until(b"\r\n\r\n")[:-4].split(b"\r\n")
        return Message(
            lines[0], [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:])]
        )

    def message(self, *, bodiless: bool = False) -> Message:
        """A head and its body; without length and chunks, a request has none and a response lasts until the end."""
        message = self.head()
        is_response = message.first.startswith(b"HTTP/")
        if bodiless or (is_response and (message.status < 200 or message.status in (204, 304))):
            return message
        length = message.get("content-length")
        if message.get("transfer-encoding") is not None:
            message.raw_body, message.body = self._chunks()
        elif length is not None:
            message.body = self.read_exactly(int(length))
        elif is_response:
            message.body = self.read_to_end()
        return message

    def _chunks(self) -> tuple[bytes, bytes]:
        raw = body = b""
        while True:
            line = self.read_until(b"\r\n")
            size = int(line.split(b";")[0], 16)
            raw += line
            if not size:
                break
            chunk = self.read_exactly(size + 2)
            raw += chunk
            body += chunk[:-2]
        while True:
            line = self.read_until(b"\r\n")
            raw += line
            if line == b"\r\n":
                return raw, body

    def close(self) -> None:
        self.socket.close()


class Backend:
    """A listener that runs a script for each connection; collects what went wrong in the scripts."""

    def __init__(self, script: Callable[[Wire], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.wires: list[Wire] = []
        self.errors: list[BaseException] = []
        self._script = script
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connections(self) -> int:
        return len(self.wires)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                accepted.settimeout(PATIENCE)
                wire = Wire(accepted)
                self.wires.append(wire)
                threading.Thread(target=self._run, args=(wire,), daemon=True).start()

    def _run(self, wire: Wire) -> None:
        try:
            self._script(wire)
        except (AssertionError, OSError) as error:
            self.errors.append(error)
        finally:
            wire.socket.close()

    def close(self) -> None:
        """Stop listening and cut what is open."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for wire in self.wires:
            with suppress(OSError):
                wire.socket.shutdown(socket.SHUT_RDWR)


@contextmanager
def backend(script: Callable[[Wire], None]) -> Iterator[Backend]:
    running = Backend(script)
    try:
        yield running
    finally:
        running.close()


def answering(response: bytes | Callable[[Message], bytes], log: list[Message] | None = None) -> Callable[[Wire], None]:
    """A script that answers every request on a connection, until the router closes it."""

    def script(wire: Wire) -> None:
        while True:
            while b"\r\n\r\n" not in wire.pending:
                if not wire._more():
                    return
            request = wire.message()
            if log is not None:
                log.append(request)
            wire.send(response(request) if callable(response) else response)

    return script


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: Sun, 22 Nov 2026 10:00:00 GMT\r\n\r\nok"
