"""Which page is on which port, who may see it, and what TLS asks for (gorouter reference 8.2)."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.config_file import ConfigError
from router.config.settings import Prometheus, Settings, Status, StatusRoutes, StatusTls
from router.processes.listening import CannotListen
from router.status.overview import ALIVE
from router.status.pages import MAX_CONNECTIONS, BasicAuth
from router.status.status_ports import StatusPorts
from tests.router.pages import Running, Told, pages
from tests.router.tls.authority import CA, CERT, OTHER_CA, chain_of, issue
from tests.router.wire import wait_until

LOOPBACK = "127.0.0.1"
SERVED = issue("localhost")
KEY = SERVED.private_key_pem.bytes().decode()
OVER_TLS = StatusTls(port=0, certificate=chain_of(SERVED), key=KEY)
ALL = Settings(
    status=Status(host=LOOPBACK, port=0, routes=StatusRoutes(0), tls=OVER_TLS, user="me", pass_="s3:cret"),
    prometheus=Prometheus(enabled=True),
    debug_addr="127.0.0.1:0",
)
DEPRECATED = Settings(
    status=Status(
        host=LOOPBACK,
        port=0,
        routes=StatusRoutes(0),
        user="me",
        pass_="s3cret",
        enable_nontls_health_checks=False,
        enable_deprecated_varz_healthz_endpoints=True,
    )
)


def client(cert: object = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    if cert is not None:
        cert.configure_cert(context)  # type: ignore[attr-defined]
    return context


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with pages(ALL) as server:
        yield server


@pytest.fixture
def all_ports(running: Running) -> Running:
    running.told.__init__()  # type: ignore[misc]
    return running


def test_every_port_is_told_by_name(all_ports: Running) -> None:
    names = {"routes_port", "status_port", "status_tls_port", "prometheus_port", "debug_port"}
    assert set(all_ports.opened) == names
    assert len(set(all_ports.opened.values())) == 5
    assert 0 not in all_ports.opened.values()


class TestHealth:
    @pytest.mark.parametrize("name", ["status_port", "status_tls_port"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT"])
    def test_well(self, all_ports: Running, name: str, method: str) -> None:
        context = client() if name == "status_tls_port" else None
        message = all_ports.ask("/health", method, name=name, context=context)
        assert (message.status, message.body) == (200, b"" if method == "HEAD" else b"ok\n")
        assert message.get("cache-control") == b"private, max-age=0"
        assert message.get("expires") == b"0"

    @pytest.mark.parametrize("name", ["status_port", "status_tls_port"])
    def test_not_well_is_503_without_a_word(self, all_ports: Running, name: str) -> None:
        all_ports.told.why = "draining"
        context = client() if name == "status_tls_port" else None
        message = all_ports.ask("/health", name=name, context=context)
        assert (message.status, message.body) == (503, b"")
        assert all_ports.ask(ALIVE, name=name, context=context).body == b"ok\n"

    def test_people_are_told_why(self, all_ports: Running) -> None:
        all_ports.told.why = "draining"
        assert all_ports.ask("/health").body == b"draining\n"

    @pytest.mark.parametrize("path", ["/", "/healthz", "/routes", "/varz", "/metrics"])
    def test_nothing_else_is_there(self, all_ports: Running, path: str) -> None:
        assert all_ports.ask(path, name="status_port").status == 404
        assert all_ports.ask(path, name="status_tls_port", context=client()).status == 404

    def test_only_where_it_is_wanted(self) -> None:
        wanted = Settings(status=Status(enable_nontls_health_checks=False, routes=StatusRoutes(0)))
        with pages(wanted) as server:
            assert set(server.opened) == {"routes_port"}


class TestTls:
    def test_http_1_is_agreed_on(self, all_ports: Running) -> None:
        context = client()
        context.set_alpn_protocols(["h2", "http/1.1"])
        wire = all_ports.connect("status_tls_port")
        secured = context.wrap_socket(wire.socket, server_hostname="localhost")
        assert secured.selected_alpn_protocol() == "http/1.1"
        secured.close()

    def test_nothing_older_than_1_2(self, all_ports: Running) -> None:
        context = client()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.maximum_version = context.minimum_version = version
            assert all_ports.ask("/health", name="status_tls_port", context=context).status == 200

    def test_plain_http_gets_no_page(self, all_ports: Running) -> None:
        assert b"ok" not in all_ports.raw(b"GET /health HTTP/1.1\r\n\r\n", "status_tls_port")

    def test_who_does_not_finish_a_handshake_has_a_place_of_those_there_are(self, all_ports: Running) -> None:
        wires = [all_ports.connect("status_tls_port") for _ in range(MAX_CONNECTIONS)]
        wait_until(lambda: all_ports.connections == MAX_CONNECTIONS, "all of them counted")
        late = all_ports.connect("status_tls_port")
        assert late.is_closed()
        assert all_ports.ask("/health", name="status_port").status == 200, "another port is not concerned"
        for wire in (*wires, late):
            wire.close()
        wait_until(lambda: not all_ports.connections, "the end of the connections")
        assert all_ports.ask("/health", name="status_tls_port", context=client()).status == 200

    def test_many_handshakes_one_after_the_other(self, all_ports: Running) -> None:
        context = client()
        for _ in range(30):
            assert all_ports.ask("/health", name="status_tls_port", context=context).body == b"ok\n"


class TestWhoMaySeeRoutes:
    def test_with_user_and_password(self, all_ports: Running) -> None:
        message = all_ports.ask("/routes", auth=b"me:s3:cret")
        assert json.loads(message.body) == {"a.example.com": ["x"]}
        assert message.get("connection") == b"close"

    @pytest.mark.parametrize("auth", [None, b"me:", b":s3:cret", b"me:s3:cret ", b"ME:s3:cret", b"me:s3", b"\xff:\xff"])
    def test_nobody_else(self, all_ports: Running, auth: bytes | None) -> None:
        message = all_ports.ask("/routes", auth=auth)
        assert (message.status, message.body) == (401, b"401 Unauthorized\n")
        assert message.get("www-authenticate") == b'Basic realm="router"'

    @pytest.mark.parametrize("path", ["/health", "/metrics", ALIVE])
    def test_the_other_pages_ask_for_nothing(self, all_ports: Running, path: str) -> None:
        assert all_ports.ask(path).status == 200

    @given(st.text(max_size=30))
    def test_any_header_is_allowed_only_if_it_says_the_password(self, given_header: str) -> None:
        assert not BasicAuth("user", "pa:ss").allows(given_header)
        assert BasicAuth("user", "pa:ss").allows("bAsIc  dXNlcjpwYTpzcw== ")


class TestDeprecatedPages:
    def test_are_on_the_status_port(self) -> None:
        with pages(DEPRECATED) as server:
            for path in ("/health", "/healthz"):
                assert server.ask(path, name="status_port").body == b"ok\n"
            for path in ("/varz", "/routes"):
                assert server.ask(path, name="status_port").status == 401
                message = server.ask(path, name="status_port", auth=b"me:s3cret")
                assert message.get("content-type") == b"application/json"
                json.loads(message.body)

    def test_ask_for_a_password_even_if_none_is_set(self) -> None:
        status = Status(host=LOOPBACK, port=0, routes=StatusRoutes(0), enable_deprecated_varz_healthz_endpoints=True)
        with pages(Settings(status=status)) as server:
            assert server.ask("/varz", name="status_port").status == 401
            assert server.ask("/varz", name="status_port", auth=b":").status == 200
            assert server.ask("/routes").status == 200, "loopback asks for none"


class TestPrometheus:
    @pytest.mark.parametrize(
        ("wanted", "served"),
        [
            (Prometheus(), False),
            (Prometheus(enabled=True), True),
            (Prometheus(enabled=False, port=1), False),
        ],
    )
    def test_where_it_is_wanted(self, wanted: Prometheus, served: bool) -> None:
        whole = Settings(status=Status(enable_nontls_health_checks=False, routes=StatusRoutes(0)), prometheus=wanted)
        with pages(whole) as server:
            assert ("prometheus_port" in server.opened) == served

    def test_a_port_is_enough(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as busy:
            whole = Settings(
                status=Status(enable_nontls_health_checks=False, routes=StatusRoutes(0)),
                prometheus=Prometheus(port=busy.getsockname()[1]),
            )
            with pytest.raises(CannotListen, match=r"prometheus\.port \d+ on 127\.0\.0\.1: "):
                asyncio.run(StatusPorts(Told(), whole).open())

    def test_has_gorouters_names_and_no_other_page(self, all_ports: Running) -> None:
        message = all_ports.ask("/metrics", name="prometheus_port")
        assert message.body == b"total_requests 1\n"
        assert message.get("content-type") == b"text/plain; version=0.0.4; charset=utf-8"
        assert all_ports.ask("/routes", name="prometheus_port").status == 404

    def files(self, folder: Path) -> Prometheus:
        (folder / "cert").write_text(chain_of(SERVED))
        (folder / "key").write_text(KEY)
        CA.cert_pem.write_to_path(folder / "ca")
        return Prometheus(True, 0, str(folder / "cert"), str(folder / "key"), str(folder / "ca"))

    def test_over_tls_scrapers_show_a_certificate(self, tmp_path: Path) -> None:
        whole = Settings(
            status=Status(enable_nontls_health_checks=False, routes=StatusRoutes(0)), prometheus=self.files(tmp_path)
        )
        with pages(whole) as server:
            ask = lambda context: server.ask("/metrics", name="prometheus_port", context=context)  # noqa: E731
            assert ask(client(CERT)).status == 200
            for cert in (None, issue("other", ca=OTHER_CA)):
                with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
                    ask(client(cert))

    @pytest.mark.parametrize("name", ["cert", "key", "ca"])
    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path, name: str) -> None:
        wanted = self.files(tmp_path)
        (tmp_path / name).unlink()
        whole = Settings(status=Status(enable_nontls_health_checks=False, routes=StatusRoutes(0)), prometheus=wanted)
        with pytest.raises(ConfigError, match=rf"prometheus\.{name}_path {tmp_path}/{name}: No such file"):
            asyncio.run(StatusPorts(Told(), whole).open())

    def test_a_ca_is_needed(self, tmp_path: Path) -> None:
        files = self.files(tmp_path)
        wanted = Prometheus(True, 0, files.cert_path, files.key_path, "")
        whole = Settings(status=Status(enable_nontls_health_checks=False, routes=StatusRoutes(0)), prometheus=wanted)
        with pytest.raises(ConfigError, match=r"prometheus\.ca_path not set, though prometheus\.cert_path is"):
            asyncio.run(StatusPorts(Told(), whole).open())


class TestDebugging:
    def test_the_level_is_shown_and_set(self, all_ports: Running) -> None:
        assert all_ports.ask("/log-level", name="debug_port").body == b"info\n"
        for method, level in (("PUT", "debug"), ("POST", "error"), ("PUT", "WARN\n")):
            message = all_ports.ask("/log-level", method, name="debug_port", body=level.encode())
            assert message.body.decode() == level.strip().lower() + "\n"
            assert all_ports.told.level == level.strip().lower()

    @pytest.mark.parametrize("body", [b"", b"loud", b"x" * 2000, b"\xff"])
    def test_what_is_no_level_changes_nothing(self, all_ports: Running, body: bytes) -> None:
        message = all_ports.ask("/log-level", "PUT", name="debug_port", body=body)
        assert message.status == 400
        assert b"give one of debug, info, warn" in message.body
        assert all_ports.told.level == "info"

    def test_other_methods_are_refused(self, all_ports: Running) -> None:
        assert all_ports.ask("/log-level", "DELETE", name="debug_port").status == 405

    def test_stacks(self, all_ports: Running) -> None:
        assert all_ports.ask("/debug/pprof/goroutine?debug=2", name="debug_port").body == b"stacks\n"


class TestAddresses:
    def test_balancers_and_people_may_share_a_port_on_loopback(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as other:
            port = other.getsockname()[1]
        with pages(Settings(status=Status(host=LOOPBACK, port=port, routes=StatusRoutes(port)))) as server:
            assert server.opened == {"routes_port": port, "status_port": port}
            assert server.ask("/metrics").status == 200

    def test_a_port_that_is_taken_is_named(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as busy:
            port = busy.getsockname()[1]
            wanted = Status(
                host=LOOPBACK, port=0, routes=StatusRoutes(0), tls=StatusTls(port, OVER_TLS.certificate, KEY)
            )
            with pytest.raises(
                CannotListen, match=rf"status\.tls\.port {port} on 127\.0\.0\.1: .*; change status\.tls"
            ):
                asyncio.run(StatusPorts(Told(), Settings(status=wanted)).open())

    @pytest.mark.parametrize("address", ["no.such.host.invalid:1", "127.0.0.1:99999", "192.0.2.1:0"])
    def test_a_debug_address_that_cannot_be_had_is_named(self, address: str) -> None:
        whole = Settings(status=Status(enable_nontls_health_checks=False, routes=StatusRoutes(0)), debug_addr=address)
        with pytest.raises(CannotListen, match=r"debug_addr \d+ on "):
            asyncio.run(StatusPorts(Told(), whole).open())
