"""TLS to endpoints: what is verified, what each failure looks like to the client, and that bytes pass unchanged."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from router.config.settings import Backends, Settings
from router.dialing import Dial, DialFailure
from router.pool import Endpoint
from router.registry.records import EndpointRecord
from tests.router.tls.authority import (
    CA,
    CA_PEM,
    HOST,
    OTHER_CA,
    chain_of,
    issue,
    over_tls,
    server_context,
    tls_of,
)
from tests.router.wire import (
    OK,
    PATIENCE,
    Backend,
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
TRUSTING = Settings(ca_certs=(CA_PEM,))
OURS = issue("router")
WITH_CERTIFICATE = dataclasses.replace(
    TRUSTING,
    backends=Backends(cert_chain=chain_of(OURS), private_key=OURS.private_key_pem.bytes().decode()),
)


@contextmanager
def routed(
    script: Callable[[Wire], None], settings: Settings = TRUSTING, **fields: Any
) -> Iterator[tuple[RunningEdge, Backend]]:
    """An edge with a route to one endpoint that has a tls_port."""
    with backend(script) as app, running_edge(settings) as edge:
        register(edge, app, **fields)
        yield edge, app


def register(edge: RunningEdge, app: Backend, **fields: Any) -> None:
    edge.register(HOST, 1, tls_port=app.port, **{"server_cert_domain_san": HOST, **fields})


def get(edge: RunningEdge) -> Message:
    wire = edge.connect()
    try:
        wire.send(GET)
        return wire.message()
    finally:
        wire.close()


def failure(edge: RunningEdge) -> tuple[int, str]:
    """Status and what X-Cf-RouterError says inside the brackets."""
    message = get(edge)
    error = (message.get("X-Cf-RouterError") or b"").decode()
    assert error.startswith("endpoint_failure (")
    return message.status, error.removeprefix("endpoint_failure (").removesuffix(")")


class TestAnEndpointWithATlsPort:
    @pytest.mark.parametrize("version", [TLS12, TLS13])
    def test_is_spoken_to_in_tls_on_connections_that_are_kept(self, version: ssl.TLSVersion) -> None:
        log: list[Message] = []
        with routed(over_tls(answering(OK, log), server_context(version=version))) as (edge, app):
            assert [get(edge).status for _ in range(3)] == [200] * 3
            assert app.connections == 1
            assert log[0].first == b"GET / HTTP/1.1"

    def test_is_asked_for_by_the_name_that_its_certificate_must_have(self) -> None:
        asked: list[str | None] = []
        context = server_context(issue("instance-guid"))
        context.sni_callback = lambda _tls, name, _context: asked.append(name)
        with routed(over_tls(answering(OK), context), server_cert_domain_san="instance-guid") as (edge, _):
            assert get(edge).status == 200
            assert asked == ["instance-guid"]

    def test_is_verified_by_its_address_where_no_name_is_given(self) -> None:
        script = over_tls(answering(OK), server_context(issue("127.0.0.1")))
        with routed(script, server_cert_domain_san="") as (edge, _):
            assert get(edge).status == 200

    def test_gets_and_sends_large_bodies_whole(self) -> None:
        body = bytes(range(256)) * 16384

        def echo(wire: Wire) -> None:
            request = wire.message()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.body) + request.body)

        with routed(over_tls(echo)) as (edge, _):
            wire = edge.connect()
            head = b"POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: %d\r\n\r\n" % len(body)
            sender = threading.Thread(target=wire.send, args=(head + body,))
            sender.start()
            assert wire.message().body == body
            sender.join(PATIENCE)

    def test_carries_tunnels(self) -> None:
        def shout(wire: Wire) -> None:
            wire.send(wire.read_exactly(5).upper())
            wire.read_to_end()

        with routed(over_tls(shout)) as (edge, _):
            wire = edge.connect()
            wire.send(b"CONNECT app.example.com:80 HTTP/1.1\r\nHost: app.example.com:80\r\n\r\n")
            assert wire.head().status == 200
            wire.send(b"hello")
            assert wire.read_exactly(5) == b"HELLO"

    def test_resumes_its_session(self) -> None:
        resumed: list[bool | None] = []

        def once(wire: Wire) -> None:
            resumed.append(tls_of(wire).session_reused)
            wire.read_until(b"\r\n\r\n")
            wire.send(OK.replace(b"Date", b"Connection: close\r\nDate"))

        for version in (TLS12, TLS13):
            resumed.clear()
            with routed(over_tls(once, server_context(version=version))) as (edge, _):
                for _ in range(3):
                    assert get(edge).status == 200
            assert resumed == [False, True, True]


def without_tls(tls: ssl.SSLSocket) -> socket.socket:
    """The socket beneath, so that it can be closed without close_notify."""
    return socket.socket(fileno=tls.detach())


class TestTheEndOfABody:
    """One without a length ends with the connection: over TLS only the peer's own word is an end."""

    def until_close(self, *, says_so: bool) -> Callable[[Wire], None]:
        def script(wire: Wire) -> None:
            wire.read_until(b"\r\n\r\n")
            wire.send(b"HTTP/1.1 200 OK\r\n\r\nas far as it goes")
            if not says_so:
                wire.socket = without_tls(tls_of(wire))

        return over_tls(script)

    def test_with_close_notify_is_the_end(self) -> None:
        with routed(self.until_close(says_so=True)) as (edge, _):
            message = get(edge)
            assert message.get("Transfer-Encoding") == b"chunked"
            assert message.body == b"as far as it goes"

    def test_without_it_the_response_is_broken(self) -> None:
        with routed(self.until_close(says_so=False)) as (edge, _):
            wire = edge.connect()
            wire.send(GET)
            with pytest.raises((AssertionError, ConnectionResetError)):
                wire.message()
            assert not wire.seen.endswith(b"0\r\n\r\n")


