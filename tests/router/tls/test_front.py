"""HTTPS from a client's side: handshakes, versions, protocols, client certificates, and what then passes through."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import pytest

from router.config.settings import Native, Settings
from tests.router.tls.authority import (
    CA_PEM,
    CERT,
    HOST,
    OTHER_CA,
    OWN,
    HalfCloser,
    client_context,
    connect,
    entry,
    issue,
    tls_of,
)
from tests.router.wire import (
    OK,
    PATIENCE,
    Message,
    RunningEdge,
    Wire,
    answering,
    backend,
    running_edge,
    wait_until,
)

GET = b"GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n"
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
HTTPS = Settings(enable_ssl=True, tls_pem=(OWN,))


def https(**changes: Any) -> Settings:
    return dataclasses.replace(HTTPS, **changes)


@contextmanager
def serving(settings: Settings = HTTPS, script: Any = None) -> Iterator[RunningEdge]:
    """An edge with one route to a backend that answers ``ok``."""
    with backend(script or answering(OK)) as app, running_edge(settings) as edge:
        edge.register(HOST, app.port)
        yield edge


def get(wire: Wire) -> Message:
    wire.send(GET)
    return wire.message()


class TestARequest:
    @pytest.mark.parametrize("version", [TLS12, TLS13])
    def test_is_served_in_both_versions_and_the_backend_learns_that_it_came_by_https(
        self, version: ssl.TLSVersion
    ) -> None:
        log: list[Message] = []
        with serving(script=answering(OK, log)) as edge:
            wire = connect(edge.tls_port, client_context(version=version))
            assert get(wire).body == get(wire).body == b"ok"
            assert log[0].get("X-Forwarded-Proto") == b"https"
            assert log[0].get("X-Forwarded-For") == b"127.0.0.1"
            assert edge.metrics.tls_handshakes == 1
            assert edge.metrics.client_connections == 1
            wire.close()
            wait_until(lambda: edge.metrics.client_connections == 0)

    def test_may_come_together_with_the_end_of_the_handshake_and_in_any_pieces(self) -> None:
        with serving() as edge:
            for size in (1, 7, 100, 100_000):
                with socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE) as raw:
                    client = Pieces(raw, size)
                    client.handshake_with(GET)
                    assert client.read_until(b"ok").endswith(b"\r\n\r\nok")

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        with serving(script=answering(lambda request: OK + b"")) as edge:
            wire = connect(edge.tls_port)
            wire.send(GET * 20)
            assert [wire.message().body for _ in range(20)] == [b"ok"] * 20

    def test_of_old_versions_is_refused(self) -> None:
        with serving() as edge:
            context = client_context()
            context.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="TLS"):
                context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version|alert"):
                connect(edge.tls_port, context)
            wait_until(lambda: edge.metrics.tls_handshakes_failed == 1)

    def test_the_newest_version_may_be_limited(self) -> None:
        with serving(https(max_tls_version="TLSv1.2")) as edge:
            assert tls_of(connect(edge.tls_port)).version() == "TLSv1.2"
        with serving(https(min_tls_version="TLSv1.3")) as edge, pytest.raises(ssl.SSLError):
            connect(edge.tls_port, client_context(version=TLS12))

    def test_cipher_suites_are_those_of_the_setting(self) -> None:
        names = "ECDHE-RSA-AES128-GCM-SHA256:TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
        with serving(https(cipher_suites=names)) as edge:
            used = tls_of(connect(edge.tls_port, client_context(version=TLS12))).cipher()
            assert used is not None
            assert used[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
            context = client_context(version=TLS12)
            context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
            with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
                connect(edge.tls_port, context)


class Pieces:
    """A client that sends its bytes in pieces of one size, and its first request without waiting for more."""

    def __init__(self, raw: socket.socket, size: int) -> None:
        self._raw, self._size = raw, size
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_context().wrap_bio(self._in, self._out, server_hostname=HOST)

    def _flush(self) -> None:
        data = self._out.read()
        for start in range(0, len(data), self._size):
            self._raw.sendall(data[start : start + self._size])

    def handshake_with(self, request: bytes) -> None:
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._in.write(self._raw.recv(65536))
        self._tls.write(request)
        self._flush()

    def read_until(self, mark: bytes) -> bytes:
        seen = b""
        while mark not in seen:
            try:
                seen += self._tls.read(65536)
            except ssl.SSLWantReadError:
                data = self._raw.recv(65536)
                assert data
                self._in.write(data)
        return seen


class TestProtocols:
    @pytest.mark.parametrize(
        ("offered", "chosen"),
        [((), None), (("http/1.1",), "http/1.1"), (("x", "http/1.1"), "http/1.1"), (("http/1.1", "h2"), "h2")],
    )
    def test_http2_before_http1(self, offered: tuple[str, ...], chosen: str | None) -> None:
        with serving() as edge:
            assert tls_of(connect(edge.tls_port, client_context(*offered))).selected_alpn_protocol() == chosen

    @pytest.mark.parametrize("size", [1, 10_000])
    def test_nothing_in_common_is_an_alert(self, size: int) -> None:
        with serving() as edge, socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE) as raw:
            into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = client_context("spdy/3", "x").wrap_bio(into, out, server_hostname=HOST)
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hello = out.read()
            for start in range(0, len(hello), size):
                raw.sendall(hello[start : start + size])
            into.write(raw.recv(100))
            with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
                tls.do_handshake()
            assert raw.recv(100) == b""
            wait_until(lambda: edge.metrics.tls_handshakes_failed == 1)

    def test_without_http2_none_is_chosen_and_http1_spoken(self) -> None:
        with serving(https(enable_http2=False)) as edge:
            for offered in (("h2",), ("h2", "http/1.1"), ("x",)):
                wire = connect(edge.tls_port, client_context(*offered))
                assert tls_of(wire).selected_alpn_protocol() is None
                assert get(wire).body == b"ok"


class TestCertificatesByName:
    def served(self, port: int, name: str | None, context: ssl.SSLContext | None = None) -> set[str]:
        context = context or client_context()
        context.check_hostname = False
        wire = connect(port, context, name=name)
        cert = tls_of(wire).getpeercert()
        wire.close()
        assert cert is not None
        names: Any = cert["subjectAltName"]
        return {name for _, name in names}

    def test_exact_then_wildcard_then_the_first(self) -> None:
        certs = (issue("first.test"), issue("*.apps.test"), issue("one.apps.test"))
        with serving(https(tls_pem=tuple(map(entry, certs)))) as edge:
            port = edge.tls_port
            assert self.served(port, "one.apps.test") == {"one.apps.test"}
            assert self.served(port, "ONE.Apps.test") == {"one.apps.test"}
            assert self.served(port, "two.apps.test") == {"*.apps.test"}
            assert self.served(port, "a.two.apps.test") == {"first.test"}
            assert self.served(port, "unknown.test") == {"first.test"}
            assert self.served(port, None) == {"first.test"}

    def test_rsa_and_ecdsa_of_one_name_serve_the_clients_that_know_either(self) -> None:
        pair = (entry(issue(HOST, ecdsa=False)), entry(issue(HOST)))
        with serving(https(tls_pem=pair)) as edge:
            for kind in ("RSA", "ECDSA"):
                context = client_context(version=TLS12)
                context.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
                assert get(connect(edge.tls_port, context)).body == b"ok"

    def test_a_resumed_connection_works_for_every_name(self) -> None:
        pair = (entry(issue("first.test")), OWN)
        with serving(https(tls_pem=pair)) as edge:
            context = client_context(version=TLS13)
            first = connect(edge.tls_port, context)
            get(first)
            again = connect(edge.tls_port, context, session=tls_of(first).session)
            assert get(again).body == b"ok"
            assert tls_of(again).session_reused


class TestClientCertificates:
    def outcome(self, edge: RunningEdge, cert: Any) -> str:
        try:
            get(connect(edge.tls_port, client_context(cert=cert)))
        except (ssl.SSLError, ConnectionError, AssertionError):
            return "refused"
        return "served"

    @pytest.mark.parametrize(
        ("mode", "bare", "good", "foreign"),
        [
            ("none", "served", "served", "served"),
            ("request", "served", "served", "refused"),
            ("require", "refused", "served", "refused"),
        ],
    )
    def test_modes(self, mode: str, bare: str, good: str, foreign: str) -> None:
        settings = https(client_cert_validation=mode, client_ca_certs=CA_PEM, only_trust_client_ca_certs=True)
        with serving(settings) as edge:
            assert self.outcome(edge, None) == bare
            assert self.outcome(edge, issue("client")) == good
            assert self.outcome(edge, issue("client", ca=OTHER_CA)) == foreign

    def test_ca_certs_count_too_unless_only_client_cas_are_trusted(self) -> None:
        other = OTHER_CA.cert_pem.bytes().decode()
        settings = https(client_cert_validation="require", client_ca_certs=other, ca_certs=(CA_PEM,))
        with serving(settings) as edge:
            assert self.outcome(edge, CERT) == "served"
        with serving(dataclasses.replace(settings, only_trust_client_ca_certs=True)) as edge:
            assert self.outcome(edge, CERT) == "refused"


class TestWhoNeverGetsThere:
    def test_plain_http_is_told_so(self) -> None:
        with serving() as edge:
            wire = Wire(socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE))
            wire.send(GET)
            assert wire.read_to_end() == (
                b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
            )

    @pytest.mark.parametrize(
        "nonsense", [b"\x00" * 100, b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\xff\xff" + b"x" * 70000]
    )
    def test_nonsense_is_closed(self, nonsense: bytes) -> None:
        with serving() as edge:
            wire = Wire(socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE))
            with suppress(ConnectionError):
                wire.send(nonsense)
                wire.read_to_end()
            wait_until(lambda: edge.metrics.client_connections == 0)
            assert edge.metrics.tls_handshakes_failed == 1

    def test_who_only_looks_whether_the_port_is_open_is_no_failure(self) -> None:
        with serving() as edge:
            socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE).close()
            wait_until(lambda: edge.metrics.client_connections_accepted == 1 and not edge.metrics.client_connections)
            assert edge.metrics.tls_handshakes_failed == 0

    def test_handshakes_that_stop_halfway_are_closed_at_the_deadline(self) -> None:
        settings = https(millrace=Native(tls_handshake_timeout=0.5))
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_context().wrap_bio(into, out, server_hostname=HOST)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = out.read()
        with serving(settings) as edge, ExitStack() as stack:
            sockets = [
                stack.enter_context(socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE))
                for _ in range(300)
            ]
            for number, sock in enumerate(sockets):
                sock.sendall(hello[: (0, 3, len(hello) // 2, len(hello))[number % 4]])
            assert get(connect(edge.tls_port)).body == b"ok"
            for sock in sockets:
                try:
                    while sock.recv(65536):
                        pass
                except ConnectionResetError:
                    continue
            wait_until(lambda: edge.metrics.client_connections <= 1)
            assert edge.metrics.tls_handshakes_timed_out == 300
            assert get(connect(edge.tls_port)).body == b"ok"

    def test_too_many_connections_are_closed(self) -> None:
        with serving(https(millrace=Native(max_connections=2))) as edge:
            kept = [connect(edge.tls_port) for _ in range(2)]
            with pytest.raises((ssl.SSLError, OSError)):
                connect(edge.tls_port)
            assert get(kept[0]).body == b"ok"

    def test_renegotiation_is_refused(self) -> None:
        with serving() as edge:
            where = f"127.0.0.1:{edge.tls_port}"
            command = ["openssl", "s_client", "-connect", where, "-tls1_2", "-servername", HOST]
            done = subprocess.run(command, input=b"R\n", capture_output=True, timeout=PATIENCE, check=False)
            assert b"RENEGOTIATING" in done.stdout + done.stderr
            assert b"no renegotiation" in done.stdout + done.stderr


class TestResumption:
    @pytest.mark.parametrize("version", [TLS12, TLS13])
    def test_with_a_ticket(self, version: ssl.TLSVersion) -> None:
        with serving() as edge:
            context = client_context(version=version)
            first = connect(edge.tls_port, context)
            get(first)
            session = tls_of(first).session
            first.close()
            again = connect(edge.tls_port, context, session=session)
            assert tls_of(again).session_reused
            assert get(again).body == b"ok"
            assert (edge.metrics.tls_handshakes, edge.metrics.tls_handshakes_resumed) == (2, 1)


class TestBodies:
    SIZE = 8 * 1024 * 1024 + 13

    def test_large_ones_both_ways(self) -> None:
        body = bytes(range(256)) * (self.SIZE // 256)

        def echo(wire: Wire) -> None:
            request = wire.message()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.body) + request.body)

        with serving(script=echo) as edge:
            wire = connect(edge.tls_port)
            head = b"POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: %d\r\n\r\n" % len(body)
            sender = threading.Thread(target=wire.send, args=(head + body,))
            sender.start()
            assert wire.message().body == body
            sender.join(PATIENCE)

    def test_a_slow_reader_slows_the_backend_down(self) -> None:
        sent = 0
        size = 64 * 1024 * 1024

        def flood(wire: Wire) -> None:
            nonlocal sent
            wire.read_until(b"\r\n\r\n")
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size // 65536):
                wire.send(bytes(65536))
                sent += 65536

        with serving(script=flood) as edge:
            wire = connect(edge.tls_port)
            wire.send(GET)
            wire.head()
            held = -1
            while held != sent:  # until the backend stands still
                held = sent
                threading.Event().wait(0.3)
            assert held < size // 2
            left = size - len(wire.pending)
            while left:
                left -= len(wire.socket.recv(65536))

    def test_a_slow_backend_slows_the_client_down(self) -> None:
        reading = threading.Event()
        size = 64 * 1024 * 1024

        def slow(wire: Wire) -> None:
            wire.read_until(b"\r\n\r\n")
            assert reading.wait(PATIENCE)
            left = size - len(wire.pending)
            while left:
                left -= len(wire.socket.recv(65536))
            wire.send(OK)

        with serving(script=slow) as edge:
            wire = connect(edge.tls_port)
            tls_of(wire).settimeout(1.0)
            wire.send(b"POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: %d\r\n\r\n" % size)
            with pytest.raises(TimeoutError):
                wire.send(bytes(size // 2))
            reading.set()


class TestEnds:
    def test_close_notify_comes_before_the_end(self) -> None:
        with serving() as edge, socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE) as raw:
            client = HalfCloser(raw)
            client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert client.read_to_end().endswith(b"ok")
            assert client.said_end

    def test_a_body_that_breaks_is_seen_as_broken(self) -> None:
        def short(wire: Wire) -> None:
            wire.read_until(b"\r\n\r\n")
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")

        with serving(script=short) as edge, socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE) as raw:
            client = HalfCloser(raw)
            client.send(GET)
            with pytest.raises(ConnectionResetError):
                client.read_to_end()
            assert not client.said_end

    def test_each_direction_of_a_tunnel_ends_by_itself(self) -> None:
        def echo_after_the_end(wire: Wire) -> None:
            heard = wire.read_to_end()
            wire.send(b"you said " + heard)

        with serving(script=echo_after_the_end) as edge:
            with socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE) as raw:
                client = HalfCloser(raw)
                client.send(b"CONNECT app.example.com:80 HTTP/1.1\r\nHost: app.example.com:80\r\n\r\n")
                assert client.recv().startswith(b"HTTP/1.1 200")
                client.send(b"x" * 100_000)
                client.end()
                assert client.read_to_end() == b"you said " + b"x" * 100_000
                assert client.said_end
            wait_until(lambda: edge.metrics.tunnels == 0 and edge.metrics.client_connections == 0)

    def test_an_alert_in_the_middle_ends_the_exchange(self) -> None:
        begun = threading.Event()

        def slow(wire: Wire) -> None:
            wire.read_until(b"\r\n\r\n")
            begun.set()
            wire.read_to_end()

        with serving(script=slow) as edge, socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE) as raw:
            client = HalfCloser(raw)
            client.send(GET)
            assert begun.wait(PATIENCE)
            raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            wait_until(lambda: edge.metrics.client_connections == 0)
            assert edge.metrics.statuses[499] == 1


class TestReload:
    def test_under_load_no_request_fails_and_new_connections_get_the_new_certificate(self, tmp_path: Any) -> None:
        file = tmp_path / "own.pem"
        CERT.private_key_and_cert_chain_pem.write_to_path(file)
        own = dataclasses.replace(OWN, cert_chain="", private_key="", cert_file=str(file), key_file=str(file))
        with serving(https(tls_pem=(own,))) as edge:
            certificates = edge.listeners._tls.certificates  # type: ignore[union-attr]
            stop = threading.Event()
            failures: list[BaseException] = []
            served: set[int] = set()

            def load() -> None:
                try:
                    kept = connect(edge.tls_port)
                    while not stop.is_set():
                        wire = connect(edge.tls_port)
                        cert = tls_of(wire).getpeercert(binary_form=True)
                        assert get(wire).body == get(kept).body == b"ok"
                        served.add(hash(cert))
                        wire.close()
                except BaseException as error:
                    failures.append(error)

            def enough(count: int) -> bool:
                return len(served) >= count or bool(failures)

            threads = [threading.Thread(target=load) for _ in range(2)]
            for thread in threads:
                thread.start()
            for number in range(5):
                wait_until(partial(enough, number + 1))
                issue(HOST).private_key_and_cert_chain_pem.write_to_path(file)
                assert certificates.look()
            wait_until(partial(enough, 6))
            stop.set()
            for thread in threads:
                thread.join(PATIENCE)
            assert not failures


def test_behind_a_proxy_header(tmp_path: Any) -> None:
    log: list[Message] = []
    settings = https(enable_proxy=True, millrace=Native(proxy_trusted="127.0.0.0/8"))
    with serving(settings, answering(OK, log)) as edge:
        raw = socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE)
        raw.sendall(b"PROXY TCP4 203.0.113.7 10.0.0.1 50000 443\r\n")
        wire = Wire(client_context().wrap_socket(raw, server_hostname=HOST))
        assert get(wire).body == b"ok"
        assert log[0].get("X-Forwarded-For") == b"203.0.113.7"
        wire.close()
        wait_until(lambda: edge.metrics.client_connections == 0)
