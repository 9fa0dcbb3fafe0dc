"""TCP routes on real sockets: which endpoint a connection reaches, and that nothing happens to its bytes."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from router import tcp
from router.config.settings import Backends, Native, Settings
from router.listeners import Listeners
from router.proxy_layer import ProxyLayer
from router.proxy_protocol import build_v1, build_v2, parse_proxy_header
from tests.router.tls.test_client_hello import real_hello
from tests.router.wire import PATIENCE, Backend, RunningEdge, Wire, backend, running_edge, wait_until

MIB = 1024 * 1024


def echo(wire: Wire) -> None:
    while data := wire.socket.recv(65536):
        wire.send(data)


def saying(text: bytes) -> Callable[[Wire], None]:
    """A server that speaks first, and then listens until the end."""

    def script(wire: Wire) -> None:
        wire.send(text)
        wire.read_to_end()

    return script


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Router:
    """An edge with one TCP port, which routes call 5432 wherever it listens."""

    def __init__(self, edge: RunningEdge, whole: Settings) -> None:
        self.edge = edge
        self.metrics = edge.metrics
        self.port = edge.listen(Listeners(whole, edge.edge).protocol("tcp:5432"))

    def route(self, *backends: Backend, name: str = "", **fields: object) -> None:
        for one in backends:
            self.edge.register(f"tcp:5432/{name}" if name else "tcp:5432", one.port, **fields)

    def connect(self) -> Wire:
        return Wire(socket.create_connection(("127.0.0.1", self.port), PATIENCE))

    def is_reset(self, data: bytes = b"") -> bool:
        """Whether a client that says this is reset before it gets anything: sometimes while it still connects."""
        try:
            with self.connect().socket as raw:
                raw.sendall(data)
                raw.recv(1)
        except (ConnectionResetError, BrokenPipeError):
            return True
        return False

    def answer(self, data: bytes = b"") -> bytes:
        """What a client that says this and no more gets."""
        wire = self.connect()
        wire.send(data)
        wire.socket.shutdown(socket.SHUT_WR)
        got = wire.read_to_end()
        wire.close()
        return got

    def in_flight(self, route: str = "tcp:5432") -> list[int]:
        return [endpoint.in_flight for endpoint in self.edge.table._pools[route].endpoints]


@contextmanager
def tcp_router(wanted: Settings | None = None) -> Iterator[Router]:
    """At the end everything that was counted as open must have been closed."""
    whole = wanted or Settings()
    with running_edge(whole) as edge:
        router = Router(edge, whole)
        yield router
        wait_until(lambda: router.metrics.client_connections == 0, "the end of every client")
        wait_until(lambda: not any(edge.edge._backends), "the end of every connection to a backend")
        assert (router.metrics.tunnels, router.metrics.tcp_connections) == (0, 0)
        for pool in edge.table._pools.values():
            assert [endpoint.in_flight for endpoint in pool.endpoints] == [0] * len(pool.endpoints)


class TestBytes:
    def test_pass_both_ways_unchanged(self) -> None:
        with tcp_router() as router, backend(echo) as app:
            router.route(app)
            data = bytes(range(256)) * 1000
            assert router.answer(data) == data
            wait_until(lambda: router.metrics.tcp_connections == 0)
            assert router.metrics.tcp_bytes_from_clients == len(data)
            assert router.metrics.tcp_bytes_from_endpoints == len(data)
            assert router.metrics.tcp_connections_accepted == 1

    def test_a_server_may_speak_first(self) -> None:
        with tcp_router() as router, backend(saying(b"220 ready\r\n")) as app:
            router.route(app)
            wire = router.connect()
            assert wire.read_exactly(11) == b"220 ready\r\n"
            wire.close()

    def test_either_side_may_end_first_and_still_listen(self) -> None:
        def server(wire: Wire) -> None:
            wire.send(b"all I say")
            wire.socket.shutdown(socket.SHUT_WR)
            said.append(wire.read_to_end())

        said: list[bytes] = []
        with tcp_router() as router, backend(server) as app:
            router.route(app)
            wire = router.connect()
            assert wire.read_to_end() == b"all I say"
            wire.send(b"and I go on")
            wire.socket.shutdown(socket.SHUT_WR)
            wait_until(lambda: said == [b"and I go on"])
            wire.close()

    def test_a_reset_is_passed_on(self) -> None:
        def server(wire: Wire) -> None:
            wire.read_exactly(1)
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

        with tcp_router() as router, backend(server) as app:
            router.route(app)
            wire = router.connect()
            wire.send(b"x")
            with pytest.raises(ConnectionResetError):
                wire.socket.recv(1)
            wire.close()

    def test_any_bytes_in_any_pieces(self) -> None:
        """Hellos or not, to whichever endpoint: all of it comes back, and then the end."""
        beginnings = st.sampled_from([b"", b"\x16\x03\x01", real_hello("a.example.com"), real_hello("b.example.com")])

        @settings(max_examples=60, deadline=None)
        @given(beginnings, st.binary(max_size=3000), st.lists(st.integers(0, 3500), max_size=5))
        def check(beginning: bytes, more: bytes, cuts: list[int]) -> None:
            data = beginning + more
            edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
            wire = router.connect()
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start, end in pairwise(edges):
                wire.send(data[start:end])
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.read_to_end() == data
            wire.close()

        with tcp_router() as router, backend(echo) as named, backend(echo) as other:
            router.route(named, name="a.example.com")
            router.route(other)
            check()
            assert named.connections
            assert other.connections

    def test_64_mib_both_ways_with_little_waiting_in_the_router(self) -> None:
        with tcp_router() as router, backend(echo) as app:
            router.route(app)
            wire = router.connect()
            sent, got = hashlib.sha256(), hashlib.sha256()
            waiting: list[int] = []

            def send() -> None:
                piece = bytes(range(256)) * 1024
                for _ in range(256):
                    wire.send(piece)
                    sent.update(piece)
                wire.socket.shutdown(socket.SHUT_WR)

            def unsent() -> int:
                ends = [end for ts in router.edge.edge._tunnels for t in ts for end in (t._client, t._backend)]
                return max((end.side.get_write_buffer_size() for end in ends if not end.closed), default=0)

            sender = threading.Thread(target=send)
            sender.start()
            received = 0
            while data := wire.socket.recv(MIB):
                got.update(data)
                received += len(data)
                waiting.append(int(str(router.edge.do(unsent))))
            sender.join(PATIENCE)
            assert received == 64 * MIB
            assert sent.digest() == got.digest()
            assert max(waiting) <= MIB // 4
            wire.close()


_REAL_OPEN = tcp.TcpDial._open


def _held(dials: list[tcp.TcpDial]) -> Callable[[tcp.TcpDial], Coroutine[None, None, None]]:
    """A way to open connections that only notes which are wanted, for ``release``."""

    async def held(dial: tcp.TcpDial) -> None:
        dials.append(dial)

    return held


def release(router: Router, dial: tcp.TcpDial) -> None:
    router.edge.do(lambda: router.edge._loop.create_task(_REAL_OPEN(dial)))


class TestEarlyBytes:
    """What a client sends before its endpoint is connected."""

    def test_are_kept_and_no_more_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        dials: list[tcp.TcpDial] = []
        monkeypatch.setattr(tcp.TcpDial, "_open", _held(dials))
        with tcp_router() as router, backend(echo) as app:
            router.route(app)
            wire = router.connect()
            wire.socket.setblocking(False)
            sent = wire.socket.send(b"x")
            wait_until(lambda: len(dials) == 1)
            client = dials[0]._client
            assert client is not None
            wait_until(lambda: client._early)
            with suppress(BlockingIOError):
                while sent < 64 * MIB:
                    sent += wire.socket.send(b"x" * 65536)
            assert sent < 32 * MIB, "somebody reads on"
            assert len(client._early) <= MIB // 4
            release(router, dials[0])
            wire.socket.setblocking(True)
            wire.socket.settimeout(PATIENCE)
            assert wire.read_exactly(sent) == b"x" * sent
            wire.close()

    def test_an_end_is_passed_on_after_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        dials: list[tcp.TcpDial] = []
        monkeypatch.setattr(tcp.TcpDial, "_open", _held(dials))
        with tcp_router() as router, backend(echo) as app:
            router.route(app)
            for data in (b"hello", b""):
                wire = router.connect()
                wire.send(data)
                wire.socket.shutdown(socket.SHUT_WR)
                wait_until(lambda: len(dials) == 1)
                release(router, dials.pop())
                assert wire.read_to_end() == data
                wire.close()

    def test_a_client_that_goes_away_ends_the_dial(self, monkeypatch: pytest.MonkeyPatch) -> None:
        dials: list[tcp.TcpDial] = []
        monkeypatch.setattr(tcp.TcpDial, "_open", _held(dials))
        with tcp_router() as router, backend(echo) as app:
            router.route(app)
            wire = router.connect()
            wait_until(lambda: len(dials) == 1)
            assert router.in_flight() == [1]
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            wire.close()
            wait_until(lambda: router.in_flight() == [0])
            assert app.connections == 0


class TestChoice:
    def test_no_route_or_no_endpoint_is_a_reset(self) -> None:
        with tcp_router() as router, backend(echo) as app:
            assert router.is_reset()
            router.route(app)
            assert router.answer(b"x") == b"x"
            router.edge.unregister("tcp:5432", app.port)
            assert router.is_reset()
            assert router.metrics.tcp_connections_refused == 2

    def test_endpoints_take_turns(self) -> None:
        with tcp_router() as router, backend(saying(b"1")) as one, backend(saying(b"2")) as other:
            router.route(one, other)
            assert sorted(router.answer() for _ in range(4)) == [b"1", b"1", b"2", b"2"]

    def test_least_connection_counts_open_connections(self) -> None:
        with tcp_router() as router, backend(echo) as one, backend(echo) as other:
            router.route(one, other, options={"loadbalancing": "least-connection"})
            wires = [router.connect() for _ in range(6)]
            wait_until(lambda: router.metrics.tcp_connections == 6)
            assert router.in_flight() == [3, 3]
            for wire in wires:
                wire.close()

    def test_an_endpoint_that_cannot_be_reached_is_passed_over(self) -> None:
        with tcp_router() as router, backend(echo) as app:
            router.edge.register("tcp:5432", unused_port())
            router.route(app)
            assert [router.answer(b"x") for _ in range(4)] == [b"x"] * 4
            assert router.metrics.retries == 1, "it is marked the first time"
            assert router.metrics.tcp_connections_failed == 0

    def test_if_none_can_be_reached_the_client_is_reset(self) -> None:
        with tcp_router(Settings(backends=Backends(max_attempts=2))) as router:
            for port in {unused_port() for _ in range(8)}:
                router.edge.register("tcp:5432", port)
            assert router.is_reset(b"x")
            assert (router.metrics.tcp_connections_failed, router.metrics.retries) == (1, 1)

    def test_a_dial_has_a_deadline(self) -> None:
        """A full backlog: the kernel neither refuses nor accepts."""
        with tcp_router(Settings(endpoint_dial_timeout=0.2)) as router, backend(echo) as app, ExitStack() as stack:
            deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(deaf.getsockname())
            router.edge.register("tcp:5432", deaf.getsockname()[1])
            router.route(app)
            assert [router.answer(b"x") for _ in range(2)] == [b"x"] * 2
            assert router.metrics.retries == 1

    def test_max_conns_holds_for_connections(self) -> None:
        with tcp_router(Settings(backends=Backends(max_conns=1))) as router, backend(echo) as app:
            router.route(app)
            wire = router.connect()
            wait_until(lambda: router.metrics.tcp_connections == 1)
            assert router.is_reset()
            wire.close()
            wait_until(lambda: router.metrics.tcp_connections == 0)
            assert router.answer(b"x") == b"x"

    def test_a_connection_outlives_its_endpoint_s_registration(self) -> None:
        with tcp_router() as router, backend(echo) as app, backend(echo) as successor:
            router.route(app)
            wire = router.connect()
            wire.send(b"1")
            assert wire.read_exactly(1) == b"1"
            router.route(successor)
            router.edge.unregister("tcp:5432", app.port)
            wire.send(b"2")
            assert wire.read_exactly(1) == b"2"
            assert router.answer(b"3") == b"3"
            assert (app.connections, successor.connections) == (1, 1)
            wire.close()

    def test_too_many_clients_are_reset(self) -> None:
        with tcp_router(Settings(millrace=Native(max_connections=1))) as router, backend(echo) as app:
            router.route(app)
            wire = router.connect()
            wait_until(lambda: router.metrics.tcp_connections == 1)
            assert router.is_reset()
            wire.close()


class TestDeadlines:
    def test_an_idle_tunnel_ends(self) -> None:
        with tcp_router(Settings(millrace=Native(tunnel_idle_timeout=0.2))) as router, backend(echo) as app:
            router.route(app)
            assert router.is_reset()
            assert router.metrics.tunnels_idle_too_long == 1


class Servers:
    """TLS servers, each with a certificate for one name, which they say when they are spoken to."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    @contextmanager
    def server(self, name: str) -> Iterator[Backend]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(name).configure_cert(context)

        def script(wire: Wire) -> None:
            with context.wrap_socket(wire.socket, server_side=True) as secured:
                secured.sendall(name.encode())
                with suppress(ssl.SSLError, OSError):
                    secured.recv(1)

        with backend(script) as running:
            yield running

    def reached(self, wire: Wire, name: str | None) -> str:
        """The name of the server that a client asking for ``name`` reaches; it checks the certificate."""
        context = ssl.create_default_context()
        self._ca.configure_trust(context)
        context.check_hostname = name is not None
        with wire.socket as raw, context.wrap_socket(raw, server_hostname=name) as secured:
            return secured.recv(100).decode()