class TestWhatGoesWrong:
    def test_another_name_is_503(self) -> None:
        with routed(over_tls(answering(OK)), server_cert_domain_san="other-guid") as (edge, _):
            status, error = failure(edge)
            assert status == 503
            assert "x509: " in error
            assert "other-guid" in error
            assert get(edge).body == b"503 Service Unavailable\n"
            assert edge.metrics.backend_invalid_id == 2
            assert edge.metrics.bad_gateways == 0

    def test_a_common_name_is_no_name(self) -> None:
        script = over_tls(answering(OK), server_context(issue("x.test", cn=HOST)))
        with routed(script) as (edge, _):
            assert failure(edge)[0] == 503

    def test_an_address_in_the_certificate_is_no_name(self) -> None:
        script = over_tls(answering(OK), server_context(issue("127.0.0.1")))
        with routed(script, server_cert_domain_san="guid") as (edge, _):
            assert failure(edge)[0] == 503

    @pytest.mark.parametrize(
        ("cert", "error"),
        [
            (issue(HOST, ca=OTHER_CA), "x509: certificate signed by unknown authority"),
            (issue(HOST, days=-1), "x509: certificate has expired or is not yet valid"),
            (issue(HOST, days=90), "x509: certificate has expired or is not yet valid"),
        ],
    )
    def test_a_certificate_that_is_not_to_be_trusted_is_526(self, cert: Any, error: str) -> None:
        with routed(over_tls(answering(OK), server_context(cert))) as (edge, _):
            assert failure(edge) == (526, error)
            assert get(edge).body == b"526 Invalid SSL Certificate\n"
            assert edge.metrics.backend_invalid_tls_cert == 2

    def test_an_endpoint_that_speaks_no_tls_is_525(self) -> None:
        def plain(wire: Wire) -> None:
            wire.socket.recv(65536)
            wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        with routed(plain) as (edge, _):
            assert failure(edge) == (525, "tls: first record does not look like a TLS handshake")
            assert get(edge).body == b"525 SSL Handshake Failed\n"
            assert edge.metrics.backend_tls_handshake_failed == 2

    def test_one_that_closes_is_525(self) -> None:
        with routed(lambda wire: None) as (edge, _):
            status, error = failure(edge)
            assert status in (502, 525)  # 502: a reset, since it had not read what we said
            assert error == "EOF" or "connection reset" in error

    def test_no_cipher_in_common_is_525(self) -> None:
        context = server_context(version=TLS12)
        context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
        settings = dataclasses.replace(TRUSTING, cipher_suites="ECDHE-ECDSA-AES128-GCM-SHA256")
        context.minimum_version = context.maximum_version = TLS12
        with routed(over_tls(answering(OK), context), settings) as (edge, _):
            assert failure(edge) == (525, "remote error: tls: handshake failure")

    @pytest.mark.parametrize("version", [TLS12, TLS13])
    def test_a_client_certificate_that_is_asked_for_is_shown(self, version: ssl.TLSVersion) -> None:
        context = server_context(version=version)
        context.verify_mode = ssl.CERT_REQUIRED
        CA.configure_trust(context)
        with routed(over_tls(answering(OK), context), WITH_CERTIFICATE) as (edge, _):
            assert get(edge).status == 200

    @pytest.mark.parametrize("version", [TLS12, TLS13])
    def test_without_one_or_with_a_foreign_one_it_is_496(self, version: ssl.TLSVersion) -> None:
        for trust, settings in ((CA, TRUSTING), (OTHER_CA, WITH_CERTIFICATE)):
            context = server_context(version=version)
            context.verify_mode = ssl.CERT_REQUIRED
            trust.configure_trust(context)
            with routed(over_tls(answering(OK), context), settings) as (edge, _):
                status, error = failure(edge)
                if settings is TRUSTING and version == TLS12:
                    assert (status, error) == (525, "remote error: tls: handshake failure")
                else:
                    assert status == 496
                    assert error in (
                        "remote error: tls: certificate required",
                        "remote error: tls: unknown certificate authority",
                    )
                    assert get(edge).body == b"496 SSL Certificate Required\n"

    def test_a_handshake_that_takes_too_long_is_given_up(self) -> None:
        settings = dataclasses.replace(TRUSTING, tls_handshake_timeout=0.3, backends=Backends(max_attempts=1))

        def silent(wire: Wire) -> None:
            wire.read_to_end()

        with routed(silent, settings) as (edge, _):
            assert failure(edge) == (502, "net/http: TLS handshake timeout")

    def test_another_endpoint_is_tried_even_for_what_must_not_be_repeated(self) -> None:
        with (
            routed(over_tls(answering(OK), server_context(issue("stale")))) as (edge, _),
            backend(over_tls(answering(OK))) as good,
        ):
            register(edge, good)
            for _ in range(4):
                wire = edge.connect()
                wire.send(b"POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 2\r\n\r\nhi")
                assert wire.message().status == 200

    @pytest.mark.parametrize("version", [TLS12, TLS13])
    def test_another_endpoint_is_tried_where_our_certificate_is_refused(self, version: ssl.TLSVersion) -> None:
        picky = server_context(version=version)
        picky.verify_mode = ssl.CERT_REQUIRED
        CA.configure_trust(picky)
        with routed(over_tls(answering(OK), picky)) as (edge, _), backend(over_tls(answering(OK))) as good:
            register(edge, good)
            for _ in range(4):
                wire = edge.connect()
                wire.send(b"POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 2\r\n\r\nhi")
                assert wire.message().status == 200

    def test_a_client_that_leaves_during_the_handshake_takes_it_along(self) -> None:
        closed = threading.Event()

        def silent(wire: Wire) -> None:
            wire.socket.recv(10)
            begun.set()
            wire.read_to_end()
            closed.set()

        begun = threading.Event()
        with routed(silent) as (edge, _):
            wire = edge.connect()
            wire.send(GET)
            assert begun.wait(PATIENCE)
            wire.close()
            assert closed.wait(PATIENCE)


