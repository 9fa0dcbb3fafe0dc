"""The way to a route service: what it is asked for, what it is told, how it is reached, what may go wrong there."""

from __future__ import annotations

import json
import ssl
import threading
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest

from router.config.settings import AccessLogSettings, Backends
from router.logs.access_log import AccessLog
from tests.router.http2.peer import as_fields, connect
from tests.router.route_services.bound import (
    APP,
    GET,
    SERVICE_CERT,
    SETTINGS,
    SIGNER,
    bound,
    register,
    with_settings,
)
from tests.router.tls.authority import CA, OTHER_CA, chain_of, issue, over_tls, server_context, tls_of
from tests.router.wire import OK, PATIENCE, Message, Wire, answering, backend, running_edge, wait_until


class TestWhatTheServiceGets:
    def test_path_and_query_of_its_url_and_its_own_host(self) -> None:
        with bound(rest="/a/path?key=value") as it:
            assert it.ask().status == 200
            (request,) = it.at_service
            assert request.first == b"GET /a/path?key=value HTTP/1.1"
            assert request.get("Host") == b"localhost:%d" % it.service.port

    def test_the_root_where_its_url_has_no_path(self) -> None:
        with bound(rest="?only=query") as it:
            it.ask()
            assert it.at_service[0].first == b"GET /?only=query HTTP/1.1"

    def test_the_url_of_the_request_signed(self) -> None:
        with bound(with_settings(route_services_recommend_https=True)) as it:
            it.ask(GET.replace(b"Host: app.example.com", b"Host: App.example.com:8080"))
            (request,) = it.at_service
            assert request.get("X-CF-Forwarded-Url") == b"https://App.example.com/where?q=1"
            signature, metadata = request.get("X-CF-Proxy-Signature"), request.get("X-CF-Proxy-Metadata")
            assert signature is not None
            assert metadata is not None
            assert SIGNER.read(signature, metadata, 60).forwarded_url == "https://App.example.com/where?q=1"
            assert list(json.loads(urlsafe_b64decode(metadata))) == ["nonce"]

    def test_the_scheme_that_is_recommended(self) -> None:
        with bound() as it:
            it.ask()
            assert it.at_service[0].get("X-CF-Forwarded-Url") == b"http://app.example.com/where?q=1"

    def test_the_url_of_an_absolute_target_too(self) -> None:
        with bound() as it:
            it.ask(b"GET http://app.example.com:80/x%20y HTTP/1.1\r\nHost: other\r\n\r\n")
            assert it.at_service[0].get("X-CF-Forwarded-Url") == b"http://app.example.com/x%20y"

    def test_nothing_of_these_fields_that_the_client_made_up(self) -> None:
        made_up = b"X-CF-Forwarded-Url: http://evil/\r\nX-CF-Proxy-Metadata: e30=\r\nX-CF-Proxy-Signature: \r\n\r\n"
        with bound() as it:
            assert it.ask(GET[:-2] + made_up).status == 200
            assert it.at_service[0].get("X-CF-Forwarded-Url") == b"http://app.example.com/where?q=1"
            assert it.at_service[0].get("X-CF-Proxy-Signature")

    def test_who_forwarded_it_and_nothing_of_the_application(self) -> None:
        with bound() as it:
            it.ask(GET[:-2] + b"X-Forwarded-For: 192.0.2.1\r\nX-CF-InstanceID: made-up\r\nX-Custom: kept\r\n\r\n")
            (request,) = it.at_service
            assert request.get("X-Forwarded-For") == b"192.0.2.1, 127.0.0.1"
            assert request.get("X-Forwarded-Proto") == b"http"
            assert request.get("X-Vcap-Request-Id")
            assert request.get("X-Request-Start")
            assert request.get("X-Custom") == b"kept"
            assert not [name for name, _ in request.fields if name.lower().startswith((b"x-cf-app", b"x-cf-instance"))]

    def test_method_and_body(self) -> None:
        with bound(response=lambda request: OK.replace(b"2\r\n", b"5\r\n").replace(b"ok", request.body)) as it:
            head = b"PATCH / HTTP/1.1\r\nHost: app.example.com\r\n"
            assert it.ask(head + b"Content-Length: 5\r\n\r\nhello").body == b"hello"
            assert it.ask(head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nworld\r\n0\r\n\r\n").body == b"world"
            assert [request.first[:5] for request in it.at_service + it.at_app] == [b"PATCH"] * 4

    def test_bodies_of_any_size_both_ways(self) -> None:
        """The service answers while it reads: nothing may wait for the whole."""
        megabytes = 16
        block = bytes(range(256)) * 4096

        def echo(wire: Wire) -> None:
            wire.head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (megabytes * len(block)))
            for _ in range(megabytes):
                wire.send(wire.read_exactly(len(block)))

        with bound(service=echo) as it:
            length = megabytes * len(block)
            wire = it.send(b"POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: %d\r\n\r\n" % length)

            def upload() -> None:
                for _ in range(megabytes):
                    wire.send(block)

            sender = threading.Thread(target=upload)
            sender.start()
            assert wire.message().body == block * megabytes
            sender.join(PATIENCE)


