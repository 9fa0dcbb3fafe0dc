"""What the router's own log says of single requests, in Gorouter's words (gorouter reference 3.5 to 3.7, 4.3, 8.7)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from router.config.settings import Settings
from tests.router.logged import Logged, fresh_host, logged_router
from tests.router.registered import at, backends, resetting, silent_end
from tests.router.tls.authority import CA_PEM, HOST, over_tls
from tests.router.wire import OK, Backend, Wire, answering, backend, running_edge, wait_until

SECRETS = ("s3cret-in-query", "s3cret-in-header", "s3cret-in-cookie")


@pytest.fixture(scope="module")
def logged(registry_url: str) -> Iterator[Logged]:
    with logged_router(
        registry_url,
        "request-log",
        logging={"level": "info", "syslog": "vcap.gorouter"},
        ca_certs=[CA_PEM],
        endpoint_timeout="300ms",
        backends={"max_conns": 1},
    ) as running:
        yield running


@pytest.fixture(scope="module")
def app() -> Iterator[Backend]:
    with backends(1) as (running,):
        yield running


def failures(logged: Logged, answer: Any, times: int = 1) -> list[dict[str, Any]]:
    """The lines about failed attempts of the request that got this answer."""
    request = answer.get("X-Vcap-Request-Id").decode()
    return logged.said("backend-endpoint-failed", "vcap_request_id", request, times)


def source_of(logged: Logged, message: str) -> set[tuple[int, str]]:
    lines = logged.registered.router.lines()
    return {(line["log_level"], line["source"]) for line in lines if line["message"] == message}


class TestFailedAttempts:
    """3.5, last line"""

    def test_every_field(self, logged: Logged) -> None:
        with backend(resetting) as bad, backend(resetting) as worse:
            host = fresh_host()
            known: dict[str, Any] = {"app": "app-1", "availability_zone": "z1", "tags": {"component": "a"}}
            logged.registered.register((host, at(bad, "1", **known)), (host, at(worse, "2", **known)))
            answer = logged.registered.ask(host)
            addresses = {f"127.0.0.1:{bad.port}", f"127.0.0.1:{worse.port}"}
        first, second = failures(logged, answer, 2)
        trace = answer.get("X-Vcap-Request-Id").decode().replace("-", "")
        for number, line in enumerate((first, second), 1):
            endpoint = line.pop("route-endpoint")
            addresses.remove(endpoint.pop("Addr"))
            assert endpoint == {"ApplicationId": "app-1", "Tags": {"component": "a"}, "RouteServiceUrl": "", "AZ": "z1"}
            assert line.pop("error").startswith("read tcp ")
            assert line.pop("local-address").startswith("127.0.0.1:")
            assert line.pop("dial-time") > 0
            assert line == {
                "worker": 0,
                "attempt": number,
                "vcap_request_id": answer.get("X-Vcap-Request-Id").decode(),
                "trace-id": trace,
                "span-id": trace[16:],
                "retriable": True,
                "num-endpoints": 2,
                "got-connection": True,
                "wrote-headers": True,
                "conn-reused": False,
                "dns-lookup-time": 0.0,
                "tls-handshake-time": 0.0,
            }
        assert source_of(logged, "backend-endpoint-failed") == {(3, "vcap.gorouter.proxy")}

    def test_without_a_connection(self, logged: Logged) -> None:
        with backend(resetting) as gone:
            pass
        host = fresh_host()
        logged.registered.register((host, at(gone.port)))
        (line,) = failures(logged, logged.registered.ask(host, method="POST", body="x"))
        assert line["error"] == f"dial tcp 127.0.0.1:{gone.port}: connect: connection refused"
        assert (line["got-connection"], line["wrote-headers"], line["retriable"]) == (False, False, True)
        assert "local-address" not in line
        assert line["dial-time"] > 0

    def test_what_must_not_be_tried_again(self, logged: Logged) -> None:
        with backend(silent_end) as bad:
            host = fresh_host()
            logged.registered.register((host, at(bad)))
            (line,) = failures(logged, logged.registered.ask(host, method="POST", body="x"))
        assert (line["error"], line["retriable"], line["attempt"]) == ("EOF", False, 1)

    def test_a_response_that_is_none(self, logged: Logged) -> None:
        with backend(answering(b"hello there\r\n\r\n")) as bad:
            host = fresh_host()
            logged.registered.register((host, at(bad)))
            (line,) = failures(logged, logged.registered.ask(host))
        assert "malformed" in line["error"]
        assert line["retriable"] is False

    def test_a_connection_that_was_closed_meanwhile_is_no_failure(self, logged: Logged) -> None:
        def once(wire: Wire) -> None:
            wire.message()
            wire.send(OK)
            wire.head()

        with backend(once) as app:
            host = fresh_host()
            logged.registered.register((host, at(app)))
            for _ in range(3):
                assert logged.registered.ask(host).status == 200
        assert [line for line in logged.registered.router.said("backend-endpoint-failed") if line["error"] == "EOF"
                and line["route-endpoint"]["Addr"].endswith(f":{app.port}")] == []  # fmt: skip

    def test_an_endpoint_that_is_marked(self, logged: Logged) -> None:
        with backend(resetting) as bad:
            host = fresh_host()
            logged.registered.register((host, at(bad, app=host)))
            logged.registered.ask(host)

        def told() -> int:
            lines = logged.registered.router.said("endpoint-marked-as-ineligible")
            return [line["route-endpoint"]["ApplicationId"] for line in lines].count(host)

        wait_until(lambda: told() == 1, "its mark in the log")

    def test_an_endpoint_that_leaves_the_table(self, caplog: pytest.LogCaptureFixture) -> None:
        pruned: list[tuple[str, str]] = []
        with backend(over_tls(answering(OK))) as app, running_edge(Settings(ca_certs=(CA_PEM,))) as edge:
            edge.edge.failed_tls_endpoint = lambda route, address: pruned.append((route, address))
            edge.register("app.test", 0, tls_port=app.port, server_cert_domain_san="somebody-else", app="app-1")
            wire = edge.connect()
            wire.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            assert wire.message().status == 503
            wire.close()
        assert pruned == [("app.test", f"127.0.0.1:{app.port}")]
        (line,) = [record for record in caplog.records if record.message == "prune-failed-endpoint"]
        assert line.__dict__["data"]["route-endpoint"]["ApplicationId"] == "app-1"
        assert "endpoint-marked-as-ineligible" not in caplog.messages

    def test_tls_takes_its_time(self, logged: Logged) -> None:
        with backend(over_tls(silent_end)) as app:
            host = fresh_host()
            logged.registered.register((host, at(app, tls_port=app.port, server_cert_domain_san=HOST)))
            (line,) = failures(logged, logged.registered.ask(host))
        assert line["tls-handshake-time"] > 0


class TestNobodyToAsk:
    """3.6"""

    def test_an_instance_that_a_session_must_not_leave(self, registry_url: str, app: Backend) -> None:
        with logged_router(
            registry_url, "must-stick", sticky_sessions_for_auth_negotiate=True, backends={"max_conns": 5}
        ) as logged:
            host = fresh_host()
            logged.registered.register((host, at(app, "here")))
            answer = logged.registered.ask(host, "/", "Authorization: Negotiate x", "Cookie: __VCAP_ID__=gone")
            assert answer.status == 502
            (line,) = logged.said("select-endpoint-failed", "host", host)
        assert line["error"] == "No endpoints available"

    def test_every_endpoint_was_tried(self, logged: Logged) -> None:
        with backend(resetting) as bad:
            host = fresh_host()
            logged.registered.register((host, at(bad)))
            logged.registered.ask(host)
        (line,) = logged.said("select-endpoint-failed", "host", host)
        assert line["error"] == "No endpoints available"
        assert source_of(logged, "select-endpoint-failed") == {(3, "vcap.gorouter.proxy")}


class TestTimeouts:
    """3.7"""

    def test_a_response_that_does_not_come(self, logged: Logged, app: Backend) -> None:
        host = fresh_host()
        logged.registered.register((host, at(app, app=host)))
        with logged.registered.waiting(host, "/hold") as wire:
            assert wire.head().status == 103
            answer = wire.message()
        request = answer.get("X-Vcap-Request-Id").decode()
        (line,) = logged.said("backend-request-timeout", "vcap_request_id", request)
        assert line["error"] == "context deadline exceeded"
        assert line["route-endpoint"]["ApplicationId"] == host
        (failed,) = failures(logged, answer)
        assert (failed["error"], failed["retriable"]) == ("context deadline exceeded", False)

    def test_a_body_that_does_not_end(self, logged: Logged, app: Backend) -> None:
        host = fresh_host()
        logged.registered.register((host, at(app)))
        with logged.registered.waiting(host, "/stream") as wire:
            answer = wire.head()
            wire.read_to_end()
        request = answer.get("X-Vcap-Request-Id").decode()
        (line,) = logged.said("backend-request-timeout", "vcap_request_id", request)
        assert line["error"] == "context deadline exceeded"


class TestAnswers:
    """4.3, and 4.4's last sentence: every error answer but 404, with its body"""

    def test_are_said_with_their_body(self, logged: Logged, app: Backend) -> None:
        host = fresh_host()
        logged.registered.register((host, at(app)))
        with logged.registered.held(host):
            assert logged.registered.ask(host).status == 503
        body = f"503 Service Unavailable: Requested route ('{host}') has reached the connection limit."
        (line,) = logged.said("status", "body", body)
        assert line["trace-id"] == line["vcap_request_id"].replace("-", "")
        assert source_of(logged, "status") == {(1, "vcap.gorouter.proxy")}

    def test_but_not_404(self, logged: Logged) -> None:
        host = fresh_host()
        logged.registered.ask(host)
        logged.raw(host)
        assert not [line for line in logged.registered.router.said("status") if host in line["body"]]

    def test_nor_what_failed_attempts_have_said_already(self, logged: Logged) -> None:
        with backend(resetting) as bad:
            host = fresh_host()
            logged.registered.register((host, at(bad)))
            answer = logged.registered.ask(host)
        failures(logged, answer)
        request = answer.get("X-Vcap-Request-Id").decode()
        assert not [line for line in logged.registered.router.said("status") if line["vcap_request_id"] == request]


