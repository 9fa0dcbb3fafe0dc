"""The peers: each accepts its configuration, does the work asked of all, and is left out by name when missing."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import orjson
import pytest

from bench.go_peers import Caddy, Traefik
from bench.gorouter import Gorouter, register
from bench.machine import BenchError, Cores
from bench.peers import Envoy, HAProxy, Nginx
from bench.programs import Program, free_port
from bench.proxied import status_of
from bench.proxy import ConfiguredProxy, Site, new_site
from bench.scenarios import HOST

PEERS = [Nginx(), HAProxy(), Envoy(), Traefik(), Caddy()]
CORE = min(os.sched_getaffinity(0))


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def peer(request: pytest.FixtureRequest) -> ConfiguredProxy:
    each: ConfiguredProxy = request.param
    if why := each.missing():
        pytest.skip(why)
    return each


class Listener:
    """A backend that answers every request with 200 and keeps the heads it was sent."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.heads: list[str] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._socket.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self.connections += 1
        buffered = b""
        with connection:
            while chunk := connection.recv(65536):
                buffered += chunk
                while b"\r\n\r\n" in buffered:
                    head, _, buffered = buffered.partition(b"\r\n\r\n")
                    self.heads.append(head.decode())
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    backend = Listener()
    yield backend
    backend.close()


def site(tmp_path: Path, name: str, backend_port: int) -> Site:
    return new_site(tmp_path, name, backend_port, Cores(CORE, CORE))


def test_a_peer_accepts_its_configuration(peer: ConfiguredProxy, tmp_path: Path) -> None:
    config = peer.write_config(site(tmp_path, peer.name, free_port()))
    arguments = peer.check_arguments(config)
    if arguments is None:
        pytest.skip(f"{peer.name} has no mode that checks a configuration")
    done = subprocess.run([peer.path, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_peer_does_the_work_asked_of_all(peer: ConfiguredProxy, tmp_path: Path, listener: Listener) -> None:
    with ExitStack() as stack:
        at = site(tmp_path, peer.name, listener.port)
        program = peer.start(at, stack)
        program.wait_until(lambda: status_of(at.port) == 200, 15, "served its route")
        listener.heads.clear()
        assert [status_of(at.port, path="/a%2Fb?c=d") for _ in range(2)] == [200, 200]
        assert status_of(at.port, host="unknown.example.com") == 404
        heads = list(listener.heads)
    assert [head.split("\r\n")[0] for head in heads] == ["GET /a%2Fb?c=d HTTP/1.1"] * 2
    headers = [
        {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])}
        for head in heads
    ]
    for sent in headers:
        assert sent["host"] == HOST
        assert ip_address(sent["x-forwarded-for"])  # Envoy puts an outer address of the machine for the loopback one
        assert sent["x-forwarded-proto"] == "http"
        assert sent["x-request-start"].replace(".", "").isdigit()
    ids = [sent.get("x-vcap-request-id") or sent.get("x-request-id") for sent in headers]
    assert all(ids)
    assert (ids[0] != ids[1]) or peer.gap, "a request id of its own for every request"
    assert listener.connections == 1, "connections to the backend are kept"


def test_an_ended_peer_leaves_its_port(tmp_path: Path) -> None:
    nginx = Nginx()
    if why := nginx.missing():
        pytest.skip(why)
    at = site(tmp_path, "nginx", free_port())
    with ExitStack() as stack:
        nginx.start(at, stack)
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", at.port))


def test_a_missing_peer_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.proxy.executable", lambda _name: None)
    assert Nginx().missing() == "no nginx on PATH (Debian: apt-get install nginx)"


def test_gorouter_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOROUTER_BIN", raising=False)
    assert "GOROUTER_BIN is not set" in Gorouter().missing()
    monkeypatch.setenv("GOROUTER_BIN", "/nowhere/gorouter")
    assert Gorouter().missing() == "GOROUTER_BIN=/nowhere/gorouter is not a program"


def test_gorouter_is_told_its_route_over_nats() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        received: list[bytes] = []

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(b'INFO {"server_id":"one"}\r\n')
                while not b"".join(received).endswith(b"PING\r\n"):
                    received.append(connection.recv(4096))
                connection.sendall(b"PONG\r\n")

        server = threading.Thread(target=serve)
        server.start()
        register(listener.getsockname()[1], 8000)
        server.join()
    _connect, publish, message, ping, _end = b"".join(received).split(b"\r\n")
    assert publish == b"PUB router.register %d" % len(message)
    assert orjson.loads(message) == {"host": "127.0.0.1", "port": 8000, "uris": [HOST], "app": "bench"}
    assert ping == b"PING"


def test_a_nats_server_that_hangs_up_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(b"-ERR 'Authorization Violation'\r\n")

        server = threading.Thread(target=serve)
        server.start()
        with pytest.raises(BenchError, match="Authorization Violation"):
            register(listener.getsockname()[1], 8000)
        server.join()


def test_a_program_that_ends_early_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with (
        Program("short", ["sh", "-c", "echo out of luck; exit 3"], tmp_path, CORE) as short,
        pytest.raises(BenchError, match=r"short exited with code 3[^$]*out of luck"),
    ):
        short.wait_for_port(free_port())


def test_a_program_that_is_late_is_an_error(tmp_path: Path) -> None:
    with (
        Program("slow", ["sleep", "60"], tmp_path, CORE) as slow,
        pytest.raises(BenchError, match=r"slow has not listened on port \d+ within 0.05 s"),
    ):
        slow.wait_for_port(free_port(), 0.05)
