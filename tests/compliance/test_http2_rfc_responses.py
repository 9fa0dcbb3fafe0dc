"""The rules of RFC 9113 for responses, through an intermediary; each name says its section."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from tests.compliance.behind import app, ok, scripted
from tests.router.http2.frames import Code, Kind
from tests.router.http2.peer import Peer, connect
from tests.router.http2.streams import Message, Stream
from tests.router.wire import OK, RunningEdge, Wire, running_edge


@pytest.fixture(scope="module")
def edge() -> Iterator[RunningEdge]:
    with running_edge() as running:
        yield running


@pytest.fixture
def client(edge: RunningEdge) -> Iterator[Peer]:
    peer = connect(edge.port)
    yield peer
    peer.close()


def through(edge: RunningEdge, client: Peer, response: bytes, method: str = "GET") -> Message:
    with app(edge, response):
        return client.exchange(method=method)


def names(message: Message) -> set[bytes]:
    return {name for name, _ in message.fields}


def has_length(stream: Stream, length: int) -> bool:
    return len(stream.body) == length


class TestHeads:
    def test_8_3_2_the_status_comes_first_and_alone(self, edge: RunningEdge, client: Peer) -> None:
        response = through(edge, client, ok(b"Content-Length: 0", first=b"HTTP/1.1 418 I am a teapot"))
        assert response.fields[0] == (b":status", b"418")
        assert [name for name, _ in response.fields if name.startswith(b":")] == [b":status"]

    def test_8_2_1_names_are_in_lower_case(self, edge: RunningEdge, client: Peer) -> None:
        response = through(edge, client, ok(b"Content-LENGTH: 0", b"X-Mixed-Case: As-It-Is", b"ETag: x"))
        assert all(name == name.lower() for name in names(response))
        assert response.get("x-mixed-case") == b"As-It-Is"

    def test_8_2_1_values_lose_the_space_around_them(self, edge: RunningEdge, client: Peer) -> None:
        response = through(edge, client, ok(b"Content-Length: 0", b"X: \t a b \t", b"Y:"))
        assert (response.get("x"), response.get("y")) == (b"a b", b"")

    def test_8_2_2_fields_of_the_connection_end_here(self, edge: RunningEdge, client: Peer) -> None:
        response = through(
            edge,
            client,
            ok(
                b"Connection: keep-alive, X-Hop",
                b"Keep-Alive: timeout=5",
                b"Proxy-Connection: keep-alive",
                b"Upgrade: websocket",
                b"X-Hop: 1",
                b"X-End: 2",
                b"Transfer-Encoding: chunked",
                body=b"2\r\nok\r\n0\r\n\r\n",
            ),
        )
        hops = {b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"x-hop", b"transfer-encoding"}
        assert not names(response) & hops
        assert response.get("x-end") == b"2"
        assert response.body == b"ok"

    def test_9110_5_3_set_cookie_lines_stay_apart(self, edge: RunningEdge, client: Peer) -> None:
        response = through(edge, client, ok(b"Set-Cookie: a=1", b"Content-Length: 0", b"Set-Cookie: b=2"))
        assert response.all("set-cookie") == [b"a=1", b"b=2"]

    def test_9110_6_6_1_a_date_is_added_where_there_is_none(self, edge: RunningEdge, client: Peer) -> None:
        assert through(edge, client, ok(b"Content-Length: 0")).get("date")
        assert through(edge, client, ok(b"Content-Length: 0", b"Date: now")).get("date") == b"now"

    def test_the_request_id_is_told(self, edge: RunningEdge, client: Peer) -> None:
        first = through(edge, client, OK).get("x-vcap-request-id")
        second = through(edge, client, OK).get("x-vcap-request-id")
        assert first
        assert second
        assert first != second

    @pytest.mark.parametrize("status", [204, 304])
    def test_8_1_statuses_without_a_body(self, edge: RunningEdge, client: Peer, status: int) -> None:
        for _ in range(3):
            response = through(edge, client, ok(b"Date: now", first=b"HTTP/1.1 %d X" % status))
            assert (response.status, response.body, response.trailers) == (status, b"", [])

    def test_9110_9_3_2_head(self, edge: RunningEdge, client: Peer) -> None:
        for framing in (b"Content-Length: 500", b"Transfer-Encoding: chunked"):
            for _ in range(3):
                response = through(edge, client, ok(framing, b"Date: now"), method="HEAD")
                assert (response.status, response.body) == (200, b"")
                assert response.get("content-length") == (b"500" if b"500" in framing else None)

    def test_9110_9_3_2_also_where_the_router_answers_itself(self, client: Peer) -> None:
        response = client.exchange(authority="no.test", method="HEAD")
        assert (response.status, response.body) == (404, b"")
        assert int(response.get("content-length") or 0) > 0

    def test_8_1_1xx_are_passed_on_and_are_not_the_answer(self, edge: RunningEdge, client: Peer) -> None:
        hints = ok(b"Link: </a>", first=b"HTTP/1.1 103 Early Hints")
        for _ in range(3):
            response = through(edge, client, hints + hints + OK)
            assert [dict(head)[b":status"] for head in response.informational] == [b"103", b"103"]
            assert dict(response.informational[0])[b"link"] == b"</a>"
            assert (response.status, response.body) == (200, b"ok")

    def test_8_6_101_does_not_exist(self, edge: RunningEdge, client: Peer) -> None:
        response = ok(b"Connection: Upgrade", b"Upgrade: x", first=b"HTTP/1.1 101 Switching Protocols")
        assert through(edge, client, response).status == 502

    def test_9110_8_6_the_length_is_kept(self, edge: RunningEdge, client: Peer) -> None:
        assert through(edge, client, ok(b"Content-Length: 5", body=b"hello")).get("content-length") == b"5"

    def test_a_head_larger_than_a_frame(self, edge: RunningEdge, client: Peer) -> None:
        lines = [b"X-%d: %b" % (n, b"y" * 1000) for n in range(50)]
        response = through(edge, client, ok(b"Content-Length: 0", *lines))
        assert response.get("x-49") == b"y" * 1000
        assert any(received.kind == Kind.CONTINUATION for received in client.frames)


class TestBodies:
    def test_8_1_trailers_of_a_response_pass(self, edge: RunningEdge, client: Peer) -> None:
        chunked = ok(
            b"Transfer-Encoding: chunked",
            b"Trailer: X-Sum",
            body=b"5;ext=1\r\nhello\r\n3\r\n!!!\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n",
        )
        response = through(edge, client, chunked)
        assert response.body == b"hello!!!"
        assert response.trailers == [(b"x-sum", b"1"), (b"x-sum", b"2")]

    def test_8_1_a_body_until_the_end_of_the_connection(self, edge: RunningEdge, client: Peer) -> None:
        def script(wire: Wire) -> None:
            wire.message()
            wire.send(ok(body=b"hello"))
            wire.send(b" world" * 10000)

        with scripted(edge, script):
            assert client.exchange().body == b"hello" + b" world" * 10000

    @pytest.mark.parametrize(
        "cut",
        [
            ok(b"Content-Length: 10", body=b"hello"),
            ok(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n"),
            ok(b"Transfer-Encoding: chunked", body=b"5\r\nhel"),
            ok(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\nzz\r\n"),
            ok(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\nX: 1\r\n"),
        ],
    )
    def test_8_1_a_body_cut_short_is_not_passed_for_whole(self, edge: RunningEdge, client: Peer, cut: bytes) -> None:
        """A stream error, or 502 where the fault came with the head; what else is on the connection goes on."""

        def script(wire: Wire) -> None:
            wire.message()
            wire.send(cut)

        with scripted(edge, script):
            assert client.outcome(client.request()) in (Code.INTERNAL_ERROR, Code.PROTOCOL_ERROR, Code.CANCEL, 502)
            assert client.answered_ping()

    def test_8_1_a_backend_that_dies_before_it_answers_is_502(self, edge: RunningEdge, client: Peer) -> None:
        with scripted(edge, lambda wire: wire.close() if wire.message() else None):
            assert client.exchange(method="POST").status == 502
            assert client.answered_ping()

    def test_8_1_an_answer_before_the_request_is_whole(self, edge: RunningEdge, client: Peer) -> None:
        """The response is complete and is read; then the client is told not to go on, by no error at all."""

        def script(wire: Wire) -> None:
            wire.head()
            wire.send(ok(b"Content-Length: 2", first=b"HTTP/1.1 413 Too much", body=b"no"))
            wire.read_to_end()

        with scripted(edge, script):
            stream = client.request(method="PUT", end=False)
            client.data(stream, b"some")
            response = client.response(stream)
            assert (response.status, response.body) == (413, b"no")
            assert client.reset_of(stream) == Code.NO_ERROR
            assert client.answered_ping()

    def test_8_1_data_flows_while_the_request_still_does(self, edge: RunningEdge, client: Peer) -> None:
        """Both bodies at once, as gRPC needs it."""

        def echo(wire: Wire) -> None:
            wire.head()
            wire.send(ok(b"Transfer-Encoding: chunked"))
            while True:
                size = int(wire.read_until(b"\r\n"), 16)
                data = wire.read_exactly(size + 2)
                wire.send(b"%x\r\n" % size + data)
                if not size:
                    return

        with scripted(edge, echo):
            stream = client.request(method="POST", end=False)
            state = client.stream(stream)
            for number in range(1, 20):
                client.data(stream, b"%02d" % number)
                client.until(partial(has_length, state, 2 * number))
            client.data(stream, b"", end=True)
            assert client.response(stream).body == b"".join(b"%02d" % n for n in range(1, 20))

    def test_5_1_a_slow_stream_holds_up_no_other(self, edge: RunningEdge, client: Peer) -> None:
        go = threading.Event()

        def script(wire: Wire) -> None:
            while True:
                if wire.message().first.startswith(b"GET /slow"):
                    assert go.wait(10)
                wire.send(OK)

        with scripted(edge, script):
            slow = client.request("/slow")
            for _ in range(10):
                assert client.exchange("/fast").body == b"ok"
            assert not client.stream(slow).heads
            go.set()
            assert client.response(slow).body == b"ok"