@pytest.fixture(scope="module")
def servers() -> Servers:
    return Servers()


class TestServerNames:
    def test_lead_to_the_server_with_the_certificate(self, servers: Servers) -> None:
        names = ("a.example.com", "b.example.com", "*.example.com", "*.deep.example.com", "default.test")
        with tcp_router() as router, ExitStack() as stack:
            for name in names:
                route = "" if name == "default.test" else name
                router.route(stack.enter_context(servers.server(name)), name=route)
            for asked, shown in [
                ("a.example.com", "a.example.com"),
                ("B.Example.com", "b.example.com"),
                ("c.example.com", "*.example.com"),
                ("d.deep.example.com", "*.deep.example.com"),
                ("default.test", "default.test"),
                (None, "default.test"),
            ]:
                assert servers.reached(router.connect(), asked) == shown

    def test_a_name_that_nobody_serves_is_a_reset(self, servers: Servers) -> None:
        with tcp_router() as router, servers.server("a.example.com") as app:
            router.route(app, name="a.example.com")
            assert router.is_reset(real_hello("b.example.com"))
            assert router.is_reset(real_hello(None))
            assert app.connections == 0

    def test_a_hello_may_come_in_pieces(self) -> None:
        with tcp_router() as router, backend(echo) as named, backend(echo) as other:
            router.route(named, name="a.example.com")
            router.route(other)
            hello = real_hello("a.example.com")
            wire = router.connect()
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(hello), 10):
                wire.send(hello[start : start + 10])
            assert wire.read_exactly(len(hello)) == hello
            assert (named.connections, other.connections) == (1, 0)
            wire.close()

    @pytest.mark.parametrize("data", [b"SELECT 1", b"\x16\x03\x01", b"\x16\x03\x01\x00\x05\x02"])
    def test_what_is_no_hello_goes_to_the_port_s_own_route(self, data: bytes) -> None:
        with tcp_router() as router, backend(echo) as named, backend(echo) as other:
            router.route(named, name="a.example.com")
            router.route(other)
            assert router.answer(data) == data
            assert (named.connections, other.connections) == (0, 1)

    def test_so_does_silence_in_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcp, "HELLO_SECONDS", 0.1)
        with tcp_router() as router, backend(echo) as named, backend(saying(b"hello")) as other:
            router.route(named, name="a.example.com")
            router.route(other)
            wire = router.connect()
            assert wire.read_exactly(5) == b"hello"
            wire.close()

    def test_and_a_client_that_never_finishes_does_not_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcp, "HELLO_SECONDS", 0.1)
        with tcp_router() as router, backend(echo) as named:
            router.route(named, name="a.example.com")
            assert router.is_reset(real_hello("a.example.com")[:50])

    def test_a_look_at_the_port_reaches_nobody(self) -> None:
        with tcp_router() as router, backend(echo) as named:
            router.route(named, name="a.example.com")
            router.connect().close()
            wait_until(lambda: router.metrics.tcp_connections_accepted == 1)
            wait_until(lambda: router.metrics.client_connections == 0)
            assert (named.connections, router.metrics.tcp_connections_refused) == (0, 0)


