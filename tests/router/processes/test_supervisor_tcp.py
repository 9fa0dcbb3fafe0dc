"""TCP routes with the whole router: workers that are killed and rolled, drains, and ports that cannot be had."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from router.config.config_file import ConfigError
from router.config.settings import Native, Settings
from router.config.settings_rules import check
from router.processes.listening import MAX_TCP_PORTS, tcp_ports
from router.registry.embedded import EmbeddedRedis
from router.registry.records import EndpointRecord, tcp_route
from router.registry.writer import RegistryWriter
from tests.router.registry.conftest import RedisServer, free_port
from tests.router.supervised import Router, kill, running_router
from tests.router.test_tcp import Servers, echo
from tests.router.wire import PATIENCE, Wire, backend, wait_until


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    with EmbeddedRedis(folder) as server:
        yield server.url
    shutil.rmtree(folder)


class TcpRouter:
    def __init__(self, router: Router, writer: RegistryWriter, port: int) -> None:
        self.router = router
        self.lease = writer.lease("tcp", ttl=600)
        self.port = port

    def connect(self) -> Wire:
        return Wire(socket.create_connection(("127.0.0.1", self.port), PATIENCE))

    def route(self, *ports: int, name: str | None = None, **fields: Any) -> None:
        """The TCP port leads to these ports; returns once every worker knows."""
        route = tcp_route(self.port, name)
        self.lease.register([(route, EndpointRecord(host="127.0.0.1", port=port, **fields)) for port in ports])
        version = f"{len(ports)} endpoints of {route}"
        wait_until(lambda: self._known(route) == [f"127.0.0.1:{port}" for port in sorted(ports)], version)

    def _known(self, route: str) -> list[str]:
        """Of the first worker, once all have the same number of endpoints."""
        metrics = self.router.metrics()
        counts = [value for key, value in metrics.items() if key.startswith("millrace_endpoints{")]
        routes: dict[str, list[dict[str, str]]] = json.loads(self.router.status("/routes").body)
        if len(set(counts)) != 1:
            return []
        return sorted(endpoint["address"] for endpoint in routes.get(route, []))


@contextmanager
def tcp_router(redis_url: str, **settings: Any) -> Iterator[TcpRouter]:
    port = free_port()
    native = {"tcp_ports": f"{port}-{port}", **settings.pop("millrace", {})}
    with RegistryWriter(redis_url) as writer, running_router(redis_url, millrace=native, **settings) as router:
        yield TcpRouter(router.until_healthy(), writer, port)


class TestWorkers:
    def test_a_real_redis_behind_a_tcp_route(self, redis_url: str, tmp_path: Path) -> None:
        with tcp_router(redis_url) as tcp:
            behind = RedisServer(tmp_path, port=free_port()).start()
            try:
                tcp.route(behind.port)
                client = redis.Redis(port=tcp.port, socket_timeout=PATIENCE)
                assert client.set("key", b"x" * 1_000_000)
                assert client.get("key") == b"x" * 1_000_000
                client.close()
            finally:
                behind.kill()
            wait_until(lambda: tcp.router.metrics()["millrace_tcp_bytes_from_endpoints_total"] > 1_000_000)
            assert tcp.router.metrics()["millrace_tcp_connections"] == 0

    def test_connections_are_made_while_workers_are_killed_and_rolled(self, redis_url: str) -> None:
        """Whoever is connected to a killed worker loses that connection; nobody is ever refused."""
        with tcp_router(redis_url) as tcp, backend(echo) as app:
            tcp.route(app.port)
            kept = tcp.connect()
            kept.send(b"1")
            assert kept.read_exactly(1) == b"1"
            stop = threading.Event()
            refused: list[str] = []
            served = [0]

            def client() -> None:
                while not stop.is_set():
                    try:
                        wire = tcp.connect()
                    except OSError as error:
                        refused.append(str(error))
                        return
                    with wire.socket, suppress(ConnectionResetError):  # of a worker that was killed
                        wire.send(b"x")
                        served[0] += wire.socket.recv(1) == b"x"

            clients = [threading.Thread(target=client) for _ in range(4)]
            for thread in clients:
                thread.start()
            tcp.router.signal(signal.SIGHUP)
            tcp.router.until_said("rolled")
            kept.send(b"2")
            assert kept.read_exactly(1) == b"2", "a roll leaves open connections alone"
            kept.close()
            for _ in range(3):
                tcp.router.until_healthy()
                kill(tcp.router.workers[-1])
                enough = served[0] + 20
                wait_until(lambda enough=enough: served[0] > enough, "connections after a worker's death")  # type: ignore[misc]
            stop.set()
            for thread in clients:
                thread.join(PATIENCE)
            assert not refused

    def test_a_roll_loses_no_connection(self, redis_url: str) -> None:
        with tcp_router(redis_url) as tcp, backend(echo) as app:
            tcp.route(app.port)
            stop, failures = threading.Event(), list[BaseException]()

            def client() -> None:
                while not stop.is_set():
                    try:
                        wire = tcp.connect()
                        wire.send(b"hello")
                        assert wire.read_exactly(5) == b"hello"
                        wire.close()
                    except (AssertionError, OSError) as error:
                        failures.append(error)
                        return

            clients = [threading.Thread(target=client) for _ in range(4)]
            for thread in clients:
                thread.start()
            for times in (1, 2):
                tcp.router.signal(signal.SIGHUP)
                tcp.router.until_said("rolled", times)
            stop.set()
            for thread in clients:
                thread.join(PATIENCE)
            assert not failures

    def test_a_drain_waits_for_open_connections(self, redis_url: str) -> None:
        with tcp_router(redis_url) as tcp, backend(echo) as app:
            tcp.route(app.port)
            wire = tcp.connect()
            wire.send(b"1")
            assert wire.read_exactly(1) == b"1"
            tcp.router.signal(signal.SIGUSR1)
            wait_until(lambda: _refuses(tcp.port), "a closed port")
            wire.send(b"2")
            assert wire.read_exactly(1) == b"2"
            wire.close()
            assert tcp.router.exit_code() == 0

    def test_until_its_deadline(self, redis_url: str) -> None:
        with tcp_router(redis_url, drain_timeout="500ms") as tcp, backend(echo) as app:
            tcp.route(app.port)
            wire = tcp.connect()
            wire.send(b"1")
            assert wire.read_exactly(1) == b"1"
            tcp.router.signal(signal.SIGUSR1)
            with pytest.raises(ConnectionResetError):
                wire.socket.recv(1)
            assert tcp.router.exit_code() == 0

    def test_server_names_lead_to_their_servers(self, redis_url: str) -> None:
        servers = Servers()
        with tcp_router(redis_url) as tcp, servers.server("a.test") as one, servers.server("b.test") as other:
            tcp.route(one.port, name="a.test")
            tcp.route(other.port, name="b.test")
            for name in ("a.test", "b.test", "a.test", "b.test"):
                assert servers.reached(tcp.connect(), name) == name


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


class TestPorts:
    def test_one_that_is_taken_is_named(self, redis_url: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with (
                pytest.raises(AssertionError, match=f"millrace.tcp_ports {port}.*change millrace.tcp_ports"),
                running_router(redis_url, millrace={"tcp_ports": f"{port}-{port}"}),
            ):
                pass

    @pytest.mark.parametrize(
        ("text", "ports"),
        [
            ("", []),
            ("5432", [5432]),
            ("1024-1026,5432", [1024, 1025, 1026, 5432]),
            ("5432, 1024-1025,1025", [1024, 1025, 5432]),
            ("65535", [65535]),
        ],
    )
    def test_are_given_as_numbers_and_ranges(self, text: str, ports: list[int]) -> None:
        assert tcp_ports(text) == ports

    @pytest.mark.parametrize("text", ["0", "65536", "2-1", "0-5", "1-1001", "99999999999"])
    def test_others_are_refused_before_anything_starts(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"millrace\.tcp_ports"):
            check(Settings(millrace=Native(redis="redis://localhost", tcp_ports=text)))
        assert len(tcp_ports(f"1-{MAX_TCP_PORTS}")) == MAX_TCP_PORTS


class TestTrustedProxies:
    @pytest.mark.parametrize("trusted", ["10.0.0.1/8", "1.2.3", "::/129"])
    def test_must_be_networks(self, trusted: str) -> None:
        with pytest.raises(ConfigError, match=r"millrace\.proxy_trusted"):
            check(Settings(millrace=Native(redis="redis://localhost", proxy_trusted=trusted)))

    def test_must_be_named(self) -> None:
        with pytest.raises(ConfigError, match=r"millrace\.proxy_trusted names nobody"):
            check(Settings(enable_proxy=True, millrace=Native(redis="redis://localhost")))
