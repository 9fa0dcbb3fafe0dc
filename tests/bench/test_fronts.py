"""TLS, HTTP/2 and WebSocket towards clients: every proxy speaks what a scenario asks for, and is loaded with it."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Request

from bench.choice import generator_for, lacking, start_echo
from bench.go_peers import Caddy, Traefik
from bench.h2load import H2Load
from bench.load import Generator, OwnGenerator, Wrk
from bench.machine import BenchError, Cores
from bench.peers import Envoy, HAProxy, Nginx
from bench.programs import Program, free_port
from bench.proxied import http2_status_of, serves, status_of, trusting
from bench.proxy import Proxy, Site, new_site
from bench.rounds import Effort
from bench.scenarios import HOST, MESSAGE_BYTES, SCENARIOS, SMALL_BYTES
from bench.session import NAMES, session
from bench.subject import Router
from bench.websocket import ECHOED, SENT, UPGRADE, answer_to
from director.local_ca import Identity, LocalAuthority

CORE = min(os.sched_getaffinity(0))
PROXIES: list[Proxy] = [Router(), Nginx(), HAProxy(), Envoy(), Traefik(), Caddy()]
FEW = {name: replace(scenario, connections=4) for name, scenario in SCENARIOS.items()}


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    authority = LocalAuthority(tmp_path_factory.mktemp("authority"), NAMES)
    authority.ensure()
    return authority.identity


@pytest.fixture(scope="module")
def backend_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    folder = tmp_path_factory.mktemp("backend")
    with Program("own-backend", [sys.executable, "-m", "bench.backend", str(port)], folder, CORE) as own:
        own.wait_for_port(port)
        yield port


@pytest.fixture(scope="module")
def echo_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with ExitStack() as stack:
        yield start_echo(tmp_path_factory.mktemp("echo"), CORE, stack).port


@pytest.fixture(params=PROXIES, ids=lambda proxy: proxy.name)
def proxy(request: pytest.FixtureRequest) -> Proxy:
    each: Proxy = request.param
    if why := each.missing():
        pytest.skip(why)
    return each


def started(proxy: Proxy, name: str, folder: Path, backend: int, identity: Identity, stack: ExitStack) -> Site:
    site = new_site(folder, proxy.name, backend, Cores(CORE, CORE), SCENARIOS[name], identity)
    proxy.start(site, stack).wait_until(lambda: serves(site), 15, "served its route")
    return site


def test_every_proxy_speaks_tls_and_http2(proxy: Proxy, tmp_path: Path, backend_port: int, identity: Identity) -> None:
    with ExitStack() as stack:
        site = started(proxy, "h2", tmp_path, backend_port, identity, stack)
        assert http2_status_of(site.port, identity=identity) == 200
        assert status_of(site.port, identity=identity) == 200, "and HTTP/1.1 to those who offer no more"
        assert http2_status_of(site.port, host="localhost", identity=identity) == 404
        with (
            socket.create_connection(("127.0.0.1", site.port), 5) as plain,
            trusting(identity, "http/1.1").wrap_socket(plain, server_hostname=HOST) as secure,
        ):
            assert secure.version() == "TLSv1.3"
            key = ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True) or b"")
            assert key.encode() in identity.chain.read_bytes()


def test_every_proxy_speaks_http2_by_prior_knowledge(
    proxy: Proxy, tmp_path: Path, backend_port: int, identity: Identity
) -> None:
    with ExitStack() as stack:
        site = started(proxy, "h2c", tmp_path, backend_port, identity, stack)
        assert http2_status_of(site.port) == 200


def test_every_proxy_carries_websocket_messages(
    proxy: Proxy, tmp_path: Path, echo_port: int, identity: Identity
) -> None:
    with ExitStack() as stack:
        site = started(proxy, "websocket", tmp_path, echo_port, identity, stack)
        told = generator_for(FEW["websocket"], tmp_path).run(FEW["websocket"], site.port, 0.3, CORE)
    assert told.failed == 0
    assert told.requests > 20
    assert told.bytes == told.requests * len(ECHOED)


@pytest.fixture(scope="module")
def secure_site(tmp_path_factory: pytest.TempPathFactory, backend_port: int, identity: Identity) -> Iterator[Site]:
    if why := Nginx().missing():
        pytest.skip(why)
    with ExitStack() as stack:
        yield started(Nginx(), "h2", tmp_path_factory.mktemp("secure"), backend_port, identity, stack)


@pytest.mark.parametrize("name", ["tls", "tls-large"])
@pytest.mark.parametrize("maker", ["own", "wrk"])
def test_generators_load_over_tls(secure_site: Site, tmp_path: Path, maker: str, name: str) -> None:
    if maker == "wrk" and not shutil.which("wrk"):
        pytest.skip("no wrk on PATH")
    generator: Generator = OwnGenerator() if maker == "own" else Wrk(tmp_path)
    told = generator.run(FEW[name], secure_site.port, 1.0, CORE)
    assert told.failed == 0
    assert told.requests > 5
    assert told.bytes >= told.requests * FEW[name].response_bytes


def test_handshakes_are_counted_and_none_is_resumed_though_tickets_are_offered(
    secure_site: Site, tmp_path: Path
) -> None:
    told = generator_for(FEW["handshakes"], tmp_path).run(FEW["handshakes"], secure_site.port, 0.5, CORE)
    assert told.failed == 0
    assert told.errors["resumed"] == 0
    assert told.requests > 20
    assert told.bytes > told.requests * SMALL_BYTES


def test_a_handshake_that_fails_is_an_error_and_no_request(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        def greet_and_close() -> None:
            for _ in range(4):
                with silent.accept()[0] as accepted:
                    accepted.recv(65536)

        closing = threading.Thread(target=greet_and_close)
        closing.start()
        told = generator_for(FEW["handshakes"], tmp_path).run(FEW["handshakes"], port, 0.3, CORE)
        closing.join(10)
    assert told.requests == 0
    assert told.failed == told.errors["connect"] + told.errors["broken"] == 4


def test_a_connection_that_is_not_upgraded_is_an_error_and_no_message(backend_port: int, tmp_path: Path) -> None:
    told = generator_for(FEW["websocket"], tmp_path).run(FEW["websocket"], backend_port, 0.3, CORE)
    assert told.requests == 0
    assert told.errors["status"] > 0


def test_h2load_tells_whole_figures(secure_site: Site, tmp_path: Path) -> None:
    if why := lacking(SCENARIOS["h2"]):
        pytest.skip(why)
    told = H2Load(tmp_path).run(FEW["h2"], secure_site.port, 1.0, CORE)
    assert told.failed == 0
    assert told.requests > 50
    assert told.bytes >= told.requests * SMALL_BYTES
    assert 0 < told.p50_us <= told.p99_us < 5_000_000


def test_h2load_without_figures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no such host"):
        H2Load(tmp_path).read("no such host")


def test_http2_scenarios_are_left_out_without_h2load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.h2load.shutil.which", lambda _name: None)
    assert {name for name, each in SCENARIOS.items() if lacking(each)} == {"h2", "h2c"}
    assert "nghttp2-client" in lacking(SCENARIOS["h2"])


def test_the_messages_are_what_another_implementation_reads() -> None:
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(UPGRADE)
    (asked,) = server.events()
    assert isinstance(asked, Request)
    assert asked.host == HOST
    accepted = server.send(AcceptConnection())
    ours = answer_to(UPGRADE).lower()
    assert all(line.lower() in ours for line in accepted.split(b"\r\n") if line.lower().startswith(b"sec-websocket"))
    server.receive_data(SENT)
    (message,) = server.events()
    assert isinstance(message, BytesMessage)
    assert len(message.data) == MESSAGE_BYTES
    assert server.send(BytesMessage(message.data)) == ECHOED


def test_the_echo_answers_each_message_however_they_come(echo_port: int) -> None:
    with socket.create_connection(("127.0.0.1", echo_port), 5) as connection:
        connection.settimeout(5)
        head = answer_to(UPGRADE)
        connection.sendall(UPGRADE + SENT + SENT[:7])
        received = b""
        while len(received) < len(head) + len(ECHOED):
            received += connection.recv(65536)
        connection.sendall(SENT[7:] + SENT)
        while len(received) < len(head) + 3 * len(ECHOED):
            received += connection.recv(65536)
    assert received == head + 3 * ECHOED


def test_a_websocket_go_tells_the_load_sides_own_ceiling() -> None:
    if why := Nginx().missing():
        pytest.skip(why)
    with session(Effort(rounds=1, seconds=1, warm_up=0)) as running:
        result = running.compare(FEW["websocket"], [Nginx()], lambda _line: None)
    (only,) = result.rounds["nginx"]
    assert result.ceiling > only.requests_per_second > 20
    assert result.generator == "bench.epoll_load (own, epoll)"
    assert 0 < only.load_share < 1.2
