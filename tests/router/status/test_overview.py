"""The pages on loopback: what each path answers, and that nobody can hold them up."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.status import pages
from router.status.overview import ALIVE
from router.status.pages import MAX_CONNECTIONS
from tests.router.pages import Running
from tests.router.wire import wait_until

LARGE = b'{"app.example.com":' + b"x" * 100_000


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    server = Running()
    yield server
    server.close()


@pytest.fixture
def port(running: Running) -> Running:
    running.told.__init__()  # type: ignore[misc]
    return running


class TestHealth:
    @pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
    def test_says_ok_to_any_method_and_is_never_cached(self, port: Running, method: str) -> None:
        message = port.ask("/health", method)
        assert (message.status, message.body) == (200, b"ok\n")
        assert message.get("cache-control") == b"private, max-age=0"
        assert message.get("expires") == b"0"

    def test_says_why_it_is_not_well(self, port: Running) -> None:
        port.told.why = "draining"
        message = port.ask("/health")
        assert (message.status, message.body) == (503, b"draining\n")

    def test_the_process_is_alive_all_the_same(self, port: Running) -> None:
        port.told.why = "draining"
        message = port.ask(ALIVE)
        assert (message.status, message.body) == (200, b"ok\n")

    def test_head_has_the_length_and_no_body(self, port: Running) -> None:
        assert port.ask("/health", "HEAD").get("content-length") == b"3"


class TestPages:
    def test_metrics(self, port: Running) -> None:
        message = port.ask("/metrics?x=1")
        assert message.get("content-type") == b"text/plain; version=0.0.4; charset=utf-8"
        assert message.body == b"millrace_requests_total 1\n"

    def test_routes_come_in_chunks(self, port: Running) -> None:
        message = port.ask("/routes")
        assert message.get("content-type") == b"application/json"
        assert json.loads(message.body) == {"a.example.com": ["x"]}

    def test_routes_for_http10_end_with_the_connection(self, port: Running) -> None:
        message = port.ask("/routes", version="HTTP/1.0")
        assert message.get("transfer-encoding") is None
        assert json.loads(message.body) == {"a.example.com": ["x"]}

    def test_head_of_routes_makes_no_dump(self, port: Running) -> None:
        port.told.parts = [b"part"] * 100
        port.ask("/routes", "HEAD")
        assert port.told.taken <= 1

    def test_no_worker_no_routes(self, port: Running) -> None:
        port.told.parts = None
        assert port.ask("/routes").status == 503

    def test_a_dump_that_breaks_off_is_seen_to_be_incomplete(self, port: Running) -> None:
        port.told.breaks = True
        raw = port.raw(b"GET /routes HTTP/1.1\r\nHost: h\r\n\r\n")
        assert not raw.endswith(b"0\r\n\r\n")

    @pytest.mark.parametrize("path", ["/", "/healthz", "//health", "/Health", "http://h/health"])
    def test_other_paths_are_404_and_say_what_there_is(self, port: Running, path: str) -> None:
        message = port.ask(path)
        assert message.status == 404
        assert b"/metrics" in message.body

    @pytest.mark.parametrize("path", ["/routes", "/metrics"])
    def test_nothing_can_be_written(self, port: Running, path: str) -> None:
        message = port.ask(path, "POST")
        assert (message.status, message.get("allow")) == (405, b"GET, HEAD")


class TestBadClients:
    def test_a_head_without_end_is_refused(self, port: Running) -> None:
        answer = port.raw(b"GET /health HTTP/1.1\r\n" + b"X: " + b"x" * 10_000)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")

    @pytest.mark.parametrize("line", [b"GET /health", b"GET  /health HTTP/1.1", b"GET /health HTTP/2.0", b"\x00\xff"])
    def test_what_is_not_http_is_400(self, port: Running, line: bytes) -> None:
        assert port.raw(line + b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")

    def test_one_that_says_nothing_is_let_go(self, port: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pages, "HEAD_TIMEOUT", 0.1)
        wire = port.connect()
        wire.send(b"GET /hea")
        assert wire.is_closed()

    def test_one_that_reads_nothing_costs_a_few_parts_and_is_let_go(
        self, port: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pages, "WRITE_TIMEOUT", 0.2)
        port.told.parts = [LARGE] * 2000
        wire = port.connect()
        wire.send(b"GET /routes HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: port.told.taken > 1)
        taken = -1

        def is_stuck() -> bool:
            nonlocal taken
            before, taken = taken, port.told.taken
            return before == taken

        wait_until(is_stuck)
        assert taken < 500
        wait_until(lambda: not port.connections, "the end of the connection")
        assert not wire.read_to_end().endswith(b"0\r\n\r\n")
        wire.close()

    def test_only_so_many_at_once(self, port: Running) -> None:
        wires = [port.connect() for _ in range(MAX_CONNECTIONS)]
        for wire in wires:
            wire.send(b"GET")
        wait_until(lambda: port.connect().is_closed(), "a refusal")
        for wire in wires:
            wire.close()
        wait_until(lambda: port.raw(b"GET /health HTTP/1.1\r\n\r\n").endswith(b"ok\n"), "room again")

    @settings(max_examples=40, deadline=None)
    @given(head=st.binary(max_size=60))
    def test_any_bytes_get_an_answer_or_the_door(self, running: Running, head: bytes) -> None:
        answer = running.raw(head + b"\r\n\r\n")
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 2"))