class TestSemicolons:
    """4.3, last row"""

    @pytest.mark.parametrize("target", ["/;x", "/?a;b"])
    def test_are_warned_of(self, logged: Logged, app: Backend, target: str) -> None:
        host = fresh_host()
        logged.registered.register((host, at(app)))
        answer = logged.registered.ask(host, target)
        assert answer.get("X-Cf-RouterError") is None
        request = answer.get("X-Vcap-Request-Id").decode()
        (line,) = logged.said("deprecated-semicolon-params", "vcap_request_id", request)
        assert line["span-id"] == request.replace("-", "")[16:]
        assert source_of(logged, "deprecated-semicolon-params") == {(2, "vcap.gorouter.proxy")}


class TestBounds:
    def test_nothing_secret_is_said(self, logged: Logged, app: Backend) -> None:
        query, header, cookie = SECRETS
        with backend(resetting) as bad:
            host = fresh_host()
            logged.registered.register((host, at(bad)), (fresh_host(), at(app)))
            answer = logged.registered.ask(host, f"/?key={query};", f"Authorization: {header}", f"Cookie: c={cookie}")
        failures(logged, answer)
        text = (logged.registered.router.config.parent / "router.log").read_text()
        assert not [secret for secret in SECRETS if secret in text]

    def test_lines_about_requests_are_so_many_a_second_and_the_rest_is_counted(
        self, registry_url: str, app: Backend
    ) -> None:
        with logged_router(registry_url, "bounded", millrace={"request_log_limit": 5}) as logged:
            host = fresh_host()
            logged.registered.register((host, at(app)))
            wire = logged.registered.router.connect()
            count = 200
            wire.send(f"GET /; HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * count)
            for _ in range(count):
                assert wire.message().status == 200
            wire.close()
            router = logged.registered.router
            deadline = time.monotonic() + 10
            while True:  # what is left out is said in the next second
                left_out = sum(line["lines"] for line in router.said("request-log-lines-suppressed"))
                said = len(router.said("deprecated-semicolon-params"))
                if left_out + said == count:
                    break
                assert time.monotonic() < deadline, (left_out, said)
                time.sleep(0.02)
            assert said < count / 2
            assert {line["limit"] for line in router.said("request-log-lines-suppressed")} == {5}
