"""Health checks: what passes, what fails and why, and the thresholds that turn answers into decisions."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from router.registry.grpc_health import GrpcCheck
from router.registry.health import (
    MAX_HEAD_BYTES,
    Check,
    CheckFailed,
    HealthState,
    HttpCheck,
    ProcessCheck,
    Schedule,
    TcpCheck,
    failure_of,
    status_in,
)


def failure(check: Check, seconds: float = 5.0) -> str:
    return trio.run(failure_of, check, seconds)


@contextmanager
def answering(reply: Callable[[socket.socket], object], host: str = "127.0.0.1") -> Iterator[int]:
    """A server that treats each connection so; its port."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        reply(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def saying(answer: bytes) -> Callable[[socket.socket], object]:
    def reply(connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(4096)
        connection.sendall(answer)

    return reply


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class TestTcp:
    def test_a_listener_passes(self) -> None:
        with answering(lambda connection: None) as port:
            assert failure(TcpCheck("127.0.0.1", port)) == ""

    def test_a_closed_port_is_refused(self) -> None:
        port = unused_port()
        assert failure(TcpCheck("127.0.0.1", port)) == f"127.0.0.1:{port}: connection refused"

    def test_an_unknown_name_says_so(self) -> None:
        assert failure(TcpCheck("unknown.invalid", 80), 20).startswith("unknown.invalid:80: ")

    @pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
    def test_ipv6_is_written_in_brackets(self) -> None:
        port = unused_port()
        assert failure(TcpCheck("::1", port)).startswith(f"[::1]:{port}: ")


class TestHttp:
    @pytest.mark.parametrize("status", [200, 204, 302, 399])
    def test_success_and_redirects_pass(self, status: int) -> None:
        with answering(saying(b"HTTP/1.1 %d Whatever\r\n\r\n" % status)) as port:
            assert failure(HttpCheck("127.0.0.1", port)) == ""

    @pytest.mark.parametrize("status", [400, 404, 500, 503])
    def test_errors_fail(self, status: int) -> None:
        with answering(saying(b"HTTP/1.1 %d \r\n\r\n" % status)) as port:
            assert failure(HttpCheck("127.0.0.1", port, "/up")) == f"127.0.0.1:{port}: GET /up answered {status}"

    def test_the_accepted_statuses_can_be_named(self) -> None:
        with answering(saying(b"HTTP/1.0 401\r\n\r\n")) as port:
            assert failure(HttpCheck("127.0.0.1", port, accept={401})) == ""

    def test_it_asks_for_the_path_with_the_host(self) -> None:
        received: list[bytes] = []

        def reply(connection: socket.socket) -> None:
            received.append(connection.recv(4096))
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

        with answering(reply) as port:
            assert failure(HttpCheck("127.0.0.1", port, "/healthz?full=1", host_header="app.example.com")) == ""
        assert received[0].startswith(b"GET /healthz?full=1 HTTP/1.1\r\nHost: app.example.com\r\n")
        assert received[0].endswith(b"\r\nConnection: close\r\n\r\n")

    def test_interim_answers_are_skipped(self) -> None:
        with answering(saying(b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n")) as port:
            assert failure(HttpCheck("127.0.0.1", port)).endswith("answered 503")

    def test_a_server_that_closes_at_once_fails(self) -> None:
        with answering(lambda connection: None) as port:
            assert failure(HttpCheck("127.0.0.1", port)) in (
                f"127.0.0.1:{port}: closed without an answer",
                f"127.0.0.1:{port}: the connection broke",
            )

    def test_a_silent_server_fails_after_the_timeout(self) -> None:
        with answering(lambda connection: connection.recv(4096) and connection.recv(1)) as port:
            assert failure(HttpCheck("127.0.0.1", port), 0.1) == "no answer within 0.1 s"

    def test_another_protocol_fails(self) -> None:
        with answering(saying(b"SSH-2.0-OpenSSH_9.2\r\n")) as port:
            assert (
                failure(HttpCheck("127.0.0.1", port)) == f"127.0.0.1:{port}: not an HTTP answer: b'SSH-2.0-OpenSSH_9.2'"
            )

    def test_an_endless_head_is_not_read(self) -> None:
        with answering(saying(b"HTTP/1.1 100 " + b"x" * (MAX_HEAD_BYTES + 4096))) as port:
            assert failure(HttpCheck("127.0.0.1", port)).endswith(f"no status in the first {MAX_HEAD_BYTES} bytes")

    def test_a_large_body_is_not_read(self) -> None:
        with answering(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 100_000)) as port:
            assert failure(HttpCheck("127.0.0.1", port)) == ""

    @pytest.mark.parametrize("path", ["", "healthz", "/a b", "/a\r\nX-Evil: 1", "/ü"])
    def test_a_path_that_would_break_the_request_is_refused(self, path: str) -> None:
        with pytest.raises(ValueError, match="path: begins with /"):
            HttpCheck("127.0.0.1", 80, path)

    def test_a_host_that_would_break_the_request_is_refused(self) -> None:
        with pytest.raises(ValueError, match="host_header: a host name"):
            HttpCheck("127.0.0.1", 80, host_header="a\r\nX-Evil: 1")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for app.internal, and its key, in one file."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "both.pem"
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=app.internal"
        f" -addext subjectAltName=DNS:app.internal -keyout {folder}/key.pem -out {folder}/cert.pem".split(),
        check=True,
        capture_output=True,
    )
    made.write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return made


class TestHttps:
    @pytest.fixture
    def port(self, certificate: Path) -> Iterator[int]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quiet)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        server.server_close()

    def test_a_trusted_certificate_passes(self, port: int, certificate: Path) -> None:
        trusting = ssl.create_default_context(cafile=str(certificate))
        assert failure(HttpCheck("127.0.0.1", port, tls=trusting, server_name="app.internal")) == ""

    def test_an_unknown_certificate_fails(self, port: int) -> None:
        check = HttpCheck("127.0.0.1", port, tls=ssl.create_default_context(), server_name="app.internal")
        assert failure(check) == f"127.0.0.1:{port}: TLS: self-signed certificate"

    def test_a_wrong_name_fails(self, port: int, certificate: Path) -> None:
        trusting = ssl.create_default_context(cafile=str(certificate))
        reason = failure(HttpCheck("127.0.0.1", port, tls=trusting, server_name="other.internal"))
        assert "Hostname mismatch, certificate is not valid for 'other.internal'" in reason

    def test_a_plain_server_fails(self) -> None:
        with answering(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")) as port:
            reason = failure(HttpCheck("127.0.0.1", port, tls=ssl.create_default_context()))
        assert reason == f"127.0.0.1:{port}: TLS: wrong version number"


class TestGrpcOverTls:
    @pytest.fixture
    def port(self, certificate: Path) -> Iterator[int]:
        pem = certificate.read_bytes()
        server = grpc.server(ThreadPoolExecutor(1))
        servicer = health.HealthServicer()
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pem, pem)]))
        server.start()
        yield port
        server.stop(None).wait(5)

    def test_a_serving_server_passes(self, port: int, certificate: Path) -> None:
        trusting = ssl.create_default_context(cafile=str(certificate))
        trusting.set_alpn_protocols(["h2"])
        assert failure(GrpcCheck("127.0.0.1", port, tls=trusting, server_name="app.internal")) == ""

    def test_a_server_that_does_not_choose_http2_fails(self, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        trusting = ssl.create_default_context(cafile=str(certificate))
        trusting.set_alpn_protocols(["h2"])

        def greet(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(1)

        with answering(greet) as port:
            reason = failure(GrpcCheck("127.0.0.1", port, tls=trusting, server_name="app.internal"))
        assert reason == f"127.0.0.1:{port}: the server does not speak HTTP/2 over TLS"


class _Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the output of tests is for tests."""


class TestProcess:
    def test_a_living_process_passes_and_a_dead_one_fails(self) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            check = ProcessCheck.of(process.pid)
            assert failure(check) == ""
            assert process.stdin is not None
            process.stdin.close()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert failure(check) == f"process {process.pid} has ended", "not reaped yet: a zombie"
        assert failure(check) == f"process {process.pid} is gone"

    def test_a_reused_pid_fails(self) -> None:
        mine = ProcessCheck.of(os.getpid())
        assert failure(mine) == ""
        assert failure(ProcessCheck(mine.pid, mine.started - 1)) == f"process {mine.pid} is another one now"

    def test_there_must_be_a_process_to_begin_with(self) -> None:
        with pytest.raises(CheckFailed, match="is gone"):
            ProcessCheck.of(2**22 + 1)


class TestStatusIn:
    @given(st.binary(max_size=200))
    def test_any_bytes_give_a_status_a_wish_for_more_or_a_refusal(self, received: bytes) -> None:
        try:
            status = status_in(received)
        except CheckFailed:
            return
        assert status is None or 200 <= status <= 599

    @given(
        st.lists(st.integers(100, 199), max_size=3),
        st.integers(200, 599),
        st.text("abc XYZ:", max_size=20),
        st.binary(max_size=20),
    )
    def test_cut_anywhere_it_asks_for_more_and_never_errs(
        self, interim: list[int], final: int, reason: str, body: bytes
    ) -> None:
        heads = b"".join(b"HTTP/1.1 %d %s\r\nA: b\r\n\r\n" % (code, reason.encode()) for code in interim)
        line = b"HTTP/1.1 %d %s\r\n" % (final, reason.encode())
        for cut in range(len(heads + line)):
            assert status_in((heads + line)[:cut]) is None
        assert status_in(heads + line + body) == final


class TestThresholds:
    def test_nothing_is_healthy_before_it_has_shown_it(self) -> None:
        assert not HealthState(Schedule()).healthy

    @given(st.lists(st.booleans(), max_size=60), st.integers(1, 4), st.integers(1, 4))
    def test_only_a_run_of_equal_answers_changes_it(self, answers: list[bool], healthy: int, unhealthy: int) -> None:
        state = HealthState(Schedule(healthy_threshold=healthy, unhealthy_threshold=unhealthy))
        for index, passed in enumerate(answers):
            before = state.healthy
            threshold = unhealthy if before else healthy
            run = answers[max(0, index + 1 - threshold) : index + 1]
            expected = passed if len(run) == threshold and len(set(run)) == 1 else before
            assert state.observe(passed) == (expected != before)
            assert state.healthy == expected

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"interval": 0}, "interval and timeout: more than 0"),
            ({"timeout": -1}, "interval and timeout: more than 0"),
            ({"healthy_threshold": 0}, "thresholds: at least 1"),
            ({"unhealthy_threshold": 0}, "thresholds: at least 1"),
            ({"jitter": 1.5}, "jitter: from 0 to 1"),
        ],
    )
    def test_a_schedule_that_makes_no_sense_is_refused(self, wrong: dict[str, float], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            Schedule(**wrong)  # type: ignore[arg-type]

    @given(st.floats(0.01, 100), st.floats(0, 1))
    def test_waits_stay_within_the_jitter(self, interval: float, jitter: float) -> None:
        wait = Schedule(interval=interval, jitter=jitter).next_wait()
        assert interval * (1 - jitter) <= wait <= interval * (1 + jitter) * (1 + 1e-9)