class TestConnections:
    def test_are_kept_for_all_routes_of_a_service(self) -> None:
        with bound() as it:
            register(it.edge, "other.example.com", it.app, it.url())
            for host in (APP, "other.example.com", APP):
                request = GET.replace(APP.encode(), host.encode())
                assert it.ask(request).status == 200
            assert it.service.connections == 1

    def test_are_closed_when_no_route_is_bound_to_it_any_more(self) -> None:
        with bound() as it:
            it.ask()
            register(it.edge, APP, it.app)
            wait_until(lambda: it.service.wires[0].socket.fileno() == -1, "the end of the idle connection")
            assert it.ask().status == 200
            assert len(it.at_service) == 1

    def test_ask_for_the_host_of_the_url(self) -> None:
        asked: list[str | None] = []
        context = server_context(SERVICE_CERT)
        context.sni_callback = lambda _tls, name, _context: asked.append(name)
        with bound(context=context) as it:
            it.ask()
            assert asked == ["localhost"]

    def test_show_the_certificate_for_route_services(self) -> None:
        ours = issue("router")
        shown: list[object] = []
        context = server_context(SERVICE_CERT)
        context.verify_mode = ssl.CERT_REQUIRED
        CA.configure_trust(context)

        def look(wire: Wire) -> None:
            shown.append(tls_of(wire).getpeercert(True))
            answering(OK)(wire)

        pair = {"cert_chain": chain_of(ours), "private_key": ours.private_key_pem.bytes().decode()}
        with bound(service=look, context=context) as it:
            assert it.ask().status == 496
        with bound(with_settings(route_services=pair), service=look, context=context) as it:
            assert it.ask().status == 200
        assert shown == [ssl.PEM_cert_to_DER_cert(ours.cert_chain_pems[0].bytes().decode())]

    @pytest.mark.parametrize(
        ("oldest", "newest", "spoken"), [("TLSv1.2", "TLSv1.2", "TLSv1.2"), ("TLSv1.3", "TLSv1.3", "TLSv1.3")]
    )
    def test_speak_the_versions_that_clients_are_offered(self, oldest: str, newest: str, spoken: str) -> None:
        versions: list[str | None] = []

        def look(wire: Wire) -> None:
            versions.append(tls_of(wire).version())
            answering(OK)(wire)

        with bound(with_settings(min_tls_version=oldest, max_tls_version=newest), service=look) as it:
            assert it.ask().status == 200
            assert versions == [spoken]


