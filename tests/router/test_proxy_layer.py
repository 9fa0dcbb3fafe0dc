"""PROXY headers in front of HTTP: who is believed, who must send one, and what a bad one leads to."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trustme

from router import proxy_layer
from router.config.settings import Native, Settings, TlsPem
from router.listeners import Listeners
from router.proxy_layer import ProxyRules, networks
from router.proxy_protocol import build_v1, build_v2
from tests.router.wire import OK, PATIENCE, Message, RunningEdge, Wire, answering, backend, running_edge, wait_until

GET = b"GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n"
CLIENT, BALANCER = ("192.0.2.1", 56324), ("198.51.100.7", 80)
V1, V2 = build_v1(CLIENT, BALANCER), build_v2(CLIENT, BALANCER)


class Front:
    """An edge with a listener that expects PROXY headers, and one backend that notes its requests."""

    def __init__(self, edge: RunningEdge, port: int, requests: list[Message]) -> None:
        self.edge = edge
        self.port = port
        self.requests = requests

    def connect(self) -> Wire:
        return Wire(socket.create_connection(("127.0.0.1", self.port), PATIENCE))

    def seen_from(self, *parts: bytes) -> bytes | None:
        """What the backend was told of the client that sent these bytes, one write after the other."""
        wire = self.connect()
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            wire.send(part)
        assert wire.message().status == 200
        wire.close()
        return self.requests[-1].get("x-forwarded-for")


@contextmanager
def front(trusted: str = "127.0.0.0/8", *, required: bool = False, **settings: object) -> Iterator[Front]:
    native = Native(proxy_trusted=trusted, proxy_required=required, **settings)  # type: ignore[arg-type]
    whole = Settings(enable_proxy=True, millrace=native)
    requests: list[Message] = []
    with running_edge(whole) as edge, backend(answering(OK, requests)) as app:
        edge.register("app.example.com", app.port)
        yield Front(edge, edge.listen(Listeners(whole, edge.edge).protocol("http")), requests)
        wait_until(lambda: edge.metrics.client_connections == 0, "the end of every connection")


class TestFromATrustedPeer:
    @pytest.mark.parametrize("header", [V1, V2])
    def test_the_header_says_who_the_client_is(self, header: bytes) -> None:
        with front() as router:
            assert router.seen_from(header + GET) == b"192.0.2.1"
            assert router.seen_from(*(header[at : at + 1] for at in range(len(header))), GET) == b"192.0.2.1"

    def test_ipv6(self) -> None:
        with front() as router:
            assert router.seen_from(build_v1(("2001:db8::1", 1), ("::1", 2)) + GET) == b"2001:db8::1"

    @pytest.mark.parametrize("header", [build_v1(None, None), build_v2(None, None), b""])
    def test_without_an_address_its_own_holds(self, header: bytes) -> None:
        with front() as router:
            assert router.seen_from(header + GET) == b"127.0.0.1"

    @pytest.mark.parametrize(
        "start", [b"PROXY TCP4 nonsense\r\n", b"PROXY " + b"x" * 200, V2[:12] + b"\x31\x11\x00\x00"]
    )
    def test_a_malformed_header_is_a_reset(self, start: bytes) -> None:
        with front() as router:
            wire = router.connect()
            wire.send(start + GET)
            with pytest.raises(ConnectionResetError):
                wire.socket.recv(1)
            assert router.edge.metrics.proxy_headers_refused == 1
            assert not router.requests

    def test_a_second_header_is_a_malformed_request(self) -> None:
        with front() as router:
            wire = router.connect()
            wire.send(V1 + V1 + GET)
            assert wire.message().status == 400
            wire.close()

    def test_a_health_check_that_says_nothing_is_no_error(self) -> None:
        with front() as router:
            router.connect().close()
            wait_until(lambda: router.edge.metrics.client_connections_accepted == 1)
            assert router.edge.metrics.proxy_headers_refused == 0


class TestDeadline:
    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(proxy_layer, "HEADER_SECONDS", 0.1)

    def test_silence_is_served_in_the_end(self) -> None:
        with front() as router:
            wire = router.connect()
            clients = router.edge.edge._clients
            wait_until(lambda: any(type(one).__name__ == "ClientConnection" for shard in clients for one in shard))
            wire.send(GET)
            assert wire.message().status == 200
            assert router.requests[-1].get("x-forwarded-for") == b"127.0.0.1"
            wire.close()

    @pytest.mark.parametrize("start", [V1[:20], V2[:20], b"\r\n"])
    def test_an_unfinished_header_is_a_reset(self, start: bytes) -> None:
        with front() as router:
            wire = router.connect()
            wire.send(start)
            with pytest.raises(ConnectionResetError):
                wire.socket.recv(1)

    def test_where_one_is_required_silence_is_a_reset(self) -> None:
        with front(required=True) as router, pytest.raises(ConnectionResetError):
            router.connect().socket.recv(1)


class TestRequired:
    def test_other_bytes_are_a_reset(self) -> None:
        with front(required=True) as router:
            wire = router.connect()
            wire.send(GET)
            with pytest.raises(ConnectionResetError):
                wire.socket.recv(1)
            assert router.edge.metrics.proxy_headers_refused == 1
            assert router.seen_from(V1 + GET) == b"192.0.2.1"


class TestFromAnybodyElse:
    def test_is_served_with_its_own_address(self) -> None:
        with front("10.0.0.0/8, ::1", required=True) as router:
            assert router.seen_from(GET) == b"127.0.0.1"

    @pytest.mark.parametrize("header", [V1, V2])
    def test_a_header_is_a_malformed_request(self, header: bytes) -> None:
        with front("10.0.0.0/8") as router:
            wire = router.connect()
            wire.send(header + GET)
            assert wire.message().status == 400
            wire.close()
            assert not router.requests


def test_the_header_comes_before_tls() -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("app.example.com")
    pem = "".join(blob.bytes().decode() for blob in issued.cert_chain_pems)
    key = issued.private_key_pem.bytes().decode()
    whole = Settings(
        enable_proxy=True,
        enable_ssl=True,
        tls_pem=(TlsPem(cert_chain=pem, private_key=key),),
        millrace=Native(proxy_trusted="127.0.0.1"),
    )
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    requests: list[Message] = []
    with running_edge(whole) as edge, backend(answering(OK, requests)) as app:
        edge.register("app.example.com", app.port)
        port = edge.listen(Listeners(whole, edge.edge).protocol("https"))
        for header, seen in [(V1, b"192.0.2.1"), (V2, b"192.0.2.1"), (b"", b"127.0.0.1")]:
            raw = socket.create_connection(("127.0.0.1", port), PATIENCE)
            raw.sendall(header)
            with trusting.wrap_socket(raw, server_hostname="app.example.com") as secured:
                secured.sendall(GET)
                assert Wire(secured).message().status == 200
            assert requests[-1].get("x-forwarded-for") == seen
            assert requests[-1].get("x-forwarded-proto") == b"https"
        wait_until(lambda: edge.metrics.client_connections == 0, "the end of every connection")


def test_connections_beyond_the_limit_are_reset() -> None:
    with front(max_connections=1) as router:
        first = router.connect()
        wait_until(lambda: router.edge.metrics.client_connections == 1)
        with pytest.raises(ConnectionResetError):
            router.connect().socket.recv(1)
        first.send(V1 + GET)
        assert first.message().status == 200
        first.close()


class TestRules:
    def test_networks(self) -> None:
        rules = ProxyRules(networks("10.0.0.0/8,192.0.2.7 , fd00::/8"), required=False)
        assert [rules.trusts(ip) for ip in ("10.9.9.9", "192.0.2.7", "fd00::1%eth0", "::ffff:10.0.0.1")] == [True] * 4
        assert [rules.trusts(ip) for ip in ("11.0.0.1", "192.0.2.8", "fe80::1", "::ffff:11.0.0.1")] == [False] * 4
        assert not ProxyRules(networks(""), required=False).trusts("127.0.0.1")

    @pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "x", "1.2.3"])
    def test_what_is_no_network(self, text: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            networks(text)