class Asking:
    """Asks for a connection and notes what became of it."""

    def __init__(self) -> None:
        self.outcomes: list[bool | DialFailure] = []

    def dialed(self, dial: Dial, http2: bool) -> asyncio.Protocol:
        self.outcomes.append(http2)
        return asyncio.Protocol()

    def dial_failed(self, failure: DialFailure) -> None:
        self.outcomes.append(failure)


class TestADial:
    def outcome(self, edge: RunningEdge, app: Backend, *, http2: bool, tls: bool = True) -> bool | DialFailure:
        where = {"tls_port": app.port} if tls else {"port": app.port}
        record = EndpointRecord(host="127.0.0.1", server_cert_domain_san=HOST, **where)  # type: ignore[arg-type]
        asking = Asking()
        endpoint = Endpoint(record.address, record.to_json())
        edge.do(lambda: Dial(edge.edge, endpoint, asking, http2=http2).begin_dial())
        wait_until(lambda: asking.outcomes)
        return asking.outcomes[0]

    @pytest.mark.parametrize(
        ("offered", "spoken", "agreed"),
        [(True, ["h2"], True), (True, ["http/1.1"], False), (True, [], False), (False, ["h2", "http/1.1"], False)],
    )
    def test_tells_whether_http2_was_agreed_on(self, offered: bool, spoken: list[str], agreed: bool) -> None:
        context = server_context()
        if spoken:
            context.set_alpn_protocols(spoken)
        with backend(over_tls(answering(OK), context)) as app, running_edge(TRUSTING) as edge:
            assert self.outcome(edge, app, http2=offered) is agreed

    def test_without_tls_it_is_http1(self) -> None:
        with backend(answering(OK)) as app, running_edge(TRUSTING) as edge:
            assert self.outcome(edge, app, http2=True, tls=False) is False

    def test_that_is_given_up_tells_nobody_and_leaves_nothing(self) -> None:
        heard = threading.Event()
        closed = threading.Event()

        def silent(wire: Wire) -> None:
            wire.socket.recv(10)
            heard.set()
            wire.read_to_end()
            closed.set()

        with backend(silent) as app, running_edge(TRUSTING) as edge:
            record = EndpointRecord(host="127.0.0.1", tls_port=app.port)
            asking = Asking()
            dial = Dial(edge.edge, Endpoint(record.address, record.to_json()), asking)
            edge.do(dial.begin_dial)
            assert heard.wait(PATIENCE)
            edge.do(dial.abort)
            assert closed.wait(PATIENCE)
            assert asking.outcomes == []
            assert not any(edge.edge._backends)