class TestProxyHeaders:
    @pytest.mark.parametrize("version", ["v1", "v2"])
    def test_tell_the_endpoint_who_the_client_is(self, version: str) -> None:
        with tcp_router() as router, backend(echo) as app:
            router.route(app, options={"proxy": version})
            wire = router.connect()
            wire.send(b"hello")
            wire.socket.shutdown(socket.SHUT_WR)
            got = wire.read_to_end()
            header = parse_proxy_header(got)
            assert header is not None
            assert header.source == wire.socket.getsockname()
            assert header.destination == ("127.0.0.1", router.port)
            assert got[: header.size] == {"v1": build_v1, "v2": build_v2}[version](header.source, header.destination)
            assert got[header.size :] == b"hello"
            wire.close()

    def test_from_a_trusted_peer_are_passed_on(self) -> None:
        trusting = Settings(enable_proxy=True, millrace=Native(proxy_trusted="127.0.0.1"))
        header = build_v2(("192.0.2.1", 1234), ("198.51.100.7", 5432))
        with tcp_router(trusting) as router, backend(echo) as app, backend(echo) as named:
            router.route(app, options={"proxy": "v2"})
            assert router.answer(header + b"hello") == header + b"hello"
            router.route(named, name="a.example.com")
            hello = real_hello("a.example.com")
            assert router.answer(header + hello) == hello
            assert router.answer(build_v1(None, None) + hello) == hello

    def test_the_refusal_of_what_follows_one(self) -> None:
        trusting = Settings(enable_proxy=True, millrace=Native(proxy_trusted="127.0.0.1"))
        with tcp_router(trusting) as router:
            assert router.is_reset(build_v1(None, None) + b"hello")
            assert router.metrics.tcp_connections_refused == 1
            assert not [one for shard in router.edge.edge._clients for one in shard if isinstance(one, ProxyLayer)]
