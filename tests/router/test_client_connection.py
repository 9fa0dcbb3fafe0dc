"""What a client may do to its connection and the router: bodies of refused requests, reading slowly or not at all."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from router.config.settings import Settings
from tests.router.wire import OK, Message, RunningEdge, Wire, answering, backend, running_edge, wait_until

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"


@pytest.fixture
def edge() -> Iterator[RunningEdge]:
    with running_edge() as running:
        yield running


def of_size(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size


def unsent(edge: RunningEdge) -> int:
    """Bytes that wait in the router for its clients to read."""
    count = edge.do(lambda: sum(c.transport.get_write_buffer_size() for shard in edge.edge._clients for c in shard))
    assert isinstance(count, int)
    return count


def connect_with_small_window(edge: RunningEdge) -> Wire:
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.settimeout(10)
    plug.connect(("127.0.0.1", edge.port))
    return Wire(plug)


@pytest.mark.parametrize("first", [b"OPTIONS * HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost:\r\n"])
def test_the_body_of_a_refused_request_is_no_request(edge: RunningEdge, first: bytes) -> None:
    inner = b"GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"
    with backend(answering(OK)) as app:
        edge.register("app.test", app.port)
        client = edge.connect()
        client.send(first + b"Content-Length: %d\r\n\r\n" % len(inner))
        assert client.message().get("Connection") == b"close"
        client.send(inner)
        assert client.is_closed()
        assert app.connections == 0


def test_the_deadline_for_a_head_does_not_hold_for_its_answer() -> None:
    def slow(wire: Wire) -> None:
        wire.message()
        time.sleep(1.0)
        wire.send(OK)

    with running_edge(Settings(read_header_timeout=0.2)) as edge, backend(slow) as app:
        edge.register("app.test", app.port)
        for _ in range(3):
            client = edge.connect()
            client.send(GET)
            assert client.message().status == 200


def test_empty_lines_are_no_request(edge: RunningEdge) -> None:
    client = edge.connect()
    client.send(b"\r\n" * 8 + GET)
    assert client.message().status == 404
    client.send(b"\r\n" * 100_000)
    assert client.message().status == 400


class TestUnread:
    def test_pipelined_responses_wait_at_the_backend(self, edge: RunningEdge) -> None:
        seen: list[Message] = []
        with backend(answering(of_size(100_000), seen)) as app:
            edge.register("app.test", app.port)
            client = connect_with_small_window(edge)
            for number in range(100):
                client.send(GET)
                if number < 20:
                    wait_until(lambda: len(seen) > number or unsent(edge) > 0)  # noqa: B023
            assert unsent(edge) < 1_000_000
            assert len(seen) < 90

    def test_and_so_does_one_asked_for_while_another_is_unread(self, edge: RunningEdge) -> None:
        def by_path(request: Message) -> bytes:
            return of_size(30_000_000 if b"big" in request.first else 5_000_000)

        with backend(answering(by_path)) as app:
            edge.register("app.test", app.port)
            client = connect_with_small_window(edge)
            client.send(GET)
            wait_until(lambda: unsent(edge) > 0)
            client.send(GET.replace(b"/ ", b"/big "))
            assert len(client.message().body) == 5_000_000
            wait_until(lambda: unsent(edge) > 0)
            assert unsent(edge) < 1_000_000


def test_a_client_goes_on_after_an_upload_that_its_backend_did_not_read(edge: RunningEdge) -> None:
    release: list[bool] = []

    def early(wire: Wire) -> None:
        if app.connections == 1:
            wire.head()
            wait_until(lambda: release)
            wire.send(OK)
            wire.read_to_end()
        else:
            answering(OK)(wire)

    with backend(early) as app:
        edge.register("app.test", app.port)
        client = edge.connect()
        size = 16 * 1024 * 1024
        client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: %d\r\n\r\n" % size)
        client.socket.setblocking(False)
        left = size
        deadline = time.monotonic() + 1
        while left and time.monotonic() < deadline:
            try:
                left -= client.socket.send(b"x" * min(left, 65536))
            except BlockingIOError:
                time.sleep(0.01)
        assert left, "the backend reads nothing, and yet the whole body went somewhere"
        client.socket.settimeout(10)
        release.append(True)
        response = client.message()
        assert (response.status, response.get("Connection")) == (200, b"close")


class TestHttp10:
    def test_has_no_chunks_not_even_in_the_answer_to_head(self, edge: RunningEdge) -> None:
        with backend(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"HEAD / HTTP/1.0\r\nHost: app.test\r\n\r\n")
            assert client.message(bodiless=True).get("Transfer-Encoding") is None

    @pytest.mark.parametrize("request_line", [b"GET / HTTP/1.0", b"GET http://app.test/ HTTP/1.0"])
    @pytest.mark.parametrize("host", [b"app.test", b"APP.test"])
    def test_cannot_ask_for_another_protocol(self, edge: RunningEdge, request_line: bytes, host: bytes) -> None:
        seen: list[Message] = []
        with backend(answering(OK, seen)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(request_line + b"\r\nHost: " + host + b"\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            assert client.message().status == 200
        assert seen[0].get("Upgrade") is None


def test_names_that_only_look_like_ours_do_not_pass(edge: RunningEdge) -> None:
    seen: list[Message] = []
    with backend(answering(OK, seen)) as app:
        edge.register("app.test", app.port)
        client = edge.connect()
        client.send(
            b"GET / HTTP/1.1\r\nHost: app.test\r\nX_Forwarded_For: 6.6.6.6\r\nx-cf_applicationid: me\r\n"
            b"Content_Length: 5\r\nmy_own: stays\r\n\r\n"
        )
        assert client.message().status == 200
    names = {name.lower() for name, _ in seen[0].fields}
    assert b"my_own" in names
    assert not names & {b"x_forwarded_for", b"x-cf_applicationid", b"content_length"}


@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"X-Cf-Applicationid", b"Connection", b"Content-Length"])
def test_nor_do_trailers_that_a_backend_might_merge(edge: RunningEdge, name: bytes) -> None:
    with backend(answering(OK)) as app:
        edge.register("app.test", app.port)
        client = edge.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n%b: 1\r\n\r\n" % name)
        assert client.message().status == 400
        assert app.connections == 0
