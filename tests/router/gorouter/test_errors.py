"""Gorouter reference 4.3 and 4.4: what the router answers itself, row by row, by whole routers, plain and dressed.

Each row is brought about for real by one function, and asked for twice: of a router as it is, and of one with an
``html_error_template_file``. How attempts fail otherwise is the matter of `test_gorouter_failures`.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from router.config.settings import Native, Settings
from tests.router.http2.peer import Peer
from tests.router.registered import Registered, at, registered_router
from tests.router.supervised import kill
from tests.router.tls.authority import CA_PEM, OTHER_CA, issue, over_tls, server_context
from tests.router.wire import OK, PATIENCE, Message, Wire, answering, backend, running_edge, wait_until

GUID = "b54bf236-ebd5-4b1c-9a6d-3ba6b4d4a8a4"
SHORT, NO_CACHE = b"public,max-age=2", b"no-cache, no-store"
PAGE = (
    "<title>{{.Status}} {{.StatusText}}</title><p>{{.Message}}</p>{{.Header.Get `X-Cf-RouterError`}}|{{.Header.Server}}"
)
_numbers = count()


def fresh_host() -> str:
    return f"errors-{next(_numbers)}.test"


@contextmanager
def bound(router: Registered, service: str = "https://127.0.0.1:1/") -> Iterator[str]:
    host = fresh_host()
    router.register((host, at(1, route_service_url=service)))
    yield host


# The rows -------------------------------------------------------------------------------------------------------------


def empty_host(router: Registered) -> Message:
    return router.ask(None)


def host_of_the_client(router: Registered) -> Message:
    return router.ask("127.0.0.1:8080")


def app_instance(value: str) -> Callable[[Registered], Message]:
    return lambda router: router.ask("known.test", "/", f"X-CF-App-Instance: {value}")


def process_instance(value: str) -> Callable[[Registered], Message]:
    return lambda router: router.ask("known.test", "/", f"X-CF-Process-Instance: {value}")


def unknown_route(router: Registered) -> Message:
    return router.ask("No.Such.Host:8080", "/a?b")


def no_endpoints(router: Registered) -> Message:
    entry = ("emptied.test", at(1))
    router.register(entry)
    router.unregister(entry)
    return router.ask("emptied.test")


def connection_limit(router: Registered) -> Message:
    def holding(wire: Wire) -> None:
        wire.head()
        wire.read_to_end()

    with backend(holding) as app:
        router.register(("crowded.test", at(app)))
        with router.waiting("crowded.test"):
            wait_until(lambda: app.connections == 1)
            return router.ask("crowded.test")


def head_too_large(router: Registered) -> Message:
    return router.ask("known.test", "/", "X-Large: " + "x" * 5000)


def service_without_secret(router: Registered) -> Message:
    with bound(router) as host:
        return router.ask(host)


def refused(router: Registered) -> Message:
    with socket.create_server(("127.0.0.1", 0)) as plug:
        port = plug.getsockname()[1]
    router.register((f"refused-{port}.test", at(port)))
    return router.ask(f"refused-{port}.test")


def plaintext_endpoint(router: Registered) -> Message:
    with backend(lambda wire: wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as app:
        host = fresh_host()
        router.register((host, at(0, tls_port=app.port, server_cert_domain_san="san.test")))
        return router.ask(host)


def endpoint_of(san: str, *, trusted: bool = True) -> Callable[[Registered], Message]:
    cert = issue("san.test") if trusted else OTHER_CA.issue_cert("san.test")

    def ask(router: Registered) -> Message:
        with backend(over_tls(answering(OK), server_context(cert))) as app:
            host = fresh_host()
            router.register((host, at(0, tls_port=app.port, server_cert_domain_san=san)))
            return router.ask(host)

    return ask


@dataclass
class Row:
    """``text`` is the payload without a template; ``message`` is .Message, None where a template has no say."""

    ask: Callable[[Registered], Message]
    status: bytes
    error: str
    cache: bytes | None
    text: str
    message: str | None = None

    def __str__(self) -> str:
        return f"{self.status.decode()} {self.error}"


def written(
    ask: Callable[[Registered], Message], status: str, error: str, message: str, cache: bytes | None = NO_CACHE
) -> Row:
    """A "writer" row."""
    return Row(ask, status.encode(), error, cache, f"{status}: {message}\n", message)


ROWS = [
    written(empty_host, "400 Bad Request", "empty_host", "Request had empty Host header", SHORT),
    written(host_of_the_client, "400 Bad Request", "empty_host", "Request had empty Host header", SHORT),
    written(
        app_instance("nonsense"),
        "400 Bad Request",
        "invalid_cf_app_instance_header",
        "Invalid X-CF-App-Instance Header",
    ),
    written(
        process_instance("nonsense"),
        "400 Bad Request",
        "invalid_cf_process_instance_header",
        "Invalid X-CF-Process-Instance Header",
    ),
    written(unknown_route, "404 Not Found", "unknown_route", "Requested route ('No.Such.Host:8080') does not exist."),
    written(
        app_instance(f"{GUID}:7"),
        "400 Bad Request",
        "unknown_route",
        f"Requested instance ('7') with guid ('{GUID}') does not exist for route ('known.test')",
    ),
    written(
        process_instance(f"{GUID}:7"),
        "400 Bad Request",
        "unknown_route",
        f"Requested instance ('7') with process guid ('{GUID}') does not exist for route ('known.test')",
    ),
    written(
        no_endpoints,
        "503 Service Unavailable",
        "no_endpoints",
        "Requested route ('emptied.test') has no available endpoints.",
        SHORT,
    ),
    written(
        connection_limit,
        "503 Service Unavailable",
        "Connection Limit Reached",
        "Requested route ('crowded.test') has reached the connection limit.",
        None,
    ),
    Row(head_too_large, b"431 Request Header Fields Too Large", "max-request-size-exceeded", None, ""),
    written(
        service_without_secret,
        "502 Bad Gateway",
        "route_service_unsupported",
        "Support for route services is disabled.",
        None,
    ),
    Row(
        refused,
        b"502 Bad Gateway",
        "endpoint_failure (dial tcp 127.0.0.1:*: connect: connection refused)",
        None,
        "502 Bad Gateway: Registered endpoint failed to handle the request.\n",
    ),
    Row(
        endpoint_of("other.test"), b"503 Service Unavailable", "endpoint_failure (*)", None, "503 Service Unavailable\n"
    ),
    Row(plaintext_endpoint, b"525 SSL Handshake Failed", "endpoint_failure (*)", None, "525 SSL Handshake Failed\n"),
    Row(
        endpoint_of("san.test", trusted=False),
        b"526 Invalid SSL Certificate",
        "endpoint_failure (*)",
        None,
        "526 Invalid SSL Certificate\n",
    ),
]


def errors_router(url: str, namespace: str, **settings: Any) -> Any:
    return registered_router(
        url,
        namespace,
        ca_certs=[CA_PEM],
        backends={"max_conns": 1, "max_attempts": 1},
        empty_pool_response_code_503=True,
        empty_pool_timeout="60s",
        max_request_header_bytes=4096,
        **settings,
    )


@pytest.fixture(scope="module")
def plain(registry_url: str) -> Iterator[Registered]:
    with errors_router(registry_url, "errors-plain") as router:
        router.register(("known.test", at(1)))
        yield router


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as made:
        yield Path(made)


@pytest.fixture(scope="module")
def dressed(registry_url: str, folder: Path) -> Iterator[Registered]:
    file = folder / "error.html"
    file.write_text(PAGE)
    with errors_router(registry_url, "errors-dressed", html_error_template_file=str(file)) as router:
        router.register(("known.test", at(1)))
        yield router


def matches(value: bytes | None, expected: str) -> bool:
    before, star, after = expected.partition("*")
    said = (value or b"").decode()
    return said.startswith(before) and said.endswith(after) if star else said == expected


def check_fields(answer: Message, row: Row) -> None:
    assert answer.first == b"HTTP/1.1 " + row.status
    assert matches(answer.get("X-Cf-RouterError"), row.error), answer.fields
    assert any(name == b"X-Cf-Routererror" for name, _ in answer.fields)  # as Go spells it
    assert answer.get("Cache-Control") == row.cache
    assert answer.get("X-Content-Type-Options") == b"nosniff"
    assert answer.get("Content-Length") == b"%d" % len(answer.body)
    assert answer.get("Date") is not None
    assert answer.get("X-Vcap-Request-Id") is not None  # ours: Gorouter's has none


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_4_3_rows(plain: Registered, row: Row) -> None:
    answer = row.ask(plain)
    check_fields(answer, row)
    assert answer.get("Content-Type") == b"text/plain; charset=utf-8"
    assert answer.body.decode() == row.text


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_4_4_writer_rows_are_pages_and_no_others(dressed: Registered, row: Row) -> None:
    answer = row.ask(dressed)
    check_fields(answer, row)
    if row.message is None:
        assert answer.get("Content-Type") == b"text/plain; charset=utf-8"
        assert answer.body.decode() == row.text
    else:
        assert answer.get("Content-Type") == b"text/html; charset=utf-8"
        message = row.message.replace("'", "&#39;")
        title = row.status.decode()
        assert answer.body.decode() == f"<title>{title}</title><p>{message}</p>{row.error}|"


def test_4_3_every_answer_but_404_is_logged_with_its_body(plain: Registered) -> None:
    before = len(plain.router.said("status"))
    unknown_route(plain)
    empty_host(plain)
    said = plain.router.until_said("status", before + 1)[before:]
    assert [line["body"] for line in said] == ["400 Bad Request: Request had empty Host header"]


def test_4_3_unknown_failure_is_a_fault_of_the_routers_own() -> None:
    with running_edge() as edge:

        def fault(*_: object) -> None:
            raise RuntimeError("a fault")

        edge.edge.find_pool = fault  # type: ignore[method-assign]
        for lines in (b"", b"Content-Length: 2\r\n"):
            client = edge.connect()
            client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n%b\r\n" % lines)
            answer = client.message()
            assert (answer.status, answer.get("X-Cf-RouterError")) == (502, b"unknown_failure")
            assert (answer.body, answer.get("Connection")) == (b"", b"close")
            assert client.is_closed()
        assert edge.metrics.statuses[502] == 2


class TestTemplates:
    """4.4, beyond the rows."""

    def ask(self, template: str, host: str = "a.test", method: str = "GET") -> Message:
        settings = Settings(millrace=Native(html_error_template=template))
        with running_edge(settings) as edge:
            client = edge.connect()
            client.send(f"{method} / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            return client.message(bodiless=method == "HEAD")

    def test_header_holds_the_response_headers_so_far(self) -> None:
        answer = self.ask("{{range $name, $values := .Header}}{{$name}}={{index $values 0}};{{end}}")
        request_id = (answer.get("X-Vcap-Request-Id") or b"").decode()
        assert answer.body.decode() == (
            "Cache-Control=no-cache, no-store;X-Cf-Routererror=unknown_route;X-Content-Type-Options=nosniff;"
            f"X-Vcap-Request-Id={request_id};"
        )

    def test_what_a_client_says_is_escaped(self) -> None:
        answer = self.ask("<p title='{{.Message}}'>", host="a'b&c")
        assert answer.body == b"<p title='Requested route (&#39;a&#39;b&amp;c&#39;) does not exist.'>"

    def test_a_page_may_be_empty(self) -> None:
        answer = self.ask("{{if eq .Status 502}}x{{end}}")
        assert (answer.status, answer.body, answer.get("Content-Length")) == (404, b"", b"0")
        assert answer.get("Content-Type") == b"text/html; charset=utf-8"

    def test_to_head_the_page_is_said_but_not_sent(self) -> None:
        answer = self.ask("<p>{{.Status}}", method="HEAD")
        assert answer.get("Content-Type") == b"text/html; charset=utf-8"
        assert answer.get("Content-Length") == b"%d" % len("<p>404")

    def test_to_clients_of_http2_too(self) -> None:
        with running_edge(Settings(millrace=Native(html_error_template="<p>{{.Message}}"))) as edge:
            peer = Peer(socket.create_connection(("127.0.0.1", edge.port), PATIENCE))
            answer = peer.exchange(authority="no.test")
            assert answer.get("content-type") == b"text/html; charset=utf-8"
            assert answer.body == b"<p>Requested route (&#39;no.test&#39;) does not exist."

    def test_what_broke_the_protocol_is_told_so_in_plain_words(self) -> None:
        with running_edge(Settings(millrace=Native(html_error_template="<p>{{.Message}}"))) as edge:
            client = edge.connect()
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            assert client.message().get("Content-Type") == b"text/plain; charset=utf-8"


class TestFiles:
    def start(self, folder: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
        config = folder / "gorouter.yml"
        lines = [f"{key}: {value}" for key, value in settings.items()]
        config.write_text("\n".join([*lines, "millrace: {redis: 'redis://127.0.0.1:1', workers: 1}", ""]))
        command = [sys.executable, "-P", "-m", "router", "-c", str(config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 3, check=False, cwd=folder)

    def test_a_file_that_is_missing_is_fatal(self, tmp_path: Path) -> None:
        ended = self.start(tmp_path, html_error_template_file="/no/such/file")
        assert ended.returncode == 1
        text = "Could not read HTML error template file: open /no/such/file: no such file or directory"
        assert text in ended.stdout
        assert text in ended.stderr

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"a\n{{foo}}", ":2: function foo is not supported; there are and, eq"),
            (b"a\n\xff", ":2: not UTF-8; save the file as UTF-8"),
            (b"x" * (1024 * 1024 + 1), " is larger than 1048576 bytes"),
        ],
    )
    def test_a_file_that_cannot_be_used_is_fatal_too(self, tmp_path: Path, content: bytes, problem: str) -> None:
        file = tmp_path / "error.html"
        file.write_bytes(content)
        ended = self.start(tmp_path, html_error_template_file=file)
        assert ended.returncode == 1
        assert f"html_error_template_file: {file}{problem}" in ended.stderr

    def test_file_and_text_are_one_too_many(self, tmp_path: Path) -> None:
        config = tmp_path / "gorouter.yml"
        config.write_text(
            "html_error_template_file: x\nmillrace: {redis: 'redis://127.0.0.1:1', html_error_template: y}\n"
        )
        command = [sys.executable, "-P", "-m", "router", "-c", str(config)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 3, check=False)
        assert "html_error_template_file and millrace.html_error_template are both set; keep one" in ended.stderr

    def test_sighup_reads_it_again_and_a_broken_one_changes_nothing(self, dressed: Registered, folder: Path) -> None:
        file, router = folder / "error.html", dressed.router
        file.write_text("{{broken")
        router.signal(signal.SIGHUP)
        [problem] = router.until_said("config-not-reloaded")[-1]["problems"]
        assert problem.startswith(f"html_error_template_file: {file}:1: ")
        before = unknown_route(dressed).body
        assert before.startswith(b"<title>404")
        kill(router.workers[0])  # the one that takes its place was never told of the broken file
        wait_until(lambda: router.said("worker-died"), "the worker's end")
        router.until_healthy()
        assert unknown_route(dressed).body == before
        file.write_text("new: {{.Status}}")
        router.signal(signal.SIGHUP)
        router.until_said("rolled")
        assert unknown_route(dressed).body == b"new: 404"
        file.write_text(PAGE)
        router.signal(signal.SIGHUP)
        router.until_said("rolled", 2)

    def test_a_page_that_cannot_be_rendered_is_plain_text_and_a_line_in_the_log(
        self, registry_url: str, folder: Path
    ) -> None:
        file = folder / "fails.html"
        file.write_text("{{index .Message 1000}}")
        with errors_router(registry_url, "errors-failing", html_error_template_file=str(file)) as router:
            answer = unknown_route(router)
            assert answer.get("Content-Type") == b"text/plain; charset=utf-8"
            assert answer.body == b"404 Not Found: Requested route ('No.Such.Host:8080') does not exist.\n"
            [said] = router.router.until_said("render-error-failed")
            assert said["error"] == "index out of range: 1000"
            assert said["vcap_request_id"] == (answer.get("X-Vcap-Request-Id") or b"").decode()