class TestFailures:
    def test_an_untrusted_certificate(self) -> None:
        with bound(context=server_context(issue("localhost", ca=OTHER_CA))) as it:
            answer = it.ask()
            assert answer.status == 526
            assert answer.get("X-Cf-RouterError") == (
                b"endpoint_failure (x509: certificate signed by unknown authority)"
            )

    def test_a_certificate_for_another_name(self) -> None:
        with bound(context=server_context(issue("elsewhere"))) as it:
            assert it.ask().status == 503

    def test_either_is_let_pass_without_validation(self) -> None:
        for cert in (issue("localhost", ca=OTHER_CA), issue("elsewhere"), issue("localhost", days=-1)):
            with bound(with_settings(skip_ssl_validation=True), context=server_context(cert)) as it:
                assert it.ask().status == 200

    def test_nobody_there(self) -> None:
        with bound() as it:
            register(it.edge, APP, it.app, "https://localhost:1/")
            answer = it.ask()
            assert answer.status == 502
            assert answer.get("X-Cf-RouterError") == (
                b"endpoint_failure (dial tcp localhost:1: connect: connection refused)"
            )

    def test_is_tried_so_often(self) -> None:
        for attempts in (1, 4):
            tries = []

            def close(wire: Wire, tries: list[Message] = tries) -> None:
                tries.append(wire.message())

            with bound(with_settings(route_services={"max_attempts": attempts}), service=close) as it:
                assert it.ask().status == 502
                assert len(tries) == attempts

    def test_a_post_that_was_sent_is_not_repeated(self) -> None:
        tries = []
        with bound(service=lambda wire: tries.append(wire.message())) as it:
            assert it.ask(GET.replace(b"GET", b"POST")).status == 502
            assert len(tries) == 1

    def test_the_next_attempt_may_succeed(self) -> None:
        tries = []

        def second(wire: Wire) -> None:
            tries.append(wire.message())
            if len(tries) == 2:
                wire.send(OK)

        with bound(service=second) as it:
            wire = it.send(b"PUT / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 5\r\n\r\nhello")
            assert wire.message().status == 200
            assert [request.body for request in tries] == [b"hello"] * 2

    def test_no_answer_in_time(self) -> None:
        done = threading.Event()
        with bound(with_settings(endpoint_timeout=0.2), service=lambda _: done.wait(PATIENCE)) as it:
            assert it.ask().status == 504
            done.set()

    def test_a_service_that_breaks_off_in_the_middle(self) -> None:
        def half(wire: Wire) -> None:
            wire.message()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

        with bound(service=half) as it:
            wire = it.send(GET)
            assert wire.head().status == 200
            assert wire.read_to_end() == b"half"

    @pytest.mark.parametrize(
        "url", ["https://", "https:///path", "https://a:b:c/", "https://ho st/", "https://h:70000/"]
    )
    def test_an_url_that_leads_nowhere(self, url: str) -> None:
        with bound() as it:
            register(it.edge, APP, it.app, url)
            answer = it.ask()
            assert (answer.status, answer.get("X-Cf-RouterError")) == (500, None)
            assert answer.body == b"500 Internal Server Error: Route service request failed.\n"

    def test_an_answer_of_the_services_own_is_relayed(self, caplog: pytest.LogCaptureFixture) -> None:
        forbidden = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\nSet-Cookie: JSESSIONID=x\r\n\r\nno!"
        with caplog.at_level("INFO", "router.proxy"), bound(service=answering(forbidden)) as it:
            answer = it.ask()
            assert (answer.status, answer.body) == (403, b"no!")
            assert answer.all("Set-Cookie") == [b"JSESSIONID=x"]
            (line,) = [record for record in caplog.records if record.getMessage() == "route-service-response"]
            said = line.__dict__["data"]
        assert (said["route-service-endpoint"], said["status-code"]) == (it.url(), 403)
        assert said["vcap_request_id"].replace("-", "") == said["trace-id"]

    def test_what_went_well_is_not_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("INFO", "router.proxy"), bound() as it:
            assert it.ask().status == 200
            assert not caplog.records

    def test_max_conns_is_for_endpoints(self) -> None:
        settings = with_settings(backends=Backends(max_conns=1))
        together = threading.Barrier(2, timeout=PATIENCE)

        def wait(wire: Wire) -> None:
            wire.message()
            together.wait()
            wire.send(OK)

        with bound(settings, service=wait) as it:
            wires = [it.send(GET), it.send(GET)]
            assert [wire.message().status for wire in wires] == [200, 200]


class TestSwitchedOff:
    @pytest.mark.parametrize("former", ["", "only for reading"])
    def test_a_route_with_a_service_is_not_served(self, former: str) -> None:
        settings = with_settings(route_services_secret="", route_services_secret_decrypt_only=former)
        with bound(settings) as it:
            answer = it.ask()
            assert (answer.status, answer.get("X-Cf-RouterError")) == (502, b"route_service_unsupported")
            assert answer.body == b"502 Bad Gateway: Support for route services is disabled.\n"
            assert answer.get("Cache-Control") is None
            assert not it.at_app
            assert not it.service.connections


