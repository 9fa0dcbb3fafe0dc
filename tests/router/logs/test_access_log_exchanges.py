"""What exchanges through a real edge leave in the access log: copies for Loggregator, HTTP/2 on either side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.config.settings import Logging, Settings
from router.logs.access_line import UDP_LIMIT
from router.logs.access_log import AccessLog
from router.logs.log_file import LogFile
from router.pool import Endpoint
from tests.router.access_lines import parse
from tests.router.http2.frames import Kind, frame
from tests.router.http2.peer import Peer, connect
from tests.router.logs.test_access_log import open_log
from tests.router.wire import OK, Wire, answering, backend, running_edge


def asked(**options: Any) -> Settings:
    """Settings with these of the section logging."""
    return Settings(logging=Logging(**options))


class TestCopies:
    """Gorouter reference 8.5: the copy for Loggregator."""

    def test_are_of_requests_that_an_apps_endpoint_was_chosen_for(self) -> None:
        copies: list[tuple[bytes, Endpoint]] = []
        log = AccessLog(Settings(), [])
        log.copy_to(lambda line, endpoint: copies.append((line, endpoint)))
        with backend(answering(OK)) as one, backend(answering(OK)) as other, running_edge(None, log) as edge:
            edge.register("app.test", one.port, app="app-1", tags={"component": "c"})
            edge.register("plain.test", other.port)
            client = edge.connect()
            for host in (b"app.test", b"plain.test", b"unknown.test"):
                client.send(b"GET /x HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
                client.message()
            client.close()
        [(line, endpoint)] = copies
        assert (endpoint.record.app, endpoint.record.tags) == ("app-1", {"component": "c"})
        assert parse(line + b"\n").request == b"GET /x HTTP/1.1"

    def test_fit_into_a_datagram(self) -> None:
        copies: list[bytes] = []
        settings = Settings(
            max_request_header_bytes=200_000, extra_headers_to_log=("X-A", "X-B", "X-C", "X-D", "X-E", "Nothing")
        )
        log = AccessLog(settings, [])
        log.copy_to(lambda line, _endpoint: copies.append(line))
        with backend(answering(OK)) as app, running_edge(settings, log) as edge:
            edge.register("app.test", app.port, app="app-1")
            client = edge.connect()
            long = b"".join(b"X-%b: %b\r\n" % (name, name * 15_000) for name in (b"A", b"B", b"C", b"D", b"E"))
            client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n" + long + b"\r\n")
            assert client.message().status == 200
            client.close()
        [line] = copies
        assert len(line) < UDP_LIMIT
        assert line.endswith(b'" ...EXTRA-REQUEST-HEADERS-TOO-LONG-TO-LOG--TRUNCATED')


class TestHttp2:
    """The same by HTTP/2, from clients and to endpoints."""

    def test_from_clients(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with open_log(tmp_path / "access.log") as log, backend(answering(OK)) as app, running_edge(None, log) as edge:
            edge.register("app.test", app.port)
            peer = connect(edge.port)
            peer.exchange("/a;b", ("user-agent", 'a"b'))
            peer.close()
        line = parse((tmp_path / "access.log").read_bytes())
        assert (line.request, line.user_agent) == (b"GET /a;b HTTP/2.0", b'a"b')
        assert line["x_cf_routererror"] == b"deprecated-semicolon-params"
        [warning] = [record for record in caplog.records if record.message == "deprecated-semicolon-params"]
        assert warning.__dict__["data"]["vcap_request_id"] == line["vcap_request_id"].decode()

    def test_to_endpoints(self, tmp_path: Path) -> None:
        peers: list[str] = []

        def serve(wire: Wire) -> None:
            peers.append("{}:{}".format(*wire.socket.getpeername()))
            peer = Peer(wire.socket, client=False)
            for _ in range(2):
                peer.respond(peer.next_request())
            wire.read_to_end()

        settings = asked(extra_access_log_fields=("dial_time", "local_address", "failed_attempts"))
        log = AccessLog(settings, [LogFile(str(tmp_path / "access.log"))])
        with running_edge(settings, log) as edge, backend(serve) as app:
            edge.register("app.test", app.port, protocol="http2")
            client = edge.connect()
            for _ in range(2):
                client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
                assert client.message().status == 200
            client.close()
        log.close()
        opened, reused = map(parse, (tmp_path / "access.log").read_bytes().splitlines(keepends=True))
        assert [line["local_address"].decode() for line in (opened, reused)] == 2 * peers
        assert float(opened["dial_time"]) > 0
        assert reused["dial_time"] == b"0.000000"

    def test_to_endpoints_that_reset_the_stream(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        def serve(wire: Wire) -> None:
            peer = Peer(wire.socket, client=False)
            number = peer.next_request()
            peer.send(frame(Kind.RST_STREAM, 0, number, bytes((0, 0, 0, 2))))
            wire.read_to_end()

        settings = asked(extra_access_log_fields=("failed_attempts", "dial_time"))
        log = AccessLog(settings, [LogFile(str(tmp_path / "access.log"))])
        with running_edge(settings, log) as edge, backend(serve) as app:
            edge.register("app.test", app.port, protocol="http2")
            client = edge.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1\r\n\r\nx")
            assert client.message().status == 502
            client.close()
        log.close()
        line = parse((tmp_path / "access.log").read_bytes())
        assert (line["failed_attempts"], line["dial_time"]) == (b"1", b"-")
        [failure] = [
            record.__dict__["data"] for record in caplog.records if record.message == "backend-endpoint-failed"
        ]
        assert failure["error"].startswith("stream error: stream ID 1; INTERNAL_ERROR")
        assert (failure["got-connection"], failure["retriable"], failure["dial-time"] > 0) == (True, False, True)