class TestTunnels:
    @pytest.mark.parametrize("upgrade", [b"websocket", b"WebSocket"])
    def test_websockets_are_refused(self, upgrade: bytes) -> None:
        with bound() as it:
            answer = it.ask(GET[:-2] + b"Connection: keep-alive, Upgrade\r\nUpgrade: %b\r\n\r\n" % upgrade)
            assert (answer.status, answer.get("X-Cf-RouterError")) == (503, b"route_service_unsupported")
            assert answer.body == (
                b"503 Service Unavailable: Websocket requests are not supported for routes bound to Route Services.\n"
            )

    @pytest.mark.parametrize("more", [(), ((":scheme", "https"), (":path", "/"), (":protocol", "websocket"))])
    def test_neither_by_http2(self, more: tuple[tuple[str, str], ...]) -> None:
        with bound() as it:
            client = connect(it.edge.port)
            stream = client.next_stream()
            client.headers(stream, as_fields([(":method", "CONNECT"), (":authority", f"{APP}:80"), *more]))
            answer = client.response(stream)
            assert (answer.status, answer.get("x-cf-routererror")) == (503, b"route_service_unsupported")
            assert not it.app.connections
            client.close()

    def test_connect_leads_around_no_service(self) -> None:
        with bound() as it:
            answer = it.ask(b"CONNECT app.example.com:80 HTTP/1.1\r\nHost: app.example.com:80\r\n\r\n")
            assert (answer.status, answer.get("X-Cf-RouterError")) == (503, b"route_service_unsupported")
            assert not it.app.connections

    def test_other_upgrades_pass(self) -> None:
        def chat(wire: Wire) -> None:
            wire.message()
            wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
            wire.send(wire.read_exactly(5))

        with bound(service=chat) as it:
            wire = it.send(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: chat\r\n\r\n")
            assert wire.head().status == 101
            wire.send(b"hello")
            assert wire.read_exactly(5) == b"hello"


def test_a_route_whose_endpoints_are_all_busy_asks_no_service() -> None:
    gate = threading.Event()

    def slow(request: Message) -> bytes:
        assert gate.wait(PATIENCE)
        return OK

    with bound(with_settings(backends=Backends(max_conns=1)), response=slow) as it:
        busy = it.send(it.signed())
        wait_until(lambda: it.at_app, "the request at the application")
        answer = it.ask()
        assert (answer.status, answer.get("X-Cf-RouterError")) == (503, b"Connection Limit Reached")
        assert not it.service.connections
        gate.set()
        assert busy.message().status == 200


def test_the_service_that_was_registered_last_holds_for_the_whole_route() -> None:
    with bound() as it, backend(answering(OK)) as second:
        register(it.edge, APP, second)
        for _ in range(4):
            assert it.ask().status == 200
        assert not it.at_service
        register(it.edge, APP, it.app, it.url("/new"))
        for _ in range(4):
            assert it.ask().status == 200
        assert {request.first for request in it.at_service} == {b"GET /new HTTP/1.1"}
        assert len(it.at_service) == 4


def test_the_access_log_names_the_service_and_no_application(tmp_path: Path) -> None:
    log = AccessLog.from_settings(with_settings(access_log=AccessLogSettings(file=str(tmp_path / "access.log"))))
    assert log is not None
    script = over_tls(answering(OK), server_context(SERVICE_CERT))
    with backend(script) as service, running_edge(SETTINGS, log) as edge:
        register(edge, APP, service, f"https://localhost:{service.port}/", app="app-guid")
        wire = edge.connect()
        wire.send(GET)
        wire.message()
        wire.close()
    log.close()
    line = (tmp_path / "access.log").read_text()
    assert '"GET /where?q=1 HTTP/1.1" 200' in line
    assert line.startswith("app.example.com - ")
    assert f'"localhost:{service.port}"' in line
    assert 'app_id:"-" app_index:"-" instance_id:"-"' in line
